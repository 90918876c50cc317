//! The rig is what all other tests believe: it starts, it is private, and its audit sees.

use testkit::ServerProcess;
use testkit::process::waybill;
use testkit::rig::Rig;
use testkit::wire::{a_declined_ride, a_ride};
use waybill_proto::order::v1::OrderStatus;
use waybill_server::storage::audit::CHECKS;

#[tokio::test]
async fn a_paid_order_gets_a_driver_and_the_audit_is_clean() {
    let rig = Rig::start().await;
    rig.driver_at("cab-1", 37.775, -122.419).await;
    let order = rig.place(a_ride()).await;
    assert_eq!(order.status(), OrderStatus::Succeeded);
    assert_eq!(order.assignment.unwrap().driver_id, "cab-1");
    assert_eq!(rig.charges().len(), 1);
    // All checks but those that need what a client was answered.
    assert_eq!(rig.assert_clean().await.checks(), CHECKS.len() - 2);
}

#[tokio::test]
async fn a_killed_program_leaves_its_order_to_the_next() {
    let rig = Rig::builder().no_server().start().await;
    let server = ServerProcess::start(&rig, &[]).await;
    server.kill().await;
    let server = ServerProcess::start(&rig, &[]).await;
    let answer = server
        .orders()
        .create_order(a_declined_ride())
        .await
        .unwrap()
        .into_inner();
    assert_eq!(answer.order.unwrap().status(), OrderStatus::Failed);
    assert_eq!(server.stop().await.code(), Some(0));
}

#[tokio::test]
async fn a_private_redis_can_be_killed_and_restarted() {
    let mut rig = Rig::builder().private_stores().start().await;
    rig.driver_at("cab-1", 37.775, -122.419).await;
    rig.stores().redis().kill().await.unwrap();
    rig.stores().redis().restart().await.unwrap();
    rig.restart_server().await;
    assert_eq!(rig.place(a_ride()).await.status(), OrderStatus::Succeeded);
}

#[tokio::test]
async fn a_command_runs_to_its_end() {
    let ended = waybill(&["--version"], &[]).await;
    assert_eq!(ended.status, Some(0));
    assert!(ended.stdout.starts_with("waybill "), "{ended:?}");
    let ended = waybill(&["doctor"], &[("WAYBILL_ORDERS__LEASE", "soon")]).await;
    assert_eq!(ended.status, Some(64));
    assert!(ended.stderr.contains("orders.lease"), "{ended:?}");
}
