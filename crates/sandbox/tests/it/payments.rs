//! The payment provider over HTTP: Stripe's answers, its rules for keys, every fault, and a ledger that tells the truth.

use std::fs;
use std::io::Write;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use reqwest::{Client, Method, Response};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio_util::task::TaskTracker;
use waybill_sandbox::Error;
use waybill_sandbox::payments::{Fault, FaultKind, Movement, MovementKind, Operation, Provider};

use crate::rig::{folder, until};

const ANY_PORT: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 0);

/// A provider and a client of it.
struct Desk {
    provider: Provider,
    client: Client,
    folder: TempDir,
}

/// One answer.
#[derive(Debug, PartialEq)]
struct Answer {
    status: u16,
    replayed: bool,
    body: Value,
}

impl Answer {
    fn error(&self) -> &Value {
        &self.body["error"]
    }
}

async fn open() -> Desk {
    open_in(folder()).await
}

async fn open_in(folder: TempDir) -> Desk {
    // Installed once a process; a second time is refused, and the first stays.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let provider = Provider::start(ANY_PORT, &folder.path().join("ledger.jsonl"))
        .await
        .unwrap();
    Desk {
        provider,
        client: Client::new(),
        folder,
    }
}

fn charge_form<'a>(amount: &'a str, order: &'a str, card: &'a str) -> Vec<(&'a str, &'a str)> {
    vec![
        ("amount", amount),
        ("currency", "usd"),
        ("payment_method", card),
        ("confirm", "true"),
        ("automatic_payment_methods[enabled]", "true"),
        ("automatic_payment_methods[allow_redirects]", "never"),
        ("error_on_requires_action", "true"),
        ("description", "Order"),
        ("metadata[order_id]", order),
    ]
}

impl Desk {
    fn ledger_path(&self) -> PathBuf {
        self.folder.path().join("ledger.jsonl")
    }

    /// The provider is stopped, and another is started on the same file.
    async fn reopen(self) -> Desk {
        self.provider.stop().await;
        open_in(self.folder).await
    }

    async fn send(&self, path: &str, key: &str, form: &[(&str, &str)]) -> reqwest::Result<Response> {
        let request = self
            .client
            .post(format!("{}{path}", self.provider.url()))
            .bearer_auth("sk_test_1")
            .form(form);
        if key.is_empty() {
            request.send().await
        } else {
            request.header("Idempotency-Key", key).send().await
        }
    }

    async fn post(&self, path: &str, key: &str, form: &[(&str, &str)]) -> Answer {
        answer(self.send(path, key, form).await.unwrap()).await
    }

    async fn charge(&self, key: &str, amount: &str) -> Answer {
        self.post(
            "/v1/payment_intents",
            key,
            &charge_form(amount, "order-1", "pm_card_visa"),
        )
        .await
    }

    /// Asks for a charge and hangs up once the one fault that is set has met it.
    async fn charge_and_hang_up(&self, key: &str) {
        let url = format!("{}/v1/payment_intents", self.provider.url());
        let form = charge_form("500", "order-1", "pm_card_visa");
        let request = self
            .client
            .post(url)
            .bearer_auth("sk_test_1")
            .header("Idempotency-Key", key)
            .form(&form);
        let asking = TaskTracker::new().spawn(request.send());
        until("the fault has met the request", async || {
            self.provider.faults().is_empty()
        })
        .await;
        assert!(!asking.is_finished(), "no answer");
        asking.abort();
    }

    async fn refund(&self, key: &str, form: &[(&str, &str)]) -> Answer {
        self.post("/v1/refunds", key, form).await
    }

    async fn get(&self, path: &str) -> Answer {
        let url = format!("{}{path}", self.provider.url());
        answer(self.client.get(url).bearer_auth("sk_test_1").send().await.unwrap()).await
    }

