//! What a refund that failed leaves to do: it is owed until an operator has it made again, names what was paid for it by hand,
//! or asserts what was paid past the provider.

use testkit::wire::{assert_refused, refusal_reason};
use testkit::{Rig, until};
use tonic::Code;
use waybill_proto::admin::v1::{OrderFile, Outcome};
use waybill_proto::order::v1::{
    CancelOrderRequest, CompleteOrderRequest, Money, Order, OrderStatus, RefundStatus, ReleaseDriverRequest,
};
use waybill_sandbox::payments::{Fault, FaultKind, FaultTarget};

use super::afterwards::{
    refund_again, refunded, request_refund, request_refund_as, rig, served, start, states, until_flagged,
};
use super::events::endpoint;
use crate::operator::in_doubt::{assertion, resolve, show};

/// A served order of which a refund that a call requested failed later, as the provider reported.
async fn served_and_flagged(rig: &Rig) -> Order {
    let order = served(rig).await;
    request_refund(rig, &order).await;
    rig.payments()
        .fail_refund(&rig.refunds()[0].provider_id, "unknown")
        .await
        .unwrap();
    until_flagged(rig, &order, "failed").await;
    order
}

/// A day later the key of the first refund is a new request at the provider. A person has paid by bank.
#[tokio::test]
async fn a_failed_refund_that_was_paid_by_bank_is_never_sent_under_its_old_key() {
    let rig = start(rig().set("orders.assignment_window", "0s")).await;
    let order = refunded(&rig).await;
    rig.payments()
        .fail_refund(&rig.refunds()[0].provider_id, "unknown")
        .await
        .unwrap();
    until_flagged(&rig, &order, "failed").await;
    rig.payments().expire_keys().unwrap();
    rig.execute(
        "update payment_attempts set first_sent_at = now() - interval '25 hours', last_sent_at = now() - interval '25 hours';
         update order_sagas set next_run_at = now()",
    )
    .await;
    let mut request = assertion(&order.order_id, Outcome::Refunded, "bank transfer 17");
    request.unverified = true;
    until("no worker holds it", async || {
        resolve(&rig, request.clone()).await.map(drop)
    })
    .await;
    let now = rig.until_settled(&order.order_id).await;
    assert_eq!(now.status(), OrderStatus::Refunded);
    let file = show(&rig, &order.order_id).await.unwrap();
    assert_eq!(
        states(&file),
        [("compensation", "replaced"), ("unverified", "succeeded")]
    );
    assert_eq!(rig.refunds().len(), 1);
    rig.assert_clean().await;
}

#[tokio::test]
async fn a_requested_refund_that_fails_later_flags_the_served_order_until_it_is_paid_again() {
    let rig = start(rig()).await;
    let order = served(&rig).await;
    request_refund(&rig, &order).await;
    rig.payments()
        .fail_refund(&rig.refunds()[0].provider_id, "expired_or_canceled_card")
        .await
        .unwrap();
    let file = until_flagged(&rig, &order, "failed").await;
    assert_eq!(
        (file.status.as_str(), states(&file)),
        ("succeeded", vec![("request", "failed")])
    );
    let seen = rig.order(&order.order_id).await.payment.unwrap();
    assert_eq!(
        (seen.refund_amount, seen.refunds[0].status()),
        (None, RefundStatus::Failed)
    );

    refund_again(&rig, &order).await.unwrap();
    let seen = rig.order(&order.order_id).await.payment.unwrap();
    let reasons: Vec<&str> = seen.refunds.iter().map(|refund| refund.reason.as_str()).collect();
    assert_eq!(reasons, ["late", ""], "what operators note is not for customers");
    let now = rig.until_settled(&order.order_id).await;
    assert_eq!(now.status(), OrderStatus::Succeeded);
    assert_eq!(now.payment.unwrap().refund_amount.unwrap().minor_units, 500);
    assert_eq!(show(&rig, &order.order_id).await.unwrap().needs_attention, "");
    rig.assert_clean().await;
}

