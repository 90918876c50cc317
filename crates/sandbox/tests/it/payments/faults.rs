//! Every fault: what the client sees, whether money moved, and what the same key gets afterwards.

use std::time::{Duration, Instant};

use reqwest::Method;
use serde_json::json;
use waybill_sandbox::payments::{Fault, FaultKind, FaultTarget};

use super::{Answer, CHARGED, INTENTS, TestProvider, VISA, charge_form};
use crate::rig::until;

#[tokio::test]
async fn faults_before_the_effect_leave_nothing_behind() {
    let test = TestProvider::start().await;
    for (kind, status) in [
        (FaultKind::RateLimited, 429),
        (FaultKind::InProgress, 409),
        (FaultKind::ErrorBeforeEffect, 500),
    ] {
        let key = format!("{kind:?}");
        let movements = test.movements();
        test.provider.set_fault(Fault::times(kind, 1));
        assert_eq!(test.charge(&key, "500").await.status, status);
        assert_eq!(test.movements(), movements);
        assert!(test.provider.faults().is_empty(), "it was set for one request");

        let next = test.charge(&key, "500").await;
        assert_eq!((next.status, next.replayed), (200, false));
    }
}

#[tokio::test]
async fn faults_after_the_effect_hide_the_truth_and_the_same_key_gets_it() {
    let test = TestProvider::start().await;
    let faults = [
        FaultKind::ErrorAfterEffect,
        FaultKind::ReplyLost,
        FaultKind::Garbage,
        FaultKind::WrongAmount,
        FaultKind::WrongCurrency,
        FaultKind::EmptyBody,
        FaultKind::SlowBody,
    ];
    for (at, kind) in faults.into_iter().enumerate() {
        let key = format!("{kind:?}");
        test.provider.set_fault(Fault::times(kind, 1));
        let request = test.request(INTENTS, &key, &charge_form("500", "order-1", VISA));
        let response = request.send().await;
        match kind {
            FaultKind::ReplyLost => assert!(response.is_err()),
            FaultKind::ErrorAfterEffect => assert_eq!(response.unwrap().status(), 500),
            FaultKind::Garbage => {
                let response = response.unwrap();
                assert_eq!(response.status(), 200);
                assert!(response.text().await.unwrap().starts_with("<!DOCTYPE html>"));
            }
            FaultKind::EmptyBody => assert_eq!(response.unwrap().text().await.unwrap(), ""),
            FaultKind::SlowBody => assert_eq!(response.unwrap().chunk().await.unwrap().unwrap().len(), 1),
            _ => {
                let body = Answer::of(response.unwrap()).await.body;
                let wrong = if kind == FaultKind::WrongAmount {
                    (501, "usd")
                } else {
                    (500, "eur")
                };
                assert_eq!(body["status"], "succeeded");
                assert_eq!((&body["amount"], &body["currency"]), (&json!(wrong.0), &json!(wrong.1)));
            }
        }
        assert_eq!(test.movements().len(), at + 1, "{kind:?}");

        let next = test.charge(&key, "500").await;
        assert_eq!(
            (next.status, next.replayed, &next.body["amount"]),
            (200, true, &json!(500))
        );
        assert_eq!(test.movements(), vec![CHARGED; at + 1]);
    }
}

#[tokio::test]
async fn a_saved_error_is_replayed_though_the_money_moved() {
    let test = TestProvider::start().await;
    test.provider
        .set_fault(Fault::times(FaultKind::ErrorAfterEffectSaved, 1));
    let failed = test.charge("k", "500").await;
    assert_eq!(failed.status, 500);
    assert_eq!(test.charge("k", "500").await, failed.replay());
    assert_eq!(test.movements(), [CHARGED]);
    let intents = test.get(INTENTS).await.body;
    let order = &intents["data"][0]["metadata"]["order_id"];
    assert_eq!(order, "order-1", "only a read shows the truth");
}

#[tokio::test]
async fn a_declining_fault_declines_a_good_card_but_no_refund() {
    let test = TestProvider::start().await;
    let charged = test.charge("c", "500").await;
    test.provider.set_fault(Fault::always(FaultKind::Decline));
    let declined = test.charge("d", "500").await;
    assert_eq!(declined.status, 402);
    assert_eq!(test.refund("r", &[("payment_intent", charged.id())]).await.status, 200);
    test.provider.clear_faults();
    assert_eq!(
        test.charge("d", "500").await,
        declined.replay(),
        "a decline is an answer"
    );
}

