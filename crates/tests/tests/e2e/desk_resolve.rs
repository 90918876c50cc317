//! What a person says became of an order's money: believed where the provider agrees, refused where it does not, and
//! never in the way of a worker.

use std::time::Duration;

use tonic::Code;
use uuid::Uuid;
use waybill_proto::admin::v1::admin_service_client::AdminServiceClient;
use waybill_proto::admin::v1::{Outcome, ResolveOrderRequest};
use waybill_proto::order::v1::{FailureReason, OrderStatus};
use waybill_sandbox::payments::{Fault, FaultKind, FaultTarget};
use waybill_sandbox::proxy::Mode;

use crate::desk::{
    age_charges, books, charge_by_hand, claim, desk, in_doubt_about_its_charge, in_doubt_about_its_refund,
    refund_by_hand, resolve, retry_request, show, with_desk,
};
use crate::rig::process::ServerProcess;
use crate::rig::{PICKUP, Rig, a_ride, channel, refusal_reason, until};

#[tokio::test]
async fn a_charge_that_the_provider_confirms_is_resolved_and_the_order_gets_its_driver() {
    let rig = with_desk().start().await;
    rig.driver_at("cab-1", PICKUP.0, PICKUP.1).await;
    // Made, and answered with a server error for ever.
    let order = in_doubt_about_its_charge(&rig, FaultKind::ErrorAfterEffectSaved).await;
    let flag = "update order_sagas set needs_attention = 'tried 12 times', attempts = 12";
    rig.sql().await.batch_execute(flag).await.unwrap();
    let fence = show(&rig, &order).await.fence;
    let id = rig.charges()[0].provider_id.clone();

    let resolved = resolve(&rig, claim(&order, Outcome::Charged, &id)).await.unwrap();
    assert_eq!(resolved.status(), OrderStatus::Charged);
    assert_eq!(rig.until_settled(&order).await.status(), OrderStatus::Succeeded);

    let shown = show(&rig, &order).await;
    assert_eq!(shown.needs_attention, "", "it was seen to");
    assert_eq!(shown.payment.as_ref().unwrap().provider_charge_id, id);
    let line = |step: &str, status: &str| {
        shown
            .steps
            .iter()
            .find(|line| line.step == step && line.status == status)
    };
    let asked = line("resolve", "requested").expect("the operator's line");
    assert_eq!(asked.actor, "operator mara");
    assert!(asked.detail.contains("looked it up in the dashboard") && asked.detail.contains(&id));
    assert_eq!(asked.fence, fence + 1, "a fence of its own");
    assert_eq!(line("charge", "succeeded").expect("the saga's line").fence, fence + 1);
    assert_eq!(rig.charges().len(), 1);
    rig.assert_clean().await;
}

#[tokio::test]
async fn a_payment_that_does_not_say_whose_it_is_settles_nothing() {
    let rig = with_desk().start().await;
    let order = in_doubt_about_its_charge(&rig, FaultKind::ErrorBeforeEffect).await;
    let id = charge_by_hand(&rig, 1_999, "usd", None).await;
    let request = claim(&order, Outcome::Charged, &id);
    is_refused(
        &rig,
        request,
        Code::FailedPrecondition,
        "PROVIDER_DISAGREES",
        &[&id, "order_id"],
    )
    .await;
}

#[tokio::test]
async fn a_second_payment_for_the_order_is_not_believed_to_be_the_only_one() {
    let rig = with_desk().start().await;
    // Made, and answered with a server error for ever; then a person makes another one.
    let order = in_doubt_about_its_charge(&rig, FaultKind::ErrorAfterEffectSaved).await;
    let own = rig.charges()[0].provider_id.clone();
    let by_hand = charge_by_hand(&rig, 1_999, "usd", Some(&order)).await;
    let request = claim(&order, Outcome::Charged, &by_hand);
    is_refused(&rig, request, Code::FailedPrecondition, "PROVIDER_DISAGREES", &[&own]).await;
}

#[tokio::test]
async fn money_given_back_elsewhere_is_not_believed_beside_a_refund_of_the_providers() {
    let rig = with_desk().set("orders.assignment_window", "0s").start().await;
    let order = in_doubt_about_its_refund(&rig).await;
    let refund = refund_by_hand(&rig, &rig.charges()[0].provider_id, 1_999).await;
    let request = ResolveOrderRequest {
        unverified: true,
        ..claim(&order, Outcome::Refunded, "bank transfer 17")
    };
    is_refused(
        &rig,
        request,
        Code::FailedPrecondition,
        "PROVIDER_DISAGREES",
        &[&refund],
    )
    .await;
}

