//! The provider's webhooks, as an endpoint receives them: which events, how they are signed, and each way to be delivered
//! badly.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use reqwest::Method;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio_util::task::TaskTracker;
use waybill_sandbox::payments::{WebhookBehaviour, WebhookEndpoint, webhook_signature};

use super::{ANY_PORT, Answer, TestProvider, VISA};
use crate::rig::until;

const SECRET: &str = "whsec_of_the_sandbox";

/// An event as it was received.
#[derive(Clone)]
pub(super) struct Received {
    signature: String,
    body: String,
}

impl Received {
    pub(super) fn json(&self) -> Value {
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

/// What an endpoint received, and what it answers next: 200 when nothing is set.
#[derive(Clone, Default)]
pub(super) struct Endpoint {
    url: String,
    received: Arc<Mutex<Vec<Received>>>,
    answers: Arc<Mutex<VecDeque<u16>>>,
}

impl Endpoint {
    fn received(&self) -> Vec<Received> {
        self.received.lock().unwrap().clone()
    }

    pub(super) fn kinds(&self) -> Vec<String> {
        self.received().iter().map(Received::kind).collect()
    }

    pub(super) async fn until_received(&self, count: usize) -> Vec<Received> {
        until("the endpoint has received it", async || self.received().len() >= count).await;
        self.received()
    }
}

async fn receive(State(endpoint): State<Endpoint>, headers: HeaderMap, body: String) -> StatusCode {
    let signature = headers["stripe-signature"].to_str().unwrap().to_owned();
    endpoint.received.lock().unwrap().push(Received { signature, body });
    let answer = endpoint.answers.lock().unwrap().pop_front().unwrap_or(200);
    StatusCode::from_u16(answer).unwrap()
}

/// A provider and the endpoint that is registered with it.
pub(super) async fn start() -> (TestProvider, Endpoint) {
    let listener = TcpListener::bind(ANY_PORT).await.unwrap();
    let endpoint = Endpoint {
        url: format!("http://{}/hooks", listener.local_addr().unwrap()),
        ..Endpoint::default()
    };
    let router = Router::new()
        .route("/hooks", post(receive))
        .with_state(endpoint.clone());
    TaskTracker::new().spawn(axum::serve(listener, router).into_future());
    let test = TestProvider::start().await;
    let registered = WebhookEndpoint::new(&endpoint.url, SECRET).unwrap();
    test.provider.set_webhooks(Some(registered));
    (test, endpoint)
}

/// The same, and events are delivered like this.
pub(super) async fn start_with(behaviour: WebhookBehaviour) -> (TestProvider, Endpoint) {
    let (test, endpoint) = start().await;
    test.provider.set_webhook_behaviour(behaviour);
    (test, endpoint)
}

async fn refund(test: &TestProvider, charged: &Answer) {
    let form = [("payment_intent", charged.id()), ("metadata[order_id]", "order-1")];
    test.refund("refund", &form).await;
}

#[tokio::test]
async fn charges_declines_and_refunds_send_signed_events() {
    let (test, endpoint) = start().await;
    let charged = test.charge_card("k1", VISA).await;
    endpoint.until_received(1).await;
    test.charge_card("k2", "pm_card_chargeDeclined").await;
    endpoint.until_received(2).await;
    refund(&test, &charged).await;
    let received = endpoint.until_received(3).await;

    let expected = [
        "payment_intent.succeeded",
        "payment_intent.payment_failed",
        "refund.created",
    ];
    assert_eq!(endpoint.kinds(), expected);
    for one in &received {
        assert!(one.is_signed_with(SECRET), "{}", one.signature);
        let event = one.json();
        assert!(event["id"].as_str().unwrap().starts_with("evt_"));
        assert_eq!(event["object"], "event");
        assert_eq!(event["data"]["object"]["metadata"]["order_id"], "order-1");
    }
    let first = received[0].json();
    assert_eq!(first["data"]["object"], charged.body, "as the API shows it");
    assert_eq!(first["request"]["idempotency_key"], "k1");
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
async fn an_event_is_sent_again_until_it_is_accepted() {
    let (test, endpoint) = start().await;
    endpoint.answers.lock().unwrap().extend([503, 400]);
    test.charge_card("k1", VISA).await;
    let received = endpoint.until_received(3).await;
    assert!(received.iter().all(|one| one.body == received[0].body));
    until("the answers are known", async || test.provider.deliveries().len() == 3).await;
    let statuses: Vec<_> = test.provider.deliveries().iter().map(|one| one.status).collect();
    assert_eq!(statuses, [Some(503), Some(400), Some(200)]);
}

#[tokio::test]
async fn a_replayed_answer_sends_no_event() {
    let (test, endpoint) = start_with(WebhookBehaviour {
        before_response: true,
        ..WebhookBehaviour::default()
    })
    .await;
    test.charge_card("k1", VISA).await;
    test.charge_card("k1", VISA).await;
    assert_eq!(endpoint.received().len(), 1);
}

#[tokio::test]
async fn an_event_can_come_before_the_answer() {
    let (test, endpoint) = start_with(WebhookBehaviour {
        before_response: true,
        delay_ms: 50,
        ..WebhookBehaviour::default()
    })
    .await;
    test.charge_card("k1", VISA).await;
    assert_eq!(endpoint.kinds(), ["payment_intent.succeeded"]);
}

#[tokio::test]
async fn an_event_can_come_three_times() {
    let (test, endpoint) = start_with(WebhookBehaviour {
        copies: 3,
        before_response: true,
        ..WebhookBehaviour::default()
    })
    .await;
    test.charge_card("k1", VISA).await;
    let received = endpoint.received();
    assert_eq!(received.len(), 3);
    assert!(received.iter().all(|one| one.body == received[0].body));
}

#[tokio::test]
async fn an_event_can_be_overtaken_by_the_next() {
    let (test, endpoint) = start_with(WebhookBehaviour {
        reordered: true,
        ..WebhookBehaviour::default()
    })
    .await;
    let charged = test.charge_card("k1", VISA).await;
    refund(&test, &charged).await;
    endpoint.until_received(2).await;
    assert_eq!(endpoint.kinds(), ["refund.created", "payment_intent.succeeded"]);

    // An event that none overtook is sent when events are no longer reordered.
    test.charge_card("k2", VISA).await;
    test.provider.set_webhook_behaviour(WebhookBehaviour::default());
    endpoint.until_received(3).await;
}

#[tokio::test]
async fn an_event_can_be_forged() {
    let (test, endpoint) = start_with(WebhookBehaviour {
        forged: true,
        ..WebhookBehaviour::default()
    })
    .await;
    test.charge_card("k1", VISA).await;
    let received = endpoint.until_received(1).await;
    assert!(!received[0].is_signed_with(SECRET));
}

#[tokio::test]
async fn an_endpoint_is_registered_over_http() {
    let (test, endpoint) = start().await;
    let url = &endpoint.url;
    let put = async |body: &Value| test.sandbox(Method::PUT, "webhooks", &body.to_string()).await;
    test.provider.set_webhooks(None);
    test.charge_card("k0", VISA).await;
    let page = put(&json!({ "endpoint": { "url": url, "secret": "whsec_http" }, "behaviour": { "copies": 2 } })).await;
    assert_eq!((page.status, &page.body["url"]), (200, &json!(url)));
    assert_eq!(page.body["behaviour"]["copies"], 2);
    assert!(!page.body.to_string().contains("whsec_http"), "{page:?}");

    let charged = test.charge_card("k1", VISA).await;
    let received = endpoint.until_received(2).await;
    assert!(received.iter().all(|one| one.is_signed_with("whsec_http")));
    let id = &received[0].json()["data"]["object"]["id"];
    assert_eq!(id, charged.id(), "k0 was sent to no endpoint");

    let page = put(&json!({ "behaviour": { "copies": 3 } })).await;
    assert_eq!(
        (page.status, &page.body["url"]),
        (200, &json!(url)),
        "the endpoint stays"
    );

    assert_eq!(test.sandbox(Method::DELETE, "webhooks", "").await.status, 204);
    let page = test.sandbox(Method::GET, "webhooks", "").await.body;
    assert_eq!((&page["url"], &page["behaviour"]["copies"]), (&Value::Null, &json!(1)));

    for bad in [
        json!([]),
        json!({ "url": url, "secret": "s" }),
        json!({ "endpoint": { "url": url } }),
        json!({ "endpoint": { "url": "https://127.0.0.1/", "secret": "s" } }),
        json!({ "endpoint": { "url": "nowhere", "secret": "s" } }),
        json!({ "endpoint": { "url": url, "secret": "" } }),
        json!({ "behaviour": { "copies": 0 } }),
        json!({ "behaviour": { "copy": 1 } }),
    ] {
        let refused = put(&bad).await;
        assert_eq!(refused.status, 400, "{bad}");
        assert_eq!(refused.error()["type"], "invalid_request_error", "{bad}");
    }
}
