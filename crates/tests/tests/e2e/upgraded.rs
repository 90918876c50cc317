//! Servers of two versions on one database, and migrations beside those that work on it.

use testkit::wire::{PICKUP, a_ride};
use testkit::{Rig, ServerProcess, until, until_eq};
use tokio_postgres::Client;
use waybill_proto::order::v1::OrderStatus;
use waybill_server::app::{App, migrate};

/// How many of the indexes that they make are there, and whole.
const IS_WHOLE: &str = "select count(*) from pg_index where indisvalid
    and indexrelid in (to_regclass('order_sagas_settled'), to_regclass('order_sagas_settled_by_user'))";
/// The last migrations are pending.
const PENDING: &str = "drop index if exists order_sagas_settled, order_sagas_settled_by_user;
    delete from schema_migrations where version >= 27";
const NAMES: [&str; 2] = ["order_lists", "orders_by_user"];
/// Sessions that wait for a lock, such as the end of another transaction.
const WAITING: &str = "select count(*) from pg_locks l join pg_stat_activity a using (pid)
    where a.datname = current_database() and not l.granted";

/// What a newer program would have done.
async fn migrate_further(rig: &Rig, oldest_program: &str) {
    rig.execute(&format!(
        "insert into schema_migrations (version, name, checksum, oldest_program)
         select max(version) + 1, 'teleport', '\\x00', {oldest_program} from schema_migrations"
    ))
    .await;
}

async fn number(sql: &Client, query: &str) -> i64 {
    sql.query_one(query, &[]).await.unwrap().get(0)
}

#[tokio::test]
async fn a_program_runs_on_a_newer_schema_that_says_so() {
    let rig = Rig::builder().no_server().start().await;
    migrate_further(&rig, "max(version)").await;
    migrate_further(&rig, "max(version) - 1").await;
    let ran = migrate(&rig.config()).await.unwrap();
    assert_eq!(ran, Vec::<&str>::new(), "it brings it no further");
    let server = ServerProcess::start(&rig, &[]).await;
    assert!(server.log().contains("newer than this program"), "{}", server.log());
    let mut request = a_ride();
    request.payment_method = "pm_card_chargeDeclined".to_owned();
    let order = server.orders().create_order(request).await.unwrap().into_inner().order;
    assert_eq!(order.unwrap().status(), OrderStatus::Failed);
}

#[tokio::test]
async fn a_program_refuses_a_newer_schema_that_it_cannot_work_with() {
    for oldest in ["null", "max(version) + 1"] {
        let rig = Rig::builder().no_server().start().await;
        migrate_further(&rig, "max(version)").await;
        migrate_further(&rig, oldest).await;
        let refused = App::start(rig.config()).await.err().expect("it does not start");
        let migrated = migrate(&rig.config()).await.expect_err("it brings it no further");
        for said in [refused.to_string(), migrated.to_string()] {
            assert!(
                said.contains("teleport") && said.contains("cannot work with"),
                "{oldest}: {said}"
            );
        }
    }
}

/// The index waits for the writer to end, and no one waits for the index.
#[tokio::test]
async fn an_index_is_made_while_orders_are_placed_and_a_writer_goes_on() {
    let rig = Rig::start().await;
    rig.driver_at("cab-1", PICKUP.0, PICKUP.1).await;
    rig.place(a_ride()).await;
    rig.execute(PENDING).await;
    let (writer, looker) = (rig.sql().await, rig.sql().await);
    writer
        .batch_execute("begin; update order_sagas set attempts = attempts + 1")
        .await
        .unwrap();
    let config = rig.config();
    let beside = async {
        until("the index waits for the writer", async || {
            number(&looker, WAITING).await > 0
        })
        .await;
        for driver in 2..12 {
            rig.driver_at(&format!("cab-{driver}"), PICKUP.0, PICKUP.1).await;
            assert_eq!(rig.place(a_ride()).await.status(), OrderStatus::Succeeded);
        }
        assert!(number(&looker, WAITING).await > 0, "the index waits still");
        writer.batch_execute("commit").await.unwrap();
    };
    // Another one waits for the first, and not in the index's way.
    let (one, other, ()) = tokio::join!(migrate(&config), migrate(&config), beside);
    let mut ran = [one.unwrap(), other.unwrap()].concat();
    ran.sort_unstable();
    assert_eq!(ran, NAMES, "one of them made it");
    assert_eq!(number(&looker, IS_WHOLE).await, 2);
    rig.assert_clean().await;
}

#[tokio::test]
async fn what_an_interrupted_attempt_left_is_made_anew() {
    let rig = Rig::builder().no_server().start().await;
    rig.execute(PENDING).await;
    let (writer, looker) = (rig.sql().await, rig.sql().await);
    let insert = "begin; set session_replication_role = replica;
                  insert into order_sagas (order_id, idempotency_key, user_id, amount, currency, payment_method, status, pickup_lat,
                                           pickup_long, request_hash, fence)
                  values (gen_random_uuid(), 'a-key-of-20-characters', 'anna', 500, 'USD', 'pm_card_visa', 'charging', 0, 0, '\\x00', 1)";
    writer.batch_execute(insert).await.unwrap();
    let config = rig.config();
    let end = async {
        until("the index waits for the writer", async || {
            number(&looker, WAITING).await > 0
        })
        .await;
        let end = "select count(*) from (select pg_terminate_backend(l.pid) from pg_locks l join pg_stat_activity a using (pid)
                    where a.datname = current_database() and not l.granted) ended";
        assert_eq!(number(&looker, end).await, 1);
    };
    let (interrupted, ()) = tokio::join!(migrate(&config), end);
    interrupted.expect_err("its session was ended");
    let left = "select count(*) from pg_index where not indisvalid";
    until_eq("an index is left that is not whole", 1, async || {
        number(&looker, left).await
    })
    .await;

    // The writer goes on, for longer than another statement waits for a lock.
    let end = async {
        let waits = "select count(*) from pg_stat_activity
                      where datname = current_database() and wait_event_type = 'Lock' and query like 'drop index concurrently%'
                        and clock_timestamp() - query_start > interval '1 second'";
        until("what is left waits for the writer", async || {
            number(&looker, waits).await > 0
        })
        .await;
        writer.batch_execute("commit").await.unwrap();
    };
    let (again, ()) = tokio::join!(migrate(&config), end);
    assert_eq!(again.unwrap(), NAMES);
    assert_eq!((number(&looker, left).await, number(&looker, IS_WHOLE).await), (0, 2));
}
