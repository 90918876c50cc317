//! A person refunds a payment in the provider's dashboard: what is left is refunded, never more, and the order ends.

use testkit::wire::{PICKUP, a_ride};
use testkit::{Rig, until};
use waybill_proto::order::v1::{Order, OrderStatus};
use waybill_sandbox::payments::{Fault, FaultKind, FaultTarget};

/// An order that is served, of 19.99 USD.
async fn served(rig: &Rig) -> Order {
    rig.driver_at("cab-1", PICKUP.0, PICKUP.1).await;
    let order = rig.place(a_ride()).await;
    assert_eq!(order.status(), OrderStatus::Succeeded);
    order
}

fn refunded_amounts(rig: &Rig) -> Vec<i64> {
    rig.refunds().iter().map(|refund| refund.amount_minor).collect()
}

fn refunded(order: &Order) -> Option<i64> {
    let payment = order.payment.as_ref()?;
    payment.refund_amount.as_ref().map(|amount| amount.minor_units)
}

#[tokio::test]
async fn a_cancellation_refunds_what_was_not_refunded_by_hand() {
    let rig = Rig::builder().impatient().start().await;
    let order = served(&rig).await;
    rig.refund_by_hand(&rig.charges()[0].provider_id, 500, None).await;
    rig.cancel(&order.order_id).await.unwrap();
    let order = rig.until_settled(&order.order_id).await;
    assert_eq!((order.status(), refunded(&order)), (OrderStatus::Refunded, Some(1_999)));
    assert_eq!(refunded_amounts(&rig), [500, 1_499]);
    rig.assert_clean().await;
}

#[tokio::test]
async fn a_cancellation_after_a_full_refund_by_hand_refunds_nothing_more() {
    let rig = Rig::builder().impatient().start().await;
    let order = served(&rig).await;
    rig.refund_by_hand(&rig.charges()[0].provider_id, 1_500, None).await;
    rig.refund_by_hand(&rig.charges()[0].provider_id, 499, None).await;
    rig.cancel(&order.order_id).await.unwrap();
    let order = rig.until_settled(&order.order_id).await;
    assert_eq!((order.status(), refunded(&order)), (OrderStatus::Refunded, Some(1_999)));
    assert_eq!(refunded_amounts(&rig), [1_500, 499]);
    rig.assert_clean().await;
}

/// The refund is sent, its outcome is unknown, and it was made; a person refunds nothing more. Then the same with a refund
/// that was not made, while a person refunds a part.
#[tokio::test]
async fn a_part_that_is_refunded_by_hand_while_the_refund_is_unknown_is_counted_once() {
    for (fault, by_hand, expected) in [
        (FaultKind::ErrorAfterEffect, 0, vec![1_999]),
        (FaultKind::ErrorBeforeEffect, 500, vec![500, 1_499]),
        (FaultKind::ErrorBeforeEffect, 1_999, vec![1_999]),
    ] {
        let rig = Rig::builder().impatient().start().await;
        let order = served(&rig).await;
        rig.payments().set_fault(Fault::always(fault).on(FaultTarget::Refund));
        let mut call = tokio::task::JoinSet::new();
        let (mut orders, id) = (rig.orders(), order.order_id.clone());
        call.spawn(async move { orders.cancel_order(testkit::wire::cancel(&id)).await });
        let sql = rig.sql().await;
        // Its worker would set the time anew, so it is waited for.
        let defer = "update order_sagas set next_run_at = now() + interval '1 day'
                      where status = 'refunding' and lease_until is null
                        and exists (select from payment_attempts where operation = 'refund' and state = 'unknown')";
        until("the refund is unknown", async || {
            sql.execute(defer, &[]).await.unwrap() == 1
        })
        .await;
        rig.payments().clear_faults();
        if by_hand > 0 {
            rig.refund_by_hand(&rig.charges()[0].provider_id, by_hand, None).await;
        }
        rig.execute("update order_sagas set next_run_at = now()").await;
        let order = rig.until_settled(&order.order_id).await;
        assert_eq!((order.status(), refunded(&order)), (OrderStatus::Refunded, Some(1_999)));
        assert_eq!(refunded_amounts(&rig), expected);
        rig.assert_clean().await;
    }
}
