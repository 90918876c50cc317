//! An operator's assertion of what became of an order's money: accepted where the provider agrees, refused where it
//! does not, and never in the way of a worker.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use testkit::rig::account::PastPayment;
use testkit::wire::{PICKUP, a_ride, assert_refused, channel, refusal_reason};
use testkit::{ServerProcess, until};
use tonic::Code;
use uuid::Uuid;
use waybill_proto::admin::v1::Outcome;
use waybill_proto::admin::v1::admin_service_client::AdminServiceClient;
use waybill_proto::order::v1::{FailureReason, OrderStatus};
use waybill_sandbox::payments::{Fault, FaultKind, FaultTarget};
use waybill_sandbox::proxy::Mode;

use super::in_doubt::{
    age_charges, assertion, charge_in_doubt, hold_in_doubt, is_contradicted, is_refused, ledger_rows, operator,
    refund_in_doubt, refunding, resolve, retry, show, with_operator,
};

#[tokio::test]
async fn a_charge_that_the_provider_confirms_is_resolved_and_the_order_gets_its_driver() {
    let rig = with_operator().start().await;
    rig.driver_at("cab-1", PICKUP.0, PICKUP.1).await;
    // Made, and answered with a server error for ever.
    let order = charge_in_doubt(&rig, FaultKind::ErrorAfterEffectSaved).await;
    rig.execute("update order_sagas set needs_attention = 'tried 12 times', attempts = 12")
        .await;
    let fence = show(&rig, &order).await.unwrap().fence;
    let id = rig.charges()[0].provider_id.clone();

    let resolved = resolve(&rig, assertion(&order, Outcome::Charged, &id)).await.unwrap();
    assert_eq!(resolved.status(), OrderStatus::Charged);
    assert_eq!(rig.until_settled(&order).await.status(), OrderStatus::Succeeded);

    let shown = show(&rig, &order).await.unwrap();
    assert_eq!(shown.needs_attention, "", "it was seen to");
    assert_eq!(shown.payment.as_ref().unwrap().provider_charge_id, id);
    let line = |step: &str, status: &str| {
        let mut lines = shown.steps.iter();
        lines
            .find(|line| line.step == step && line.status == status)
            .expect(step)
    };
    let asked = line("resolve", "requested");
    assert_eq!(asked.actor, "operator mara");
    assert!(asked.detail.contains("looked it up in the dashboard") && asked.detail.contains(&id));
    assert_eq!(asked.fence, fence + 1, "a fence of its own");
    assert_eq!(line("charge", "succeeded").fence, fence + 1, "the saga's line");
    assert_eq!(rig.charges().len(), 1);
    rig.assert_clean().await;
}

/// An account has thousands of payments since the order; its own is found by its group.
#[tokio::test]
async fn an_assertion_is_verified_with_a_few_calls_however_large_the_account_is() {
    let rig = with_operator().start().await;
    let order = charge_in_doubt(&rig, FaultKind::ErrorAfterEffectSaved).await;
    let id = rig.charges()[0].provider_id.clone();
    rig.add_to_provider(&PastPayment::series(5_000, Timestamp::now(), SignedDuration::ZERO));

    let before = rig.payments().requests();
    is_contradicted(&rig, assertion(&order, Outcome::NotCharged, ""), &[&id]).await;
    let calls = rig.payments().requests() - before;
    assert_eq!(calls, 1, "to know that it was charged");
    resolve(&rig, assertion(&order, Outcome::Charged, &id)).await.unwrap();
    // The payment, its refunds, and the charges of the order.
    assert_eq!(rig.payments().requests() - before, 1 + 3);
}

/// The charge of an order of an earlier version carries no group.
#[tokio::test]
async fn without_a_group_only_the_time_in_which_the_charge_was_sent_is_looked_through() {
    let rig = with_operator().start().await;
    let order = charge_in_doubt(&rig, FaultKind::ErrorAfterEffectSaved).await;
    let id = rig.charges()[0].provider_id.clone();
    rig.execute("update order_sagas set payment_key = null; update payment_attempts set last_sent_at = now()")
        .await;
    let later = Timestamp::now() + SignedDuration::from_hours(1);
    rig.add_to_provider(&PastPayment::series(5_000, later, SignedDuration::ZERO));
    let before = rig.payments().requests();
    is_contradicted(&rig, assertion(&order, Outcome::NotCharged, ""), &[&id]).await;
    assert_eq!(rig.payments().requests() - before, 1);
}

