//! Cancellation, at every moment of an order's life: it ends never charged or refunded in full, its driver is free.

use std::time::Duration;

use tonic::{Code, Status};
use waybill_proto::order::v1::{CancelOrderRequest, CompleteOrderRequest, FailureReason, Order, OrderStatus};
use waybill_sandbox::payments::{Fault, FaultKind};

use crate::rig::{PICKUP, Rig, a_ride, refusal_reason, until};

async fn cancel(rig: &Rig, order_id: &str) -> Result<Order, Status> {
    let request = CancelOrderRequest {
        order_id: order_id.to_owned(),
    };
    let answer = rig.orders().cancel_order(request).await?;
    Ok(answer.into_inner().order.unwrap())
}

/// Waits until the only order has this status; its id.
async fn until_status(rig: &Rig, status: &str) -> String {
    let sql = rig.sql().await;
    until("the order has the status", async || {
        let row = sql
            .query_opt("select order_id::text, status from order_sagas", &[])
            .await
            .unwrap();
        let Some(row) = row else {
            return Err("no order".to_owned());
        };
        let now: String = row.get(1);
        if now == status { Ok(row.get(0)) } else { Err(now) }
    })
    .await
}

#[tokio::test]
async fn a_served_order_is_refunded_and_its_driver_is_free_again() {
    let rig = Rig::start().await;
    rig.driver_at("cab-1", PICKUP.0, PICKUP.1).await;
    let order = rig.place(a_ride()).await;

    let cancelled = cancel(&rig, &order.order_id).await.unwrap();
    assert_eq!(cancelled.status(), OrderStatus::Refunded);
    assert_eq!(cancelled.failure_reason(), FailureReason::Cancelled);
    assert_eq!(cancelled.assignment.as_ref().unwrap().release_reason, "cancelled");
    assert_eq!(cancelled.payment.as_ref().unwrap().refund_amount, cancelled.amount);
    assert_eq!(
        cancel(&rig, &order.order_id).await.unwrap(),
        cancelled,
        "it may be repeated"
    );
    assert_eq!(rig.refunds().len(), 1);

    assert_eq!(rig.place(a_ride()).await.assignment.unwrap().driver_id, "cab-1");
    rig.assert_clean().await;
}

#[tokio::test]
async fn an_order_that_looks_for_a_driver_is_refunded_at_once() {
    let rig = Rig::start().await;
    let mut orders = rig.orders();
    let placed = orders.create_order(a_ride());
    let cancelled = async {
        let order_id = until_status(&rig, "charged").await;
        cancel(&rig, &order_id).await.unwrap()
    };
    let (placed, cancelled) = tokio::join!(placed, cancelled);
    assert_eq!(cancelled.status(), OrderStatus::Refunded);
    assert_eq!(cancelled.failure_reason(), FailureReason::Cancelled);
    let answer = placed.unwrap().into_inner().order.unwrap();
    assert_eq!(
        answer.status(),
        OrderStatus::Refunded,
        "both callers hear of the same end"
    );
    assert_eq!((rig.charges().len(), rig.refunds().len()), (1, 1));
    rig.assert_clean().await;
}

#[tokio::test]
async fn an_order_whose_charge_is_under_way_is_charged_and_refunded() {
    let rig = Rig::start().await;
    rig.driver_at("cab-1", PICKUP.0, PICKUP.1).await;
    let slow = Fault::times(FaultKind::Latency, 1).delayed(Duration::from_millis(700));
    rig.payments().set_fault(slow);
    let mut orders = rig.orders();
    let placed = orders.create_order(a_ride());
    let cancelled = async {
        let order_id = until_status(&rig, "charging").await;
        cancel(&rig, &order_id).await.unwrap()
    };
    let (_, cancelled) = tokio::join!(placed, cancelled);
    assert_eq!(cancelled.failure_reason(), FailureReason::Cancelled);
    assert_eq!(cancelled.status(), OrderStatus::Refunded);
    assert_eq!(cancelled.assignment, None);
    assert_eq!((rig.charges().len(), rig.refunds().len()), (1, 1));
    rig.assert_clean().await;
}

#[tokio::test]
async fn an_order_whose_charge_hangs_ends_without_money_on_our_side() {
    let rig = Rig::builder()
        .set("payments.attempt_timeout", "300ms")
        .set("payments.total_timeout", "500ms")
        .set("orders.sweep_interval", "100ms")
        .start()
        .await;
    rig.payments().set_fault(Fault::times(FaultKind::Hang, 2));
    let mut orders = rig.orders();
    let placed = orders.create_order(a_ride());
    let cancelled = async {
        let order_id = until_status(&rig, "charging").await;
        cancel(&rig, &order_id).await.unwrap()
    };
    let (_, cancelled) = tokio::join!(placed, cancelled);
    assert_eq!(cancelled.failure_reason(), FailureReason::Cancelled);
    assert_eq!(rig.charges().len(), rig.refunds().len());
    rig.assert_clean().await;
}

#[tokio::test]
async fn a_declined_order_stays_declined_whoever_cancels() {
    let rig = Rig::start().await;
    let mut request = a_ride();
    request.payment_method = "pm_card_chargeDeclined".to_owned();
    let order = rig.place(request).await;
    let refused = cancel(&rig, &order.order_id).await.unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition);
    assert_eq!(refusal_reason(&refused), "ORDER_NOT_CANCELLABLE");
}

#[tokio::test]
async fn a_completed_order_cannot_be_cancelled_and_keeps_its_money() {
    let rig = Rig::start().await;
    rig.driver_at("cab-1", PICKUP.0, PICKUP.1).await;
    let order = rig.place(a_ride()).await;
    let request = CompleteOrderRequest {
        order_id: order.order_id.clone(),
        ..CompleteOrderRequest::default()
    };
    rig.orders().complete_order(request).await.unwrap();

    let refused = cancel(&rig, &order.order_id).await.unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition);
    assert_eq!(refusal_reason(&refused), "ORDER_NOT_CANCELLABLE");
    assert_eq!(rig.refunds(), []);
    rig.assert_clean().await;
}

#[tokio::test]
async fn of_a_completion_and_a_cancellation_at_once_one_wins() {
    let rig = Rig::builder().servers(2).start().await;
    for n in 0..4 {
        rig.driver_at(&format!("cab-{n}"), PICKUP.0, PICKUP.1).await;
        let order = rig.place(a_ride()).await;
        let request = CompleteOrderRequest {
            order_id: order.order_id.clone(),
            ..CompleteOrderRequest::default()
        };
        let mut orders = rig.orders_of(1);
        let (completed, cancelled) = tokio::join!(orders.complete_order(request), cancel(&rig, &order.order_id));
        assert_ne!(completed.is_ok(), cancelled.is_ok(), "{completed:?} {cancelled:?}");
        let end = rig.until_settled(&order.order_id).await;
        let refunded = end.status() == OrderStatus::Refunded;
        assert_eq!(refunded, cancelled.is_ok());
    }
    rig.assert_clean().await;
}