    async fn sandbox(&self, method: Method, path: &str, body: &str) -> (u16, Value) {
        let url = format!("{}/_sandbox/{path}", self.provider.url());
        let response = self
            .client
            .request(method, url)
            .body(body.to_owned())
            .send()
            .await
            .unwrap();
        let status = response.status().as_u16();
        (
            status,
            serde_json::from_str(&response.text().await.unwrap()).unwrap_or_default(),
        )
    }

    fn moved(&self) -> Vec<(MovementKind, i64)> {
        self.provider
            .ledger()
            .iter()
            .map(|movement| (movement.kind, movement.amount_minor))
            .collect()
    }
}

async fn answer(response: Response) -> Answer {
    let status = response.status().as_u16();
    let replayed = response
        .headers()
        .get("idempotent-replayed")
        .is_some_and(|value| value == "true");
    Answer {
        status,
        replayed,
        body: response.json().await.unwrap_or_default(),
    }
}

const CHARGED: (MovementKind, i64) = (MovementKind::Charge, 500);

#[tokio::test]
async fn a_charge_moves_money_once_and_can_be_read_back() {
    let desk = open().await;

    let charged = desk.charge("k1", "500").await;

    assert_eq!(charged.status, 200);
    let intent = &charged.body;
    assert_eq!(intent["object"], "payment_intent");
    assert_eq!(intent["status"], "succeeded");
    assert_eq!(
        (&intent["amount"], &intent["amount_received"]),
        (&json!(500), &json!(500))
    );
    assert_eq!(intent["currency"], "usd");
    assert_eq!(intent["metadata"], json!({ "order_id": "order-1" }));
    let id = intent["id"].as_str().unwrap();
    assert!(id.starts_with("pi_"));
    assert_eq!(desk.get(&format!("/v1/payment_intents/{id}")).await.body, charged.body);
    let movement = Movement {
        kind: MovementKind::Charge,
        order_id: Some("order-1".to_owned()),
        provider_id: id.to_owned(),
        amount_minor: 500,
        currency: "usd".to_owned(),
        created: intent["created"].as_i64().unwrap(),
    };
    assert_eq!(desk.provider.ledger(), std::slice::from_ref(&movement));
    let (status, ledger) = desk.sandbox(Method::GET, "ledger", "").await;
    assert_eq!(
        (status, serde_json::from_value::<Vec<Movement>>(ledger).unwrap()),
        (200, vec![movement])
    );
    assert_eq!(desk.provider.requests(), 2, "the sandbox's own pages are not counted");
}

#[tokio::test]
async fn a_declined_card_moves_no_money_and_the_decline_is_saved() {
    let desk = open().await;
    for (card, decline_code) in [
        ("pm_card_chargeDeclined", "generic_decline"),
        ("pm_card_chargeDeclinedInsufficientFunds", "insufficient_funds"),
    ] {
        let form = charge_form("500", "order-1", card);
        let declined = desk.post("/v1/payment_intents", card, &form).await;
        assert_eq!(declined.status, 402);
        let error = declined.error();
        assert_eq!(error["type"], "card_error");
        assert_eq!(error["code"], "card_declined");
        assert_eq!(error["decline_code"], decline_code);
        assert_eq!(error["payment_intent"]["status"], "requires_payment_method");
        assert_eq!(error["payment_intent"]["amount_received"], 0);

        let again = desk.post("/v1/payment_intents", card, &form).await;
        assert_eq!(
            again,
            Answer {
                replayed: true,
                ..declined
            }
        );
    }
    assert!(desk.provider.ledger().is_empty());
}

