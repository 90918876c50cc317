//! Cancellation, at every moment of an order's life: it ends never charged or refunded in full, its driver is free.

use std::time::Duration;

use testkit::wire::{PICKUP, a_declined_ride, a_ride, assert_refused, complete};
use testkit::{Rig, until};
use tonic::{Code, Status};
use waybill_proto::order::v1::{FailureReason, Order, OrderStatus};
use waybill_sandbox::payments::{Fault, FaultKind};

/// Waits until the only order has this status; its id.
async fn until_status(rig: &Rig, status: &str) -> String {
    let sql = rig.sql().await;
    until("the order has the status", async || {
        let query = "select order_id::text, status from order_sagas";
        let row = sql.query_opt(query, &[]).await.unwrap().ok_or("no order")?;
        let now: String = row.get(1);
        if now == status { Ok(row.get(0)) } else { Err(now) }
    })
    .await
}

/// Places an order, and cancels it once it has this status; how it ended, and its answer.
async fn cancel_at(rig: &Rig, status: &str) -> (Order, Result<Order, Status>) {
    let mut orders = rig.orders();
    let placed = orders.create_order(a_ride());
    let cancelled = async {
        let order_id = until_status(rig, status).await;
        rig.cancel(&order_id).await.unwrap()
    };
    let (placed, cancelled) = tokio::join!(placed, cancelled);
    assert_eq!(cancelled.failure_reason(), FailureReason::Cancelled);
    (cancelled, placed.map(|answer| answer.into_inner().order.unwrap()))
}

#[tokio::test]
async fn a_served_order_is_refunded_and_its_driver_is_free_again() {
    let rig = Rig::start().await;
    rig.driver_at("cab-1", PICKUP.0, PICKUP.1).await;
    let order = rig.place(a_ride()).await;

    let cancelled = rig.cancel(&order.order_id).await.unwrap();
    assert_eq!(cancelled.status(), OrderStatus::Refunded);
    assert_eq!(cancelled.failure_reason(), FailureReason::Cancelled);
    assert_eq!(cancelled.assignment.as_ref().unwrap().release_reason, "cancelled");
    assert_eq!(cancelled.payment.as_ref().unwrap().refund_amount, cancelled.amount);
    let again = rig.cancel(&order.order_id).await.unwrap();
    assert_eq!(again, cancelled, "it may be repeated");
    assert_eq!(rig.refunds().len(), 1);

    assert_eq!(rig.place(a_ride()).await.assignment.unwrap().driver_id, "cab-1");
    rig.assert_clean().await;
}

#[tokio::test]
async fn an_order_that_looks_for_a_driver_is_refunded_at_once() {
    let rig = Rig::start().await;
    let (cancelled, answer) = cancel_at(&rig, "charged").await;
    // Both callers are answered with the same end.
    assert_eq!(cancelled.status(), OrderStatus::Refunded);
    assert_eq!(answer.unwrap().status(), OrderStatus::Refunded);
    assert_eq!(rig.movements_count(), (1, 1));
    rig.assert_clean().await;
}

#[tokio::test]
async fn an_order_whose_charge_is_under_way_is_charged_and_refunded() {
    let rig = Rig::start().await;
    rig.driver_at("cab-1", PICKUP.0, PICKUP.1).await;
    let slow = Fault::times(FaultKind::Latency, 1).delayed(Duration::from_millis(700));
    rig.payments().set_fault(slow);
    let (cancelled, _) = cancel_at(&rig, "charging").await;
    assert_eq!(cancelled.status(), OrderStatus::Refunded);
    assert_eq!(cancelled.assignment, None);
    assert_eq!(rig.movements_count(), (1, 1));
    rig.assert_clean().await;
}

#[tokio::test]
async fn an_order_whose_charge_hangs_ends_without_money_on_our_side() {
    let rig =
        Rig::with("payments.attempt_timeout=300ms payments.total_timeout=500ms orders.sweep_interval=100ms").await;
    rig.payments().set_fault(Fault::times(FaultKind::Hang, 2));
    let _ends = cancel_at(&rig, "charging").await;
    assert_eq!(rig.charges().len(), rig.refunds().len());
    rig.assert_clean().await;
}

#[tokio::test]
async fn a_declined_order_stays_declined_whoever_cancels() {
    let rig = Rig::start().await;
    let order = rig.place(a_declined_ride()).await;
    let refused = rig.cancel(&order.order_id).await.unwrap_err();
    assert_refused(&refused, Code::FailedPrecondition, "ORDER_NOT_CANCELLABLE");
}

#[tokio::test]
async fn a_completed_order_cannot_be_cancelled_and_keeps_its_money() {
    let rig = Rig::start().await;
    rig.driver_at("cab-1", PICKUP.0, PICKUP.1).await;
    let order = rig.place(a_ride()).await;
    rig.complete(&order.order_id).await.unwrap();
    let refused = rig.cancel(&order.order_id).await.unwrap_err();
    assert_refused(&refused, Code::FailedPrecondition, "ORDER_NOT_CANCELLABLE");
    assert_eq!(rig.refunds(), []);
    rig.assert_clean().await;
}

#[tokio::test]
async fn of_a_completion_and_a_cancellation_at_once_one_wins() {
    let rig = Rig::builder().servers(2).start().await;
    for n in 0..4 {
        rig.driver_at(&format!("cab-{n}"), PICKUP.0, PICKUP.1).await;
        let order = rig.place(a_ride()).await;
        let mut orders = rig.orders_of(1);
        let (completed, cancelled) = tokio::join!(
            orders.complete_order(complete(&order.order_id)),
            rig.cancel(&order.order_id)
        );
        assert_ne!(completed.is_ok(), cancelled.is_ok(), "{completed:?} {cancelled:?}");
        let end = rig.until_settled(&order.order_id).await;
        let refunded = end.status() == OrderStatus::Refunded;
        assert_eq!(refunded, cancelled.is_ok());
    }
    rig.assert_clean().await;
}
