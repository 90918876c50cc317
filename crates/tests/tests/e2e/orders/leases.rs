//! Servers that die or stall in the middle of an order: another one ends it, and the first one changes nothing more.

use std::time::Duration;

use testkit::wire::{PICKUP, a_ride};
use testkit::{Builder, Rig, ServerProcess, until, until_eq};
use waybill_proto::order::v1::OrderStatus;
use waybill_sandbox::payments::{Fault, FaultKind};
use waybill_sandbox::process::Signal;

/// Leases of two seconds, and sweepers that look often.
fn short_leases() -> Builder {
    Rig::builder().with(
        "payments.attempt_timeout=1s payments.total_timeout=1s postgres.statement_timeout=500ms \
            orders.lease=2s orders.sweep_interval=100ms",
    )
}

/// Begins an order at this server, whose charge takes a while and happens whether the server waits for it or not;
/// returns when it is under way, while the call runs on.
async fn begin_slow_order(rig: &Rig, server: &ServerProcess) -> tokio::task::JoinSet<()> {
    let slow = Fault::times(FaultKind::LateSuccess, 1).delayed(Duration::from_millis(800));
    rig.payments().set_fault(slow);
    let mut orders = server.orders();
    let mut call = tokio::task::JoinSet::new();
    call.spawn(async move {
        // The order is looked at, not the answer.
        let _ = orders.create_order(a_ride()).await;
    });
    until("the request is at the provider", async || rig.payments().requests() > 0).await;
    call
}

#[tokio::test]
async fn an_order_whose_server_is_killed_is_ended_by_another_and_charged_once() {
    let rig = short_leases().start().await;
    rig.driver_at("cab-1", PICKUP.0, PICKUP.1).await;
    let server = ServerProcess::start(&rig, &[]).await;
    let _call = begin_slow_order(&rig, &server).await;
    server.kill().await;
    rig.until_all_settled().await;
    assert_eq!(rig.orders_in("succeeded").await, 1);
    let fence = rig.count("select max(fence) from order_sagas").await;
    assert_eq!(fence, 2, "claimed once more");
    assert_eq!(rig.charges().len(), 1);
    rig.assert_clean().await;
}

#[tokio::test]
async fn a_server_that_slept_past_its_lease_changes_nothing_when_it_wakes() {
    let rig = short_leases().start().await;
    rig.driver_at("cab-1", PICKUP.0, PICKUP.1).await;
    let sleeper = ServerProcess::start(&rig, &[]).await;
    let _call = begin_slow_order(&rig, &sleeper).await;
    sleeper.signal(Signal::SIGSTOP);
    rig.until_all_settled().await;

    let state = "select count(*) * 1000 + sum(fence)::bigint from order_saga_steps";
    let before = rig.count(state).await;
    sleeper.signal(Signal::SIGCONT);
    sleeper.until_logged("lease lost").await;
    assert_eq!(rig.count(state).await, before, "no step of the sleeper");
    assert_eq!(rig.charges().len(), 1);
    assert_eq!(sleeper.stop().await.code(), Some(0));
    rig.assert_clean().await;
}

#[tokio::test]
async fn a_server_that_drains_hands_its_waiting_order_over() {
    let mut rig = short_leases().set("orders.lease", "15s").start().await;
    // The server goes while the order still looks for a driver.
    let _call = rig.begin(a_ride());
    until_eq("the order looks for a driver", 1, async || {
        rig.orders_in("charged").await
    })
    .await;
    rig.restart_server().await;
    rig.driver_at("cab-1", PICKUP.0, PICKUP.1).await;
    rig.until_all_settled().await;
    assert_eq!(rig.orders_in("succeeded").await, 1);
    rig.assert_clean().await;
}

#[tokio::test]
async fn an_accepted_order_is_answered_before_its_server_ends() {
    let rig = Rig::builder().no_server().start().await;
    let server = ServerProcess::start(&rig, &[("orders.assignment_window", "0s")]).await;
    let slow = Fault::times(FaultKind::Latency, 1).delayed(Duration::from_millis(500));
    rig.payments().set_fault(slow);
    let mut orders = server.orders();
    let mut call = tokio::task::JoinSet::new();
    call.spawn(async move { orders.create_order(a_ride()).await });
    until("the request is at the provider", async || rig.payments().requests() > 0).await;
    assert_eq!(server.stop().await.code(), Some(0));
    let answer = call.join_next().await.unwrap().unwrap().unwrap().into_inner();
    assert_eq!(answer.order.unwrap().status(), OrderStatus::Refunded);
}
