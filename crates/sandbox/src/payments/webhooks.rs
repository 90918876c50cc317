//! Webhooks: after each movement of money and each decline, a signed event to the registered endpoint, delivered well or
//! badly (<https://docs.stripe.com/webhooks>).
//!
//! An event is sent again, with growing pauses, until it is answered with 2xx. After a few tries it is given up: Stripe's
//! three days would outlive every sandbox. Nothing is kept over a restart of the provider.

use std::collections::VecDeque;
use std::fmt::Write as _;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::http::Uri;
use futures_util::future::join_all;
use hmac::{Hmac, KeyInit as _, Mac as _};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sha2::Sha256;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::objects::new_id;

/// How often an event is sent, and the pause after the first time; each later one is twice as long.
const TRIES: u32 = 7;
const PAUSE: Duration = Duration::from_millis(200);
/// How long one try may take.
const TRY_MAX: Duration = Duration::from_secs(10);
/// How many deliveries are kept.
const DELIVERIES_MAX: usize = 1000;
/// An answer's status line is within its first bytes; the rest is not read.
const ANSWER_BYTES_MAX: u64 = 1024;

const COPIES_MAX: u32 = 10;
const DELAY_MS_MAX: u64 = 600_000;

/// Where events go, and the secret that they are signed with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WebhookEndpoint {
    authority: String,
    path: String,
    secret: String,
}

/// How events are delivered. The default is without faults; all faults can be combined.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct WebhookBehaviour {
    /// How many times each event is sent at once, 1 to 10.
    pub copies: u32,
    /// Each second event overtakes the one before it, which waits for it; the last one waits until this is changed.
    pub reordered: bool,
    /// How much later events are sent, in milliseconds, at most ten minutes.
    pub delay_ms: u64,
    /// The request that caused an event is answered only after the event was delivered, or given up.
    pub before_response: bool,
    /// Signed with another secret.
    pub forged: bool,
}

/// An invalid endpoint or behaviour. The text states what it must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct InvalidWebhooks(&'static str);

/// One try to deliver an event.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Delivery {
    /// `evt_...`
    pub event_id: String,
    /// Such as `payment_intent.succeeded`.
    #[serde(rename = "type")]
    pub kind: String,
    /// What was sent, without the signature.
    pub body: String,
    /// The status of the answer; `None` if there was none.
    pub status: Option<u16>,
}

/// What happened, as an event that is not sent yet.
#[derive(Clone, Debug)]
pub(super) struct Event {
    id: String,
    kind: &'static str,
    body: String,
}

/// The endpoint, the behaviour, and what was sent so far. Clones share it.
#[derive(Clone, Debug)]
pub(super) struct Webhooks {
    state: Arc<Mutex<State>>,
    tasks: TaskTracker,
    stopping: CancellationToken,
}

#[derive(Debug, Default)]
struct State {
    endpoint: Option<WebhookEndpoint>,
    behaviour: WebhookBehaviour,
    /// Waits for the event that overtakes it.
    held: Option<Event>,
    deliveries: VecDeque<Delivery>,
}

impl Default for WebhookBehaviour {
    fn default() -> WebhookBehaviour {
        WebhookBehaviour {
            copies: 1,
            reordered: false,
            delay_ms: 0,
            before_response: false,
            forged: false,
        }
    }
}

impl WebhookBehaviour {
    pub(super) fn check(self) -> Result<WebhookBehaviour, InvalidWebhooks> {
        if !(1..=COPIES_MAX).contains(&self.copies) {
            return Err(InvalidWebhooks("copies must be 1 to 10"));
        }
        if self.delay_ms > DELAY_MS_MAX {
            return Err(InvalidWebhooks("delay_ms must be 0 to 600000"));
        }
        Ok(self)
    }
}

impl WebhookEndpoint {
    /// Events go to `url`, which must be `http://`, signed with `secret`, which is any text.
    pub fn new(url: &str, secret: &str) -> Result<WebhookEndpoint, InvalidWebhooks> {
        let invalid = |_| InvalidWebhooks("url must be like http://127.0.0.1:7201/path");
        let uri: Uri = url.parse().map_err(invalid)?;
        if uri.scheme_str() != Some("http") {
            return Err(InvalidWebhooks("url must begin with http://"));
        }
        let host = uri.host().filter(|host| !host.is_empty());
        let host = host.ok_or(InvalidWebhooks("url must have a host"))?;
        if secret.is_empty() {
            return Err(InvalidWebhooks("secret must not be empty"));
        }
        Ok(WebhookEndpoint {
            authority: format!("{host}:{}", uri.port_u16().unwrap_or(80)),
            path: uri.path_and_query().map_or("/", |path| path.as_str()).to_owned(),
            secret: secret.to_owned(),
        })
    }

    /// Where events go.
    pub fn url(&self) -> String {
        format!("http://{}{}", self.authority, self.path)
    }

    /// Sends one body with one signature; the status of the answer, if one came.
    async fn post(&self, body: &str, signature: &str) -> Option<u16> {
        let request = format!(
            "POST {} HTTP/1.1\r\nhost: {}\r\ncontent-type: application/json; charset=utf-8\r\nstripe-signature: \
             {signature}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
            self.path,
            self.authority,
            body.len()
        );
        let exchange = async {
            let mut stream = TcpStream::connect(&self.authority).await.ok()?;
            stream.write_all(request.as_bytes()).await.ok()?;
            status_of(&mut stream).await
        };
        tokio::time::timeout(TRY_MAX, exchange).await.ok().flatten()
    }
}

