//! A Postgres in which others hold locks, and whose defaults are others.

use std::time::Duration;

use testkit::wire::{PICKUP, a_ride, retry_after};
use testkit::{Rig, until_eq};
use tokio::task::JoinSet;
use tonic::Code;
use waybill_proto::order::v1::{GetOrderRequest, ListOrdersRequest, OrderStatus};

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

/// Its connection would let whoever gets it next wait for an answer that is not its own.
#[tokio::test]
async fn a_read_that_was_given_up_keeps_its_connection_until_postgres_has_answered_it() {
    let rig =
        Rig::with("postgres.pool_max=12 postgres.lock_timeout=8s postgres.statement_timeout=8s orders.lease=1m").await;
    rig.driver_at("cab-1", PICKUP.0, PICKUP.1).await;
    let served = rig.place(a_ride()).await;

    let holder = rig.sql().await;
    holder
        .batch_execute("begin; lock table order_saga_steps")
        .await
        .unwrap();
    let mut orders = rig.orders();
    let order_id = served.order_id.clone();
    let mut read = JoinSet::new();
    read.spawn(async move { orders.get_order(GetOrderRequest { order_id }).await });
    let waiting = "select count(*) from pg_locks where relation = 'order_saga_steps'::regclass and not granted";
    until_eq("the read waits for the lock", 1, async || rig.count(waiting).await).await;
    read.shutdown().await;

    // More than there are connections, and of none does the lock keep a statement waiting.
    for look in 0..24 {
        let mut list = tonic::Request::new(ListOrdersRequest::default());
        list.set_timeout(Duration::from_secs(4));
        let listed = rig.orders().list_orders(list).await;
        assert!(listed.is_ok(), "look {look}: {listed:?}");
    }
    holder.batch_execute("rollback").await.unwrap();
    rig.assert_clean().await;
}