#[tokio::test]
async fn a_request_that_makes_no_sense_names_its_parameter_and_saves_nothing() {
    let desk = open().await;
    let good = charge_form("500", "order-1", "pm_card_visa");
    let with = |name: &'static str, value: &'static str| {
        let others = good.iter().copied().filter(|(other, _)| *other != name);
        others.chain([(name, value)]).collect::<Vec<_>>()
    };
    for (name, value, code) in [
        ("amount", "", "parameter_missing"),
        ("amount", "5.00", "parameter_invalid_integer"),
        ("amount", "0", "parameter_invalid_integer"),
        ("amount", "-5", "parameter_invalid_integer"),
        ("amount", "100000000", "amount_too_large"),
        ("currency", "USD", "parameter_invalid"),
        ("currency", "", "parameter_missing"),
        ("payment_method", "pm_card_unheard_of", "resource_missing"),
        ("confirm", "false", "parameter_missing"),
        ("amuont", "500", "parameter_unknown"),
    ] {
        let refused = desk.post("/v1/payment_intents", "k1", &with(name, value)).await;
        assert_eq!(refused.status, 400, "{name}={value}");
        assert_eq!(refused.error()["type"], "invalid_request_error");
        assert_eq!(
            (&refused.error()["param"], &refused.error()["code"]),
            (&json!(name), &json!(code))
        );
    }
    let accepted = desk.post("/v1/payment_intents", "k1", &good).await;
    assert_eq!(
        (accepted.status, accepted.replayed),
        (200, false),
        "the key is still free"
    );
    assert_eq!(desk.moved(), [CHARGED]);
}

#[tokio::test]
async fn only_test_keys_are_let_in_and_no_key_is_repeated() {
    let desk = open().await;
    let url = format!("{}/v1/payment_intents", desk.provider.url());
    for request in [
        desk.client.get(&url),
        desk.client.get(&url).bearer_auth("sk_live_secret"),
        desk.client.get(&url).basic_auth("rk_test_secret", Some("")),
    ] {
        let refused = answer(request.send().await.unwrap()).await;
        assert_eq!(refused.status, 401);
        assert_eq!(refused.error()["type"], "invalid_request_error");
        assert!(!refused.body.to_string().contains("secret"));
    }
    let basic = desk
        .client
        .get(&url)
        .basic_auth("sk_test_1", Some(""))
        .send()
        .await
        .unwrap();
    assert_eq!(basic.status(), 200);
    assert_eq!(desk.provider.requests(), 4);
}

#[tokio::test]
async fn a_key_replays_its_first_answer_and_refuses_another_request() {
    let desk = open().await;
    let first = desk.charge("k1", "500").await;

    let same = desk.charge("k1", "500").await;
    let other = desk.charge("k1", "600").await;
    let elsewhere = desk
        .refund("k1", &[("payment_intent", first.body["id"].as_str().unwrap())])
        .await;
    let stranger = desk
        .client
        .post(format!("{}/v1/payment_intents", desk.provider.url()))
        .bearer_auth("sk_test_2")
        .header("Idempotency-Key", "k1")
        .form(&charge_form("500", "order-2", "pm_card_mastercard"));
    let stranger = answer(stranger.send().await.unwrap()).await;

    assert_eq!(
        same,
        Answer {
            replayed: true,
            ..first
        }
    );
    for reused in [other, elsewhere] {
        assert_eq!(reused.status, 400);
        assert_eq!(reused.error()["type"], "idempotency_error");
    }
    assert_eq!(
        (stranger.status, stranger.replayed),
        (200, false),
        "keys are per account"
    );
    assert_eq!(desk.moved(), [CHARGED, CHARGED]);
}

#[tokio::test]
async fn without_a_key_each_request_is_another_one() {
    let desk = open().await;
    assert_ne!(
        desk.charge("", "500").await.body["id"],
        desk.charge("", "500").await.body["id"]
    );
    assert_eq!(desk.moved(), [CHARGED, CHARGED]);
}

