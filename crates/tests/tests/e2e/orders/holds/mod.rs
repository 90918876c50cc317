//! Orders whose amount is held first, and captured at the assignment or at the completion: all of it, a final amount or a
//! fee. What is not captured is released.

mod ended_outside;

use testkit::wire::{PICKUP, a_declined_ride, a_ride, assert_refused, refusal_fields};
use testkit::{Builder, Rig, until};
use tonic::{Code, Status};
use waybill_proto::order::v1::{
    CancelOrderRequest, CompleteOrderRequest, CreateOrderRequest, FailureReason, Money, Order, OrderStatus, PaymentMode,
};
use waybill_sandbox::payments::{Fault, FaultKind, FaultTarget};

const AT_ASSIGNMENT: PaymentMode = PaymentMode::CaptureAtAssignment;
const AT_COMPLETION: PaymentMode = PaymentMode::CaptureAtCompletion;

fn rig() -> Builder {
    Rig::builder().impatient()
}

fn ride(mode: PaymentMode) -> CreateOrderRequest {
    CreateOrderRequest {
        payment_mode: mode.into(),
        ..a_ride()
    }
}

#[allow(clippy::unnecessary_wraps, reason = "as the fields of requests have it")]
fn usd(minor_units: i64) -> Option<Money> {
    Some(Money {
        currency_code: "USD".to_owned(),
        minor_units,
    })
}

async fn served(rig: &Rig, mode: PaymentMode) -> Order {
    rig.driver_at("cab-1", PICKUP.0, PICKUP.1).await;
    let order = rig.place(ride(mode)).await;
    assert_eq!(order.status(), OrderStatus::Succeeded);
    order
}

async fn complete(rig: &Rig, order: &Order, final_amount: Option<Money>) -> Result<Order, Status> {
    let request = CompleteOrderRequest {
        order_id: order.order_id.clone(),
        final_amount,
        ..CompleteOrderRequest::default()
    };
    Ok(rig.orders().complete_order(request).await?.into_inner().order.unwrap())
}

async fn cancel(rig: &Rig, order: &Order, cancellation_fee: Option<Money>) -> Result<Order, Status> {
    let request = CancelOrderRequest {
        order_id: order.order_id.clone(),
        cancellation_fee,
    };
    Ok(rig.orders().cancel_order(request).await?.into_inner().order.unwrap())
}

/// The provider's id of the newest payment, which is held.
async fn newest_hold(rig: &Rig) -> String {
    let list = rig.at_provider_get("payment_intents").await;
    list["data"][0]["id"].as_str().unwrap().to_owned()
}

/// What was taken, kept as a fee and refunded.
fn money(order: &Order) -> (Option<i64>, Option<i64>, Option<i64>) {
    let payment = order.payment.as_ref().expect("a payment");
    let minor = |money: &Option<Money>| money.as_ref().map(|money| money.minor_units);
    (
        minor(&payment.captured_amount),
        minor(&payment.fee_amount),
        minor(&payment.refund_amount),
    )
}

fn captured(rig: &Rig) -> Vec<i64> {
    rig.charges().iter().map(|charge| charge.amount_minor).collect()
}

fn refunded(rig: &Rig) -> Vec<i64> {
    rig.refunds().iter().map(|refund| refund.amount_minor).collect()
}

#[tokio::test]
async fn a_hold_is_captured_when_a_driver_is_assigned() {
    let rig = rig().start().await;
    let order = served(&rig, AT_ASSIGNMENT).await;
    let now = rig.until_settled(&order.order_id).await;
    assert_eq!(
        (money(&now), now.payment_mode()),
        ((Some(1_999), None, None), AT_ASSIGNMENT)
    );
    assert!(!now.payment.unwrap().is_held);
    assert_eq!(captured(&rig), [1_999]);
    complete(&rig, &order, None).await.unwrap();
    rig.assert_clean().await;
}

