//! Charges: what they answer, what is refused, and how they are read back.

use reqwest::Method;
use serde_json::json;
use waybill_sandbox::payments::{Movement, MovementKind};

use super::{Answer, CHARGED, INTENTS, TestProvider, VISA, charge_form};

#[tokio::test]
async fn a_charge_moves_money_once_and_can_be_read_back() {
    let test = TestProvider::start().await;

    let charged = test.charge("k1", "500").await;

    assert_eq!(charged.status, 200);
    let (intent, id) = (&charged.body, charged.id());
    for (field, value) in [
        ("object", json!("payment_intent")),
        ("status", json!("succeeded")),
        ("amount", json!(500)),
        ("amount_received", json!(500)),
        ("currency", json!("usd")),
        ("metadata", json!({ "order_id": "order-1" })),
    ] {
        assert_eq!(intent[field], value, "{field}");
    }
    assert!(id.starts_with("pi_"));
    assert_eq!(test.get(&format!("{INTENTS}/{id}")).await.body, charged.body);
    let movement = Movement {
        kind: MovementKind::Charge,
        order_id: Some("order-1".to_owned()),
        provider_id: id.to_owned(),
        amount_minor: 500,
        currency: "usd".to_owned(),
        created: intent["created"].as_i64().unwrap(),
    };
    assert_eq!(test.provider.ledger(), std::slice::from_ref(&movement));
    let page = test.sandbox(Method::GET, "ledger", "").await;
    assert_eq!((page.status, page.body), (200, json!([movement])));
    assert_eq!(test.provider.requests(), 2, "the sandbox's own pages are not counted");
}

#[tokio::test]
async fn a_declined_card_moves_no_money_and_the_decline_is_saved() {
    let test = TestProvider::start().await;
    for (card, decline_code) in [
        ("pm_card_chargeDeclined", "generic_decline"),
        ("pm_card_chargeDeclinedInsufficientFunds", "insufficient_funds"),
    ] {
        let declined = test.charge_card(card, card).await;
        assert_eq!(declined.status, 402);
        let error = declined.error();
        assert_eq!(error["type"], "card_error");
        assert_eq!(error["code"], "card_declined");
        assert_eq!(error["decline_code"], decline_code);
        assert_eq!(error["payment_intent"]["status"], "requires_payment_method");
        assert_eq!(error["payment_intent"]["amount_received"], 0);
        assert_eq!(test.charge_card(card, card).await, declined.replay());
    }
    assert!(test.provider.ledger().is_empty());
}

#[tokio::test]
async fn a_request_that_makes_no_sense_names_its_parameter_and_saves_nothing() {
    let test = TestProvider::start().await;
    let good = charge_form("500", "order-1", VISA);
    for (name, value, code) in [
        ("amount", "", "parameter_missing"),
        ("amount", "5.00", "parameter_invalid_integer"),
        ("amount", "0", "parameter_invalid_integer"),
        ("amount", "-5", "parameter_invalid_integer"),
        ("amount", "100000000", "amount_too_large"),
        ("currency", "USD", "parameter_invalid"),
        ("currency", "", "parameter_missing"),
        ("payment_method", "pm_card_unknown", "resource_missing"),
        ("amuont", "500", "parameter_unknown"),
    ] {
        let others = good.iter().copied().filter(|(other, _)| *other != name);
        let form: Vec<_> = others.chain([(name, value)]).collect();
        let refused = test.post(INTENTS, "k1", &form).await;
        assert_eq!(refused.status, 400, "{name}={value}");
        let error = refused.error();
        assert_eq!(error["type"], "invalid_request_error");
        assert_eq!((&error["param"], &error["code"]), (&json!(name), &json!(code)));
    }
    let accepted = test.post(INTENTS, "k1", &good).await;
    assert_eq!(
        (accepted.status, accepted.replayed),
        (200, false),
        "the key is still free"
    );
    assert_eq!(test.movements(), [CHARGED]);
}

