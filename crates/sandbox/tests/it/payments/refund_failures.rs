//! Refunds that are not over when they are answered: pending ones, and those that fail later
//! (<https://docs.stripe.com/refunds#failed-refunds>).

use reqwest::Method;
use serde_json::{Value, json};

use super::webhooks::{Endpoint, start as start_with_endpoint};
use super::{Answer, TestProvider, check};

impl TestProvider {
    /// A payment of 500, and a refund of it that is pending.
    async fn pending_refund(&self) -> (Answer, Answer) {
        let fault = json!({ "kind": "refund_pending", "operation": "refund", "times": 1 });
        let set = self.sandbox(Method::PUT, "faults", &fault.to_string()).await;
        assert_eq!(set.status, 200, "{:?}", set.body);
        let charged = self.charge("", "500").await;
        let refund = self.refund("", &[("payment_intent", charged.id())]).await;
        (charged, refund)
    }
}

/// The kinds of the events after the first `seen`, in alphabetical order, as soon as there are `count`.
async fn kinds_after(endpoint: &Endpoint, seen: usize, count: usize) -> Vec<String> {
    endpoint.until_received(seen + count).await;
    let mut kinds = endpoint.kinds()[seen..].to_vec();
    kinds.sort();
    kinds
}

#[tokio::test]
async fn a_refund_can_be_pending_and_succeed_later() {
    let (test, endpoint) = start_with_endpoint().await;
    let (charged, refund) = test.pending_refund().await;
    check(&refund.body, &json!({ "status": "pending", "amount": 500 }));
    let again = test.refund("", &[("payment_intent", charged.id())]).await;
    assert_eq!(
        again.refusal(),
        (400, Some("charge_already_refunded"), None),
        "it counts as refunded"
    );
    assert_eq!(
        kinds_after(&endpoint, 0, 2).await,
        ["payment_intent.succeeded", "refund.created"]
    );

    let settled = test
        .network(&format!("refunds/{}/settle", refund.id()), &Value::Null)
        .await;

    assert_eq!((settled.status, &settled.body["status"]), (200, &json!("succeeded")));
    let read = test.get(&format!("/v1/refunds/{}", refund.id())).await;
    assert_eq!(read.body["status"], "succeeded");
    assert_eq!(
        kinds_after(&endpoint, 2, 2).await,
        ["charge.refund.updated", "refund.updated"]
    );
    let movements = [("charge".to_owned(), 500), ("refund".to_owned(), 500)];
    assert_eq!(test.ledger_page().await, movements);
}

#[tokio::test]
async fn a_refund_that_succeeded_can_fail_and_is_made_again_under_a_new_key() {
    let (test, endpoint) = start_with_endpoint().await;
    let charged = test.charge("", "500").await;
    let intent = ("payment_intent", charged.id());
    let refund = test.refund("r", &[intent]).await;
    check(
        &test.charge_of(charged.id()).await,
        &json!({ "amount_refunded": 500, "refunded": true }),
    );
    endpoint.until_received(2).await;

    let reason = json!({ "reason": "lost_or_stolen_card" });
    let failed = test.network(&format!("refunds/{}/fail", refund.id()), &reason).await;

    let expected = json!({ "id": refund.id(), "status": "failed", "failure_reason": "lost_or_stolen_card" });
    check(&failed.body, &expected);
    assert_eq!(
        test.get(&format!("/v1/refunds/{}", refund.id())).await.body,
        failed.body
    );
    check(
        &test.charge_of(charged.id()).await,
        &json!({ "amount_refunded": 0, "refunded": false }),
    );
    let kinds = kinds_after(&endpoint, 2, 3).await;
    assert_eq!(kinds, ["charge.refund.updated", "refund.failed", "refund.updated"]);
    for event in &endpoint.until_received(5).await[2..] {
        check(&event.json()["data"]["object"], &expected);
    }
    assert_eq!(
        test.refund("r", &[intent]).await,
        refund.replay(),
        "its key keeps the old answer"
    );
    let again = test.refund("r2", &[intent]).await;
    assert_eq!((again.status, &again.body["amount"]), (200, &json!(500)));
    let movements = [
        ("charge", 500),
        ("refund", 500),
        ("failed_refund", 500),
        ("refund", 500),
    ];
    assert_eq!(
        test.ledger_page().await,
        movements.map(|(kind, amount)| (kind.to_owned(), amount))
    );
}