/// The `Stripe-Signature` header for a body that is signed at this time, in seconds since the Unix epoch.
pub fn webhook_signature(secret: &str, signed_at_secs: i64, body: &[u8]) -> String {
    let mut header = format!("t={signed_at_secs},v1=");
    // A key of any length will do for HMAC, so this does not fail.
    if let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(secret.as_bytes()) {
        mac.update(format!("{signed_at_secs}.").as_bytes());
        mac.update(body);
        for byte in mac.finalize().into_bytes() {
            // Writing to a string does not fail.
            let _ = write!(header, "{byte:02x}");
        }
    }
    header
}

impl Event {
    /// `object` as the API shows it; `key` is the idempotency key of the request that caused it.
    pub(super) fn new(kind: &'static str, object: &Value, key: Option<&String>) -> Event {
        let id = new_id("evt");
        let body = json!({
            "id": id,
            "object": "event",
            "api_version": "2025-03-31.basil",
            "created": Timestamp::now().as_second(),
            "data": { "object": object },
            "livemode": false,
            "pending_webhooks": 1,
            "request": { "id": null, "idempotency_key": key },
            "type": kind,
        });
        Event {
            id,
            kind,
            body: body.to_string(),
        }
    }
}

impl Webhooks {
    /// Without an endpoint. Deliveries are tasks of `tasks`, and end with `stopping`.
    pub(super) fn new(tasks: TaskTracker, stopping: CancellationToken) -> Webhooks {
        Webhooks {
            state: Arc::default(),
            tasks,
            stopping,
        }
    }

    pub(super) fn set_endpoint(&self, endpoint: Option<WebhookEndpoint>) {
        self.state().endpoint = endpoint;
    }

    /// An event that waits to be overtaken is sent now.
    pub(super) fn set_behaviour(&self, behaviour: WebhookBehaviour) {
        let held = {
            let mut state = self.state();
            state.behaviour = behaviour;
            state.held.take()
        };
        if let Some(event) = held {
            drop(self.start_sending(vec![event]));
        }
    }

    pub(super) fn registered(&self) -> (Option<WebhookEndpoint>, WebhookBehaviour) {
        let state = self.state();
        (state.endpoint.clone(), state.behaviour)
    }

    pub(super) fn deliveries(&self) -> Vec<Delivery> {
        self.state().deliveries.iter().cloned().collect()
    }

    /// Sends an event. Returns at once, unless requests are answered after their events.
    pub(super) async fn send(&self, event: Event) {
        let (events, waits) = {
            let mut state = self.state();
            if state.endpoint.is_none() {
                return;
            }
            let events = match (state.behaviour.reordered, state.held.take()) {
                (true, None) => {
                    state.held = Some(event);
                    return;
                }
                (_, earlier) => std::iter::once(event).chain(earlier).collect(),
            };
            (events, state.behaviour.before_response)
        };
        let sending = self.start_sending(events);
        if waits {
            // An error means that the provider stops.
            let _ = sending.await;
        }
    }

    /// Sends events, each when the one before it was delivered or given up.
    fn start_sending(&self, events: Vec<Event>) -> JoinHandle<Option<()>> {
        let webhooks = self.clone();
        let sending = async move {
            for event in &events {
                webhooks.deliver(event).await;
            }
        };
        let until_stopped = self.stopping.clone().run_until_cancelled_owned(sending);
        self.tasks.spawn(until_stopped)
    }

    /// All copies of one event, at once.
    async fn deliver(&self, event: &Event) {
        let (endpoint, behaviour) = self.registered();
        let Some(endpoint) = endpoint else { return };
        tokio::time::sleep(Duration::from_millis(behaviour.delay_ms)).await;
        let copies = (0..behaviour.copies).map(|_| self.deliver_copy(&endpoint, behaviour, event));
        join_all(copies).await;
    }

    /// Sends one copy until it is answered with 2xx, or often enough.
    async fn deliver_copy(&self, endpoint: &WebhookEndpoint, behaviour: WebhookBehaviour, event: &Event) {
        let mut pause = PAUSE;
        for _ in 0..TRIES {
            let secret = if behaviour.forged {
                "whsec_forged"
            } else {
                &endpoint.secret
            };
            let signature = webhook_signature(secret, Timestamp::now().as_second(), event.body.as_bytes());
            let status = endpoint.post(&event.body, &signature).await;
            self.record(event, status);
            if status.is_some_and(|status| (200..300).contains(&status)) {
                return;
            }
            tokio::time::sleep(pause).await;
            pause *= 2;
        }
        tracing::warn!(event = %event.id, url = endpoint.url(), "webhook given up: no answer with 2xx");
    }

    fn record(&self, event: &Event, status: Option<u16>) {
        let mut state = self.state();
        if state.deliveries.len() == DELIVERIES_MAX {
            state.deliveries.pop_front();
        }
        state.deliveries.push_back(Delivery {
            event_id: event.id.clone(),
            kind: event.kind.to_owned(),
            body: event.body.clone(),
            status,
        });
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// `HTTP/1.1 200 OK`: the number in it.
async fn status_of(stream: &mut TcpStream) -> Option<u16> {
    let mut answer = Vec::new();
    stream.take(ANSWER_BYTES_MAX).read_to_end(&mut answer).await.ok()?;
    let line = answer.split(|byte| *byte == b'\r').next()?;
    str::from_utf8(line).ok()?.split(' ').nth(1)?.parse().ok()
}
