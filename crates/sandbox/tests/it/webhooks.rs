//! The provider's webhooks, as an endpoint hears them: what is told, how it is signed, and each way to be delivered badly.

use std::collections::VecDeque;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio_util::task::TaskTracker;
use waybill_sandbox::payments::{Provider, WebhookBehaviour, WebhookEndpoint, webhook_signature};

use crate::rig::{folder, until};

const SECRET: &str = "whsec_of_the_sandbox";
const ANY_PORT: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

/// A request of a webhook.
#[derive(Clone)]
struct Heard {
    signature: String,
    body: String,
}

impl Heard {
    fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap()
    }

    fn kind(&self) -> String {
        self.json()["type"].as_str().unwrap().to_owned()
    }

    fn is_signed_with(&self, secret: &str) -> bool {
        let signed_at: i64 = self.signature[2..].split(',').next().unwrap().parse().unwrap();
        self.signature == webhook_signature(secret, signed_at, self.body.as_bytes())
    }
}

/// What an endpoint heard, and what it answers next; 200 when nothing is said.
#[derive(Clone, Default)]
struct Ear {
    heard: Arc<Mutex<Vec<Heard>>>,
    answers: Arc<Mutex<VecDeque<u16>>>,
}

impl Ear {
    fn heard(&self) -> Vec<Heard> {
        self.heard.lock().unwrap().clone()
    }

    fn kinds(&self) -> Vec<String> {
        self.heard().iter().map(Heard::kind).collect()
    }

    async fn until_heard(&self, count: usize) -> Vec<Heard> {
        until("the endpoint has heard it", async || self.heard().len() >= count).await;
        self.heard()
    }
}

async fn hear(State(ear): State<Ear>, headers: HeaderMap, body: String) -> StatusCode {
    let signature = headers["stripe-signature"].to_str().unwrap().to_owned();
    ear.heard.lock().unwrap().push(Heard { signature, body });
    let answer = ear.answers.lock().unwrap().pop_front().unwrap_or(200);
    StatusCode::from_u16(answer).unwrap()
}

struct World {
    provider: Provider,
    ear: Ear,
    url: String,
    client: reqwest::Client,
    _folder: TempDir,
}

/// A provider that tells an endpoint.
async fn open() -> World {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let ear = Ear::default();
    let listener = TcpListener::bind(ANY_PORT).await.unwrap();
    let url = format!("http://{}/hooks", listener.local_addr().unwrap());
    let router = Router::new().route("/hooks", post(hear)).with_state(ear.clone());
    TaskTracker::new().spawn(axum::serve(listener, router).into_future());
    let folder = folder();
    let provider = Provider::start(ANY_PORT, &folder.path().join("ledger.jsonl"))
        .await
        .unwrap();
    provider.set_webhooks(Some(WebhookEndpoint::new(&url, SECRET).unwrap()));
    World {
        provider,
        ear,
        url,
        client: reqwest::Client::new(),
        _folder: folder,
    }
}

impl World {
    async fn post(&self, path: &str, key: &str, form: &[(&str, &str)]) -> Value {
        let request = self
            .client
            .post(format!("{}{path}", self.provider.url()))
            .bearer_auth("sk_test_1");
        let answer = request.header("idempotency-key", key).form(form).send().await.unwrap();
        answer.json().await.unwrap()
    }

    async fn charge(&self, key: &str, card: &str) -> Value {
        let form = [
            ("amount", "700"),
            ("currency", "eur"),
            ("payment_method", card),
            ("confirm", "true"),
            ("metadata[order_id]", "order-1"),
        ];
        self.post("/v1/payment_intents", key, &form).await
    }

    async fn refund(&self, intent: &Value) -> Value {
        let form = [
            ("payment_intent", intent["id"].as_str().unwrap()),
            ("metadata[order_id]", "order-1"),
        ];
        self.post("/v1/refunds", "refund", &form).await
    }

    /// A request to the sandbox's own page; status and body.
    async fn webhooks_page(&self, method: reqwest::Method, body: Option<Value>) -> (u16, Value) {
        let url = format!("{}/_sandbox/webhooks", self.provider.url());
        let mut request = self.client.request(method, url);
        if let Some(body) = body {
            request = request.json(&body);
        }
        let answer = request.send().await.unwrap();
        (answer.status().as_u16(), answer.json().await.unwrap_or_default())
    }
}

#[tokio::test]
async fn charges_declines_and_refunds_are_told_in_signed_events() {
    let world = open().await;
    let intent = world.charge("k1", "pm_card_visa").await;
    world.ear.until_heard(1).await;
    world.charge("k2", "pm_card_chargeDeclined").await;
    world.ear.until_heard(2).await;
    world.refund(&intent).await;
    let heard = world.ear.until_heard(3).await;

    assert_eq!(
        world.ear.kinds(),
        [
            "payment_intent.succeeded",
            "payment_intent.payment_failed",
            "refund.created"
        ]
    );
    for told in &heard {
        assert!(told.is_signed_with(SECRET), "{}", told.signature);
        let event = told.json();
        assert!(event["id"].as_str().unwrap().starts_with("evt_"));
        assert_eq!(event["object"], "event");
        assert_eq!(event["data"]["object"]["metadata"]["order_id"], "order-1");
    }
    assert_eq!(heard[0].json()["data"]["object"], intent, "as the API shows it");
    assert_eq!(heard[0].json()["request"]["idempotency_key"], "k1");
}