/// A hold is no charge yet: it stands at the provider until it is captured.
#[tokio::test]
async fn a_hold_that_the_provider_confirms_is_resolved_and_captured_at_the_completion() {
    let rig = with_operator().start().await;
    rig.driver_at("cab-1", PICKUP.0, PICKUP.1).await;
    let order = hold_in_doubt(&rig, FaultKind::ErrorAfterEffectSaved).await;
    let payment = rig.at_provider_get("payment_intents").await["data"][0]["id"]
        .as_str()
        .unwrap()
        .to_owned();
    let resolved = resolve(&rig, assertion(&order, Outcome::Charged, &payment))
        .await
        .unwrap();
    assert_eq!(resolved.status(), OrderStatus::Charged);
    let served = rig.until_settled(&order).await;
    assert_eq!(served.status(), OrderStatus::Succeeded);
    assert!(served.payment.unwrap().is_held);
    rig.complete(&order).await.unwrap();
    rig.until_settled(&order).await;
    assert_eq!(rig.charges().len(), 1);
    rig.assert_clean().await;
}

#[tokio::test]
async fn a_payment_that_does_not_say_whose_it_is_settles_nothing() {
    let rig = with_operator().start().await;
    let order = charge_in_doubt(&rig, FaultKind::ErrorBeforeEffect).await;
    let id = rig.charge_by_hand(1_999, "usd", None).await;
    is_contradicted(&rig, assertion(&order, Outcome::Charged, &id), &[&id, "order_id"]).await;
}

#[tokio::test]
async fn a_second_payment_for_the_order_is_not_believed_to_be_the_only_one() {
    let rig = with_operator().start().await;
    // Made, and answered with a server error for ever; then a person makes another one.
    let order = charge_in_doubt(&rig, FaultKind::ErrorAfterEffectSaved).await;
    let own = rig.charges()[0].provider_id.clone();
    let by_hand = rig.charge_by_hand(1_999, "usd", Some(&order)).await;
    is_contradicted(&rig, assertion(&order, Outcome::Charged, &by_hand), &[&own]).await;
}

/// Sums decide: what a person refunded in parts at the provider is taken over, and the rest is refunded by the saga.
#[tokio::test]
async fn a_part_that_was_refunded_by_hand_resolves_that_part_and_the_rest_is_refunded() {
    let rig = refunding().start().await;
    let order = refund_in_doubt(&rig).await;
    let id = rig.refund_by_hand(&rig.charges()[0].provider_id, 1_000, None).await;
    let resolved = resolve(&rig, assertion(&order, Outcome::Refunded, &id)).await.unwrap();
    assert_eq!(resolved.status(), OrderStatus::Refunding);
    assert_eq!(rig.until_settled(&order).await.status(), OrderStatus::Refunded);
    let amounts: Vec<i64> = rig.refunds().iter().map(|refund| refund.amount_minor).collect();
    assert_eq!(amounts, [1_000, 999]);
    rig.assert_clean().await;
}

/// A person saw the charge at the provider and refunded it there, all or a part, while the order did not know of it.
#[tokio::test]
async fn a_charge_that_was_refunded_by_hand_is_resolved_and_the_order_is_not_served() {
    for by_hand in [1_999, 500] {
        let rig = with_operator().start().await;
        rig.driver_at("cab-1", PICKUP.0, PICKUP.1).await;
        let order = charge_in_doubt(&rig, FaultKind::ErrorAfterEffectSaved).await;
        let id = rig.charges()[0].provider_id.clone();
        rig.refund_by_hand(&id, by_hand, None).await;
        let resolved = resolve(&rig, assertion(&order, Outcome::Charged, &id)).await.unwrap();
        assert_eq!(resolved.status(), OrderStatus::Charged);
        let order = rig.until_settled(&order).await;
        let found = (order.status(), order.failure_reason(), order.assignment);
        assert_eq!(
            found,
            (OrderStatus::Refunded, FailureReason::Cancelled, None),
            "{by_hand}"
        );
        let refunded: i64 = rig.refunds().iter().map(|refund| refund.amount_minor).sum();
        assert_eq!(refunded, 1_999, "{by_hand}");
        rig.assert_clean().await;
    }
}

#[tokio::test]
async fn an_order_that_the_provider_never_charged_is_resolved_as_failed_once_it_is_not_sent_any_more() {
    let rig = with_operator().start().await;
    let order = charge_in_doubt(&rig, FaultKind::ErrorBeforeEffect).await;
    let request = assertion(&order, Outcome::NotCharged, "");
    is_refused(&rig, request, Code::FailedPrecondition, "CHARGE_STILL_SENT", &["12 h"]).await;
    age_charges(&rig).await;
    let resolved = resolve(&rig, assertion(&order, Outcome::NotCharged, "")).await.unwrap();
    let found = (resolved.status(), resolved.failure_reason());
    assert_eq!(found, (OrderStatus::Failed, FailureReason::PaymentDeclined));
    assert_eq!(rig.order(&order).await.status(), OrderStatus::Failed);
    assert_eq!(refusal_reason(&retry(&rig, &order).await.unwrap_err()), "ORDER_AT_REST");
    assert_eq!(rig.charges(), []);
    rig.assert_clean().await;
}