#[tokio::test]
async fn an_order_that_the_provider_never_charged_is_resolved_as_failed_once_it_is_not_sent_any_more() {
    let rig = with_desk().start().await;
    let order = in_doubt_about_its_charge(&rig, FaultKind::ErrorBeforeEffect).await;
    let request = claim(&order, Outcome::NotCharged, "");
    is_refused(&rig, request, Code::FailedPrecondition, "CHARGE_STILL_SENT", &["12 h"]).await;
    age_charges(&rig).await;
    let resolved = resolve(&rig, claim(&order, Outcome::NotCharged, "")).await.unwrap();
    assert_eq!(
        (resolved.status(), resolved.failure_reason()),
        (OrderStatus::Failed, FailureReason::PaymentDeclined)
    );
    assert_eq!(rig.order(&order).await.status(), OrderStatus::Failed);
    let again = desk(&rig).retry_order(retry_request(&order)).await.unwrap_err();
    assert_eq!(refusal_reason(&again), "ORDER_AT_REST");
    assert_eq!(rig.charges(), []);
    rig.assert_clean().await;
}

#[tokio::test]
async fn a_refund_made_by_hand_at_the_provider_is_resolved() {
    let rig = with_desk().set("orders.assignment_window", "0s").start().await;
    let order = in_doubt_about_its_refund(&rig).await;
    let id = refund_by_hand(&rig, &rig.charges()[0].provider_id, 1_999).await;
    let resolved = resolve(&rig, claim(&order, Outcome::Refunded, &id)).await.unwrap();
    assert_eq!(resolved.status(), OrderStatus::Refunded);
    assert_eq!(show(&rig, &order).await.payment.unwrap().provider_refund_id, id);
    assert_eq!(rig.refunds().len(), 1);
    rig.assert_clean().await;
}

#[tokio::test]
async fn money_given_back_past_the_provider_closes_the_order_and_is_marked_as_unverified() {
    let rig = with_desk().set("orders.assignment_window", "0s").start().await;
    let order = in_doubt_about_its_refund(&rig).await;
    let mut request = claim(&order, Outcome::Refunded, "bank transfer 17");
    request.unverified = true;
    let resolved = resolve(&rig, request).await.unwrap();
    assert_eq!(resolved.status(), OrderStatus::Refunded);
    let shown = show(&rig, &order).await;
    assert_eq!(shown.payment.unwrap().provider_refund_id, "unverified:bank transfer 17");
    let asked = shown.steps.iter().find(|line| line.step == "resolve").unwrap();
    assert!(asked.detail.contains("unverified"), "{asked:?}");
    assert_eq!(rig.refunds(), []);
    rig.assert_clean().await;
}

/// Refused with this reason, naming these, with nothing changed.
async fn is_refused(rig: &Rig, request: ResolveOrderRequest, code: Code, reason: &str, named: &[&str]) {
    let before = books(rig).await;
    let refused = resolve(rig, request).await.unwrap_err();
    assert_eq!(
        (refused.code(), refusal_reason(&refused).as_str()),
        (code, reason),
        "{refused:?}"
    );
    for name in named {
        assert!(refused.message().contains(name), "{name:?} in {:?}", refused.message());
    }
    assert_eq!(books(rig).await, before, "{reason}");
}

#[tokio::test]
async fn a_claim_about_a_charge_that_the_provider_contradicts_is_refused_with_what_was_found() {
    let rig = with_desk().start().await;
    let order = in_doubt_about_its_charge(&rig, FaultKind::ErrorAfterEffectSaved).await;
    let other = Uuid::now_v7().to_string();
    let made = rig.charges()[0].provider_id.clone();
    let too_much = charge_by_hand(&rig, 2_000, "usd", None).await;
    let in_euro = charge_by_hand(&rig, 1_999, "eur", None).await;
    let of_another = charge_by_hand(&rig, 1_999, "usd", Some(&other)).await;
    let disagrees = async |outcome, id: &str, named: &[&str]| {
        let request = claim(&order, outcome, id);
        is_refused(&rig, request, Code::FailedPrecondition, "PROVIDER_DISAGREES", named).await;
    };
    disagrees(Outcome::Charged, "pi_nobody", &["pi_nobody"]).await;
    disagrees(Outcome::Charged, &too_much, &["2000", "1999"]).await;
    disagrees(Outcome::Charged, &in_euro, &["EUR", "USD"]).await;
    disagrees(Outcome::Charged, &of_another, &[&other]).await;
    disagrees(Outcome::NotCharged, "", &[&made]).await;
    let back = refund_by_hand(&rig, &made, 500).await;
    disagrees(Outcome::Charged, &made, &[&made, &back]).await;

    let not_so = claim(&order, Outcome::Refunded, "re_1");
    is_refused(
        &rig,
        not_so,
        Code::FailedPrecondition,
        "ORDER_NOT_RESOLVABLE",
        &["charging"],
    )
    .await;
}