/// A person refunds by hand what failed, and the operator says that it was this.
#[tokio::test]
async fn a_failed_refund_of_a_served_order_is_closed_by_the_refund_by_hand_that_an_operator_names() {
    let rig = start(rig()).await;
    let order = served_and_flagged(&rig).await;
    let by_hand = rig.refund_by_hand(&rig.charges()[0].provider_id, 500, None).await;
    let is_taken_over = |file: &OrderFile| file.refunds.iter().any(|refund| refund.provider_id == by_hand);
    until("it is taken over", async || {
        is_taken_over(&show(&rig, &order.order_id).await.unwrap())
    })
    .await;
    until("it is resolved", async || {
        resolve(&rig, assertion(&order.order_id, Outcome::Refunded, &by_hand))
            .await
            .map(drop)
    })
    .await;
    rig.until_settled(&order.order_id).await;
    let file = show(&rig, &order.order_id).await.unwrap();
    assert_eq!(file.needs_attention, "");
    assert_eq!(states(&file), [("request", "replaced"), ("provider", "succeeded")]);
    let refused = refund_again(&rig, &order).await.unwrap_err();
    assert_refused(&refused, Code::FailedPrecondition, "NO_FAILED_REFUND");
    rig.assert_clean().await;
}

/// What an operator names as made by hand for what failed closes as much as it covers, once.
#[tokio::test]
async fn refunds_by_hand_that_an_operator_names_close_what_they_cover_together_and_no_more() {
    let rig = start(rig()).await;
    let order = served(&rig).await;
    for key in ["a", "b"] {
        request_refund_as(&rig, &order, key).await;
        let newest = rig.refunds().last().unwrap().provider_id.clone();
        rig.payments().fail_refund(&newest, "unknown").await.unwrap();
    }
    let failed = "select count(*) from refunds where state = 'failed'";
    until("both have failed", async || rig.count(failed).await == 2).await;
    for (amount, left) in [(250, 2), (250, 1), (499, 1), (1, 0)] {
        let by_hand = rig.refund_by_hand(&rig.charges()[0].provider_id, amount, None).await;
        // Twice is as once.
        for _ in 0..2 {
            until("it is resolved", async || {
                match resolve(&rig, assertion(&order.order_id, Outcome::Refunded, &by_hand)).await {
                    Err(status) if refusal_reason(&status) == "NO_FAILED_REFUND" => Ok(()),
                    other => other.map(drop),
                }
            })
            .await;
            rig.until_settled(&order.order_id).await;
        }
        assert_eq!(rig.count(failed).await, left, "{amount}");
        let flag = show(&rig, &order.order_id).await.unwrap().needs_attention;
        assert_eq!(flag.contains("failed"), left > 0, "{flag:?}");
    }
    assert_eq!(rig.refunds().len(), 6);
    rig.assert_clean().await;
}

/// A refund of the order itself settles itself and nothing else.
#[tokio::test]
async fn an_own_refund_that_an_operator_names_closes_no_other_that_failed() {
    let rig =
        start(rig().with("grpc.deadline_default=1s payments.attempt_timeout=500ms payments.total_timeout=600ms")).await;
    let order = served_and_flagged(&rig).await;
    rig.payments()
        .set_fault(Fault::always(FaultKind::ErrorAfterEffectSaved).on(FaultTarget::Refund));
    rig.payments().set_webhooks(None);
    request_refund_as(&rig, &order, "b").await;
    let own = rig.refunds()[1].provider_id.clone();
    until("it is resolved", async || {
        match resolve(&rig, assertion(&order.order_id, Outcome::Refunded, &own)).await {
            // A worker was first.
            Err(status) if status.message().contains("in the ledger already") => Ok(()),
            other => other.map(drop),
        }
    })
    .await;
    rig.until_settled(&order.order_id).await;
    let file = show(&rig, &order.order_id).await.unwrap();
    assert_eq!(states(&file), [("request", "failed"), ("request", "succeeded")]);
    assert!(file.needs_attention.contains("failed"), "{:?}", file.needs_attention);
}

