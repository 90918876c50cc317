//! A Postgres in which others hold locks, and whose defaults are others.

use testkit::Rig;
use testkit::wire::{PICKUP, a_ride, retry_after};
use tonic::Code;
use waybill_proto::order::v1::OrderStatus;

/// As `create index` takes it. Of the statements that are sent together it is the first that says so.
#[tokio::test]
async fn a_table_that_is_locked_for_long_refuses_for_now() {
    for table in [
        "order_saga_steps",
        "payment_attempts",
        "order_sagas",
        "payments",
        "drivers",
    ] {
        let rig = Rig::with("postgres.lock_timeout=100ms").await;
        rig.driver_at("cab-1", PICKUP.0, PICKUP.1).await;
        let served = rig.place(a_ride()).await;
        rig.driver_at("cab-2", PICKUP.0, PICKUP.1).await;

        let holder = rig.sql().await;
        holder
            .batch_execute(&format!("begin; lock table {table} in share mode"))
            .await
            .unwrap();
        let completed = rig.complete(&served.order_id).await;
        let placed = rig.orders().create_order(a_ride()).await;
        holder.batch_execute("rollback").await.unwrap();
        let refused: Vec<_> = [completed.err(), placed.err()].into_iter().flatten().collect();
        assert!(!refused.is_empty(), "{table}: no one waited for it");
        for refused in refused {
            // One that was accepted, and goes on when the lock is free, is in progress.
            let codes = [Code::Unavailable, Code::Aborted];
            assert!(codes.contains(&refused.code()), "{table}: {refused:?}");
            assert!(retry_after(&refused).is_some(), "{table}: {refused:?}");
        }
        rig.until_all_settled().await;
        rig.assert_clean().await;
    }
}

#[tokio::test]
async fn whatever_the_database_isolates_by_default_orders_go_on() {
    for isolation in ["serializable", "repeatable read"] {
        let rig = Rig::builder().private_stores().start().await;
        rig.execute(&format!(
            "alter system set default_transaction_isolation = '{isolation}'"
        ))
        .await;
        rig.execute("select pg_reload_conf()").await;
        for number in 0..8 {
            rig.driver_at(&format!("cab-{number}"), PICKUP.0, PICKUP.1).await;
        }
        let calls = (0..8).map(|_| rig.place(a_ride()));
        for order in futures_util::future::join_all(calls).await {
            assert_eq!(order.status(), OrderStatus::Succeeded);
        }
        rig.assert_clean().await;
    }
}
