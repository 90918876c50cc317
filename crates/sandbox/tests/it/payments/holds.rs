//! Holds: captured in whole or in part, cancelled or expired, and what each of them refuses.

use reqwest::Method;
use serde_json::{Value, json};
use waybill_sandbox::payments::MovementKind;

use super::webhooks::start as start_with_endpoint;
use super::{CHARGED, INTENTS, TestProvider, check};

const UNEXPECTED_STATE: (u16, Option<&str>, Option<&str>) = (400, Some("payment_intent_unexpected_state"), None);

/// <https://docs.stripe.com/payments/place-a-hold-on-a-payment-method>
#[tokio::test]
async fn a_hold_moves_no_money_until_it_is_captured() {
    let (test, endpoint) = start_with_endpoint().await;
    let held = test.hold("h", "500").await;
    let intent = held.id();
    let nothing_yet = json!({
        "status": "requires_capture", "capture_method": "manual", "amount": 500, "amount_capturable": 500,
        "amount_received": 0,
    });
    check(&held.body, &nothing_yet);
    let uncaptured = json!({
        "status": "succeeded", "paid": true, "captured": false, "amount": 500, "amount_captured": 0,
        "amount_refunded": 0, "refunded": false,
    });
    check(&test.charge_of(intent).await, &uncaptured);
    assert!(test.movements().is_empty());
    endpoint.until_received(1).await;
    assert_eq!(endpoint.kinds(), ["payment_intent.amount_capturable_updated"]);

    let captured = test.capture(intent, "c", &[]).await;

    assert_eq!(captured.status, 200);
    let all =
        json!({ "id": intent, "status": "succeeded", "amount": 500, "amount_capturable": 0, "amount_received": 500 });
    check(&captured.body, &all);
    check(
        &test.charge_of(intent).await,
        &json!({ "captured": true, "amount_captured": 500 }),
    );
    assert_eq!(test.get(&format!("{INTENTS}/{intent}")).await.body, captured.body);
    assert_eq!(test.movements(), [CHARGED]);
    let mut kinds: Vec<_> = endpoint
        .until_received(3)
        .await
        .iter()
        .map(|one| one.json()["type"].clone())
        .collect();
    kinds.sort_by_key(Value::to_string);
    assert_eq!(
        kinds[..2],
        [
            json!("charge.captured"),
            json!("payment_intent.amount_capturable_updated")
        ]
    );
    assert_eq!(kinds[2], "payment_intent.succeeded");
}

/// The rest is released, and is no refund: <https://docs.stripe.com/changelog/basil/2025-03-31/remove-refund-from-partial-capture-and-payment-cancellation-flow>
#[tokio::test]
async fn a_partial_capture_moves_its_amount_and_releases_the_rest() {
    let test = TestProvider::start().await;
    let held = test.hold("", "500").await;
    let intent = ("payment_intent", held.id());

    let captured = test.capture(held.id(), "", &[("amount_to_capture", "300")]).await;

    check(
        &captured.body,
        &json!({ "status": "succeeded", "amount": 500, "amount_capturable": 0, "amount_received": 300 }),
    );
    let charge =
        json!({ "amount": 500, "captured": true, "amount_captured": 300, "amount_refunded": 0, "refunded": false });
    check(&test.charge_of(held.id()).await, &charge);
    let refunds = test.get("/v1/refunds").await.body;
    assert_eq!(refunds["data"], json!([]), "what is released is no refund");
    let too_much = test.refund("", &[intent, ("amount", "301")]).await;
    assert_eq!((too_much.status, &too_much.error()["param"]), (400, &json!("amount")));
    assert_eq!(test.refund("", &[intent]).await.body["amount"], 300);
    check(
        &test.charge_of(held.id()).await,
        &json!({ "amount_refunded": 300, "refunded": true }),
    );
    assert_eq!(
        test.movements(),
        [(MovementKind::Charge, 300), (MovementKind::Refund, 300)]
    );
}

#[tokio::test]
async fn a_capture_stays_within_its_hold_and_one_that_makes_no_sense_saves_nothing() {
    let test = TestProvider::start().await;
    let held = test.hold("", "500").await;
    for (amount, refusal) in [
        ("0", (400, Some("parameter_invalid_integer"), Some("amount_to_capture"))),
        (
            "-1",
            (400, Some("parameter_invalid_integer"), Some("amount_to_capture")),
        ),
        (
            "all",
            (400, Some("parameter_invalid_integer"), Some("amount_to_capture")),
        ),
        ("49", (400, Some("amount_too_small"), Some("amount"))),
    ] {
        let refused = test.capture(held.id(), "c", &[("amount_to_capture", amount)]).await;
        assert_eq!(refused.refusal(), refusal, "{amount}");
    }
    let too_large = test.capture(held.id(), "l", &[("amount_to_capture", "501")]).await;
    assert_eq!(too_large.refusal(), (400, Some("amount_too_large"), None));
    let unknown = test.capture(held.id(), "c", &[("amount", "300")]).await;
    assert_eq!(unknown.refusal(), (400, Some("parameter_unknown"), Some("amount")));
    assert!(test.movements().is_empty());
    let captured = test.capture(held.id(), "c", &[("amount_to_capture", "500")]).await;
    assert_eq!((captured.status, captured.replayed), (200, false));
}