/// What failed is still owed: it is no part of what the completion has to refund.
#[tokio::test]
async fn a_completion_counts_a_refund_that_failed_and_will_be_made_again() {
    let rig = start(rig()).await;
    let order = served_and_flagged(&rig).await;
    let complete = CompleteOrderRequest {
        order_id: order.order_id.clone(),
        final_amount: Some(Money {
            currency_code: "USD".to_owned(),
            minor_units: 1_400,
        }),
        ..CompleteOrderRequest::default()
    };
    rig.orders().complete_order(complete).await.unwrap();
    rig.until_settled(&order.order_id).await;
    until("it is refunded again", async || {
        refund_again(&rig, &order).await.map(drop)
    })
    .await;
    let now = rig.until_settled(&order.order_id).await;
    assert_eq!(now.payment.unwrap().refund_amount.unwrap().minor_units, 599);
    rig.assert_clean().await;
}

/// What was paid by hand in its place is not owed any more, named or not; and a fee is at most what is left beside it.
#[tokio::test]
async fn a_refund_that_failed_is_owed_until_it_was_paid_by_hand() {
    let rig = start(rig()).await;
    let order = served_and_flagged(&rig).await;
    let cancel = CancelOrderRequest {
        order_id: order.order_id.clone(),
        cancellation_fee: order.amount.clone(),
    };
    let refused = rig.orders().cancel_order(cancel).await.unwrap_err();
    assert_refused(&refused, Code::FailedPrecondition, "AMOUNT_TOO_LARGE");
    assert!(refused.message().contains("1499"), "{refused:?}");
    rig.refund_by_hand(&rig.charges()[0].provider_id, 500, None).await;
    let taken_over = "select count(*) from refunds where origin = 'provider'";
    until("it is taken over", async || rig.count(taken_over).await == 1).await;
    let complete = CompleteOrderRequest {
        order_id: order.order_id.clone(),
        final_amount: Some(Money {
            currency_code: "USD".to_owned(),
            minor_units: 1_400,
        }),
        ..CompleteOrderRequest::default()
    };
    rig.orders().complete_order(complete).await.unwrap();
    rig.until_settled(&order.order_id).await;
    let refunded = rig.order(&order.order_id).await.payment.unwrap().refund_amount;
    assert_eq!(refunded.unwrap().minor_units, 599);
    rig.assert_clean().await;
}

/// The refusal of the first is an answer: it can not be made any more.
#[tokio::test]
async fn a_refund_that_was_refused_since_another_was_made_keeps_no_one_from_paying_in_another_way() {
    let rig = start(
        rig()
            .set("orders.assignment_window", "1m")
            .set("grpc.deadline_default", "1s"),
    )
    .await;
    let order = served(&rig).await;
    // Not reported: it is found when the refund of all of it is refused.
    rig.payments().set_webhooks(None);
    rig.refund_by_hand(&rig.charges()[0].provider_id, 500, None).await;
    let _ = rig.cancel(&order.order_id).await;
    rig.until_settled(&order.order_id).await;
    assert_eq!(rig.refunds().len(), 2);
    rig.payments().set_webhooks(Some(endpoint(&rig)));
    rig.payments()
        .fail_refund(&rig.refunds()[1].provider_id, "unknown")
        .await
        .unwrap();
    until_flagged(&rig, &order, "failed").await;
    until("no worker holds it", async || {
        refund_again(&rig, &order).await.map(drop)
    })
    .await;
    rig.until_settled(&order.order_id).await;
    rig.assert_clean().await;
}

#[tokio::test]
async fn what_failed_is_not_refunded_again_while_another_driver_is_looked_for() {
    let rig = start(rig().set("orders.assignment_window", "1m")).await;
    let order = served_and_flagged(&rig).await;
    let release = ReleaseDriverRequest {
        order_id: order.order_id.clone(),
        driver_id: "cab-1".to_owned(),
        reason: "declined".to_owned(),
    };
    rig.orders().release_driver(release).await.unwrap();
    let refused = refund_again(&rig, &order).await.unwrap_err();
    assert_refused(&refused, Code::FailedPrecondition, "ORDER_NOT_RESOLVABLE");
}