/// <https://docs.stripe.com/api/charges/list>: by group and by payment, the newest first.
#[tokio::test]
async fn charges_are_listed_by_their_group_with_what_became_of_them() {
    let test = TestProvider::start().await;
    for (group, card) in [("a", VISA), ("b", VISA), ("a", "pm_card_chargeDeclined")] {
        let mut form = charge_form("500", "order-1", card);
        form.push(("transfer_group", group));
        test.post(INTENTS, "", &form).await;
    }
    let unconfirmed = [("amount", "500"), ("currency", "usd"), ("transfer_group", "a")];
    assert_eq!(test.post(INTENTS, "", &unconfirmed).await.status, 200);
    let of = async |query: &str| test.get(&format!("/v1/charges?{query}")).await.body["data"].clone();
    let group = of("transfer_group=a").await;
    let shown: Vec<_> = group
        .as_array()
        .unwrap()
        .iter()
        .map(|charge| &charge["status"])
        .collect();
    assert_eq!(shown, ["failed", "succeeded"]);
    let paid = &group[1];
    let payment = paid["payment_intent"].as_str().unwrap();
    test.refund("", &[("payment_intent", payment), ("amount", "200")]).await;
    let refunded = &of(&format!("payment_intent={payment}")).await[0];
    assert_eq!(
        (&refunded["id"], &refunded["amount_refunded"]),
        (&paid["id"], &json!(200))
    );
    let older = of(&format!("limit=1&starting_after={}", paid["id"].as_str().unwrap())).await;
    assert_eq!(older, json!([]), "the oldest");
}

/// <https://docs.stripe.com/api/payment_methods>: single use, or attached to a customer and for that customer alone.
#[tokio::test]
async fn a_payment_method_is_for_one_payment_or_for_one_customer() {
    let test = TestProvider::start().await;
    let token = [("type", "card"), ("card[token]", "tok_visa")];
    let single = test.post("/v1/payment_methods", "", &token).await.id().to_owned();
    let saved = test.post("/v1/payment_methods", "", &token).await.id().to_owned();
    let [owner, other] = [
        test.post("/v1/customers", "", &[]).await.id().to_owned(),
        test.post("/v1/customers", "", &[]).await.id().to_owned(),
    ];
    let attach = format!("/v1/payment_methods/{saved}/attach");
    assert_eq!(test.post(&attach, "", &[("customer", &owner)]).await.status, 200);
    assert_eq!(test.post(&attach, "", &[("customer", "cus_1")]).await.status, 400);
    // What is known survives the provider.
    let test = test.restart().await;
    let pay = async |method: &str, customer: &str| {
        let mut form = charge_form("500", "order-1", method);
        if !customer.is_empty() {
            form.extend([("customer", customer), ("off_session", "true")]);
        }
        test.post(INTENTS, "", &form).await.status
    };
    assert_eq!((pay(&single, "").await, pay(&single, "").await), (200, 400));
    assert_eq!((pay(&saved, &owner).await, pay(&saved, &owner).await), (200, 200));
    assert_eq!((pay(&saved, "").await, pay(&saved, &other).await), (400, 400));
    assert_eq!(
        (pay(VISA, "").await, pay(VISA, "").await),
        (200, 200),
        "new at each use"
    );
    let used = format!("/v1/payment_methods/{single}/attach");
    assert_eq!(test.post(&used, "", &[("customer", &owner)]).await.status, 400);
}

/// A payment that is not confirmed takes its key: the charge under the same key is another request.
#[tokio::test]
async fn a_payment_that_is_not_confirmed_moves_nothing_and_has_its_key() {
    let test = TestProvider::start().await;
    let unconfirmed = [("amount", "500"), ("currency", "usd"), ("confirm", "false")];
    let answer = test.post(INTENTS, "k1", &unconfirmed).await;
    assert_eq!(
        (answer.status, &answer.body["status"]),
        (200, &json!("requires_payment_method"))
    );
    assert_eq!(test.post(INTENTS, "k1", &unconfirmed).await, answer.replay());

    let charged = test.charge("k1", "500").await;
    assert_eq!(
        (charged.status, &charged.error()["type"]),
        (400, &json!("idempotency_error"))
    );
    assert!(test.provider.ledger().is_empty());

    test.charge("k2", "500").await;
    let refused = test.post(INTENTS, "k2", &unconfirmed).await;
    assert_eq!(
        (refused.status, &refused.error()["type"]),
        (400, &json!("idempotency_error"))
    );
}