#[tokio::test]
async fn a_hold_is_captured_once_and_only_while_it_is_held() {
    let test = TestProvider::start().await;
    let captured = test.hold("", "500").await;
    test.capture(captured.id(), "", &[("amount_to_capture", "300")]).await;
    let cancelled = test.hold("", "500").await;
    test.cancel(cancelled.id(), "", &[]).await;
    let automatic = test.charge("", "500").await;
    let declined = test.charge_card("", "pm_card_chargeDeclined").await;
    let declined = declined.error()["payment_intent"]["id"].as_str().unwrap();
    let movements = test.movements();
    for (intent, status) in [
        (captured.id(), "succeeded"),
        (cancelled.id(), "canceled"),
        (automatic.id(), "succeeded"),
        (declined, "requires_payment_method"),
    ] {
        let refused = test.capture(intent, "", &[]).await;
        assert_eq!(refused.refusal(), UNEXPECTED_STATE, "{status}");
        let shown = &refused.error()["payment_intent"];
        assert_eq!((&shown["id"], &shown["status"]), (&json!(intent), &json!(status)));
    }
    let unknown = test.capture("pi_unknown", "", &[]).await;
    assert_eq!(unknown.refusal(), (404, Some("resource_missing"), Some("intent")));
    assert_eq!(test.movements(), movements);
}

/// <https://docs.stripe.com/api/payment_intents/cancel>
#[tokio::test]
async fn a_cancelled_hold_is_released_and_stays_cancelled() {
    let (test, endpoint) = start_with_endpoint().await;
    let held = test.hold("", "500").await;
    endpoint.until_received(1).await;

    let form = [("cancellation_reason", "requested_by_customer")];
    let cancelled = test.cancel(held.id(), "x", &form).await;

    assert_eq!(cancelled.status, 200);
    let released = json!({
        "id": held.id(), "status": "canceled", "cancellation_reason": "requested_by_customer", "amount_capturable": 0,
        "amount_received": 0,
    });
    check(&cancelled.body, &released);
    assert!(cancelled.body["canceled_at"].is_i64());
    let uncaptured = json!({ "captured": false, "amount_captured": 0, "amount_refunded": 0, "refunded": false });
    check(&test.charge_of(held.id()).await, &uncaptured);
    endpoint.until_received(2).await;
    assert_eq!(endpoint.kinds()[1], "payment_intent.canceled");

    assert_eq!(test.cancel(held.id(), "x", &form).await, cancelled.replay());
    assert_eq!(test.cancel(held.id(), "y", &form).await.refusal(), UNEXPECTED_STATE);
    assert_eq!(test.capture(held.id(), "", &[]).await.refusal(), UNEXPECTED_STATE);
    assert!(test.movements().is_empty());
}

#[tokio::test]
async fn a_payment_is_cancelled_unless_it_succeeded() {
    let test = TestProvider::start().await;
    let paid = test.charge("", "500").await;
    let captured = test.hold("", "500").await;
    test.capture(captured.id(), "", &[]).await;
    for intent in [paid.id(), captured.id()] {
        assert_eq!(test.cancel(intent, "", &[]).await.refusal(), UNEXPECTED_STATE);
    }
    let declined = test.charge_card("", "pm_card_chargeDeclined").await;
    let declined = declined.error()["payment_intent"]["id"].as_str().unwrap();
    assert_eq!(test.cancel(declined, "", &[]).await.body["status"], "canceled");
    let unknown = test.cancel("pi_unknown", "", &[]).await;
    assert_eq!(unknown.refusal(), (404, Some("resource_missing"), Some("intent")));
    let held = test.hold("", "500").await;
    for (name, value, code) in [
        ("cancellation_reason", "boredom", "parameter_invalid"),
        ("metadata[why]", "boredom", "parameter_unknown"),
    ] {
        let refused = test.cancel(held.id(), "", &[(name, value)]).await;
        assert_eq!(refused.refusal(), (400, Some(code), Some(name)));
    }
}