#[tokio::test]
async fn a_refund_never_exceeds_its_charge() {
    let desk = open().await;
    let intent = desk.charge("c", "500").await.body["id"].as_str().unwrap().to_owned();
    let of_it = ("payment_intent", intent.as_str());

    let part = desk
        .refund("r1", &[of_it, ("amount", "200"), ("metadata[order_id]", "order-1")])
        .await;
    let too_much = desk.refund("r2", &[of_it, ("amount", "301")]).await;
    let rest = desk.refund("r3", &[of_it]).await;
    let again = desk.refund("r4", &[of_it]).await;
    let replayed = desk.refund("r3", &[of_it]).await;

    assert_eq!(
        (part.status, &part.body["amount"], &part.body["status"]),
        (200, &json!(200), &json!("succeeded"))
    );
    assert_eq!((too_much.status, &too_much.error()["param"]), (400, &json!("amount")));
    assert_eq!((rest.status, &rest.body["amount"]), (200, &json!(300)));
    assert_eq!(
        (again.status, &again.error()["code"]),
        (400, &json!("charge_already_refunded"))
    );
    let id = rest.body["id"].as_str().unwrap().to_owned();
    assert_eq!(replayed, Answer { replayed: true, ..rest });
    assert_eq!(desk.get(&format!("/v1/refunds/{id}")).await.body, replayed.body);
    assert_eq!(
        desk.moved(),
        [CHARGED, (MovementKind::Refund, 200), (MovementKind::Refund, 300)]
    );
    let orders: Vec<_> = desk
        .provider
        .ledger()
        .into_iter()
        .map(|movement| movement.order_id)
        .collect();
    assert_eq!(
        orders,
        vec![Some("order-1".to_owned()); 3],
        "a refund without an order id has that of its charge"
    );
}

#[tokio::test]
async fn what_was_not_charged_is_not_refunded() {
    let desk = open().await;
    let declined = desk
        .post(
            "/v1/payment_intents",
            "",
            &charge_form("500", "o", "pm_card_chargeDeclined"),
        )
        .await;
    let declined = declined.error()["payment_intent"]["id"].as_str().unwrap().to_owned();

    assert_eq!(desk.refund("r1", &[("payment_intent", &declined)]).await.status, 400);
    let unknown = desk.refund("r2", &[("payment_intent", "pi_unheard_of")]).await;
    assert_eq!(
        (unknown.status, &unknown.error()["code"]),
        (404, &json!("resource_missing"))
    );
    assert_eq!(desk.get("/v1/refunds/re_unheard_of").await.status, 404);
    assert_eq!(desk.get("/v1/payment_intents/pi_unheard_of").await.status, 404);
    assert_eq!(desk.get("/v1/customers").await.status, 404);
    assert!(desk.provider.ledger().is_empty());
}

#[tokio::test]
async fn lists_are_read_page_by_page_newest_first() {
    let desk = open().await;
    for amount in ["1", "2", "3", "4", "5"] {
        let intent = desk.charge("", amount).await.body["id"].as_str().unwrap().to_owned();
        desk.refund("", &[("payment_intent", &intent)]).await;
    }
    for list in ["payment_intents", "refunds"] {
        let mut amounts = Vec::new();
        let mut path = format!("/v1/{list}?limit=2");
        loop {
            let page = desk.get(&path).await.body;
            let data = page["data"].as_array().unwrap();
            amounts.extend(data.iter().map(|object| object["amount"].as_i64().unwrap()));
            if page["has_more"] == false {
                break;
            }
            path = format!(
                "/v1/{list}?limit=2&starting_after={}",
                data.last().unwrap()["id"].as_str().unwrap()
            );
        }
        assert_eq!(amounts, [5, 4, 3, 2, 1], "{list}");
        for bad in [
            "limit=0",
            "limit=101",
            "limit=x",
            "starting_after=pi_unheard_of",
            "colour=red",
        ] {
            assert_eq!(desk.get(&format!("/v1/{list}?{bad}")).await.status, 400, "{bad}");
        }
    }
}

