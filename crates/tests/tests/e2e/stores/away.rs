//! Redis or Postgres away: what can go on goes on, and no one is charged for what cannot.

use std::time::Duration;

use jiff::Timestamp;
use prost::Message as _;
use testkit::wire::{PICKUP, a_ride, assert_refused_for_now, fix};
use testkit::{Rig, until, until_eq};
use tonic::{Code, Request};
use waybill_proto::location::v1::ReportLocationsRequest;
use waybill_proto::order::v1::{FailureReason, OrderStatus};
use waybill_sandbox::payments::{Fault, FaultKind};
use waybill_sandbox::proxy::Mode;

const ORDERS: &str = "select count(*) from order_sagas";

#[tokio::test]
async fn without_redis_new_orders_fail_before_any_charge_while_replays_and_refunds_go_on() {
    let rig = Rig::builder()
        .redis_through_proxy()
        .set("orders.assignment_window", "1s")
        .start()
        .await;
    rig.driver_at("cab-1", PICKUP.0, PICKUP.1).await;
    let request = a_ride();
    let first = rig.orders().create_order(request.clone()).await.unwrap().into_inner();
    let requests = rig.payments().requests();

    rig.redis_line().set_mode(Mode::Refuse);
    rig.until_unready().await;
    let refused = rig.orders().create_order(a_ride()).await.unwrap_err();
    assert_refused_for_now(&refused, Code::Unavailable);
    let orders = "select count(*) from order_sagas where status <> 'succeeded'";
    let orders = rig.count(orders).await;
    assert_eq!((rig.payments().requests(), orders), (requests, 0), "nothing was begun");

    let again = rig.orders().create_order(request).await.unwrap().into_inner();
    assert_eq!(again.encode_to_vec(), first.encode_to_vec());
    let cancelled = rig.cancel(&first.order.unwrap().order_id).await.unwrap();
    assert_eq!(cancelled.status(), OrderStatus::Refunded);

    rig.redis_line().set_mode(Mode::Pass);
    until("new orders are accepted again", async || {
        rig.orders().create_order(a_ride()).await
    })
    .await;
    rig.assert_clean().await;
}

#[tokio::test]
async fn an_order_that_is_charged_when_redis_goes_for_long_is_refunded() {
    let rig = Rig::builder()
        .redis_through_proxy()
        .with("orders.assignment_window=1s orders.search_outage_max=1s")
        .start()
        .await;
    let slow = Fault::times(FaultKind::Latency, 1).delayed(Duration::from_millis(500));
    rig.payments().set_fault(slow);
    let mut orders = rig.orders();
    let placed = orders.create_order(a_ride());
    let gone = async {
        until_eq("the charge is under way", 1, async || rig.count(ORDERS).await).await;
        rig.redis_line().set_mode(Mode::Refuse);
    };
    let (placed, ()) = tokio::join!(placed, gone);
    let order = placed.unwrap().into_inner().order.unwrap();
    assert_eq!(order.status(), OrderStatus::Refunded);
    assert_eq!(order.failure_reason(), FailureReason::NoDriver);
    rig.redis_line().set_mode(Mode::Pass);
    rig.assert_clean().await;
}

/// The window counts only time in which it could search.
#[tokio::test]
async fn an_order_that_is_charged_when_redis_goes_for_a_while_waits_for_it() {
    let rig = Rig::builder()
        .redis_through_proxy()
        .set("orders.assignment_window", "5s")
        .start()
        .await;
    let slow = Fault::times(FaultKind::Latency, 1).delayed(Duration::from_millis(500));
    rig.payments().set_fault(slow);
    let begun = rig.begin(a_ride());
    until_eq("the charge is under way", 1, async || rig.count(ORDERS).await).await;
    rig.redis_line().set_mode(Mode::Refuse);
    let late = "select count(*) from order_sagas where created_at < now() - interval '9 s'";
    until_eq("its window is long over", 1, async || rig.count(late).await).await;
    rig.redis_line().set_mode(Mode::Pass);
    let fixes = || ReportLocationsRequest {
        fixes: vec![fix("cab-1", PICKUP.0, PICKUP.1, Timestamp::now())],
    };
    until("fixes are taken again", async || {
        rig.locations().report_locations(fixes()).await
    })
    .await;
    rig.until_all_settled().await;
    assert_eq!(rig.orders_in("succeeded").await, 1);
    drop(begun);
    rig.assert_clean().await;
}

/// Without Postgres in this mode every call fails in time, and the provider is not called.
async fn without_postgres(mode: Mode) {
    let rig = Rig::builder()
        .postgres_through_proxy()
        .with("postgres.acquire_timeout=250ms postgres.statement_timeout=500ms")
        .start()
        .await;
    rig.driver_at("cab-1", PICKUP.0, PICKUP.1).await;
    rig.postgres_line().set_mode(mode);
    for _ in 0..3 {
        let mut request = Request::new(a_ride());
        request.set_timeout(Duration::from_secs(8));
        let refused = rig.orders().create_order(request).await.unwrap_err();
        assert_refused_for_now(&refused, Code::Unavailable);
        assert!(!refused.message().contains("127.0.0.1"), "no inner word: {refused:?}");
    }
    assert_eq!(rig.payments().requests(), 0);
    // Ingest goes on without it.
    rig.driver_at("cab-2", PICKUP.0, PICKUP.1).await;

    rig.postgres_line().set_mode(Mode::Pass);
    let request = a_ride();
    until("orders are accepted again", async || {
        rig.orders().create_order(request.clone()).await
    })
    .await;
    rig.assert_clean().await;
}

#[tokio::test]
async fn without_postgres_orders_are_refused_in_time_and_no_provider_is_called() {
    without_postgres(Mode::Refuse).await;
}

#[tokio::test]
async fn with_postgres_behind_a_cut_line_orders_are_refused_in_time_and_no_provider_is_called() {
    without_postgres(Mode::Blackhole).await;
}

#[tokio::test]
async fn a_charge_that_is_under_way_when_postgres_is_killed_is_not_repeated() {
    let mut rig = Rig::builder()
        .private_stores()
        .with(
            "payments.attempt_timeout=1s payments.total_timeout=1s postgres.statement_timeout=500ms \
            orders.lease=2s orders.sweep_interval=100ms",
        )
        .start()
        .await;
    rig.driver_at("cab-1", PICKUP.0, PICKUP.1).await;
    let slow = Fault::times(FaultKind::Latency, 1).delayed(Duration::from_millis(500));
    rig.payments().set_fault(slow);
    let begun = rig.begin(a_ride());
    until_eq("the charge is under way", 1, async || rig.count(ORDERS).await).await;
    rig.stores().postgres().kill().await.unwrap();
    until("the money has moved", async || !rig.charges().is_empty()).await;
    rig.stores().postgres().restart().await.unwrap();

    rig.until_all_settled().await;
    drop(begun);
    assert_eq!(rig.orders_in("succeeded").await, 1);
    assert_eq!(rig.charges().len(), 1);
    rig.assert_clean().await;
}