#[tokio::test]
async fn without_a_driver_a_hold_is_released_and_nothing_was_taken() {
    for mode in [AT_ASSIGNMENT, AT_COMPLETION] {
        let rig = rig().set("orders.assignment_window", "0s").start().await;
        let order = rig.place(ride(mode)).await;
        let found = (order.status(), order.failure_reason());
        assert_eq!(found, (OrderStatus::Refunded, FailureReason::NoDriver));
        assert_eq!(money(&order), (None, None, None));
        assert_eq!(
            rig.movements_count(),
            (0, 0),
            "the hold is not there any more, and was never taken"
        );
        let payment = rig.at_provider_get("payment_intents").await["data"][0].clone();
        assert_eq!(payment["status"], "canceled");
        rig.assert_clean().await;
    }
}

#[tokio::test]
async fn a_completion_captures_the_final_amount_and_releases_the_rest() {
    for (final_amount, taken) in [(None, 1_999), (usd(1_999), 1_999), (usd(1_234), 1_234)] {
        let rig = rig().start().await;
        let order = served(&rig, AT_COMPLETION).await;
        assert_eq!(
            (money(&order), order.payment.as_ref().unwrap().is_held),
            ((None, None, None), true)
        );
        assert_eq!(captured(&rig), [] as [i64; 0], "held, and not taken");
        complete(&rig, &order, final_amount.clone()).await.unwrap();
        let now = rig.until_settled(&order.order_id).await;
        assert_eq!((now.status(), money(&now).0), (OrderStatus::Succeeded, Some(taken)));
        // May be repeated, and changes nothing.
        complete(&rig, &order, final_amount).await.unwrap();
        complete(&rig, &order, None).await.unwrap();
        rig.until_settled(&order.order_id).await;
        assert_eq!((captured(&rig), refunded(&rig)), (vec![taken], vec![]));
        rig.assert_clean().await;
    }
}

/// Of an order that is paid already, what it cost less is refunded.
#[tokio::test]
async fn a_final_amount_below_what_was_paid_is_refunded_to_the_customer() {
    for mode in [PaymentMode::ChargeFirst, AT_ASSIGNMENT] {
        let rig = rig().start().await;
        let order = served(&rig, mode).await;
        rig.until_settled(&order.order_id).await;
        complete(&rig, &order, usd(1_500)).await.unwrap();
        let now = rig.until_settled(&order.order_id).await;
        assert_eq!(
            (now.status(), money(&now)),
            (OrderStatus::Succeeded, (Some(1_999), None, Some(499)))
        );
        assert_eq!((captured(&rig), refunded(&rig)), (vec![1_999], vec![499]), "{mode:?}");
        rig.assert_clean().await;
    }
}

#[tokio::test]
async fn a_cancellation_after_the_assignment_may_keep_a_fee() {
    for (mode, fee, taken, back) in [
        (PaymentMode::ChargeFirst, None, vec![1_999], vec![1_999]),
        (PaymentMode::ChargeFirst, usd(300), vec![1_999], vec![1_699]),
        (AT_ASSIGNMENT, usd(300), vec![1_999], vec![1_699]),
        (AT_COMPLETION, None, vec![], vec![]),
        (AT_COMPLETION, usd(300), vec![300], vec![]),
        (AT_COMPLETION, usd(1_999), vec![1_999], vec![]),
        (PaymentMode::ChargeFirst, usd(1_999), vec![1_999], vec![]),
    ] {
        let rig = rig().start().await;
        let order = served(&rig, mode).await;
        rig.until_settled(&order.order_id).await;
        cancel(&rig, &order, fee.clone()).await.unwrap();
        let now = rig.until_settled(&order.order_id).await;
        assert_eq!(
            (now.status(), now.failure_reason()),
            (OrderStatus::Refunded, FailureReason::Cancelled)
        );
        assert_eq!(money(&now).1, fee.map(|fee| fee.minor_units), "{mode:?}");
        assert_eq!((captured(&rig), refunded(&rig)), (taken, back), "{mode:?}");
        rig.assert_clean().await;
    }
}

