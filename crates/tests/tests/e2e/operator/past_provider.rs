//! What was paid past the provider, and what is refunded again: only where nothing else of it can still be made.

use testkit::wire::{PICKUP, a_ride, assert_refused, refusal_reason};
use testkit::{Rig, until};
use tonic::{Code, Status};
use waybill_proto::admin::v1::{Outcome, RefundAgainRequest, ResolveOrderRequest};
use waybill_proto::order::v1::{CreateOrderRequest, Money, Order, OrderStatus, RefundOrderRequest};
use waybill_sandbox::payments::{Fault, FaultKind, FaultTarget};

use super::in_doubt::{
    age_refunds, assertion, is_contradicted, is_refused, operator, refund_in_doubt, refund_in_doubt_of, refunding,
    resolve, show, with_operator,
};

/// All that is owed was paid by bank.
fn paid_by_bank(order_id: &str) -> ResolveOrderRequest {
    ResolveOrderRequest {
        unverified: true,
        ..assertion(order_id, Outcome::Refunded, "bank transfer 17")
    }
}

async fn served(rig: &Rig) -> Order {
    rig.driver_at("cab-1", PICKUP.0, PICKUP.1).await;
    let order = rig.place(a_ride()).await;
    assert_eq!(order.status(), OrderStatus::Succeeded);
    order
}

/// A call refunds so much of it. The answer says how far it came in the time of the call.
async fn request_refund(rig: &Rig, order: &Order, minor_units: i64) {
    let request = RefundOrderRequest {
        order_id: order.order_id.clone(),
        idempotency_key: "a-key-of-sixteen-bytes".to_owned(),
        amount: Some(Money {
            currency_code: "USD".to_owned(),
            minor_units,
        }),
        reason: "late".to_owned(),
    };
    rig.orders().refund_order(request).await.unwrap();
}

async fn refund_again(rig: &Rig, order_id: &str) -> Result<Order, Status> {
    let request = RefundAgainRequest {
        order_id: order_id.to_owned(),
        operator: "mara".to_owned(),
        reason: "the customer has a new card".to_owned(),
    };
    let answer = operator(rig).refund_again(request).await?;
    Ok(answer.into_inner().order.expect("an order"))
}

/// The call is refused with this reason, once no worker holds the order.
async fn until_refused(rig: &Rig, order_id: &str, reason: &str) {
    until("it is refused", async || match refund_again(rig, order_id).await {
        Err(status) if refusal_reason(&status) == reason => {
            assert_refused(&status, Code::FailedPrecondition, reason);
            Ok(())
        }
        other => Err(other),
    })
    .await;
}

#[tokio::test]
async fn money_given_back_past_the_provider_closes_the_order_and_is_marked_as_unverified() {
    let rig = refunding().start().await;
    let order = refund_in_doubt(&rig).await;
    age_refunds(&rig).await;
    let mut request = assertion(&order, Outcome::Refunded, "bank transfer 17");
    request.unverified = true;
    let resolved = resolve(&rig, request).await.unwrap();
    assert_eq!(resolved.status(), OrderStatus::Refunded);
    let shown = show(&rig, &order).await.unwrap();
    assert_eq!(shown.refunds[1].provider_id, "unverified:bank transfer 17");
    assert_eq!(shown.refunds[1].origin, "unverified");
    let asked = shown.steps.iter().find(|line| line.step == "resolve").unwrap();
    assert!(asked.detail.contains("unverified"), "{asked:?}");
    assert_eq!(rig.refunds(), []);
    rig.assert_clean().await;
}

#[tokio::test]
async fn money_refunded_past_the_provider_is_not_believed_beyond_what_is_left_there() {
    let rig = refunding().start().await;
    let order = refund_in_doubt(&rig).await;
    age_refunds(&rig).await;
    let mut request = assertion(&order, Outcome::Refunded, "bank transfer 17");
    request.unverified = true;
    request.amount_minor_units = 2_000;
    is_contradicted(&rig, request.clone(), &["2000", "1999"]).await;
    rig.refund_by_hand(&rig.charges()[0].provider_id, 1_500, None).await;
    request.amount_minor_units = 500;
    is_contradicted(&rig, request.clone(), &["500", "499"]).await;
    // The rest of it is believed, and the order is settled by the two together.
    request.amount_minor_units = 499;
    let resolved = resolve(&rig, request).await.unwrap();
    assert_eq!(resolved.status(), OrderStatus::Refunded);
    assert_eq!(rig.refunds().len(), 1);
    rig.assert_clean().await;
}

/// A worker may have slept for a minute before it sends what it has recorded, and what was sent may be late.
#[tokio::test]
async fn money_is_not_paid_past_the_provider_while_a_refund_without_an_answer_may_still_be_made() {
    let rig = refunding().start().await;
    let order = refund_in_doubt(&rig).await;
    let request = paid_by_bank(&order);
    is_refused(
        &rig,
        request.clone(),
        Code::FailedPrecondition,
        "REFUND_MAY_BE_MADE",
        &["12 h"],
    )
    .await;
    age_refunds(&rig).await;
    assert_eq!(resolve(&rig, request).await.unwrap().status(), OrderStatus::Refunded);
    rig.assert_clean().await;
}