/// <https://docs.stripe.com/currencies>: special cases, three-decimal currencies, minimum and maximum amounts.
#[tokio::test]
async fn amounts_keep_the_rules_of_their_currency() {
    let test = TestProvider::start().await;
    for (currency, amount, refusal) in [
        ("usd", "50", None),
        ("usd", "49", Some(("amount", "amount_too_small"))),
        ("jpy", "49", Some(("amount", "amount_too_small"))),
        ("gbp", "30", None),
        ("ugx", "500", None),
        ("ugx", "550", Some(("amount", "parameter_invalid_integer"))),
        ("isk", "5001", Some(("amount", "parameter_invalid_integer"))),
        ("kwd", "1990", None),
        ("kwd", "1999", Some(("amount", "parameter_invalid_integer"))),
        ("mga", "5", None),
        ("idr", "150000000", None),
        ("idr", "1000000000000", Some(("amount", "amount_too_large"))),
        ("inr", "150000000", Some(("amount", "amount_too_large"))),
        ("cup", "5000", Some(("currency", "parameter_invalid"))),
    ] {
        let good = charge_form(amount, "order-1", VISA);
        let others = good.into_iter().filter(|(name, _)| *name != "currency");
        let form: Vec<_> = others.chain([("currency", currency)]).collect();
        let answer = test.post(INTENTS, "", &form).await;
        let error = answer.error();
        let refused = refusal.map(|(param, code)| (json!(param), json!(code)));
        let expected = (if refused.is_some() { 400 } else { 200 }, refused.unwrap_or_default());
        let found = (answer.status, (error["param"].clone(), error["code"].clone()));
        assert_eq!(found, expected, "{currency} {amount}");
    }
}

#[tokio::test]
async fn only_test_keys_are_accepted_and_no_key_is_repeated() {
    let test = TestProvider::start().await;
    let list = || test.client.get(test.url(INTENTS));
    for request in [
        list(),
        list().bearer_auth("sk_live_secret"),
        list().basic_auth("rk_test_secret", Some("")),
    ] {
        let refused = Answer::of(request.send().await.unwrap()).await;
        assert_eq!(refused.status, 401);
        assert_eq!(refused.error()["type"], "invalid_request_error");
        assert!(!refused.body.to_string().contains("secret"));
    }
    let basic = list().basic_auth("sk_test_1", Some("")).send().await.unwrap();
    assert_eq!(basic.status(), 200);
    assert_eq!(test.provider.requests(), 4);
}

#[tokio::test]
async fn lists_are_read_page_by_page_newest_first() {
    let test = TestProvider::start().await;
    for amount in ["51", "52", "53", "54", "55"] {
        let charged = test.charge("", amount).await;
        test.refund("", &[("payment_intent", charged.id())]).await;
    }
    for list in [INTENTS, "/v1/refunds"] {
        let mut amounts = Vec::new();
        let mut path = format!("{list}?limit=2");
        loop {
            let page = test.get(&path).await.body;
            let data = page["data"].as_array().unwrap();
            amounts.extend(data.iter().map(|object| object["amount"].as_i64().unwrap()));
            if page["has_more"] == false {
                break;
            }
            let last = data.last().unwrap()["id"].as_str().unwrap();
            path = format!("{list}?limit=2&starting_after={last}");
        }
        assert_eq!(amounts, [55, 54, 53, 52, 51], "{list}");
        for bad in [
            "limit=0",
            "limit=101",
            "limit=x",
            "starting_after=pi_unknown",
            "colour=red",
        ] {
            assert_eq!(test.get(&format!("{list}?{bad}")).await.status, 400, "{bad}");
        }
    }
}