#[tokio::test]
async fn of_concurrent_requests_with_one_key_exactly_one_moves_money() {
    let desk = open().await;
    let tasks = TaskTracker::new();
    let calls: Vec<_> = (0..50)
        .map(|_| {
            let (client, url) = (
                desk.client.clone(),
                format!("{}/v1/payment_intents", desk.provider.url()),
            );
            tasks.spawn(async move {
                let form = charge_form("500", "order-1", "pm_card_visa");
                let request = client
                    .post(url)
                    .bearer_auth("sk_test_1")
                    .header("Idempotency-Key", "k")
                    .form(&form);
                answer(request.send().await.unwrap()).await
            })
        })
        .collect();
    let mut ids = Vec::new();
    for call in calls {
        let answer = call.await.unwrap();
        assert_eq!(answer.status, 200);
        ids.push(answer.body["id"].clone());
    }
    ids.dedup();
    assert_eq!(ids.len(), 1);
    assert_eq!(desk.moved(), [CHARGED]);
}

#[tokio::test]
async fn faults_before_the_effect_leave_nothing_behind() {
    let desk = open().await;
    for (kind, status) in [
        (FaultKind::RateLimited, 429),
        (FaultKind::InProgress, 409),
        (FaultKind::ErrorBeforeEffect, 500),
    ] {
        let key = format!("{kind:?}");
        let before = desk.moved().len();
        desk.provider.set_fault(Fault::times(kind, 1));
        assert_eq!(desk.charge(&key, "500").await.status, status);
        assert_eq!(desk.moved().len(), before);
        assert!(desk.provider.faults().is_empty(), "it was for once");

        let then = desk.charge(&key, "500").await;
        assert_eq!((then.status, then.replayed), (200, false));
    }
}

#[tokio::test]
async fn faults_after_the_effect_hide_the_truth_and_the_same_key_gets_it() {
    let desk = open().await;
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
        desk.provider.set_fault(Fault::times(kind, 1));
        let form = charge_form("500", "order-1", "pm_card_visa");
        let response = desk.send("/v1/payment_intents", &key, &form).await;
        match kind {
            FaultKind::ReplyLost => assert!(response.is_err()),
            FaultKind::ErrorAfterEffect => assert_eq!(response.unwrap().status(), 500),
            FaultKind::Garbage => {
                let response = response.unwrap();
                assert_eq!(response.status(), 200);
                assert!(response.text().await.unwrap().starts_with("<!DOCTYPE html>"));
            }
            FaultKind::WrongCurrency => {
                let body = answer(response.unwrap()).await.body;
                assert_eq!(
                    (&body["status"], &body["currency"]),
                    (&json!("succeeded"), &json!("eur"))
                );
            }
            FaultKind::EmptyBody => assert_eq!(response.unwrap().text().await.unwrap(), ""),
            FaultKind::SlowBody => assert_eq!(response.unwrap().chunk().await.unwrap().unwrap().len(), 1),
            _ => {
                let body = answer(response.unwrap()).await.body;
                assert_eq!((&body["status"], &body["amount"]), (&json!("succeeded"), &json!(501)));
            }
        }
        assert_eq!(desk.moved().len(), at + 1, "{kind:?}");

        let then = desk.charge(&key, "500").await;
        assert_eq!(
            (then.status, then.replayed, &then.body["amount"]),
            (200, true, &json!(500))
        );
        assert_eq!(desk.moved(), vec![CHARGED; at + 1]);
    }
}

#[tokio::test]
async fn a_saved_error_is_replayed_though_the_money_moved() {
    let desk = open().await;
    desk.provider
        .set_fault(Fault::times(FaultKind::ErrorAfterEffectSaved, 1));
    assert_eq!(desk.charge("k", "500").await.status, 500);
    let again = desk.charge("k", "500").await;
    assert_eq!((again.status, again.replayed), (500, true));
    assert_eq!(desk.moved(), [CHARGED]);
    let intents = desk.get("/v1/payment_intents").await.body;
    assert_eq!(
        intents["data"][0]["metadata"]["order_id"], "order-1",
        "only a read tells the truth"
    );
}

#[tokio::test]
async fn a_declining_fault_declines_a_good_card_but_no_refund() {
    let desk = open().await;
    let intent = desk.charge("c", "500").await.body["id"].as_str().unwrap().to_owned();
    desk.provider.set_fault(Fault::always(FaultKind::Decline));
    assert_eq!(desk.charge("d", "500").await.status, 402);
    assert_eq!(desk.refund("r", &[("payment_intent", &intent)]).await.status, 200);
    desk.provider.clear_faults();
    let declined = desk.charge("d", "500").await;
    assert_eq!(
        (declined.status, declined.replayed),
        (402, true),
        "a decline is an answer"
    );
}