#[tokio::test]
async fn money_is_not_paid_past_the_provider_while_a_refund_is_pending_there() {
    let rig = refunding().start().await;
    let order = refund_in_doubt(&rig).await;
    age_refunds(&rig).await;
    rig.payments()
        .set_fault(Fault::always(FaultKind::RefundPending).on(FaultTarget::Refund));
    let by_hand = rig.refund_by_hand(&rig.charges()[0].provider_id, 500, None).await;
    is_refused(
        &rig,
        paid_by_bank(&order),
        Code::FailedPrecondition,
        "REFUND_PENDING",
        &["pending"],
    )
    .await;
    rig.payments().fail_refund(&by_hand, "unknown").await.unwrap();
    let resolved = resolve(&rig, paid_by_bank(&order)).await.unwrap();
    assert_eq!(resolved.status(), OrderStatus::Refunded);
    rig.assert_clean().await;
}

/// The provider counts some currencies in steps: of what is left nothing could be refunded.
#[tokio::test]
async fn an_amount_past_the_provider_is_one_that_the_provider_could_refund() {
    let rig = refunding().start().await;
    let ride = CreateOrderRequest {
        amount: Some(Money {
            currency_code: "KWD".to_owned(),
            minor_units: 10_000,
        }),
        ..a_ride()
    };
    let order = refund_in_doubt_of(&rig, ride).await;
    age_refunds(&rig).await;
    let mut request = paid_by_bank(&order);
    request.amount_minor_units = 3_333;
    is_contradicted(&rig, request.clone(), &["6667", "KWD"]).await;
    request.amount_minor_units = 3_330;
    resolve(&rig, request).await.unwrap();
    assert_eq!(rig.until_settled(&order).await.status(), OrderStatus::Refunded);
    let amounts: Vec<i64> = rig.refunds().iter().map(|refund| refund.amount_minor).collect();
    assert_eq!(amounts, [6_670]);
    rig.assert_clean().await;
}

/// A refusal is an answer: nothing is on its way. It is sent every half a minute, and could never be resolved otherwise.
#[tokio::test]
async fn what_the_provider_refuses_to_refund_can_be_paid_past_it_at_once() {
    let rig = with_operator().start().await;
    let order_id = served(&rig).await.order_id;
    let charge = rig.charges()[0].provider_id.clone();
    rig.payments().open_dispute(&charge, None, "fraudulent").await.unwrap();
    let _ = rig.cancel(&order_id).await;
    until("the refusal is flagged", async || {
        let flag = show(&rig, &order_id).await.unwrap().needs_attention;
        if flag.contains("charge_disputed") {
            Ok(())
        } else {
            Err(flag)
        }
    })
    .await;
    until("no worker holds it", async || {
        resolve(&rig, paid_by_bank(&order_id)).await.map(drop)
    })
    .await;
    assert_eq!(rig.until_settled(&order_id).await.status(), OrderStatus::Refunded);
    assert_eq!(rig.refunds(), []);
    rig.assert_clean().await;
}

/// A person has begun to refund by hand what failed: the customer would get it twice.
#[tokio::test]
async fn what_failed_is_not_refunded_again_while_a_refund_by_hand_is_pending() {
    let rig = with_operator().start().await;
    let order = served(&rig).await;
    request_refund(&rig, &order, 500).await;
    let refund = rig.refunds()[0].provider_id.clone();
    rig.payments().fail_refund(&refund, "unknown").await.unwrap();
    rig.payments()
        .set_fault(Fault::always(FaultKind::RefundPending).on(FaultTarget::Refund));
    let by_hand = rig.refund_by_hand(&rig.charges()[0].provider_id, 500, None).await;
    rig.payments().clear_faults();
    until_refused(&rig, &order.order_id, "REFUND_PENDING").await;
    rig.payments().fail_refund(&by_hand, "unknown").await.unwrap();
    refund_again(&rig, &order.order_id).await.unwrap();
    rig.until_settled(&order.order_id).await;
    assert_eq!(
        rig.order(&order.order_id)
            .await
            .payment
            .unwrap()
            .refund_amount
            .unwrap()
            .minor_units,
        500
    );
    rig.assert_clean().await;
}

/// For what a call requested too little is left, since a person refunded by hand; and it may still be made, should that fail.
#[tokio::test]
async fn what_is_impossible_is_not_refunded_again_while_its_request_may_be_on_its_way() {
    let rig = with_operator().start().await;
    let order = served(&rig).await;
    rig.payments()
        .set_fault(Fault::always(FaultKind::ErrorBeforeEffect).on(FaultTarget::Refund));
    request_refund(&rig, &order, 1_000).await;
    rig.payments().clear_faults();
    rig.refund_by_hand(&rig.charges()[0].provider_id, 1_500, None).await;
    rig.execute("update order_sagas set reconcile_requested_at = now(), next_run_at = now()")
        .await;
    until("it has failed", async || {
        let flag = show(&rig, &order.order_id).await.unwrap().needs_attention;
        if flag.contains("failed") { Ok(()) } else { Err(flag) }
    })
    .await;
    until_refused(&rig, &order.order_id, "REFUND_MAY_BE_MADE").await;
    age_refunds(&rig).await;
    refund_again(&rig, &order.order_id).await.unwrap();
    rig.until_settled(&order.order_id).await;
    let amounts: Vec<i64> = rig.refunds().iter().map(|refund| refund.amount_minor).collect();
    assert_eq!(amounts, [1_500, 499]);
    rig.assert_clean().await;
}
