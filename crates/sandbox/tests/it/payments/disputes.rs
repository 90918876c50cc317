//! Disputes: a bank takes back what was charged, and perhaps returns it
//! (<https://docs.stripe.com/disputes/how-disputes-work>).

use serde_json::{Value, json};

use super::webhooks::start as start_with_endpoint;
use super::{Answer, TestProvider, check};

impl TestProvider {
    /// A bank disputes this payment, all of it if no amount is given.
    async fn dispute(&self, intent: &str, amount: Option<i64>) -> Answer {
        let form = json!({ "payment_intent": intent, "amount": amount, "reason": "fraudulent" });
        self.network("disputes", &form).await
    }

    async fn close(&self, dispute: &str, won: bool) -> Answer {
        self.network(&format!("disputes/{dispute}/close"), &json!({ "won": won }))
            .await
    }

    /// The ids of the disputes in this list, in its order.
    async fn disputes(&self, query: &str) -> Vec<String> {
        let list = self.get(&format!("/v1/disputes?{query}")).await;
        assert_eq!(list.status, 200, "{query}: {list:?}");
        let ids = list.body["data"].as_array().unwrap().iter();
        ids.map(|dispute| dispute["id"].as_str().unwrap().to_owned()).collect()
    }
}

fn movements(expected: &[(&str, i64)]) -> Vec<(String, i64)> {
    expected
        .iter()
        .map(|(kind, amount)| ((*kind).to_owned(), *amount))
        .collect()
}

#[tokio::test]
async fn a_dispute_withdraws_the_money_and_names_no_order() {
    let (test, endpoint) = start_with_endpoint().await;
    let charged = test.charge("", "500").await;
    let charge = test.charge_of(charged.id()).await["id"].clone();
    endpoint.until_received(1).await;

    let dispute = test.dispute(charged.id(), None).await;

    assert_eq!(dispute.status, 200, "{dispute:?}");
    assert!(dispute.id().starts_with("du_"));
    let expected = json!({
        "object": "dispute", "amount": 500, "currency": "usd", "charge": charge, "payment_intent": charged.id(),
        "reason": "fraudulent", "status": "needs_response", "is_charge_refundable": false, "metadata": {},
    });
    check(&dispute.body, &expected);
    assert_eq!(
        test.get(&format!("/v1/disputes/{}", dispute.id())).await.body,
        dispute.body
    );
    assert_eq!(test.charge_of(charged.id()).await["disputed"], true);
    let received = endpoint.until_received(3).await;
    let mut kinds = endpoint.kinds()[1..].to_vec();
    kinds.sort();
    assert_eq!(kinds, ["charge.dispute.created", "charge.dispute.funds_withdrawn"]);
    for event in &received[1..] {
        check(&event.json()["data"]["object"], &expected);
    }
    assert_eq!(
        test.ledger_page().await,
        movements(&[("charge", 500), ("dispute_withdrawal", 500)])
    );
    let movement = &test.provider.ledger()[1];
    assert_eq!(
        movement.order_id.as_deref(),
        Some("order-1"),
        "the ledger knows it from the charge"
    );
    assert_eq!(movement.provider_id, dispute.id());
}

#[tokio::test]
async fn a_dispute_that_is_won_returns_the_money_and_one_that_is_lost_does_not() {
    let (test, endpoint) = start_with_endpoint().await;
    for (won, status, events, ledger) in [
        (
            true,
            "won",
            vec!["charge.dispute.closed", "charge.dispute.funds_reinstated"],
            vec![
                ("charge", 500),
                ("dispute_withdrawal", 300),
                ("dispute_reinstatement", 300),
            ],
        ),
        (
            false,
            "lost",
            vec!["charge.dispute.closed"],
            vec![("charge", 500), ("dispute_withdrawal", 300)],
        ),
    ] {
        let (seen, before) = (endpoint.kinds().len(), test.ledger_page().await.len());
        let charged = test.charge("", "500").await;
        let dispute = test.dispute(charged.id(), Some(300)).await;
        assert_eq!(dispute.body["amount"], 300);
        endpoint.until_received(seen + 3).await;

        let closed = test.close(dispute.id(), won).await;

        check(
            &closed.body,
            &json!({ "id": dispute.id(), "status": status, "is_charge_refundable": won }),
        );
        assert_eq!(
            test.get(&format!("/v1/disputes/{}", dispute.id())).await.body,
            closed.body
        );
        assert_eq!(test.charge_of(charged.id()).await["disputed"], true, "for ever");
        endpoint.until_received(seen + 3 + events.len()).await;
        let mut kinds = endpoint.kinds()[seen + 3..].to_vec();
        kinds.sort();
        assert_eq!(kinds, events);
        assert_eq!(test.ledger_page().await[before..], movements(&ledger));
        assert_eq!(test.close(dispute.id(), won).await.status, 400, "it is closed");
        let refund = test.refund("", &[("payment_intent", charged.id())]).await;
        let refusal = (400, Some("charge_disputed"), None);
        assert_eq!(refund.refusal(), if won { (200, None, None) } else { refusal });
        endpoint
            .until_received(seen + 3 + events.len() + usize::from(won))
            .await;
    }
}

