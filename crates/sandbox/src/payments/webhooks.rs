//! Webhooks: after each movement of money and each decline, a signed event to whoever registered for it, well or badly
//! delivered (<https://docs.stripe.com/webhooks>).
//!
//! An event is sent again, ever later, until it is answered with 2xx, a few times only: Stripe's three days would
//! outlive every sandbox. Nothing is kept over a restart of the provider.

use std::collections::VecDeque;
use std::fmt::Write as _;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::http::Uri;
use hmac::{Hmac, KeyInit as _, Mac as _};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sha2::Sha256;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::objects::new_id;

/// How often an event is sent, and the pause after the first time; each later one is twice as long.
const TRIES: u32 = 7;
const PAUSE: Duration = Duration::from_millis(200);
/// How long one try may take.
const TRY_MAX: Duration = Duration::from_secs(10);
/// How many deliveries are remembered.
const REMEMBERED_MAX: usize = 1000;
/// An answer's status line is within its first bytes; the rest is not read.
const ANSWER_BYTES_MAX: usize = 1024;

const COPIES_MAX: u32 = 10;
const DELAY_MS_MAX: u64 = 600_000;

/// Where events go, and the secret that they are signed with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WebhookEndpoint {
    authority: String,
    path: String,
    secret: String,
}

/// How events are delivered. The default is as it should be; all faults go together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct WebhookBehaviour {
    /// How many times each event is sent at once, 1 to 10.
    pub copies: u32,
    /// Each second event overtakes the one before it, which waits for it; the last one waits until this is changed.
    pub reordered: bool,
    /// How much later events are sent, in milliseconds, at most ten minutes.
    pub delay_ms: u64,
    /// The request that an event tells of is answered only after the event was delivered, or given up.
    pub before_response: bool,
    /// Signed with another secret.
    pub forged: bool,
}

/// An endpoint or a behaviour that cannot be. The text says what it must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct BadWebhooks(&'static str);

/// One try to deliver an event.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Delivery {
    /// `evt_...`
    pub event_id: String,
    /// Such as `payment_intent.succeeded`.
    #[serde(rename = "type")]
    pub kind: String,
    /// What was sent, signature apart.
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
    /// Waits for the one that overtakes it.
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
    pub(super) fn check(self) -> Result<WebhookBehaviour, BadWebhooks> {
        if !(1..=COPIES_MAX).contains(&self.copies) {
            return Err(BadWebhooks("copies must be 1 to 10"));
        }
        if self.delay_ms > DELAY_MS_MAX {
            return Err(BadWebhooks("delay_ms must be 0 to 600000"));
        }
        Ok(self)
    }
}

impl WebhookEndpoint {
    /// Events go to `url`, which must be `http://`, signed with `secret`, which is any text.
    pub fn new(url: &str, secret: &str) -> Result<WebhookEndpoint, BadWebhooks> {
        let uri: Uri = url
            .parse()
            .map_err(|_| BadWebhooks("url must be such as http://127.0.0.1:7201/path"))?;
        if uri.scheme_str() != Some("http") {
            return Err(BadWebhooks("url must begin with http://"));
        }
        let host = uri
            .host()
            .filter(|host| !host.is_empty())
            .ok_or(BadWebhooks("url must have a host"))?;
        if secret.is_empty() {
            return Err(BadWebhooks("secret must not be empty"));
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
    /// Nobody is registered. Deliveries are tasks of `tasks`, and end with `stopping`.
    pub(super) fn new(tasks: TaskTracker, stopping: CancellationToken) -> Webhooks {
        Webhooks {
            state: Arc::default(),
            tasks,
            stopping,
        }
    }

    /// Events from now on go there, or nowhere.
    pub(super) fn register(&self, endpoint: Option<WebhookEndpoint>) {
        self.state().endpoint = endpoint;
    }

    /// Events from now on are delivered so. One that waits to be overtaken leaves now.
    pub(super) fn behave(&self, behaviour: WebhookBehaviour) {
        let held = {
            let mut state = self.state();
            state.behaviour = behaviour;
            state.held.take()
        };
        self.send(held);
    }

    pub(super) fn registered(&self) -> (Option<WebhookEndpoint>, WebhookBehaviour) {
        let state = self.state();
        (state.endpoint.clone(), state.behaviour)
    }

    pub(super) fn deliveries(&self) -> Vec<Delivery> {
        self.state().deliveries.iter().cloned().collect()
    }

    /// Sends what happened. Returns at once, unless requests are to be answered after their events.
    pub(super) async fn tell(&self, event: Option<Event>) {
        let Some(event) = event else { return };
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
                (_, earlier) => [Some(event), earlier],
            };
            (events, state.behaviour.before_response)
        };
        let sent = self.send(events.into_iter().flatten());
        if waits {
            sent.wait().await;
        }
    }

    /// Sends events, each when the one before it was delivered or given up.
    fn send(&self, events: impl IntoIterator<Item = Event>) -> TaskTracker {
        let events: Vec<Event> = events.into_iter().collect();
        let sending = TaskTracker::new();
        if !events.is_empty() {
            let webhooks = self.clone();
            let deliver = sending.track_future(async move {
                for event in &events {
                    webhooks.deliver(event).await;
                }
            });
            self.tasks
                .spawn(self.stopping.clone().run_until_cancelled_owned(deliver));
        }
        sending.close();
        sending
    }

    /// All copies of one event, at once.
    async fn deliver(&self, event: &Event) {
        let (endpoint, behaviour) = self.registered();
        let Some(endpoint) = endpoint else { return };
        tokio::time::sleep(Duration::from_millis(behaviour.delay_ms)).await;
        let copies = TaskTracker::new();
        for _ in 0..behaviour.copies {
            let (webhooks, endpoint, event) = (self.clone(), endpoint.clone(), event.clone());
            let copy = async move { webhooks.insist(&endpoint, behaviour, &event).await };
            copies.spawn(self.stopping.clone().run_until_cancelled_owned(copy));
        }
        copies.close();
        copies.wait().await;
    }

    /// Sends one copy until it is answered with 2xx, or often enough.
    async fn insist(&self, endpoint: &WebhookEndpoint, behaviour: WebhookBehaviour, event: &Event) {
        let mut pause = PAUSE;
        for _ in 0..TRIES {
            let secret = if behaviour.forged {
                "whsec_forged"
            } else {
                &endpoint.secret
            };
            let signature = webhook_signature(secret, Timestamp::now().as_second(), event.body.as_bytes());
            let status = endpoint.post(&event.body, &signature).await;
            self.remember(event, status);
            if status.is_some_and(|status| (200..300).contains(&status)) {
                return;
            }
            tokio::time::sleep(pause).await;
            pause *= 2;
        }
        tracing::warn!(event = %event.id, url = endpoint.url(), "a webhook is given up");
    }

    fn remember(&self, event: &Event, status: Option<u16>) {
        let mut state = self.state();
        if state.deliveries.len() == REMEMBERED_MAX {
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
    stream
        .take(ANSWER_BYTES_MAX as u64)
        .read_to_end(&mut answer)
        .await
        .ok()?;
    let line = answer.split(|byte| *byte == b'\r').next()?;
    str::from_utf8(line).ok()?.split(' ').nth(1)?.parse().ok()
}
