//! A Redis that others use too, and one that lets us do little.

use testkit::wire::{PICKUP, a_ride, get};
use testkit::{Rig, until, until_eq};
use tonic::Code;
use waybill_proto::fleet::v1::GetDriverRequest;
use waybill_proto::order::v1::OrderStatus;

use crate::locations::driver_stream::fix;

/// What stands at the key of the driver, whatever its type: its value, and how long it lives.
async fn stands_at(redis: &mut redis::aio::MultiplexedConnection, key: &str) -> (Vec<u8>, i64) {
    let dump = redis::cmd("DUMP").arg(key).query_async(redis).await.unwrap();
    let lives = redis::cmd("PTTL").arg(key).query_async(redis).await.unwrap();
    (dump, lives)
}

#[tokio::test]
async fn a_key_of_another_program_costs_one_driver_its_place_on_the_map_and_stays_as_it_is() {
    let foreign: [&[&str]; 5] = [
        &["SET", "driver:cab-1", "Anna"],
        &["RPUSH", "driver:cab-1", "Anna"],
        &["HSET", "driver:cab-1", "name", "Anna"],
        &["HSET", "driver:cab-1", "driver_id", "cab-9", "timestamp", "1"],
        &["HSET", "driver:cab-1", "driver_id", "cab-1", "timestamp", "noon"],
    ];
    for made in foreign {
        let rig = Rig::start().await;
        let mut redis = rig.redis().await;
        let mut make = redis::cmd(made[0]);
        make.arg(&made[1..]).exec_async(&mut redis).await.unwrap();
        let before = stands_at(&mut redis, "driver:cab-1").await;

        let fixes = ["cab-1", "cab-2"].map(|driver| fix(driver, PICKUP.0, PICKUP.1));
        rig.report(fixes.to_vec()).await;
        rig.until_written().await;
        assert_eq!(rig.count("select count(*) from driver_locations").await, 2, "{made:?}");
        let driver = async |name: &str| {
            let request = GetDriverRequest {
                driver_id: name.to_owned(),
            };
            rig.fleet().get_driver(request).await
        };
        assert_eq!(driver("cab-1").await.unwrap_err().code(), Code::NotFound, "{made:?}");
        driver("cab-2").await.unwrap();
        for _ in 0..2 {
            assert_eq!(rig.place(a_ride()).await.status(), OrderStatus::Succeeded, "{made:?}");
        }
        assert_eq!(stands_at(&mut redis, "driver:cab-1").await, before, "{made:?}");
        rig.assert_clean().await;
    }
}

#[tokio::test]
async fn with_a_prefix_no_key_of_another_program_is_in_the_way() {
    let plain_names = [
        "driver:cab-1",
        "location_events:{0}",
        "drivers:geo:{0}",
        "drivers:seen:{0}",
        "drivers:recorded:{0}",
        "location_events:{1}",
        "drivers:geo:{1}",
        "drivers:seen:{1}",
        "drivers:recorded:{1}",
        "payments:rate",
        "waybill:written",
    ];
    let rig = Rig::with("redis.key_prefix=rides: redis.shards=2").await;
    let mut redis = rig.redis().await;
    for name in plain_names {
        let mut set = redis::cmd("SET");
        set.arg(name).arg("Anna").exec_async(&mut redis).await.unwrap();
    }
    rig.driver_at("cab-1", PICKUP.0, PICKUP.1).await;
    assert_eq!(rig.place(a_ride()).await.status(), OrderStatus::Succeeded);
    until_eq("the fix is in the history", 1, async || {
        rig.count("select count(*) from driver_locations").await
    })
    .await;
    until("it is ready", async || {
        get(&format!("{}/readyz", rig.http())).await.0 == 200
    })
    .await;
    rig.assert_clean().await;

    let mut keys: Vec<String> = redis::cmd("KEYS").arg("*").query_async(&mut redis).await.unwrap();
    keys.retain(|key| !plain_names.contains(&key.as_str()));
    assert!(keys.contains(&"rides:driver:cab-1".to_owned()), "{keys:?}");
    assert!(keys.iter().all(|key| key.starts_with("rides:")), "{keys:?}");
    let mut read = redis::cmd("MGET");
    let left: Vec<String> = read.arg(&plain_names).query_async(&mut redis).await.unwrap();
    assert!(left.iter().all(|value| value == "Anna"), "{left:?}");
}

/// As of hosts that run Redis for others.
#[tokio::test]
async fn without_the_commands_of_administrators_redis_is_used_as_well() {
    let rig = Rig::builder().private_stores().start().await;
    let mut narrow = redis::cmd("ACL");
    narrow.arg("SETUSER").arg("default");
    narrow.arg(&["-config", "-info", "-xinfo", "-debug", "-acl"]);
    narrow.exec_async(&mut rig.redis().await).await.unwrap();

    rig.driver_at("cab-1", PICKUP.0, PICKUP.1).await;
    assert_eq!(rig.place(a_ride()).await.status(), OrderStatus::Succeeded);
    until_eq("the fix is in the history", 1, async || {
        rig.count("select count(*) from driver_locations").await
    })
    .await;
    rig.driver_at("cab-2", PICKUP.0, PICKUP.1).await;
    until_eq("the next one is too", 2, async || {
        rig.count("select count(*) from driver_locations").await
    })
    .await;
    // The writer has kept its lease twice since.
    let claims = "select extract(epoch from lease_until)::bigint from history_cursors";
    let first = rig.count(claims).await;
    until("the stream is claimed again", async || {
        rig.count(claims).await > first + 4
    })
    .await;
    assert_eq!(
        rig.metrics().await["locations"]["history_rereads"],
        serde_json::json!({}),
        "nothing was lost"
    );
    until("it is ready", async || {
        get(&format!("{}/readyz", rig.http())).await.0 == 200
    })
    .await;
}