#[tokio::test]
async fn a_failed_refund_is_a_movement_of_its_own_with_the_order_of_its_charge() {
    let test = TestProvider::start().await;
    let charged = test.charge("", "500").await;
    let refund = test
        .refund("", &[("payment_intent", charged.id()), ("amount", "200")])
        .await;
    test.network(&format!("refunds/{}/fail", refund.id()), &json!({})).await;
    let ledger = test.sandbox(Method::GET, "ledger", "").await.body;
    let movement = json!({
        "kind": "failed_refund", "order_id": "order-1", "provider_id": refund.id(), "amount_minor": 200, "currency": "usd",
    });
    check(&ledger[2], &movement);
    let read = test.get(&format!("/v1/refunds/{}", refund.id())).await;
    assert_eq!(read.body["failure_reason"], "unknown");
}

#[tokio::test]
async fn a_refund_fails_while_it_is_pending_too_but_never_twice() {
    let test = TestProvider::start().await;
    let (charged, refund) = test.pending_refund().await;
    let (fail, settle) = (
        format!("refunds/{}/fail", refund.id()),
        format!("refunds/{}/settle", refund.id()),
    );
    let boredom = test.network(&fail, &json!({ "reason": "boredom" })).await;
    assert_eq!((boredom.status, &boredom.error()["param"]), (400, &json!("reason")));
    let reason = json!({ "reason": "expired_or_canceled_card" });
    assert_eq!(test.network(&fail, &reason).await.body["status"], "failed");
    assert_eq!(test.network(&fail, &reason).await.status, 400);
    assert_eq!(test.network(&settle, &json!({})).await.status, 400);
    check(&test.charge_of(charged.id()).await, &json!({ "amount_refunded": 0 }));
    let succeeded = test.refund("", &[("payment_intent", charged.id())]).await;
    let settle = format!("refunds/{}/settle", succeeded.id());
    assert_eq!(test.network(&settle, &json!({})).await.status, 400);
    for page in ["refunds/re_unknown/fail", "refunds/re_unknown/settle"] {
        assert_eq!(test.network(page, &json!({})).await.status, 404);
    }
}

#[tokio::test]
async fn a_provider_that_died_comes_back_with_the_state_of_its_refunds() {
    let test = TestProvider::start().await;
    let (_, pending) = test.pending_refund().await;
    let charged = test.charge("", "500").await;
    let failed = test.refund("", &[("payment_intent", charged.id())]).await;
    test.provider.fail_refund(failed.id(), "unknown").await.unwrap();
    let (ledger, refunds) = (test.provider.ledger(), test.get("/v1/refunds").await);

    let test = test.restart().await;

    assert_eq!(
        (test.provider.ledger(), test.get("/v1/refunds").await),
        (ledger, refunds)
    );
    check(&test.charge_of(charged.id()).await, &json!({ "amount_refunded": 0 }));
    test.provider.settle_refund(pending.id()).await.unwrap();
    let settled = test.get(&format!("/v1/refunds/{}", pending.id())).await;
    assert_eq!(settled.body["status"], "succeeded");
}

#[tokio::test]
async fn only_a_refund_is_made_pending() {
    let test = TestProvider::start().await;
    let (fault, page) = (json!({ "kind": "refund_pending", "operation": "capture" }), "faults");
    let refused = test.sandbox(Method::PUT, page, &fault.to_string()).await;
    assert_eq!((refused.status, &refused.error()["param"]), (400, &json!("operation")));
    test.sandbox(Method::PUT, page, r#"{ "kind": "refund_pending" }"#).await;
    assert_eq!(test.charge("", "500").await.body["status"], "succeeded");
}
