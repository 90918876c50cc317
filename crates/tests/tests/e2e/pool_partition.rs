//! What is under way goes before what is new: calls from outside cannot take the connections that sagas need.

use testkit::wire::{PICKUP, a_ride};
use testkit::{Rig, until, until_eq};
use tokio::task::JoinSet;
use waybill_proto::fleet::v1::GetDriverRequest;
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