#[tokio::test]
async fn a_refund_made_by_hand_at_the_provider_is_resolved() {
    let rig = refunding().start().await;
    let order = refund_in_doubt(&rig).await;
    let id = rig.refund_by_hand(&rig.charges()[0].provider_id, 1_999, None).await;
    let resolved = resolve(&rig, assertion(&order, Outcome::Refunded, &id)).await.unwrap();
    assert_eq!(resolved.status(), OrderStatus::Refunded);
    let shown = show(&rig, &order).await.unwrap();
    let provider_ids: Vec<&str> = shown.refunds.iter().map(|refund| refund.provider_id.as_str()).collect();
    assert_eq!(provider_ids, ["", &id], "the order's own was replaced");
    assert_eq!(rig.refunds().len(), 1);
    rig.assert_clean().await;
}

#[tokio::test]
async fn an_assertion_about_a_charge_that_the_provider_contradicts_is_refused_with_what_was_found() {
    let rig = with_operator().start().await;
    let order = charge_in_doubt(&rig, FaultKind::ErrorAfterEffectSaved).await;
    let other = Uuid::now_v7().to_string();
    let made = rig.charges()[0].provider_id.clone();
    let too_much = rig.charge_by_hand(2_000, "usd", None).await;
    let in_euro = rig.charge_by_hand(1_999, "eur", None).await;
    let of_another = rig.charge_by_hand(1_999, "usd", Some(&other)).await;
    let is_denied = async |outcome, id: &str, named: &[&str]| {
        is_contradicted(&rig, assertion(&order, outcome, id), named).await;
    };
    is_denied(Outcome::Charged, "pi_unknown", &["pi_unknown"]).await;
    is_denied(Outcome::Charged, &too_much, &["2000", "1999"]).await;
    is_denied(Outcome::Charged, &in_euro, &["EUR", "USD"]).await;
    is_denied(Outcome::Charged, &of_another, &[&other]).await;
    is_denied(Outcome::NotCharged, "", &[&made]).await;

    let refunded = assertion(&order, Outcome::Refunded, "re_1");
    let named = ["charging"];
    is_refused(&rig, refunded, Code::FailedPrecondition, "ORDER_NOT_RESOLVABLE", &named).await;
}

#[tokio::test]
async fn a_declined_payment_is_no_charge() {
    let rig = with_operator().start().await;
    let order = charge_in_doubt(&rig, FaultKind::ErrorBeforeEffect).await;
    let form = [
        ("amount", "1999".to_owned()),
        ("currency", "usd".to_owned()),
        ("payment_method", "pm_card_chargeDeclined".to_owned()),
        ("confirm", "true".to_owned()),
        ("metadata[order_id]", order.clone()),
    ];
    let declined = rig.at_provider("payment_intents", &form).await;
    let declined = declined["error"]["payment_intent"]["id"].as_str().unwrap();
    let request = assertion(&order, Outcome::Charged, declined);
    is_contradicted(&rig, request, &[declined, "requires_payment_method"]).await;
    age_charges(&rig).await;
    let resolved = resolve(&rig, assertion(&order, Outcome::NotCharged, "")).await;
    resolved.expect("it does not stand against it");
}

#[tokio::test]
async fn an_assertion_about_a_refund_that_the_provider_contradicts_is_refused_with_what_was_found() {
    let rig = refunding().start().await;
    let refunded = rig.place(a_ride()).await;
    assert_eq!(refunded.status(), OrderStatus::Refunded);
    let of_another = rig.refunds()[0].provider_id.clone();
    let order = refund_in_doubt(&rig).await;
    let loose = rig.charge_by_hand(1_999, "usd", None).await;
    let of_a_loose_payment = rig.refund_by_hand(&loose, 1_999, None).await;
    for (id, named) in [
        ("re_unknown", &["re_unknown"][..]),
        (&of_another, &[&refunded.order_id]),
        (&of_a_loose_payment, &[&loose]),
    ] {
        is_contradicted(&rig, assertion(&order, Outcome::Refunded, id), named).await;
    }
}

#[tokio::test]
async fn a_movement_that_is_in_the_ledger_of_another_order_is_not_counted_again() {
    let rig = with_operator().start().await;
    rig.driver_at("cab-1", PICKUP.0, PICKUP.1).await;
    let first = charge_in_doubt(&rig, FaultKind::ErrorBeforeEffect).await;
    let second = charge_in_doubt(&rig, FaultKind::ErrorBeforeEffect).await;
    let id = rig.charge_by_hand(1_999, "usd", Some(&first)).await;
    resolve(&rig, assertion(&first, Outcome::Charged, &id)).await.unwrap();
    rig.until_settled(&first).await;
    is_contradicted(&rig, assertion(&second, Outcome::Charged, &id), &[&first]).await;
}