/// As the network does it after some days: <https://docs.stripe.com/payments/place-a-hold-on-a-payment-method>
#[tokio::test]
async fn an_expired_hold_is_cancelled_without_a_request() {
    let (test, endpoint) = start_with_endpoint().await;
    let held = test.hold("", "500").await;
    endpoint.until_received(1).await;
    let page = format!("payment_intents/{}/expire", held.id());

    let expired = test.sandbox(Method::POST, &page, "").await;

    assert_eq!(expired.status, 200);
    check(
        &expired.body,
        &json!({ "status": "canceled", "cancellation_reason": "expired", "amount_capturable": 0 }),
    );
    let received = endpoint.until_received(3).await;
    let mut kinds: Vec<_> = endpoint.kinds()[1..].to_vec();
    kinds.sort();
    assert_eq!(kinds, ["charge.expired", "payment_intent.canceled"]);
    assert_eq!(received[2].json()["request"]["idempotency_key"], Value::Null);
    assert_eq!(test.capture(held.id(), "", &[]).await.refusal(), UNEXPECTED_STATE);
    for intent in [held.id(), test.charge("", "500").await.id()] {
        let page = format!("payment_intents/{intent}/expire");
        assert_eq!(
            test.sandbox(Method::POST, &page, "").await.status,
            400,
            "it is not held"
        );
        let refused = test.provider.expire_hold(intent).await.unwrap_err();
        assert!(refused.to_string().contains("could not be captured"), "{refused}");
    }
}

#[tokio::test]
async fn a_hold_cannot_be_refunded() {
    let test = TestProvider::start().await;
    let held = test.hold("", "500").await;
    let refused = test.refund("r", &[("payment_intent", held.id())]).await;
    assert_eq!(refused.refusal(), (400, None, None));
    let message = refused.error()["message"].as_str().unwrap();
    assert!(
        message.starts_with("This uncaptured Charge was created by a PaymentIntent"),
        "{message}"
    );
}

#[tokio::test]
async fn a_capture_has_one_effect_under_its_key_and_may_add_metadata() {
    let test = TestProvider::start().await;
    let held = test.hold("", "500").await;
    let form = [("amount_to_capture", "300"), ("metadata[trip]", "7")];
    let captured = test.capture(held.id(), "c", &form).await;
    assert_eq!(captured.body["metadata"], json!({ "order_id": "order-1", "trip": "7" }));
    assert_eq!(test.capture(held.id(), "c", &form).await, captured.replay());
    let other = test.capture(held.id(), "c", &form[..1]).await;
    assert_eq!(
        (other.status, &other.error()["type"]),
        (400, &json!("idempotency_error"))
    );
    let elsewhere = test.hold("", "500").await;
    let other = test.capture(elsewhere.id(), "c", &form).await;
    assert_eq!(
        (other.status, &other.error()["type"]),
        (400, &json!("idempotency_error"))
    );
    assert_eq!(test.movements(), [(MovementKind::Charge, 300)]);
    let order = test.provider.ledger()[0].order_id.clone();
    assert_eq!(order.as_deref(), Some("order-1"));
}

#[tokio::test]
async fn a_provider_that_died_comes_back_with_its_holds() {
    let test = TestProvider::start().await;
    let held = test.hold("h", "500").await;
    let part = test.hold("", "600").await;
    let captured = test.capture(part.id(), "c", &[("amount_to_capture", "300")]).await;
    let cancelled = test.hold("", "500").await;
    test.cancel(cancelled.id(), "", &[]).await;
    let (ledger, intents) = (test.provider.ledger(), test.get(INTENTS).await);

    let test = test.restart().await;

    assert_eq!((test.provider.ledger(), test.get(INTENTS).await), (ledger, intents));
    assert_eq!(
        test.capture(part.id(), "c", &[("amount_to_capture", "300")]).await,
        captured.replay()
    );
    assert_eq!(test.hold("h", "500").await.id(), held.id());
    assert_eq!(test.capture(held.id(), "", &[]).await.status, 200);
    assert_eq!(test.cancel(cancelled.id(), "", &[]).await.refusal(), UNEXPECTED_STATE);
}

#[tokio::test]
async fn the_way_of_capture_is_automatic_or_manual() {
    let test = TestProvider::start().await;
    for (method, refusal) in [
        ("automatic", None),
        ("manual", None),
        ("later", Some(json!(["parameter_invalid", "capture_method"]))),
    ] {
        let mut form = super::charge_form("500", "order-1", super::VISA);
        form.push(("capture_method", method));
        let answer = test.post(INTENTS, "", &form).await;
        let error = answer.error();
        let found = (answer.status != 200).then(|| json!([error["code"], error["param"]]));
        assert_eq!(found, refusal, "{method}");
    }
}
