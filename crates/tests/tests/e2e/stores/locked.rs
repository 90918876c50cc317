//! A Postgres in which others hold locks, and whose defaults are others.

use std::time::Duration;

use futures_util::future::join_all;
use testkit::wire::{PICKUP, a_ride, assert_refused_for_now, cancel, complete, retry_after};
use testkit::{Rig, until_eq};
use tokio::task::JoinSet;
use tonic::{Code, Request, Status};
use waybill_proto::admin::v1::EraseDriverRequest;
use waybill_proto::order::v1::{
    GetOrderRequest, ListOrdersRequest, Money, OrderStatus, RefundOrderRequest, ReleaseDriverRequest,
};

use crate::operator::in_doubt::{operator, retry};

/// As `create index` takes it. Of the statements that are sent together it is the first that says so.
#[tokio::test]
async fn a_table_that_is_locked_for_long_refuses_for_now() {
    let tables = [
        "order_saga_steps",
        "payment_attempts",
        "order_sagas",
        "payments",
        "drivers",
    ];
    join_all(tables.map(async |table| {
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
    }))
    .await;
}

/// What is asked about an order that writes to the log of its steps, beside its placement and its completion.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Asked {
    Cancellation,
    CancellationOfSearch,
    Refund,
    Release,
    Retry,
    Erasure,
}

impl Asked {
    const ALL: [Asked; 6] = [
        Asked::Cancellation,
        Asked::CancellationOfSearch,
        Asked::Refund,
        Asked::Release,
        Asked::Retry,
        Asked::Erasure,
    ];

    /// The id of an order about which it can be asked: one that `cab-1` serves or served, or that looks for a driver.
    async fn order(self, rig: &Rig) -> String {
        if self == Asked::CancellationOfSearch {
            let mut ride = Request::new(a_ride());
            ride.set_timeout(Duration::from_secs(1));
            rig.orders().create_order(ride).await.unwrap_err();
            let listed = rig.orders().list_orders(ListOrdersRequest::default()).await.unwrap();
            return listed.into_inner().orders[0].order_id.clone();
        }
        rig.driver_at("cab-1", PICKUP.0, PICKUP.1).await;
        let order_id = rig.place(a_ride()).await.order_id;
        rig.driver_at("cab-2", PICKUP.0 + 0.001, PICKUP.1).await;
        if self == Asked::Erasure {
            rig.orders().complete_order(complete(&order_id)).await.unwrap();
            rig.until_written().await;
        }
        order_id
    }

    async fn of(self, rig: &Rig, order_id: &str) -> Result<(), Status> {
        let order_id = order_id.to_owned();
        match self {
            Asked::Cancellation | Asked::CancellationOfSearch => {
                rig.orders().cancel_order(cancel(&order_id)).await.map(drop)
            }
            Asked::Refund => {
                let request = RefundOrderRequest {
                    order_id,
                    idempotency_key: "the-key-of-this-refund".to_owned(),
                    amount: Some(Money {
                        currency_code: "USD".to_owned(),
                        minor_units: 500,
                    }),
                    reason: "the driver was late".to_owned(),
                };
                rig.orders().refund_order(request).await.map(drop)
            }
            Asked::Release => {
                let request = ReleaseDriverRequest {
                    order_id,
                    driver_id: "cab-1".to_owned(),
                    reason: "a flat tyre".to_owned(),
                };
                rig.orders().release_driver(request).await.map(drop)
            }
            Asked::Retry => retry(rig, &order_id).await.map(drop),
            Asked::Erasure => {
                let request = EraseDriverRequest {
                    driver_id: "cab-1".to_owned(),
                    resume_token: String::new(),
                };
                operator(rig).erase_driver(request).await.map(drop)
            }
        }
    }

    /// What the order is afterwards, and how many charges and refunds there are.
    fn outcome(self) -> (OrderStatus, (usize, usize)) {
        match self {
            Asked::Cancellation | Asked::CancellationOfSearch => (OrderStatus::Refunded, (1, 1)),
            Asked::Refund => (OrderStatus::Succeeded, (1, 1)),
            Asked::Release | Asked::Retry | Asked::Erasure => (OrderStatus::Succeeded, (1, 0)),
        }
    }
}

#[tokio::test]
async fn whatever_is_asked_while_the_step_log_is_locked_is_refused_for_now_and_then_done_once() {
    for asked in Asked::ALL {
        let rig = Rig::with(
            "postgres.lock_timeout=100ms orders.assignment_window=5m grpc.services=order,location,fleet,operator",
        )
        .await;
        let order_id = asked.order(&rig).await;
        let holder = rig.sql().await;
        holder
            .batch_execute("begin; lock table order_saga_steps in share mode")
            .await
            .unwrap();
        for _ in 0..2 {
            let Err(refused) = asked.of(&rig, &order_id).await else {
                panic!("{asked:?} does without the log")
            };
            assert_refused_for_now(&refused, Code::Unavailable);
        }
        holder.batch_execute("rollback").await.unwrap();

        if let Err(refused) = asked.of(&rig, &order_id).await {
            panic!("{asked:?}: {refused:?}");
        }
        let settled = rig.until_settled(&order_id).await;
        assert_eq!((settled.status(), rig.movements_count()), asked.outcome(), "{asked:?}");
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