#[tokio::test]
async fn a_declined_payment_is_no_charge() {
    let rig = with_desk().start().await;
    let order = in_doubt_about_its_charge(&rig, FaultKind::ErrorBeforeEffect).await;
    let form = [
        ("amount", "1999".to_owned()),
        ("currency", "usd".to_owned()),
        ("payment_method", "pm_card_chargeDeclined".to_owned()),
        ("confirm", "true".to_owned()),
        ("metadata[order_id]", order.clone()),
    ];
    let declined = rig.try_at_provider("payment_intents", &form).await;
    let declined = declined["error"]["payment_intent"]["id"].as_str().unwrap().to_owned();
    let request = claim(&order, Outcome::Charged, &declined);
    let named = [declined.as_str(), "requires_payment_method"];
    is_refused(&rig, request, Code::FailedPrecondition, "PROVIDER_DISAGREES", &named).await;
    age_charges(&rig).await;
    resolve(&rig, claim(&order, Outcome::NotCharged, ""))
        .await
        .expect("it does not stand against it");
}

#[tokio::test]
async fn a_claim_about_a_refund_that_the_provider_contradicts_is_refused_with_what_was_found() {
    let rig = with_desk().set("orders.assignment_window", "0s").start().await;
    let refunded = rig.place(a_ride()).await;
    assert_eq!(refunded.status(), OrderStatus::Refunded);
    let of_another = rig.refunds()[0].provider_id.clone();
    let order = in_doubt_about_its_refund(&rig).await;
    let part = refund_by_hand(&rig, &rig.charges()[1].provider_id, 1_000).await;
    let loose = charge_by_hand(&rig, 1_999, "usd", None).await;
    let of_a_loose_payment = refund_by_hand(&rig, &loose, 1_999).await;
    for (id, named) in [
        ("re_nobody", &["re_nobody"][..]),
        (&part, &["1000", "1999"]),
        (&of_another, &[&refunded.order_id]),
        (&of_a_loose_payment, &[&loose]),
    ] {
        let request = claim(&order, Outcome::Refunded, id);
        is_refused(&rig, request, Code::FailedPrecondition, "PROVIDER_DISAGREES", named).await;
    }
}

#[tokio::test]
async fn a_movement_that_is_in_the_books_of_another_order_is_not_counted_again() {
    let rig = with_desk().start().await;
    rig.driver_at("cab-1", PICKUP.0, PICKUP.1).await;
    let first = in_doubt_about_its_charge(&rig, FaultKind::ErrorBeforeEffect).await;
    let second = in_doubt_about_its_charge(&rig, FaultKind::ErrorBeforeEffect).await;
    let id = charge_by_hand(&rig, 1_999, "usd", Some(&first)).await;
    resolve(&rig, claim(&first, Outcome::Charged, &id)).await.unwrap();
    rig.until_settled(&first).await;
    let again = claim(&second, Outcome::Charged, &id);
    is_refused(&rig, again, Code::FailedPrecondition, "PROVIDER_DISAGREES", &[&first]).await;
}

#[tokio::test]
async fn that_nothing_was_moved_is_not_believed_while_a_request_may_be_on_its_way() {
    let rig = with_desk().start().await;
    let order = in_doubt_about_its_charge(&rig, FaultKind::ErrorBeforeEffect).await;
    let sql = rig.sql().await;
    for hurry in [
        "update payment_attempts set last_sent_at = now()",
        "update payment_attempts set last_sent_at = now() - interval '1 hour';
         update order_sagas set lease_owner = 'a live worker', lease_until = now() + interval '1 hour'",
    ] {
        sql.batch_execute(hurry).await.unwrap();
        let request = claim(&order, Outcome::NotCharged, "");
        is_refused(&rig, request, Code::Aborted, "ORDER_IN_FLIGHT", &[]).await;
    }
}