/// By OpenSSL: `printf '1795348060.{}' | openssl dgst -sha256 -hmac whsec_one`.
#[test]
fn the_signature_is_the_one_that_others_compute() {
    assert_eq!(
        webhook_signature("whsec_one", 1_795_348_060, b"{}"),
        "t=1795348060,v1=371f107f4b278d588149cf7108a798efe66e352fd40b8c9397c92c39a0261541"
    );
}

#[tokio::test]
async fn an_event_is_sent_again_until_it_is_taken() {
    let world = open().await;
    world.ear.answers.lock().unwrap().extend([503, 400]);
    world.charge("k1", "pm_card_visa").await;
    let heard = world.ear.until_heard(3).await;
    assert!(heard.iter().all(|told| told.body == heard[0].body));
    until("the answers are known", async || world.provider.deliveries().len() == 3).await;
    let statuses: Vec<_> = world.provider.deliveries().iter().map(|one| one.status).collect();
    assert_eq!(statuses, [Some(503), Some(400), Some(200)]);
}

#[tokio::test]
async fn a_replayed_answer_is_no_news() {
    let world = open().await;
    world.provider.set_webhook_behaviour(WebhookBehaviour {
        before_response: true,
        ..WebhookBehaviour::default()
    });
    world.charge("k1", "pm_card_visa").await;
    world.charge("k1", "pm_card_visa").await;
    assert_eq!(world.ear.kinds().len(), 1);
}

#[tokio::test]
async fn an_event_can_come_before_the_answer() {
    let world = open().await;
    world.provider.set_webhook_behaviour(WebhookBehaviour {
        before_response: true,
        delay_ms: 50,
        ..WebhookBehaviour::default()
    });
    world.charge("k1", "pm_card_visa").await;
    assert_eq!(world.ear.kinds(), ["payment_intent.succeeded"]);
}

#[tokio::test]
async fn an_event_can_come_three_times() {
    let world = open().await;
    world.provider.set_webhook_behaviour(WebhookBehaviour {
        copies: 3,
        before_response: true,
        ..WebhookBehaviour::default()
    });
    world.charge("k1", "pm_card_visa").await;
    let heard = world.ear.heard();
    assert_eq!(heard.len(), 3);
    assert!(heard.iter().all(|told| told.body == heard[0].body));
}

#[tokio::test]
async fn an_event_can_be_overtaken_by_the_next() {
    let world = open().await;
    world.provider.set_webhook_behaviour(WebhookBehaviour {
        reordered: true,
        ..WebhookBehaviour::default()
    });
    let intent = world.charge("k1", "pm_card_visa").await;
    world.refund(&intent).await;
    world.ear.until_heard(2).await;
    assert_eq!(world.ear.kinds(), ["refund.created", "payment_intent.succeeded"]);

    // One that nobody overtook leaves when the order is to be kept again.
    world.charge("k2", "pm_card_visa").await;
    world.provider.set_webhook_behaviour(WebhookBehaviour::default());
    world.ear.until_heard(3).await;
}

#[tokio::test]
async fn an_event_can_be_forged() {
    let world = open().await;
    world.provider.set_webhook_behaviour(WebhookBehaviour {
        forged: true,
        ..WebhookBehaviour::default()
    });
    world.charge("k1", "pm_card_visa").await;
    let heard = world.ear.until_heard(1).await;
    assert!(!heard[0].is_signed_with(SECRET));
}

#[tokio::test]
async fn an_endpoint_is_registered_over_http() {
    let world = open().await;
    world.provider.set_webhooks(None);
    world.charge("k0", "pm_card_visa").await;
    let asked = json!({ "endpoint": { "url": world.url, "secret": "whsec_http" }, "behaviour": { "copies": 2 } });
    let (status, page) = world.webhooks_page(reqwest::Method::PUT, Some(asked)).await;
    assert_eq!(
        (status, &page["url"], &page["behaviour"]["copies"]),
        (200, &json!(world.url), &json!(2))
    );
    assert!(!page.to_string().contains("whsec_http"), "{page}");

    let intent = world.charge("k1", "pm_card_visa").await;
    let heard = world.ear.until_heard(2).await;
    assert!(heard.iter().all(|told| told.is_signed_with("whsec_http")));
    assert_eq!(
        heard[0].json()["data"]["object"]["id"],
        intent["id"],
        "k0 was told to nobody"
    );

    let asked = json!({ "behaviour": { "copies": 3 } });
    let (status, page) = world.webhooks_page(reqwest::Method::PUT, Some(asked)).await;
    assert_eq!((status, &page["url"]), (200, &json!(world.url)), "the endpoint stays");

    let (status, _) = world.webhooks_page(reqwest::Method::DELETE, None).await;
    assert_eq!(status, 204);
    let (_, page) = world.webhooks_page(reqwest::Method::GET, None).await;
    assert_eq!((&page["url"], &page["behaviour"]["copies"]), (&Value::Null, &json!(1)));

    for bad in [
        json!([]),
        json!({ "url": world.url, "secret": "s" }),
        json!({ "endpoint": { "url": world.url } }),
        json!({ "endpoint": { "url": "https://127.0.0.1/", "secret": "s" } }),
        json!({ "endpoint": { "url": "nowhere", "secret": "s" } }),
        json!({ "endpoint": { "url": world.url, "secret": "" } }),
        json!({ "behaviour": { "copies": 0 } }),
        json!({ "behaviour": { "copy": 1 } }),
    ] {
        let (status, page) = world.webhooks_page(reqwest::Method::PUT, Some(bad.clone())).await;
        assert_eq!(
            (status, &page["error"]["type"]),
            (400, &json!("invalid_request_error")),
            "{bad}"
        );
    }
}