#[tokio::test]
async fn that_nothing_was_moved_is_not_believed_while_a_request_may_be_on_its_way() {
    let rig = with_operator().start().await;
    let order = charge_in_doubt(&rig, FaultKind::ErrorBeforeEffect).await;
    for recent in [
        "update payment_attempts set last_sent_at = now()",
        "update payment_attempts set last_sent_at = now() - interval '1 hour';
         update order_sagas set lease_owner = 'a live worker', lease_until = now() + interval '1 hour'",
    ] {
        rig.execute(recent).await;
        let request = assertion(&order, Outcome::NotCharged, "");
        is_refused(&rig, request, Code::Aborted, "ORDER_IN_FLIGHT", &[]).await;
    }
}

#[tokio::test]
async fn what_the_provider_said_is_worth_nothing_for_an_order_that_was_claimed_meanwhile() {
    let rig = with_operator()
        .payments_through_proxy()
        .with("payments.attempt_timeout=8s payments.total_timeout=8s")
        .start()
        .await;
    let order = charge_in_doubt(&rig, FaultKind::ErrorAfterEffectSaved).await;
    let mut request = tonic::Request::new(assertion(&order, Outcome::Charged, &rig.charges()[0].provider_id));
    request.set_timeout(Duration::from_secs(20));
    // Long enough for a worker to come by while the answer is on its way.
    rig.payments_line().set_mode(Mode::Latency {
        requests: Duration::ZERO,
        replies: Duration::from_secs(2),
    });
    let requests = rig.payments().requests();
    let mut operator = operator(&rig);
    let resolved = operator.resolve_order(request);
    let claimed = async {
        until("the provider is asked", async || rig.payments().requests() > requests).await;
        rig.execute("update order_sagas set fence = fence + 1").await;
        ledger_rows(&rig).await
    };
    let (resolved, before) = tokio::join!(resolved, claimed);
    assert_refused(&resolved.unwrap_err(), Code::Aborted, "ORDER_IN_FLIGHT");
    assert_eq!(ledger_rows(&rig).await, before);
}

#[tokio::test]
async fn while_the_provider_is_down_no_assertion_is_believed() {
    let rig = with_operator().payments_through_proxy().start().await;
    let order = charge_in_doubt(&rig, FaultKind::ErrorAfterEffectSaved).await;
    let id = rig.charges()[0].provider_id.clone();
    rig.payments_line().set_mode(Mode::Refuse);
    let before = ledger_rows(&rig).await;
    for (outcome, id) in [(Outcome::Charged, id.as_str()), (Outcome::NotCharged, "")] {
        let refused = resolve(&rig, assertion(&order, outcome, id)).await.unwrap_err();
        assert_eq!(refused.code(), Code::Unavailable, "{refused:?}");
    }
    assert_eq!(ledger_rows(&rig).await, before);
}

#[tokio::test]
async fn a_worker_that_still_asks_the_provider_is_fenced_off_by_a_resolve() {
    let mut rig = with_operator().start().await;
    rig.driver_at("cab-1", PICKUP.0, PICKUP.1).await;
    let order = charge_in_doubt(&rig, FaultKind::ErrorBeforeEffect).await;
    let id = rig.charge_by_hand(1_999, "usd", Some(&order)).await;

    // The order goes to a worker whose request hangs, and which is held there.
    let patient = [("payments.attempt_timeout", "8s"), ("payments.total_timeout", "8s")];
    rig.stop_servers().await;
    let worker = ServerProcess::start(&rig, &patient).await;
    rig.payments()
        .set_fault(Fault::times(FaultKind::Hang, 1).on(FaultTarget::Charge));
    let requests = rig.payments().requests();
    rig.execute("update order_sagas set next_run_at = now()").await;
    let is_asked = async || rig.payments().requests() > requests;
    until("the worker asks the provider", is_asked).await;

    let mut operator = AdminServiceClient::new(channel(worker.grpc_addr()));
    let request = assertion(&order, Outcome::Charged, &id);
    let resolved = operator.resolve_order(request).await.unwrap().into_inner();
    assert_eq!(resolved.order.unwrap().status(), OrderStatus::Charged);
    rig.until_all_settled().await;
    let state = "select count(*) * 1000 + sum(fence)::bigint from order_saga_steps";
    let before = rig.count(state).await;
    worker.until_logged("lease lost").await;
    assert_eq!(rig.count(state).await, before, "no step of the worker");
    assert_eq!(rig.charges().len(), 1);
    assert_eq!(worker.stop().await.code(), Some(0));
    rig.assert_clean().await;
}