#[tokio::test]
async fn what_cannot_be_captured_or_kept_is_refused_by_name_and_changes_nothing() {
    let rig = rig().start().await;
    let order = served(&rig, AT_COMPLETION).await;
    let refused = complete(&rig, &order, usd(2_000)).await.unwrap_err();
    assert_refused(&refused, Code::FailedPrecondition, "AMOUNT_TOO_LARGE");
    assert!(refused.message().starts_with("final_amount "), "{refused}");
    let refused = cancel(&rig, &order, usd(2_000)).await.unwrap_err();
    assert_refused(&refused, Code::FailedPrecondition, "AMOUNT_TOO_LARGE");
    assert!(refused.message().starts_with("cancellation_fee "), "{refused}");
    let euros = Some(Money {
        currency_code: "EUR".to_owned(),
        minor_units: 100,
    });
    let refused = complete(&rig, &order, euros.clone()).await.unwrap_err();
    assert_eq!(refusal_fields(&refused), ["final_amount.currency_code"]);
    let refused = cancel(&rig, &order, euros).await.unwrap_err();
    assert_eq!(refusal_fields(&refused), ["cancellation_fee.currency_code"]);
    // The provider captures no less than it charges.
    let refused = complete(&rig, &order, usd(20)).await.unwrap_err();
    assert_eq!(refusal_fields(&refused), ["final_amount.minor_units"]);
    let refused = cancel(&rig, &order, usd(20)).await.unwrap_err();
    assert_eq!(refusal_fields(&refused), ["cancellation_fee.minor_units"]);
    let refused = complete(&rig, &order, usd(0)).await.unwrap_err();
    assert_eq!(refusal_fields(&refused), ["final_amount.minor_units"]);
    let refused = cancel(&rig, &order, usd(-1)).await.unwrap_err();
    assert_eq!(refusal_fields(&refused), ["cancellation_fee.minor_units"]);
    let wrong = CreateOrderRequest {
        payment_mode: 9,
        ..a_ride()
    };
    let refused = rig.orders().create_order(wrong).await.unwrap_err();
    assert_eq!(refusal_fields(&refused), ["payment_mode"]);
    assert_eq!(rig.order(&order.order_id).await.status(), OrderStatus::Succeeded);
    complete(&rig, &order, None).await.unwrap();
    rig.until_settled(&order.order_id).await;
    assert_eq!(captured(&rig), [1_999]);
    rig.assert_clean().await;
}

#[tokio::test]
async fn a_hold_that_is_declined_fails_the_order() {
    let rig = rig().start().await;
    let declined = CreateOrderRequest {
        payment_mode: AT_COMPLETION.into(),
        ..a_declined_ride()
    };
    let order = rig.place(declined).await;
    assert_eq!(
        (order.status(), order.failure_reason()),
        (OrderStatus::Failed, FailureReason::PaymentDeclined)
    );
    rig.assert_clean().await;
}

#[tokio::test]
async fn each_fault_of_the_provider_ends_in_one_capture_or_in_one_void() {
    for fault in [
        FaultKind::ErrorAfterEffect,
        FaultKind::ErrorBeforeEffect,
        FaultKind::ErrorAfterEffectSaved,
        FaultKind::ReplyLost,
        FaultKind::RateLimited,
        FaultKind::InProgress,
        FaultKind::Garbage,
        FaultKind::LateSuccess,
    ] {
        let rig = rig().set("grpc.deadline_default", "1s").start().await;
        let completed = served(&rig, AT_COMPLETION).await;
        rig.payments()
            .set_fault(Fault::times(fault, 1).on(FaultTarget::Capture));
        complete(&rig, &completed, usd(1_234)).await.unwrap();
        let now = rig.until_settled(&completed.order_id).await;
        assert_eq!(
            (now.status(), money(&now).0),
            (OrderStatus::Succeeded, Some(1_234)),
            "{fault:?}"
        );

        let cancelled = served(&rig, AT_COMPLETION).await;
        rig.payments().set_fault(Fault::times(fault, 1).on(FaultTarget::Cancel));
        let _ = cancel(&rig, &cancelled, None).await;
        let now = rig.until_settled(&cancelled.order_id).await;
        assert_eq!(
            (now.status(), money(&now)),
            (OrderStatus::Refunded, (None, None, None)),
            "{fault:?}"
        );
        assert_eq!((captured(&rig), refunded(&rig)), (vec![1_234], vec![]), "{fault:?}");
        rig.assert_clean().await;
    }
}

