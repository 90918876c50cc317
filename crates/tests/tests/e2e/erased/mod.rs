//! Who is erased: of drivers and customers no name and no position is left, and the ledger stays.

mod drivers;
mod refused;
mod users;

use redis::AsyncCommands as _;
use redis::streams::StreamRangeReply;
use testkit::sql::column;
use testkit::{Builder, Rig};
use tonic::transport::Channel;
use waybill_proto::admin::v1::admin_service_client::AdminServiceClient;
use waybill_proto::admin::v1::{EraseDriverRequest, EraseDriverResponse, EraseUserRequest, EraseUserResponse};

fn with_operators() -> Builder {
    Rig::builder().set("grpc.services", "order,location,fleet,operator")
}

fn admin(rig: &Rig) -> AdminServiceClient<Channel> {
    AdminServiceClient::new(rig.channel())
}

fn driver(driver: &str) -> EraseDriverRequest {
    EraseDriverRequest {
        driver_id: driver.to_owned(),
        resume_token: String::new(),
    }
}

fn user(user: &str) -> EraseUserRequest {
    EraseUserRequest {
        user_id: user.to_owned(),
        resume_token: String::new(),
    }
}

async fn erase_driver(rig: &Rig, name: &str) -> EraseDriverResponse {
    let erased = admin(rig).erase_driver(driver(name)).await.unwrap().into_inner();
    assert_eq!(erased.resume_token, "", "there is little to erase");
    erased
}

async fn erase_user(rig: &Rig, name: &str) -> EraseUserResponse {
    let erased = admin(rig).erase_user(user(name)).await.unwrap().into_inner();
    assert_eq!(erased.resume_token, "", "there is little to erase");
    erased
}

/// The tables in which this text stands, in whichever column.
async fn tables_with(rig: &Rig, text: &str) -> Vec<String> {
    let sql = rig.sql().await;
    let tables: Vec<String> = column(
        &sql,
        "select tablename::text from pg_tables where schemaname = 'public'",
        &[],
    )
    .await
    .unwrap();
    let mut found = Vec::new();
    for table in tables {
        // Bytes are shown as hexadecimal digits.
        let query = format!(
            "select count(*) from {table} t where position($1 in t::text) > 0
                or position(encode(convert_to($1, 'UTF8'), 'hex') in t::text) > 0"
        );
        let count: i64 = sql.query_one(&query, &[&text]).await.unwrap().get(0);
        if count > 0 {
            found.push(table);
        }
    }
    found
}

/// The keys of Redis in which this text stands.
async fn keys_with(rig: &Rig, text: &str) -> Vec<String> {
    let mut redis = rig.redis().await;
    let keys: Vec<String> = redis.keys("*").await.unwrap();
    let mut found = Vec::new();
    for key in keys {
        let kind: String = redis::cmd("TYPE").arg(&key).query_async(&mut redis).await.unwrap();
        let content = match kind.as_str() {
            "hash" => format!("{:?}", redis.hgetall::<_, Vec<String>>(&key).await.unwrap()),
            "zset" => format!("{:?}", redis.zrange::<_, Vec<String>>(&key, 0, -1).await.unwrap()),
            "stream" => {
                let all: StreamRangeReply = redis.xrange_all(&key).await.unwrap();
                let entries = all.ids.iter().flat_map(|entry| entry.map.values());
                let texts = entries.map(|value| redis::from_redis_value_ref::<String>(value).unwrap());
                texts.collect::<Vec<_>>().join(" ")
            }
            _ => String::new(),
        };
        if key.contains(text) || content.contains(text) {
            found.push(key);
        }
    }
    found
}

/// That the name stands nowhere.
async fn assert_gone(rig: &Rig, name: &str) {
    assert_eq!(tables_with(rig, name).await, [""; 0]);
    assert_eq!(keys_with(rig, name).await, [""; 0]);
}

/// Puts the orders of the rig back by so many days, in all their times.
async fn age(rig: &Rig, days: i32) {
    let back = |column: &str| format!("{column} = {column} - interval '{days} days'");
    rig.execute(&format!(
        "update order_sagas set {}, {}; update payment_attempts set {}, {}",
        back("created_at"),
        back("finished_at"),
        back("first_sent_at"),
        back("last_sent_at"),
    ))
    .await;
}