#[tokio::test]
async fn what_the_provider_said_is_worth_nothing_for_an_order_that_was_taken_up_meanwhile() {
    let rig = with_desk()
        .payments_through_proxy()
        .set("payments.attempt_timeout", "8s")
        .set("payments.total_timeout", "8s")
        .start()
        .await;
    let order = in_doubt_about_its_charge(&rig, FaultKind::ErrorAfterEffectSaved).await;
    let mut request = tonic::Request::new(claim(&order, Outcome::Charged, &rig.charges()[0].provider_id));
    request.set_timeout(Duration::from_secs(20));
    // Long enough for a worker to come by while the answer is on its way.
    rig.payments_line().set_mode(Mode::Latency {
        requests: Duration::ZERO,
        replies: Duration::from_secs(2),
    });
    let requests = rig.payments().requests();
    let mut desk = desk(&rig);
    let resolved = desk.resolve_order(request);
    let taken_up = async {
        until("the provider is asked", async || rig.payments().requests() > requests).await;
        let take_up = "update order_sagas set fence = fence + 1";
        rig.sql().await.batch_execute(take_up).await.unwrap();
        books(&rig).await
    };
    let (resolved, before) = tokio::join!(resolved, taken_up);
    let refused = resolved.unwrap_err();
    assert_eq!(
        (refused.code(), refusal_reason(&refused).as_str()),
        (Code::Aborted, "ORDER_IN_FLIGHT")
    );
    assert_eq!(books(&rig).await, before);
}

#[tokio::test]
async fn while_the_provider_is_down_nobody_is_believed() {
    let rig = with_desk().payments_through_proxy().start().await;
    let order = in_doubt_about_its_charge(&rig, FaultKind::ErrorAfterEffectSaved).await;
    let id = rig.charges()[0].provider_id.clone();
    rig.payments_line().set_mode(Mode::Refuse);
    let before = books(&rig).await;
    for request in [
        claim(&order, Outcome::Charged, &id),
        claim(&order, Outcome::NotCharged, ""),
    ] {
        let refused = resolve(&rig, request).await.unwrap_err();
        assert_eq!(refused.code(), Code::Unavailable, "{refused:?}");
    }
    assert_eq!(books(&rig).await, before);
}

#[tokio::test]
async fn a_worker_that_still_asks_the_provider_is_fenced_off_by_a_resolve() {
    let rig = with_desk().start().await;
    rig.driver_at("cab-1", PICKUP.0, PICKUP.1).await;
    let order = in_doubt_about_its_charge(&rig, FaultKind::ErrorBeforeEffect).await;
    let id = charge_by_hand(&rig, 1_999, "usd", Some(&order)).await;

    // The order goes to a worker whose request hangs, and which is held there.
    let patient = [("payments.attempt_timeout", "8s"), ("payments.total_timeout", "8s")];
    let mut rig = rig;
    rig.stop_servers().await;
    let worker = ServerProcess::start(&rig, &patient).await;
    let hang = Fault::times(FaultKind::Hang, 1).on(FaultTarget::Charge);
    rig.payments().set_fault(hang);
    let requests = rig.payments().requests();
    let due = "update order_sagas set next_run_at = now()";
    rig.sql().await.batch_execute(due).await.unwrap();
    until("the worker asks the provider", async || {
        rig.payments().requests() > requests
    })
    .await;

    let mut desk = AdminServiceClient::new(channel(worker.grpc_addr()));
    let resolved = desk.resolve_order(claim(&order, Outcome::Charged, &id)).await.unwrap();
    assert_eq!(resolved.into_inner().order.unwrap().status(), OrderStatus::Charged);
    rig.until_all_settled().await;
    let state = "select count(*) * 1000 + sum(fence)::bigint from order_saga_steps";
    let before = rig.count(state).await;
    until("the worker sees that its lease is lost", async || {
        let log = worker.log();
        if log.contains("lease lost") { Ok(()) } else { Err(log) }
    })
    .await;
    assert_eq!(rig.count(state).await, before, "no step of the worker");
    assert_eq!(rig.charges().len(), 1);
    assert_eq!(worker.stop().await.code(), Some(0));
    rig.assert_clean().await;
}