#[tokio::test]
async fn a_hanging_provider_does_nothing_and_answers_the_next_try() {
    let desk = open().await;
    desk.provider
        .set_fault(Fault::times(FaultKind::Hang, 1).on(Operation::Charge));
    desk.charge_and_hang_up("k").await;
    assert!(desk.moved().is_empty());
    assert_eq!(desk.charge("k", "500").await.status, 200);
}

#[tokio::test]
async fn a_late_success_comes_though_the_client_has_hung_up() {
    let desk = open().await;
    desk.provider
        .set_fault(Fault::times(FaultKind::LateSuccess, 1).delayed(Duration::from_secs(2)));
    desk.charge_and_hang_up("k").await;

    let meanwhile = desk.charge("k", "500").await;
    assert_eq!(
        (meanwhile.status, &meanwhile.error()["code"]),
        (409, &json!("idempotency_key_in_use"))
    );
    assert_eq!(desk.charge("k", "600").await.error()["type"], "idempotency_error");
    assert!(desk.moved().is_empty());

    until("the money has moved", async || desk.moved() == [CHARGED]).await;
    let then = desk.charge("k", "500").await;
    assert_eq!((then.status, then.replayed), (200, true));
    assert_eq!(desk.moved(), [CHARGED]);
}

#[tokio::test]
async fn a_late_refund_that_is_refused_frees_its_key() {
    let desk = open().await;
    desk.provider
        .set_fault(Fault::times(FaultKind::LateSuccess, 1).delayed(Duration::from_millis(1)));
    assert_eq!(
        desk.refund("k", &[("payment_intent", "pi_unheard_of")]).await.status,
        404
    );
    assert_eq!(
        desk.refund("k", &[("payment_intent", "pi_unheard_of")]).await.status,
        404,
        "not 409"
    );
}

#[tokio::test]
async fn latency_only_delays() {
    let desk = open().await;
    let delay = Duration::from_millis(50);
    desk.provider
        .set_fault(Fault::always(FaultKind::Latency).delayed(delay));
    let before = std::time::Instant::now();
    assert_eq!(desk.charge("k", "500").await.status, 200);
    assert!(
        before.elapsed() >= delay,
        "a lower bound, which no slow machine can break"
    );
}

