//! Refunds: never more than was charged.

use serde_json::json;
use waybill_sandbox::payments::MovementKind;

use super::{CHARGED, INTENTS, TestProvider, VISA, charge_form};

#[tokio::test]
async fn a_refund_never_exceeds_its_charge() {
    let test = TestProvider::start().await;
    let charged = test.charge("c", "500").await;
    let intent = ("payment_intent", charged.id());

    let with_order = [intent, ("amount", "200"), ("metadata[order_id]", "order-1")];
    let part = test.refund("r1", &with_order).await;
    let too_much = test.refund("r2", &[intent, ("amount", "301")]).await;
    let rest = test.refund("r3", &[intent]).await;
    let again = test.refund("r4", &[intent]).await;
    let replayed = test.refund("r3", &[intent]).await;

    assert_eq!((part.status, &part.body["amount"]), (200, &json!(200)));
    assert_eq!(part.body["status"], "succeeded");
    assert_eq!(
        too_much.refusal(),
        (400, None, Some("amount")),
        "Stripe has no code for it"
    );
    assert_eq!(too_much.error()["type"], "invalid_request_error");
    let message = too_much.error()["message"].as_str().unwrap();
    assert!(
        message.contains("is greater than unrefunded amount on charge"),
        "{message}"
    );
    assert_eq!((rest.status, &rest.body["amount"]), (200, &json!(300)));
    let refused = (again.status, &again.error()["code"]);
    assert_eq!(refused, (400, &json!("charge_already_refunded")));
    assert_eq!(replayed, rest.replay());
    let read = test.get(&format!("/v1/refunds/{}", replayed.id())).await;
    assert_eq!(read.body, replayed.body);
    let refunds = [200, 300].map(|amount| (MovementKind::Refund, amount));
    assert_eq!(test.movements(), [CHARGED, refunds[0], refunds[1]]);
    for movement in test.provider.ledger() {
        let order = movement.order_id.as_deref();
        assert_eq!(
            order,
            Some("order-1"),
            "a refund without an order id has that of its charge"
        );
    }
}

#[tokio::test]
async fn a_payment_that_was_not_charged_is_not_refunded() {
    let test = TestProvider::start().await;
    let declined = test.charge_card("", "pm_card_chargeDeclined").await;
    let declined = declined.error()["payment_intent"]["id"].as_str().unwrap();

    assert_eq!(test.refund("r1", &[("payment_intent", declined)]).await.status, 400);
    let unknown = test.refund("r2", &[("payment_intent", "pi_unknown")]).await;
    let refused = (unknown.status, &unknown.error()["code"]);
    assert_eq!(refused, (404, &json!("resource_missing")));
    for path in [
        "/v1/refunds/re_unknown",
        &format!("{INTENTS}/pi_unknown"),
        "/v1/customers",
    ] {
        assert_eq!(test.get(path).await.status, 404, "{path}");
    }
    assert!(test.provider.ledger().is_empty());
}

/// As a person makes them in the dashboard.
#[tokio::test]
async fn a_refund_by_hand_needs_no_key_no_amount_and_no_order() {
    let test = TestProvider::start().await;
    let form: Vec<_> = charge_form("500", "order-1", VISA);
    let form: Vec<_> = form
        .into_iter()
        .filter(|(name, _)| !name.starts_with("metadata"))
        .collect();
    let charged = test.post(INTENTS, "", &form).await;
    let refunded = test.refund("", &[("payment_intent", charged.id())]).await;
    assert_eq!((refunded.status, &refunded.body["metadata"]), (200, &json!({})));
    assert_eq!(test.movements(), [CHARGED, (MovementKind::Refund, 500)]);
    assert!(
        test.provider
            .ledger()
            .iter()
            .all(|movement| movement.order_id.is_none())
    );
}
