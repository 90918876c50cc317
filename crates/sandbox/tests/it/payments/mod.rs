//! The payment provider over HTTP, and the client of it that its tests share.

mod charges;
mod disputes;
mod faults;
mod hold_faults;
mod holds;
mod keys;
mod ledger_file;
mod lists;
mod refund_failures;
mod refunds;
mod webhooks;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use reqwest::{Client, Method, RequestBuilder, Response};
use serde_json::Value;
use tempfile::TempDir;
use tokio_util::task::TaskTracker;
use waybill_sandbox::payments::{MovementKind, Provider};

use crate::rig::{folder, until};

const ANY_PORT: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);
const INTENTS: &str = "/v1/payment_intents";
const VISA: &str = "pm_card_visa";
const CHARGED: (MovementKind, i64) = (MovementKind::Charge, 500);

/// A provider and a client of it.
struct TestProvider {
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
    async fn of(response: Response) -> Answer {
        let header = response.headers().get("idempotent-replayed");
        Answer {
            status: response.status().as_u16(),
            replayed: header.is_some_and(|value| value == "true"),
            body: response.json().await.unwrap_or_default(),
        }
    }

    fn error(&self) -> &Value {
        &self.body["error"]
    }

    /// The status, and the code and the parameter of the error.
    fn refusal(&self) -> (u16, Option<&str>, Option<&str>) {
        let text = |field: &str| self.error()[field].as_str();
        (self.status, text("code"), text("param"))
    }

    fn id(&self) -> &str {
        let id = self.body["id"].as_str();
        assert!(id.is_some(), "no id: {self:?}");
        id.unwrap()
    }

    /// The same answer, as a replay.
    fn replay(self) -> Answer {
        Answer { replayed: true, ..self }
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

/// The fields of this object that are named in `expected` have these values.
fn check(object: &Value, expected: &Value) {
    for (field, value) in expected.as_object().unwrap() {
        assert_eq!(&object[field], value, "{field} of {object}");
    }
}

impl TestProvider {
    async fn start() -> TestProvider {
        TestProvider::start_in(folder()).await
    }

    async fn start_in(folder: TempDir) -> TestProvider {
        // Installed once a process; a second time is refused, and the first stays.
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let ledger = folder.path().join("ledger.jsonl");
        TestProvider {
            provider: Provider::start(ANY_PORT, &ledger).await.unwrap(),
            client: Client::new(),
            folder,
        }
    }

    /// Stops the provider and starts another on the same file.
    async fn restart(self) -> TestProvider {
        self.provider.stop().await;
        TestProvider::start_in(self.folder).await
    }

    fn ledger_path(&self) -> PathBuf {
        self.folder.path().join("ledger.jsonl")
    }

    fn url(&self, path: &str) -> String {
        format!("{}{path}", self.provider.url())
    }

    /// A request that moves money, not yet sent.
    fn request(&self, path: &str, key: &str, form: &[(&str, &str)]) -> RequestBuilder {
        let request = self.client.post(self.url(path)).bearer_auth("sk_test_1").form(form);
        if key.is_empty() {
            request
        } else {
            request.header("Idempotency-Key", key)
        }
    }

    async fn post(&self, path: &str, key: &str, form: &[(&str, &str)]) -> Answer {
        Answer::of(self.request(path, key, form).send().await.unwrap()).await
    }

    async fn charge(&self, key: &str, amount: &str) -> Answer {
        self.post(INTENTS, key, &charge_form(amount, "order-1", VISA)).await
    }

    async fn charge_card(&self, key: &str, card: &str) -> Answer {
        self.post(INTENTS, key, &charge_form("500", "order-1", card)).await
    }

    /// Asks for a charge and hangs up once the one fault that is set has hit it.
    async fn charge_and_hang_up(&self, key: &str) {
        let request = self.request(INTENTS, key, &charge_form("500", "order-1", VISA));
        let call = TaskTracker::new().spawn(request.send());
        until("the fault has hit", async || self.provider.faults().is_empty()).await;
        assert!(!call.is_finished(), "no answer");
        call.abort();
    }

    async fn refund(&self, key: &str, form: &[(&str, &str)]) -> Answer {
        self.post("/v1/refunds", key, form).await
    }

    /// Holds this amount on a good card, to be captured later.
    async fn hold(&self, key: &str, amount: &str) -> Answer {
        let mut form = charge_form(amount, "order-1", VISA);
        form.push(("capture_method", "manual"));
        self.post(INTENTS, key, &form).await
    }

    async fn capture(&self, intent: &str, key: &str, form: &[(&str, &str)]) -> Answer {
        self.post(&format!("{INTENTS}/{intent}/capture"), key, form).await
    }

    async fn cancel(&self, intent: &str, key: &str, form: &[(&str, &str)]) -> Answer {
        self.post(&format!("{INTENTS}/{intent}/cancel"), key, form).await
    }

    /// The charge of a payment.
    async fn charge_of(&self, intent: &str) -> Value {
        let charges = self.get(&format!("/v1/charges?payment_intent={intent}")).await.body;
        charges["data"][0].clone()
    }

    async fn get(&self, path: &str) -> Answer {
        let request = self.client.get(self.url(path)).bearer_auth("sk_test_1");
        Answer::of(request.send().await.unwrap()).await
    }

    /// A request to the sandbox's own pages.
    async fn sandbox(&self, method: Method, page: &str, body: &str) -> Answer {
        let request = self.client.request(method, self.url(&format!("/_sandbox/{page}")));
        Answer::of(request.body(body.to_owned()).send().await.unwrap()).await
    }

    /// What a card network or a bank does.
    async fn network(&self, page: &str, body: &Value) -> Answer {
        self.sandbox(Method::POST, page, &body.to_string()).await
    }

    /// The ledger's movements as the page shows them: kind and amount.
    async fn ledger_page(&self) -> Vec<(String, i64)> {
        let page = self.sandbox(Method::GET, "ledger", "").await.body;
        let movements = page.as_array().unwrap().iter();
        let kind = |movement: &Value| movement["kind"].as_str().unwrap().to_owned();
        movements
            .map(|movement| (kind(movement), movement["amount_minor"].as_i64().unwrap()))
            .collect()
    }

    fn movements(&self) -> Vec<(MovementKind, i64)> {
        let ledger = self.provider.ledger();
        ledger
            .iter()
            .map(|movement| (movement.kind, movement.amount_minor))
            .collect()
    }
}
