//! A customer's bank disputes a payment: the dispute is recorded, flagged, and decides what can be refunded.

use testkit::until;
use testkit::wire::assert_refused;
use tonic::Code;
use waybill_proto::admin::v1::Outcome;
use waybill_proto::order::v1::{OrderStatus, RefundOrderRequest, RefundStatus};

use super::afterwards::{rig, served, start, until_flagged};
use crate::operator::in_doubt::{assertion, resolve, show};

#[tokio::test]
async fn a_dispute_is_recorded_and_flagged_until_it_is_decided_and_stands_in_the_timeline() {
    for (won, status, line) in [(true, "won", "succeeded"), (false, "lost", "failed")] {
        let rig = start(rig()).await;
        let order = served(&rig).await;
        let charge = rig.charges()[0].provider_id.clone();
        let dispute = rig.payments().open_dispute(&charge, None, "fraudulent").await.unwrap();
        let file = until_flagged(&rig, &order, &dispute).await;
        assert_eq!(file.status, "succeeded");
        let found = &file.disputes[0];
        assert_eq!(
            (found.provider_id.as_str(), found.is_open, found.reason.as_str()),
            (&*dispute, true, "fraudulent")
        );
        assert_eq!(
            rig.count("select count(*) from order_sagas where finished_at is null")
                .await,
            0
        );

        rig.payments().close_dispute(&dispute, won).await.unwrap();
        until("it is decided", async || {
            let file = show(&rig, &order.order_id).await.unwrap();
            (file.needs_attention.is_empty() && !file.disputes[0].is_open)
                .then_some(())
                .ok_or(file.needs_attention)
        })
        .await;
        let file = show(&rig, &order.order_id).await.unwrap();
        assert_eq!(file.disputes[0].status, status);
        let lines: Vec<_> = file
            .steps
            .iter()
            .filter(|one| one.step == "dispute")
            .map(|one| one.status.as_str())
            .collect();
        assert_eq!(lines, ["started", line]);
        rig.assert_clean().await;
    }
}

/// While it is disputed nothing can be refunded, and what the bank took back is not there to be refunded.
#[tokio::test]
async fn of_a_disputed_payment_nothing_is_refunded_by_request_before_the_dispute_is_won() {
    for won in [true, false] {
        let rig = start(rig()).await;
        let order = served(&rig).await;
        let charge = rig.charges()[0].provider_id.clone();
        let dispute = rig.payments().open_dispute(&charge, None, "fraudulent").await.unwrap();
        until_flagged(&rig, &order, &dispute).await;
        let request = RefundOrderRequest {
            order_id: order.order_id.clone(),
            idempotency_key: "a-key-of-sixteen-bytes".to_owned(),
            amount: order.amount.clone(),
            reason: "late".to_owned(),
        };
        let refused = rig.orders().refund_order(request.clone()).await.unwrap_err();
        assert_refused(&refused, Code::FailedPrecondition, "PAYMENT_DISPUTED");
        rig.payments().close_dispute(&dispute, won).await.unwrap();
        until("it is decided", async || {
            !show(&rig, &order.order_id).await.unwrap().disputes[0].is_open
        })
        .await;
        let refunded = rig.orders().refund_order(request).await;
        if won {
            assert_eq!(
                refunded.unwrap().into_inner().refund.unwrap().status(),
                RefundStatus::Succeeded
            );
        } else {
            assert_refused(&refunded.unwrap_err(), Code::FailedPrecondition, "REFUND_TOO_LARGE");
            rig.complete(&order.order_id).await.unwrap();
        }
        rig.until_settled(&order.order_id).await;
        rig.assert_clean().await;
    }
}

/// Until the bank takes the money it only asks, and a refund is an answer (<https://docs.stripe.com/disputes/how-disputes-work>).
#[tokio::test]
async fn during_an_inquiry_of_the_bank_a_refund_can_be_requested() {
    let rig = start(rig()).await;
    let order = served(&rig).await;
    rig.execute(
        "insert into disputes (provider_dispute_id, order_id, amount, currency, reason, status, is_open, opened_at)
         select 'du_1', order_id, amount, currency, 'general', 'warning_needs_response', true, now() from payments",
    )
    .await;
    let request = RefundOrderRequest {
        order_id: order.order_id.clone(),
        idempotency_key: "a-key-of-sixteen-bytes".to_owned(),
        amount: order.amount.clone(),
        reason: "late".to_owned(),
    };
    let refund = rig.orders().refund_order(request).await.unwrap().into_inner().refund;
    assert_eq!(refund.unwrap().status(), RefundStatus::Succeeded);
    rig.assert_clean().await;
}

/// An operator settles the money in another way. The dispute is still to be answered.
#[tokio::test]
async fn an_order_that_an_operator_resolved_stays_flagged_while_its_payment_is_disputed() {
    let rig = start(rig().set("grpc.deadline_default", "1s")).await;
    let order = served(&rig).await;
    let charge = rig.charges()[0].provider_id.clone();
    let dispute = rig.payments().open_dispute(&charge, None, "fraudulent").await.unwrap();
    until_flagged(&rig, &order, &dispute).await;
    let _ = rig.cancel(&order.order_id).await;
    until_flagged(&rig, &order, "charge_disputed").await;
    let mut paid = assertion(&order.order_id, Outcome::Refunded, "bank transfer 17");
    paid.unverified = true;
    until("no worker holds it", async || {
        resolve(&rig, paid.clone()).await.map(drop)
    })
    .await;
    rig.until_settled(&order.order_id).await;
    let flag = show(&rig, &order.order_id).await.unwrap().needs_attention;
    assert!(flag.contains(&dispute), "{flag:?}");
}

/// The provider refuses to refund what is disputed. A dispute that is lost has given the money back; one that is won has
/// not, and the refund is made.
#[tokio::test]
async fn a_cancelled_order_whose_payment_is_disputed_is_refunded_once_by_the_bank_or_by_the_refund() {
    for (won, refunds) in [(true, 1), (false, 0)] {
        let rig = start(rig().set("grpc.deadline_default", "1s")).await;
        let order = served(&rig).await;
        let charge = rig.charges()[0].provider_id.clone();
        let dispute = rig.payments().open_dispute(&charge, None, "fraudulent").await.unwrap();
        until_flagged(&rig, &order, &dispute).await;
        let _ = rig.cancel(&order.order_id).await;
        until_flagged(&rig, &order, "charge_disputed").await;
        rig.payments().close_dispute(&dispute, won).await.unwrap();
        let now = rig.until_settled(&order.order_id).await;
        assert_eq!(now.status(), OrderStatus::Refunded, "won: {won}");
        assert_eq!(rig.refunds().len(), refunds, "won: {won}");
        assert_eq!(now.payment.unwrap().refund_amount.unwrap().minor_units, 1_999);
        rig.assert_clean().await;
    }
}
