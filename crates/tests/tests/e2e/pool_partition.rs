//! What is under way goes before what is new, and what is new before what only looks: calls from outside cannot take the connections that sagas
//! need, nor reads those of new orders.

use testkit::wire::{PICKUP, a_ride};
use testkit::{Rig, until, until_eq};
use tokio::task::JoinSet;
use waybill_proto::fleet::v1::GetDriverRequest;
use waybill_proto::order::v1::ListOrdersRequest;
use waybill_sandbox::payments::{Fault, FaultKind};

/// A saga that finds no connection leaves its order to the lease: seconds in which a customer has paid and waits.
#[tokio::test]
async fn a_flood_of_calls_does_not_keep_a_saga_from_the_database() {
    let rig = Rig::builder().set("postgres.pool_max", "4").start().await;
    rig.driver_at("cab-1", PICKUP.0, PICKUP.1).await;
    // The order is with the provider while the flood comes.
    let slow = std::time::Duration::from_millis(500);
    rig.payments()
        .set_fault(Fault::always(FaultKind::Latency).delayed(slow));
    let before = rig.payments().requests();
    let mut placed = rig.begin(a_ride());
    until("the charge is with the provider", async || {
        rig.payments().requests() > before
    })
    .await;

    // Every call now holds its connection for as long as a statement may wait for a lock.
    let sql = rig.sql().await;
    sql.batch_execute("begin; lock table drivers in access exclusive mode")
        .await
        .unwrap();
    let mut flood = JoinSet::new();
    for caller in 0..64 {
        let mut fleet = rig.fleet();
        let request = GetDriverRequest {
            driver_id: format!("unknown-{caller}"),
        };
        flood.spawn(async move {
            loop {
                let _ = fleet.get_driver(request.clone()).await;
            }
        });
    }

    until_eq("the charge is in the ledger", 1, async || {
        rig.orders_in("charged").await
    })
    .await;

    flood.shutdown().await;
    sql.batch_execute("commit").await.unwrap();
    let order = placed.join_next().await.unwrap().unwrap().unwrap();
    assert_eq!(order.assignment.unwrap().driver_id, "cab-1");
}

/// A list may take long: of a database that is slow, or whose tables are locked. An order that is placed meanwhile does not wait for it.
#[tokio::test]
async fn a_flood_of_lists_does_not_keep_new_orders_from_the_database() {
    let rig = Rig::builder().set("postgres.pool_max", "4").start().await;
    rig.driver_at("cab-1", PICKUP.0, PICKUP.1).await;
    // Each list now holds its connection for as long as a statement may wait for a lock. An order is accepted and charged without this table.
    let sql = rig.sql().await;
    sql.batch_execute("begin; lock table order_assignments in access exclusive mode")
        .await
        .unwrap();
    let mut flood = JoinSet::new();
    for _ in 0..64 {
        let mut orders = rig.orders();
        flood.spawn(async move {
            loop {
                let _ = orders.list_orders(ListOrdersRequest::default()).await;
            }
        });
    }
    let waiting = "select count(*) > 0 from pg_locks l join pg_database d on d.oid = l.database
                    where d.datname = current_database() and not l.granted";
    until("lists wait", async || {
        sql.query_one(waiting, &[]).await.unwrap().get::<_, bool>(0)
    })
    .await;

    let mut placed = JoinSet::new();
    for count in 1..=10 {
        let mut order = rig.begin(a_ride());
        until("the order is charged", async || match order.try_join_next() {
            None => rig.orders_in("charged").await == count,
            Some(refused) => panic!("{:?}", refused.unwrap().map(|order| order.status())),
        })
        .await;
        placed.spawn(async move { order.join_next().await });
    }
    flood.shutdown().await;
    sql.batch_execute("commit").await.unwrap();
}