#[tokio::test]
async fn a_hanging_provider_does_nothing_and_answers_the_next_try() {
    let test = TestProvider::start().await;
    test.provider
        .set_fault(Fault::times(FaultKind::Hang, 1).on(FaultTarget::Charge));
    test.charge_and_hang_up("k").await;
    assert!(test.movements().is_empty());
    assert_eq!(test.charge("k", "500").await.status, 200);
}

#[tokio::test]
async fn a_late_success_comes_though_the_client_has_hung_up() {
    let test = TestProvider::start().await;
    let late = Fault::times(FaultKind::LateSuccess, 1);
    test.provider.set_fault(late.delayed(Duration::from_secs(2)));
    test.charge_and_hang_up("k").await;

    let meanwhile = test.charge("k", "500").await;
    let refused = (meanwhile.status, &meanwhile.error()["code"]);
    assert_eq!(refused, (409, &json!("idempotency_key_in_use")));
    assert_eq!(test.charge("k", "600").await.error()["type"], "idempotency_error");
    assert!(test.movements().is_empty());

    until("the money has moved", async || test.movements() == [CHARGED]).await;
    let next = test.charge("k", "500").await;
    assert_eq!((next.status, next.replayed), (200, true));
    assert_eq!(test.movements(), [CHARGED]);
}

#[tokio::test]
async fn a_late_refund_that_is_refused_frees_its_key() {
    let test = TestProvider::start().await;
    let late = Fault::times(FaultKind::LateSuccess, 1);
    test.provider.set_fault(late.delayed(Duration::from_millis(1)));
    for _ in 0..2 {
        let refused = test.refund("k", &[("payment_intent", "pi_unknown")]).await;
        assert_eq!(refused.status, 404, "not 409");
    }
}

#[tokio::test]
async fn latency_only_delays() {
    let test = TestProvider::start().await;
    let delay = Duration::from_millis(50);
    test.provider
        .set_fault(Fault::always(FaultKind::Latency).delayed(delay));
    let start = Instant::now();
    assert_eq!(test.charge("k", "500").await.status, 200);
    assert!(
        start.elapsed() >= delay,
        "a lower bound, which no slow machine can break"
    );
}

#[tokio::test]
async fn faults_are_set_read_and_cleared_over_http() {
    let test = TestProvider::start().await;
    let faults = json!([
        { "kind": "reply_lost", "operation": "refund", "times": 2 },
        { "kind": "latency", "delay_ms": 1, "probability": 0.5 },
    ]);
    let set = test.sandbox(Method::PUT, "faults", &faults.to_string()).await;
    assert_eq!(set.status, 200);
    assert_eq!(set.body, test.sandbox(Method::GET, "faults", "").await.body);
    let expected = Fault::times(FaultKind::ReplyLost, 2).on(FaultTarget::Refund);
    assert_eq!(set.body[0], json!(expected));

    for (bad, param) in [
        (r#"[{"kind": "decline", "times": "once"}]"#, "[0].times"),
        ("{", "body"),
    ] {
        let refused = test.sandbox(Method::PUT, "faults", bad).await;
        assert_eq!((refused.status, &refused.error()["param"]), (400, &json!(param)));
    }
    assert_eq!(test.provider.faults().len(), 2, "an invalid request changes nothing");

    assert_eq!(test.sandbox(Method::DELETE, "faults", "").await.status, 204);
    assert!(test.provider.faults().is_empty());
}

#[tokio::test]
async fn a_page_of_a_list_can_be_refused_and_nothing_else_is() {
    let test = TestProvider::start().await;
    let fault = |kind| Fault::times(kind, 1).on(FaultTarget::List);
    test.provider
        .set_faults([fault(FaultKind::ErrorBeforeEffect), fault(FaultKind::RateLimited)]);
    assert_eq!(test.charge("k1", "500").await.status, 200);
    let mut statuses = Vec::new();
    for list in [INTENTS, "/v1/refunds", "/v1/charges"] {
        statuses.push(test.get(list).await.status);
    }
    assert_eq!(statuses, [500, 429, 200]);
}