#[tokio::test]
async fn faults_are_set_read_and_cleared_over_http() {
    let desk = open().await;
    let rules = json!([
        { "kind": "reply_lost", "operation": "refund", "times": 2 },
        { "kind": "latency", "delay_ms": 1, "probability": 0.5 },
    ]);
    let (status, set) = desk.sandbox(Method::PUT, "faults", &rules.to_string()).await;
    assert_eq!(status, 200);
    assert_eq!(set, desk.sandbox(Method::GET, "faults", "").await.1);
    assert_eq!(
        set[0],
        json!(Fault::times(FaultKind::ReplyLost, 2).on(Operation::Refund))
    );

    let (status, refused) = desk
        .sandbox(Method::PUT, "faults", r#"[{"kind": "decline", "times": "once"}]"#)
        .await;
    assert_eq!((status, &refused["error"]["param"]), (400, &json!("[0].times")));
    let (status, refused) = desk.sandbox(Method::PUT, "faults", "{").await;
    assert_eq!((status, &refused["error"]["param"]), (400, &json!("body")));
    assert_eq!(desk.provider.faults().len(), 2, "a bad request changes nothing");

    assert_eq!(desk.sandbox(Method::DELETE, "faults", "").await.0, 204);
    assert!(desk.provider.faults().is_empty());
}

#[tokio::test]
async fn a_provider_that_died_comes_back_with_all_it_knew() {
    let desk = open().await;
    let charged = desk.charge("c", "500").await;
    let intent = charged.body["id"].as_str().unwrap().to_owned();
    let refunded = desk
        .refund("r", &[("payment_intent", &intent), ("amount", "100")])
        .await;
    let declined_form = charge_form("500", "order-2", "pm_card_chargeDeclined");
    let declined = desk.post("/v1/payment_intents", "d", &declined_form).await;
    let ledger = desk.provider.ledger();

    let desk = desk.reopen().await;

    assert_eq!(desk.provider.ledger(), ledger);
    assert_eq!(
        desk.charge("c", "500").await,
        Answer {
            replayed: true,
            ..charged
        }
    );
    assert_eq!(
        desk.post("/v1/payment_intents", "d", &declined_form).await,
        Answer {
            replayed: true,
            ..declined
        }
    );
    let form = [("payment_intent", intent.as_str()), ("amount", "100")];
    assert_eq!(
        desk.refund("r", &form).await,
        Answer {
            replayed: true,
            ..refunded
        }
    );
    assert_eq!(
        desk.refund("r2", &[form[0], ("amount", "401")]).await.status,
        400,
        "what is left is known too"
    );
    assert_eq!(desk.provider.ledger(), ledger);
}

#[tokio::test]
async fn a_line_that_was_torn_by_a_death_never_happened() {
    let desk = open().await;
    desk.charge("c1", "500").await;
    let path = desk.ledger_path();
    desk.provider.stop().await;
    let whole = fs::read(&path).unwrap();
    fs::File::options()
        .append(true)
        .open(&path)
        .unwrap()
        .write_all(&whole[..whole.len() / 2])
        .unwrap();

    let desk = open_in(desk.folder).await;
    assert_eq!(desk.moved(), [CHARGED]);
    desk.charge("c2", "500").await;

    let desk = desk.reopen().await;
    assert_eq!(
        desk.moved(),
        [CHARGED, CHARGED],
        "the next line is not glued to the torn one"
    );
}

#[tokio::test]
async fn a_damaged_ledger_is_refused_by_the_number_of_its_line() {
    let desk = open().await;
    desk.charge("c1", "500").await;
    let path = desk.ledger_path();
    desk.provider.stop().await;
    fs::File::options()
        .append(true)
        .open(&path)
        .unwrap()
        .write_all(b"nonsense\n")
        .unwrap();

    let error = Provider::start(ANY_PORT, &path).await.unwrap_err();

    assert!(matches!(error, Error::LedgerDamaged { line: 2, .. }), "{error}");
}

#[tokio::test]
async fn two_providers_do_not_share_a_ledger_or_a_port() {
    let desk = open().await;
    let error = Provider::start(ANY_PORT, &desk.ledger_path()).await.unwrap_err();
    assert!(matches!(error, Error::InUse { .. }), "{error}");
    let other: &Path = &desk.folder.path().join("other.jsonl");
    let error = Provider::start(desk.provider.addr(), other).await.unwrap_err();
    assert!(matches!(error, Error::PortInUse { .. }), "{error}");
}

#[tokio::test]
async fn stopping_cuts_what_hangs_and_frees_the_port() {
    let desk = open().await;
    desk.provider.set_fault(Fault::always(FaultKind::Hang));
    let (client, url) = (
        desk.client.clone(),
        format!("{}/v1/payment_intents", desk.provider.url()),
    );
    let hanging = TaskTracker::new().spawn(async move {
        client
            .post(url)
            .bearer_auth("sk_test_1")
            .form(&charge_form("500", "o", "pm_card_visa"))
            .send()
            .await
    });
    until("the request hangs", async || desk.provider.requests() == 1).await;
    let (addr, path) = (desk.provider.addr(), desk.ledger_path());

    desk.provider.stop().await;

    assert!(hanging.await.unwrap().is_err());
    let provider = Provider::start(addr, &path).await.unwrap();
    assert_eq!(provider.addr(), addr);
    assert!(provider.ledger().is_empty());
}