/// The provider saves its refusal under the key, and would repeat it for a day.
#[tokio::test]
async fn a_capture_that_was_refused_is_made_once_its_reason_is_gone() {
    let rig = rig().start().await;
    let order = served(&rig, AT_COMPLETION).await;
    rig.payments()
        .set_fault(Fault::times(FaultKind::Decline, 1).on(FaultTarget::Capture));
    complete(&rig, &order, usd(1_500)).await.unwrap();
    let refused = "select count(*) from order_saga_steps where detail like '%refuses the capture%'";
    until("it is refused", async || rig.count(refused).await == 1).await;
    let now = rig.until_settled(&order.order_id).await;
    assert_eq!(money(&now), (Some(1_500), None, None));
    assert_eq!(captured(&rig), [1_500]);
    let flagged = "select count(*) from order_sagas where needs_attention is not null";
    assert_eq!(rig.count(flagged).await, 0);
    rig.assert_clean().await;
}

#[tokio::test]
async fn a_part_of_what_was_captured_can_be_refunded_and_nothing_of_what_is_held() {
    let rig = rig().start().await;
    let order = served(&rig, AT_COMPLETION).await;
    let request = |key: &str, minor_units| waybill_proto::order::v1::RefundOrderRequest {
        order_id: order.order_id.clone(),
        idempotency_key: format!("{key}-of-sixteen-bytes"),
        amount: usd(minor_units),
        reason: "late".to_owned(),
    };
    let refused = rig.orders().refund_order(request("a", 100)).await.unwrap_err();
    assert_refused(&refused, Code::FailedPrecondition, "REFUND_TOO_LARGE");
    complete(&rig, &order, usd(1_000)).await.unwrap();
    rig.until_settled(&order.order_id).await;
    let refused = rig.orders().refund_order(request("b", 1_001)).await.unwrap_err();
    assert_refused(&refused, Code::FailedPrecondition, "REFUND_TOO_LARGE");
    rig.orders().refund_order(request("c", 1_000)).await.unwrap();
    assert_eq!((captured(&rig), refunded(&rig)), (vec![1_000], vec![1_000]));
    rig.assert_clean().await;
}

/// A hold lasts some days. Before it ends it is captured, or its order is cancelled and it is released.
#[tokio::test]
async fn a_hold_that_is_about_to_expire_is_captured_or_released_before() {
    for (setting, status, taken) in [
        ("capture", OrderStatus::Succeeded, vec![1_999]),
        ("release", OrderStatus::Refunded, vec![]),
    ] {
        let rig = rig()
            .set("orders.hold_expiry", setting)
            .set("orders.sweep_interval", "100ms")
            .start()
            .await;
        let order = served(&rig, AT_COMPLETION).await;
        rig.execute("update payments set charged_at = charged_at - interval '7 days'")
            .await;
        until("the hold is not held any more", async || {
            let payment = rig.order(&order.order_id).await.payment.unwrap();
            let is_held = rig
                .count("select count(*) from payments where captured_amount is null")
                .await
                == 1;
            (!is_held).then_some(()).ok_or(payment)
        })
        .await;
        let now = rig.until_settled(&order.order_id).await;
        assert_eq!(now.status(), status, "{setting}");
        assert_eq!(captured(&rig), taken, "{setting}");
        if setting == "capture" {
            // It is still served, and costs less than was captured.
            complete(&rig, &order, usd(1_000)).await.unwrap();
            rig.until_settled(&order.order_id).await;
            assert_eq!(refunded(&rig), [999]);
        }
        rig.assert_clean().await;
    }
}

/// Another mode is another request.
#[tokio::test]
async fn the_mode_is_part_of_what_a_key_stands_for() {
    let rig = rig().start().await;
    rig.driver_at("cab-1", PICKUP.0, PICKUP.1).await;
    let request = ride(AT_COMPLETION);
    rig.place(request.clone()).await;
    let another = CreateOrderRequest {
        payment_mode: PaymentMode::ChargeFirst.into(),
        ..request
    };
    let refused = rig.orders().create_order(another).await.unwrap_err();
    assert_refused(&refused, Code::FailedPrecondition, "IDEMPOTENCY_KEY_REUSED");
    rig.assert_clean().await;
}
