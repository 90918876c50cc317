//! Idempotency keys: of any number of requests with one key exactly one has an effect.

use reqwest::Method;
use serde_json::json;
use tokio_util::task::TaskTracker;

use super::{Answer, CHARGED, INTENTS, TestProvider, VISA, charge_form};

#[tokio::test]
async fn a_key_replays_its_first_answer_and_refuses_another_request() {
    let test = TestProvider::start().await;
    let first = test.charge("k1", "500").await;

    let same = test.charge("k1", "500").await;
    let other = test.charge("k1", "600").await;
    let elsewhere = test.refund("k1", &[("payment_intent", first.id())]).await;
    let other_account = test
        .client
        .post(test.url(INTENTS))
        .bearer_auth("sk_test_2")
        .header("Idempotency-Key", "k1")
        .form(&charge_form("500", "order-2", "pm_card_mastercard"));
    let other_account = Answer::of(other_account.send().await.unwrap()).await;

    assert_eq!(same, first.replay());
    for reused in [other, elsewhere] {
        assert_eq!(reused.status, 400);
        assert_eq!(reused.error()["type"], "idempotency_error");
    }
    let answer = (other_account.status, other_account.replayed);
    assert_eq!(answer, (200, false), "keys are per account");
    assert_eq!(test.movements(), [CHARGED, CHARGED]);
}

#[tokio::test]
async fn without_a_key_each_request_is_another_one() {
    let test = TestProvider::start().await;
    assert_ne!(test.charge("", "500").await.id(), test.charge("", "500").await.id());
    assert_eq!(test.movements(), [CHARGED, CHARGED]);
}

#[tokio::test]
async fn of_concurrent_requests_with_one_key_exactly_one_moves_money() {
    let test = TestProvider::start().await;
    let tasks = TaskTracker::new();
    let form = charge_form("500", "order-1", VISA);
    let calls = (0..50).map(|_| tasks.spawn(test.request(INTENTS, "k", &form).send()));
    let mut ids = Vec::new();
    for call in calls.collect::<Vec<_>>() {
        let answer = Answer::of(call.await.unwrap().unwrap()).await;
        assert_eq!(answer.status, 200);
        ids.push(answer.body["id"].clone());
    }
    ids.dedup();
    assert_eq!(ids.len(), 1);
    assert_eq!(test.movements(), [CHARGED]);
}

/// A request that was refused for what it found was executed, and its refusal is its answer. Stripe asks for another key
/// then (<https://docs.stripe.com/error-low-level#content-errors>).
#[tokio::test]
async fn a_refusal_for_the_state_of_a_payment_is_saved_under_its_key() {
    let test = TestProvider::start().await;
    let charged = test.charge("c", "500").await;
    let refund = [("payment_intent", charged.id())];
    let dispute = test.provider.open_dispute(charged.id(), None, "general").await.unwrap();
    let disputed = test.refund("r", &refund).await;
    assert_eq!(disputed.status, 400);
    test.provider.close_dispute(&dispute, true).await.unwrap();
    let declined = test.charge_card("d", "pm_card_chargeDeclined").await;
    let declined = declined.error()["payment_intent"]["id"].as_str().unwrap();
    let held = test.hold("h", "500").await;
    let form = [("amount_to_capture", "501")];
    let (uncaptured, too_large) = (
        test.capture(declined, "u", &[]).await,
        test.capture(held.id(), "l", &form).await,
    );

    let test = test.restart().await;

    assert_eq!(
        test.refund("r", &refund).await,
        disputed.replay(),
        "though it could be made now"
    );
    assert_eq!(test.capture(declined, "u", &[]).await, uncaptured.replay());
    assert_eq!(test.capture(held.id(), "l", &form).await, too_large.replay());
    let reused = test.capture(held.id(), "l", &[]).await;
    assert_eq!(
        (reused.status, &reused.error()["type"]),
        (400, &json!("idempotency_error"))
    );
    let refunded = test.refund("r2", &refund).await;
    assert_eq!((refunded.status, refunded.replayed), (200, false));
    let again = test.refund("r3", &refund).await;
    assert_eq!(again.status, 400);
    assert_eq!(test.refund("r3", &refund).await, again.replay());
    for _ in 0..2 {
        let unkeyed = test.refund("", &refund).await;
        assert_eq!((unkeyed.status, unkeyed.replayed), (400, false));
    }
}

/// Stripe removes keys once they are 24 hours old, and then a key is as good as new
/// (<https://docs.stripe.com/api/idempotent_requests>).
#[tokio::test]
async fn after_its_expiry_a_key_is_for_a_new_request() {
    let test = TestProvider::start().await;
    let first = test.charge("k", "500").await;
    let refund = [("payment_intent", first.id()), ("amount", "100")];
    let refunded = test.refund("r", &refund).await;

    assert_eq!(test.sandbox(Method::DELETE, "keys", "").await.status, 204);

    let again = test.charge("k", "500").await;
    assert_eq!((again.status, again.replayed), (200, false));
    assert_ne!(again.id(), first.id());
    assert_ne!(test.refund("r", &refund).await.id(), refunded.id());
    let test = test.restart().await;
    assert_eq!(test.charge("k", "500").await, again.replay(), "expired keys stay so");
    assert_eq!(test.movements().len(), 4);
    test.provider.expire_keys().unwrap();
    assert!(
        !test.charge("k", "600").await.replayed,
        "nor is it refused for another amount"
    );
}