/// <https://docs.stripe.com/error-codes#charge-disputed>
#[tokio::test]
async fn a_disputed_charge_is_not_refunded() {
    let test = TestProvider::start().await;
    let charged = test.charge("", "500").await;
    test.dispute(charged.id(), Some(100)).await;
    let refused = test
        .refund("r", &[("payment_intent", charged.id()), ("amount", "100")])
        .await;
    assert_eq!(refused.refusal(), (400, Some("charge_disputed"), None));
    assert_eq!(refused.error()["type"], "invalid_request_error");
}

#[tokio::test]
async fn disputes_are_listed_by_payment_by_charge_and_from_a_time_on() {
    let test = TestProvider::start().await;
    let (mut payments, mut ids) = (Vec::new(), Vec::new());
    for _ in 0..3 {
        let charged = test.charge("", "500").await.id().to_owned();
        ids.push(test.dispute(&charged, None).await.id().to_owned());
        payments.push(charged);
    }
    let newest_first: Vec<_> = ids.iter().rev().cloned().collect();
    assert_eq!(test.disputes("").await, newest_first);
    assert_eq!(test.disputes("limit=2").await, newest_first[..2]);
    let page = test.get("/v1/disputes?limit=2").await.body;
    check(
        &page,
        &json!({ "object": "list", "url": "/v1/disputes", "has_more": true }),
    );
    assert_eq!(
        test.disputes(&format!("starting_after={}", newest_first[1])).await,
        newest_first[2..]
    );
    let charge = test.charge_of(&payments[1]).await;
    for query in [
        format!("payment_intent={}", payments[1]),
        format!("charge={}", charge["id"].as_str().unwrap()),
    ] {
        assert_eq!(test.disputes(&query).await, ids[1..2], "{query}");
    }
    let created = test.get(&format!("/v1/disputes/{}", ids[0])).await.body["created"]
        .as_i64()
        .unwrap();
    assert_eq!(test.disputes(&format!("created[gte]={created}")).await, newest_first);
    assert!(
        test.disputes(&format!("created[gte]={}", created + 3600))
            .await
            .is_empty()
    );
    for (query, status) in [("?colour=red", 400), ("?starting_after=du_1", 400), ("/du_1", 404)] {
        assert_eq!(
            test.get(&format!("/v1/disputes{query}")).await.status,
            status,
            "{query}"
        );
    }
}

#[tokio::test]
async fn only_what_was_captured_and_not_given_back_is_disputed_and_only_once() {
    let test = TestProvider::start().await;
    let held = test.hold("", "500").await;
    assert_eq!(test.dispute(held.id(), None).await.status, 400, "it is only held");
    test.capture(held.id(), "", &[("amount_to_capture", "300")]).await;
    let refunded = test.charge("", "500").await;
    test.refund("", &[("payment_intent", refunded.id())]).await;
    for (intent, amount) in [(held.id(), 301), (held.id(), 0), (held.id(), -1), (refunded.id(), 1)] {
        assert_eq!(test.dispute(intent, Some(amount)).await.status, 400, "{amount}");
    }
    assert_eq!(test.dispute("pi_unknown", None).await.status, 404);
    let boredom = json!({ "payment_intent": held.id(), "reason": "boredom" });
    assert_eq!(test.network("disputes", &boredom).await.error()["param"], "reason");
    assert_eq!(test.dispute(held.id(), None).await.body["amount"], 300);
    assert_eq!(test.dispute(held.id(), None).await.status, 400, "it is disputed");
    assert_eq!(test.close("du_unknown", true).await.status, 404);
}

#[tokio::test]
async fn a_provider_that_died_comes_back_with_its_disputes() {
    let test = TestProvider::start().await;
    let mut open = Vec::new();
    for closed in [None, Some(true), Some(false)] {
        let charged = test.charge("", "500").await;
        let dispute = test
            .provider
            .open_dispute(charged.id(), None, "fraudulent")
            .await
            .unwrap();
        match closed {
            None => open.extend([charged.id().to_owned(), dispute]),
            Some(won) => test.provider.close_dispute(&dispute, won).await.unwrap(),
        }
    }
    let (ledger, disputes) = (test.provider.ledger(), test.get("/v1/disputes").await);

    let test = test.restart().await;

    assert_eq!(
        (test.provider.ledger(), test.get("/v1/disputes").await),
        (ledger, disputes)
    );
    assert_eq!(test.charge_of(&open[0]).await["disputed"], true);
    let refused = test.refund("", &[("payment_intent", &open[0])]).await;
    assert_eq!(refused.error()["code"], "charge_disputed");
    assert_eq!(test.close(&open[1], true).await.body["status"], Value::from("won"));
}
