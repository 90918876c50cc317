//! The payment client against providers that misbehave: real sockets, small servers, each with a script.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "the whole file is a test; clippy.toml excuses only the functions marked as such"
)]

use jiff::Timestamp;
use opentelemetry::trace::TracerProvider as _;
use opentelemetry_sdk::trace::SdkTracerProvider;
use secrecy::SecretString;
use std::collections::{HashMap, HashSet};
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio_util::task::TaskTracker;
use tracing::Instrument as _;
use tracing_subscriber::layer::SubscriberExt as _;
use uuid::Uuid;
use waybill_domain::id::OrderId;
use waybill_domain::money::Money;
use waybill_server::egress::payments::{
    Answer, Cause, ChargeRequest, PaymentClient, PaymentSettings, Period, Receipt, RefundRequest, SettingsError,
};
use waybill_server::metrics::{DependencyMetrics, EgressMetrics, Metrics};
use waybill_server::resilience::{BreakerPolicy, BudgetPolicy, Deadline};
use waybill_server::telemetry::saga_span;

const SECRET: &str = "sk_test_never_to_be_seen";
const ORDER: Uuid = Uuid::from_u128(0x0192_0000_0000_7000_8000_0000_0000_0001);

/// March 2026.
fn march() -> Period {
    let time = |second| Timestamp::from_second(second).unwrap();
    Period {
        from: time(1_772_323_200),
        until: Some(time(1_775_001_600)),
    }
}

/// The states of the breaker, as the metrics show them.
const CLOSED: i64 = 0;
const OPEN: i64 = 2;

/// What the provider does with a request that it has read to the end.
#[derive(Debug, Clone)]
enum Reaction {
    Answer(u16, String),
    /// Never answers.
    Hang,
    /// Closes the connection.
    Close,
    /// A status and a header line, no body.
    Redirect(String),
    /// A good answer behind which so many bytes of white space follow, as fast as they go.
    Big(usize),
    /// A body of which a byte comes every now and then.
    Drip,
}

#[derive(Debug, Clone)]
struct Seen {
    line: String,
    headers: HashMap<String, String>,
    body: String,
}

type Script = dyn Fn(usize, &Seen) -> Reaction + Send + Sync;

/// A provider on a port of its own; the script gets the number of the request, from 0.
struct Provider {
    url: String,
    state: Arc<ProviderState>,
}

struct ProviderState {
    script: Box<Script>,
    connections: AtomicUsize,
    seen: Mutex<Vec<Seen>>,
    arrived: Notify,
    tasks: TaskTracker,
}

impl Provider {
    async fn start(script: impl Fn(usize, &Seen) -> Reaction + Send + Sync + 'static) -> Provider {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let state = Arc::new(ProviderState {
            script: Box::new(script),
            connections: AtomicUsize::new(0),
            seen: Mutex::default(),
            arrived: Notify::new(),
            tasks: TaskTracker::new(),
        });
        let accepting = Arc::clone(&state);
        state.tasks.spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                accepting.connections.fetch_add(1, Ordering::SeqCst);
                accepting.tasks.spawn(Arc::clone(&accepting).serve(socket));
            }
        });
        Provider { url, state }
    }

    fn connections(&self) -> usize {
        self.state.connections.load(Ordering::SeqCst)
    }

    fn seen(&self) -> Vec<Seen> {
        self.state.seen.lock().unwrap().clone()
    }

    /// Until so many requests have arrived.
    async fn until_seen(&self, count: usize) {
        patient()
            .bound(async {
                while self.seen().len() < count {
                    self.state.arrived.notified().await;
                }
            })
            .await
            .unwrap_or_else(|_| panic!("{} of {count} requests arrived", self.seen().len()));
    }
}

impl ProviderState {
    async fn serve(self: Arc<Self>, mut socket: TcpStream) {
        while let Some(seen) = read_request(&mut socket).await {
            let number = {
                let mut all = self.seen.lock().unwrap();
                all.push(seen.clone());
                all.len() - 1
            };
            self.arrived.notify_one();
            if respond(&mut socket, (self.script)(number, &seen)).await.is_none() {
                return;
            }
        }
    }
}

async fn read_request(socket: &mut TcpStream) -> Option<Seen> {
    let mut bytes = Vec::new();
    let head_len = loop {
        if let Some(at) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
            break at + 4;
        }
        if socket.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    };
    let head = String::from_utf8(bytes[..head_len].to_vec()).ok()?;
    let mut lines = head.lines();
    let line = lines.next()?.to_owned();
    let headers: HashMap<String, String> = lines
        .filter_map(|line| line.split_once(": "))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
        .collect();
    let body_len: usize = headers.get("content-length").map_or(0, |len| len.parse().unwrap());
    while bytes.len() < head_len + body_len {
        if socket.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    }
    let body = String::from_utf8(bytes[head_len..].to_vec()).ok()?;
    Some(Seen { line, headers, body })
}

/// `None` if the connection is not to be used again.
async fn respond(socket: &mut TcpStream, reaction: Reaction) -> Option<()> {
    match reaction {
        Reaction::Answer(status, body) => {
            let head = format!("HTTP/1.1 {status} X\r\ncontent-length: {}\r\n\r\n", body.len());
            socket.write_all((head + &body).as_bytes()).await.ok()
        }
        Reaction::Redirect(to) => {
            let head = format!("HTTP/1.1 307 X\r\nlocation: {to}\r\ncontent-length: 0\r\n\r\n");
            socket.write_all(head.as_bytes()).await.ok()
        }
        Reaction::Big(len) => {
            let good = object("pi_1", "succeeded");
            let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{good}", good.len() + len);
            socket.write_all(head.as_bytes()).await.ok()?;
            let block = vec![b' '; 64 * 1024];
            for _ in 0..len / block.len() {
                socket.write_all(&block).await.ok()?;
            }
            None
        }
        Reaction::Drip => {
            socket
                .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 100000\r\n\r\n")
                .await
                .ok()?;
            let mut tick = tokio::time::interval(Duration::from_millis(20));
            loop {
                tick.tick().await;
                socket.write_all(b" ").await.ok()?;
            }
        }
        // Holds the socket until the client has enough.
        Reaction::Hang => {
            let _ = socket.read(&mut [0; 1]).await;
            None
        }
        Reaction::Close => None,
    }
}

fn object(id: &str, status: &str) -> String {
    format!(r#"{{"id":"{id}","status":"{status}","amount":1250,"currency":"eur","metadata":{{"order_id":"{ORDER}"}}}}"#)
}

fn succeeded() -> Reaction {
    Reaction::Answer(200, object("pi_1", "succeeded"))
}

fn refusal(status: u16, kind: &str, code: &str) -> Reaction {
    let body = format!(r#"{{"error":{{"type":"{kind}","code":"{code}","message":"Text of the provider."}}}}"#);
    Reaction::Answer(status, body)
}

fn patient() -> Deadline {
    Deadline::after(Duration::from_secs(20))
}

/// Quick retries, and guards that only the tests about them can hit.
fn settings(url: &str) -> PaymentSettings {
    let mut settings = PaymentSettings::new(url, SecretString::from(SECRET));
    settings.retry.base = Duration::from_millis(2);
    settings.rate_per_second = NonZeroU32::new(10_000).unwrap();
    settings.breaker = BreakerPolicy {
        consecutive_failures: 1000,
        min_calls: 1000,
        ..BreakerPolicy::default()
    };
    settings
}

/// For providers that never finish an answer.
fn impatient(url: &str) -> PaymentSettings {
    PaymentSettings {
        attempt_timeout: Duration::from_millis(100),
        ..settings(url)
    }
}

fn client(provider: &Provider) -> PaymentClient {
    PaymentClient::new(&settings(&provider.url)).unwrap()
}

/// A client, and what it counts.
fn counted(settings: &PaymentSettings) -> (PaymentClient, EgressMetrics) {
    let metrics = DependencyMetrics::default();
    let client = PaymentClient::with_metrics(settings, &metrics).unwrap();
    (client, metrics.egress("payments"))
}

fn amount() -> Money {
    Money::new("EUR".parse().unwrap(), 1250).unwrap()
}

fn a_charge() -> ChargeRequest<'static> {
    ChargeRequest {
        is_held: false,
        key: "order-1:charge",
        order_id: ORDER,
        transfer_group: None,
        amount: amount(),
        payment_method: "pm_card_visa",
        customer: None,
        place: None,
    }
}

fn a_refund() -> RefundRequest<'static> {
    RefundRequest {
        number: 1,
        key: "order-1:refund",
        payment_intent: "pi_1",
        order_id: ORDER,
        amount: amount(),
    }
}

fn receipt(id: &str) -> Answer<Receipt> {
    Answer::Done(Receipt {
        provider_id: id.into(),
        amount: amount(),
    })
}

/// In the saga's span, with an exporter; the subscriber is this thread's alone, and so is the test's runtime.
#[tokio::test]
async fn a_charge_carries_the_trace_of_its_order_and_none_without_an_exporter() {
    let provider = Provider::start(|_, _| succeeded()).await;
    let client = client(&provider);
    let done = client.charge(&a_charge(), patient()).await;
    assert_eq!(done, receipt("pi_1"));

    let tracer = SdkTracerProvider::builder().build().tracer("waybill");
    let spans = tracing_opentelemetry::layer().with_tracer(tracer);
    let _subscriber = tracing::subscriber::set_default(tracing_subscriber::registry().with(spans));
    let saga = saga_span(OrderId::new(ORDER), 1);
    let done = client.charge(&a_charge(), patient()).instrument(saga).await;
    assert_eq!(done, receipt("pi_1"));

    let seen = provider.seen();
    assert_eq!(seen[0].headers.get("traceparent"), None);
    let traceparent = &seen[1].headers["traceparent"];
    let parts: Vec<&str> = traceparent.split('-').collect();
    assert_eq!(parts[1], ORDER.simple().to_string(), "{traceparent}");
    assert_eq!((parts[0], parts[2].len(), parts[3]), ("00", 16, "01"), "{traceparent}");
}

#[tokio::test]
async fn a_charge_is_one_form_under_its_key_with_the_secret_and_the_version() {
    let provider = Provider::start(|_, _| succeeded()).await;
    assert_eq!(client(&provider).charge(&a_charge(), patient()).await, receipt("pi_1"));

    let seen = provider.seen();
    assert_eq!(seen.len(), 1);
    assert_eq!(seen[0].line, "POST /v1/payment_intents HTTP/1.1");
    assert_eq!(seen[0].headers["idempotency-key"], "order-1:charge");
    assert_eq!(seen[0].headers["authorization"], format!("Bearer {SECRET}"));
    assert_eq!(seen[0].headers["content-type"], "application/x-www-form-urlencoded");
    assert!(seen[0].headers.contains_key("stripe-version"));
    let fields: HashSet<&str> = seen[0].body.split('&').collect();
    let order = format!("metadata%5Border_id%5D={ORDER}");
    let expected = [
        "amount=1250",
        "currency=eur",
        "payment_method=pm_card_visa",
        "confirm=true",
        "automatic_payment_methods%5Benabled%5D=true",
        "automatic_payment_methods%5Ballow_redirects%5D=never",
        "error_on_requires_action=true",
        &order,
    ];
    assert_eq!(fields, HashSet::from(expected));
}

#[tokio::test]
async fn a_refund_names_the_payment_the_amount_and_the_order() {
    let provider = Provider::start(|_, _| Reaction::Answer(200, object("re_1", "succeeded"))).await;
    assert_eq!(client(&provider).refund(&a_refund(), patient()).await, receipt("re_1"));

    let seen = provider.seen();
    assert_eq!(seen[0].line, "POST /v1/refunds HTTP/1.1");
    assert_eq!(seen[0].headers["idempotency-key"], "order-1:refund");
    let fields: HashSet<&str> = seen[0].body.split('&').collect();
    let order = format!("metadata%5Border_id%5D={ORDER}");
    assert_eq!(fields, HashSet::from(["payment_intent=pi_1", "amount=1250", &order]));
}

#[tokio::test]
async fn a_decline_is_an_answer_and_carries_no_text_of_the_provider() {
    let provider = Provider::start(|_, _| refusal(402, "card_error", "card_declined")).await;
    let (client, metrics) = counted(&settings(&provider.url));
    let Answer::Declined(reason) = client.charge(&a_charge(), patient()).await else {
        panic!("a decline")
    };
    assert_eq!(
        (reason.code.as_str(), reason.message),
        ("card_declined", "The payment was declined.")
    );
    assert_eq!((metrics.attempts.get(), provider.seen().len()), (1, 1));
}

#[tokio::test]
async fn a_provider_that_hangs_is_called_twice_with_one_key_and_the_outcome_is_unknown() {
    let provider = Provider::start(|_, _| Reaction::Hang).await;
    let (client, metrics) = counted(&impatient(&provider.url));
    assert_eq!(
        client.charge(&a_charge(), patient()).await,
        Answer::Ambiguous(Cause::TimedOut)
    );

    let seen = provider.seen();
    let keys: Vec<&str> = seen
        .iter()
        .map(|seen| seen.headers["idempotency-key"].as_str())
        .collect();
    assert_eq!(keys, ["order-1:charge", "order-1:charge"]);
    assert_eq!(seen[0].body, seen[1].body);
    assert_eq!((metrics.attempts.get(), metrics.retries.get()), (2, 1));
}

#[tokio::test]
async fn a_connection_closed_after_the_request_is_tried_again_with_the_same_key() {
    let provider = Provider::start(|n, _| if n == 0 { Reaction::Close } else { succeeded() }).await;
    assert_eq!(client(&provider).charge(&a_charge(), patient()).await, receipt("pi_1"));
    let keys: Vec<String> = provider
        .seen()
        .iter()
        .map(|seen| seen.headers["idempotency-key"].clone())
        .collect();
    assert_eq!(keys, ["order-1:charge", "order-1:charge"]);
}

#[tokio::test]
async fn a_500_is_ambiguous_and_not_sent_again_within_the_call() {
    let provider = Provider::start(|n, _| {
        if n < 2 {
            Reaction::Answer(500, "{}".into())
        } else {
            succeeded()
        }
    })
    .await;
    let client = client(&provider);
    assert_eq!(
        client.charge(&a_charge(), patient()).await,
        Answer::Ambiguous(Cause::Status(500))
    );
    assert_eq!(
        client.charge(&a_charge(), patient()).await,
        Answer::Ambiguous(Cause::Status(500))
    );
    assert_eq!(client.charge(&a_charge(), patient()).await, receipt("pi_1"));
    assert_eq!(provider.seen().len(), 3);
}

#[tokio::test]
async fn a_429_is_tried_once_more_and_then_was_not_executed() {
    let provider = Provider::start(|n, _| {
        if n < 3 {
            refusal(429, "api_error", "rate_limit")
        } else {
            succeeded()
        }
    })
    .await;
    let client = client(&provider);
    assert_eq!(
        client.charge(&a_charge(), patient()).await,
        Answer::NotExecuted(Cause::Throttled)
    );
    assert_eq!(client.charge(&a_charge(), patient()).await, receipt("pi_1"));
    assert_eq!(provider.seen().len(), 4);
}

/// The first attempt may have been executed; that the second was not proves nothing about it.
#[tokio::test]
async fn a_refused_second_attempt_leaves_the_outcome_of_the_first_unknown() {
    let provider = Provider::start(|n, _| {
        if n == 0 {
            Reaction::Close
        } else {
            refusal(429, "api_error", "rate_limit")
        }
    })
    .await;
    assert_eq!(
        client(&provider).charge(&a_charge(), patient()).await,
        Answer::Ambiguous(Cause::ConnectionLost)
    );
    assert_eq!(provider.seen().len(), 2);
}

#[tokio::test]
async fn no_one_at_the_address_means_not_executed() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let (client, metrics) = counted(&settings(&url));
    assert_eq!(
        client.charge(&a_charge(), patient()).await,
        Answer::NotExecuted(Cause::NoConnection)
    );
    assert_eq!(metrics.attempts.get(), 2);
}

/// No request has been sent before the handshake is over, whether it fails or does not end.
#[tokio::test]
async fn a_tls_handshake_that_fails_or_hangs_means_not_executed() {
    for speaks_http in [true, false] {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut settings = settings(&format!("https://{}", listener.local_addr().unwrap()));
        settings.connect_timeout = if speaks_http {
            Duration::from_secs(5)
        } else {
            Duration::from_millis(50)
        };
        let client = PaymentClient::new(&settings).unwrap();
        let tasks = TaskTracker::new();
        let server = tasks.spawn(async move {
            let mut open = vec![];
            while let Ok((mut socket, _)) = listener.accept().await {
                if speaks_http {
                    socket.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await.unwrap();
                }
                open.push(socket);
            }
        });
        assert_eq!(
            client.charge(&a_charge(), patient()).await,
            Answer::NotExecuted(Cause::NoConnection)
        );
        server.abort();
    }
}

#[tokio::test]
async fn what_cannot_be_read_is_ambiguous() {
    for (reaction, cause) in [
        (Reaction::Answer(200, "<html>Sign in</html>".into()), Cause::Unreadable),
        (
            Reaction::Answer(502, "<html>Bad gateway</html>".into()),
            Cause::Status(502),
        ),
        (Reaction::Big(10 * 1024 * 1024), Cause::Unreadable),
        (Reaction::Drip, Cause::TimedOut),
    ] {
        let reacted = reaction.clone();
        let provider = Provider::start(move |_, _| reacted.clone()).await;
        let settings = match cause {
            Cause::TimedOut => impatient(&provider.url),
            _ => settings(&provider.url),
        };
        let client = PaymentClient::new(&settings).unwrap();
        assert_eq!(
            client.charge(&a_charge(), patient()).await,
            Answer::Ambiguous(cause),
            "{reaction:?}"
        );
    }
}

#[tokio::test]
async fn a_redirect_is_not_followed_so_the_secret_stays_here() {
    let thief = Provider::start(|_, _| succeeded()).await;
    let to = format!("{}/v1/payment_intents", thief.url);
    let provider = Provider::start(move |_, _| Reaction::Redirect(to.clone())).await;
    assert_eq!(
        client(&provider).charge(&a_charge(), patient()).await,
        Answer::Ambiguous(Cause::Status(307))
    );
    assert_eq!(thief.connections(), 0);
}

#[tokio::test]
async fn the_breaker_opens_refuses_without_a_connection_and_closes_after_one_good_probe() {
    let provider = Provider::start(|n, _| {
        if n < 3 {
            Reaction::Answer(500, "{}".into())
        } else {
            succeeded()
        }
    })
    .await;
    let mut settings = settings(&provider.url);
    // Long enough for one call, also on a busy machine.
    let open_min = Duration::from_secs(2);
    settings.breaker = BreakerPolicy {
        consecutive_failures: 3,
        open_min,
        ..settings.breaker
    };
    let shown = Metrics::new(&[]);
    let client = PaymentClient::with_metrics(&settings, &shown.dependencies).unwrap();
    let metrics = shown.dependencies.egress("payments");
    for _ in 0..3 {
        assert_eq!(
            client.charge(&a_charge(), patient()).await,
            Answer::Ambiguous(Cause::Status(500))
        );
    }
    assert_eq!(metrics.breaker.state.get(), OPEN);
    let before = (provider.connections(), provider.seen().len());
    let refused = client.charge(&a_charge(), patient()).await;
    assert!(
        matches!(refused, Answer::NotExecuted(Cause::BreakerOpen { .. })),
        "{refused:?}"
    );
    assert_eq!((provider.connections(), provider.seen().len()), before);
    let text = shown.openmetrics().unwrap();
    for (name, value) in [("state", OPEN), ("openings_total", 1), ("refusals_total", 1)] {
        let line = format!("waybill_breaker_{name}{{dependency=\"payments\"}} {value}");
        assert!(text.lines().any(|shown| shown == line), "{line} is not in\n{text}");
    }

    let closed = async {
        while client.charge(&a_charge(), patient()).await != receipt("pi_1") {
            tokio::time::sleep(client.retry_after().unwrap_or_default()).await;
        }
    };
    patient().bound(closed).await.expect("the breaker closes");
    assert_eq!((metrics.breaker.state.get(), provider.seen().len()), (CLOSED, 4));
}

#[tokio::test]
async fn declines_and_429s_leave_the_breaker_closed() {
    let provider = Provider::start(|n, _| match n % 2 {
        0 => refusal(402, "card_error", "card_declined"),
        _ => refusal(429, "api_error", "rate_limit"),
    })
    .await;
    let mut settings = settings(&provider.url);
    settings.breaker = BreakerPolicy {
        consecutive_failures: 1,
        ..BreakerPolicy::default()
    };
    let (client, metrics) = counted(&settings);
    for _ in 0..10 {
        let answer = client.charge(&a_charge(), patient()).await;
        assert!(
            matches!(answer, Answer::Declined(_) | Answer::NotExecuted(Cause::Throttled)),
            "{answer:?}"
        );
    }
    assert_eq!(metrics.breaker.state.get(), CLOSED);
}

#[tokio::test]
async fn the_budget_ends_a_storm_of_retries() {
    let provider = Provider::start(|_, _| Reaction::Close).await;
    let mut settings = settings(&provider.url);
    settings.retry_budget = BudgetPolicy {
        per_second: 0.0,
        saved_max: 5.0,
        ..BudgetPolicy::default()
    };
    let (client, metrics) = counted(&settings);
    for _ in 0..50 {
        assert_eq!(
            client.charge(&a_charge(), patient()).await,
            Answer::Ambiguous(Cause::ConnectionLost)
        );
    }
    // 5 saved up, and a tenth of 50; the last tenth may be a hair short of one in binary.
    let retries = metrics.retries.get();
    assert!((9..=10).contains(&retries), "{metrics:?}");
    assert_eq!(provider.seen().len() as u64, 50 + retries);
    assert_eq!(metrics.retries_refused.get(), 50 - retries);
}

#[tokio::test]
async fn a_call_that_finds_no_slot_waits_in_the_line_until_its_deadline_and_cancelled_calls_leave_their_slots() {
    let provider = Provider::start(|_, _| Reaction::Hang).await;
    let mut settings = settings(&provider.url);
    settings.in_flight_max = 2;
    settings.attempt_timeout = Duration::from_secs(20);
    let (client, metrics) = counted(&settings);
    let client = Arc::new(client);
    let calls = TaskTracker::new();
    let in_flight: Vec<_> = (0..2)
        .map(|_| {
            let client = Arc::clone(&client);
            calls.spawn(async move { client.charge(&a_charge(), patient()).await })
        })
        .collect();
    provider.until_seen(2).await;
    let soon = Deadline::after(Duration::from_millis(50));
    assert_eq!(
        client.charge(&a_charge(), soon).await,
        Answer::NotExecuted(Cause::BulkheadFull)
    );
    let bulkhead = metrics.bulkhead;
    assert_eq!((bulkhead.in_flight.get(), bulkhead.shed.get()), (2, 1));
    assert_eq!(provider.seen().len(), 2);

    for call in in_flight {
        call.abort();
        assert!(call.await.unwrap_err().is_cancelled());
    }
    assert_eq!((bulkhead.in_flight.get(), bulkhead.waiting.get()), (0, 0));
}

/// The place is for the whole step: with one place in all, a second wait for it would last until the deadline.
#[tokio::test]
async fn a_charge_that_brings_its_place_along_stands_in_no_line_and_keeps_the_place_for_its_reads() {
    let provider = Provider::start(|n, _| match n {
        0 => Reaction::Answer(200, object("pi_1", "processing")),
        _ => succeeded(),
    })
    .await;
    let mut settings = settings(&provider.url);
    settings.in_flight_max = 1;
    let (client, metrics) = counted(&settings);
    let place = client.charge_place(jiff::Timestamp::now()).await.unwrap();
    let request = ChargeRequest {
        place: Some(&place),
        ..a_charge()
    };
    assert_eq!(client.charge(&request, patient()).await, receipt("pi_1"));
    assert_eq!((provider.seen().len(), metrics.bulkhead.in_flight.get()), (2, 1));
    drop(place);
    assert_eq!((metrics.bulkhead.in_flight.get(), metrics.bulkhead.shed.get()), (0, 0));
}

#[tokio::test]
async fn the_rate_limit_spaces_calls_out_and_refuses_what_would_come_too_late() {
    let provider = Provider::start(|_, _| succeeded()).await;
    let mut settings = settings(&provider.url);
    settings.rate_per_second = NonZeroU32::new(1).unwrap();
    let (client, metrics) = counted(&settings);
    for _ in 0..2 {
        assert_eq!(client.charge(&a_charge(), patient()).await, receipt("pi_1"));
    }
    assert_eq!(metrics.rate_limit.waits.get(), 1);
    let hurried = client
        .charge(&a_charge(), Deadline::after(Duration::from_millis(50)))
        .await;
    assert_eq!(hurried, Answer::NotExecuted(Cause::RateLimited));
    assert_eq!(metrics.rate_limit.refusals.get(), 1);
    assert_eq!(provider.seen().len(), 2);
}

/// The attempt alone would take a minute: only the deadline can end it before the test itself ends.
#[tokio::test]
async fn the_deadline_ends_an_attempt_and_a_call_after_it_is_not_sent() {
    let provider = Provider::start(|_, _| Reaction::Hang).await;
    let mut settings = settings(&provider.url);
    settings.attempt_timeout = Duration::from_mins(1);
    settings.total_timeout = Duration::from_mins(1);
    settings.breaker.consecutive_failures = 1;
    let (client, metrics) = counted(&settings);
    let request = a_charge();
    let call = client.charge(&request, Deadline::after(Duration::from_millis(100)));
    assert_eq!(patient().bound(call).await, Ok(Answer::Ambiguous(Cause::TimedOut)));
    // A caller in a hurry has learned nothing about the provider.
    assert_eq!(metrics.breaker.state.get(), CLOSED);
    let late = client.charge(&request, Deadline::after(Duration::ZERO)).await;
    assert_eq!(
        (late, provider.seen().len()),
        (Answer::NotExecuted(Cause::DeadlinePassed), 1)
    );
}

/// As an order's step calls: its deadline is the time that a call may take, and an attempt may take all of it.
#[tokio::test]
async fn a_provider_that_never_answers_opens_the_breaker() {
    let provider = Provider::start(|_, _| Reaction::Hang).await;
    let mut settings = settings(&provider.url);
    settings.attempt_timeout = Duration::from_millis(200);
    settings.total_timeout = Duration::from_millis(200);
    settings.breaker.consecutive_failures = 3;
    let (client, metrics) = counted(&settings);
    for _ in 0..3 {
        assert_eq!(metrics.breaker.state.get(), CLOSED);
        let answer = client
            .charge(&a_charge(), Deadline::after(settings.total_timeout))
            .await;
        assert_eq!(answer, Answer::Ambiguous(Cause::TimedOut));
    }
    assert_eq!((metrics.breaker.state.get(), provider.seen().len()), (OPEN, 3));
}

#[tokio::test]
async fn the_total_timeout_bounds_a_call_without_a_deadline() {
    let provider = Provider::start(|_, _| Reaction::Drip).await;
    let mut settings = settings(&provider.url);
    settings.attempt_timeout = Duration::from_mins(1);
    settings.total_timeout = Duration::from_millis(100);
    let client = PaymentClient::new(&settings).unwrap();
    let request = a_charge();
    let call = client.charge(&request, Deadline::after(Duration::MAX));
    assert_eq!(patient().bound(call).await, Ok(Answer::Ambiguous(Cause::TimedOut)));
}

#[tokio::test]
async fn a_pending_refund_is_in_progress_until_the_object_itself_is_settled() {
    // The replay of the key is "pending" for ever; the object itself moves on.
    let provider = Provider::start(|n, seen| match (seen.line.split(' ').next(), n) {
        (Some("POST"), _) | (_, 1) => Reaction::Answer(200, object("re_1", "pending")),
        (_, 3) => refusal(404, "invalid_request_error", "resource_missing"),
        (_, 5) => Reaction::Answer(200, object("re_1", "failed")),
        _ => Reaction::Answer(200, object("re_1", "succeeded")),
    })
    .await;
    let client = client(&provider);
    assert_eq!(client.refund(&a_refund(), patient()).await, Answer::InProgress);
    assert_eq!(client.refund(&a_refund(), patient()).await, Answer::InProgress);
    let failed = client.refund(&a_refund(), patient()).await;
    assert!(
        matches!(&failed, Answer::Failed { provider_id, reason } if provider_id == "re_1" && reason.code == "refund_failed"),
        "{failed:?}"
    );
    assert_eq!(client.refund(&a_refund(), patient()).await, receipt("re_1"));
    assert_eq!(provider.seen()[1].line, "GET /v1/refunds/re_1 HTTP/1.1");
}

/// By whom, the list of the payment's refunds says: which are an order's, and which of its refunds each is.
#[tokio::test]
async fn what_is_refunded_already_decides_nothing_and_the_list_says_whose_each_refund_is() {
    let by_hand = object("re_1", "succeeded").replace("order_id", "note");
    let first = object("re_2", "succeeded");
    let second = object("re_3", "failed").replace(r#""order_id""#, r#""refund_number":"2","order_id""#);
    let list = format!(r#"{{"object":"list","has_more":false,"data":[{by_hand},{first},{second}]}}"#);
    for (code, param) in [
        ("charge_already_refunded", ""),
        ("amount_too_large", ""),
        ("", "amount"),
    ] {
        let list = list.clone();
        let provider = Provider::start(move |_, seen| {
            if seen.line.starts_with("POST") {
                let error = format!(
                    r#"{{"error":{{"type":"invalid_request_error","code":"{code}","param":"{param}","message":""}}}}"#
                );
                return Reaction::Answer(400, error);
            }
            Reaction::Answer(200, list.clone())
        })
        .await;
        let client = client(&provider);
        let refused = client.refund(&a_refund(), patient()).await;
        assert_eq!(refused, Answer::Ambiguous(Cause::RefundedElsewhere), "{code}");
        let found = client.find_refunds("pi_1", patient()).await.unwrap();
        let found: Vec<_> = found.iter().map(|one| (one.provider_id.as_str(), one.number)).collect();
        assert_eq!(found, [("re_1", None), ("re_2", Some(1)), ("re_3", Some(2))]);
        assert_eq!(
            provider.seen()[1].line,
            "GET /v1/refunds?limit=100&payment_intent=pi_1 HTTP/1.1"
        );
    }
}

#[tokio::test]
async fn lists_are_paged_to_their_end_and_hold_only_what_succeeded() {
    let provider = Provider::start(|n, _| {
        let (data, has_more) = match n {
            0 => (
                format!("{},{}", object("pi_3", "succeeded"), object("pi_2", "canceled")),
                true,
            ),
            // Larger than the cap of a single object, as pages are.
            _ => (format!("{}{}", object("pi_1", "succeeded"), " ".repeat(200_000)), false),
        };
        Reaction::Answer(
            200,
            format!(r#"{{"object":"list","has_more":{has_more},"data":[{data}]}}"#),
        )
    })
    .await;
    let movements = client(&provider).list_charges(march(), 100).await.unwrap().unwrap();
    let ids: Vec<&str> = movements.iter().map(|movement| movement.provider_id.as_str()).collect();
    assert_eq!(ids, ["pi_3", "pi_1"]);
    assert_eq!(movements[0].order_id, Some(ORDER));
    assert_eq!(
        (movements[0].amount_minor, movements[0].currency.as_str()),
        (1250, "EUR")
    );
    let lines: Vec<String> = provider.seen().into_iter().map(|seen| seen.line).collect();
    let asked = "GET /v1/payment_intents?limit=100&created%5Bgte%5D=1772323200&created%5Blt%5D=1775001600";
    assert_eq!(lines[0], format!("{asked} HTTP/1.1"));
    assert_eq!(lines[1], format!("{asked}&starting_after=pi_2 HTTP/1.1"));
}

#[tokio::test]
async fn a_list_that_cannot_be_read_to_its_end_is_no_list() {
    let provider = Provider::start(|n, _| match n {
        0 => Reaction::Answer(
            200,
            format!(r#"{{"has_more":true,"data":[{}]}}"#, object("re_1", "succeeded")),
        ),
        _ => Reaction::Answer(500, "{}".into()),
    })
    .await;
    let refunds = client(&provider).list_refunds(march(), 100).await;
    assert_eq!(refunds, Err(Cause::Status(500)));
}

#[tokio::test]
async fn a_list_that_is_longer_than_wanted_is_not_read_to_its_end() {
    let provider = Provider::start(|n, _| {
        let page = format!(
            r#"{{"has_more":true,"data":[{}]}}"#,
            object(&format!("re_{n}"), "succeeded")
        );
        Reaction::Answer(200, page)
    })
    .await;
    assert_eq!(client(&provider).list_refunds(march(), 3).await, Ok(None));
    assert_eq!(provider.seen().len(), 4);
}

#[tokio::test]
async fn the_oldest_payment_of_an_account_is_found_to_the_day_without_its_list() {
    const OLDEST: i64 = 1_700_000_000;
    let provider = Provider::start(|_, seen| {
        let before: i64 = seen
            .line
            .split("%5D=")
            .nth(1)
            .unwrap()
            .trim_end_matches(" HTTP/1.1")
            .parse()
            .unwrap();
        let data = if before > OLDEST {
            object("pi_1", "succeeded")
        } else {
            String::new()
        };
        Reaction::Answer(200, format!(r#"{{"has_more":false,"data":[{data}]}}"#))
    })
    .await;
    let until = Timestamp::from_second(1_772_323_200).unwrap();
    let found = client(&provider).oldest_payment(until).await.unwrap().unwrap();
    let earlier = OLDEST - found.as_second();
    assert!((0..=24 * 3_600).contains(&earlier), "{earlier} s before it");
    assert!(provider.seen().len() < 20, "{} calls", provider.seen().len());
    let before_all = Timestamp::from_second(OLDEST).unwrap();
    assert_eq!(client(&provider).oldest_payment(before_all).await, Ok(None));
}

#[tokio::test]
async fn one_payment_is_read_by_its_id_and_an_id_is_not_a_path() {
    let provider = Provider::start(|_, _| Reaction::Answer(200, object("pi_1", "requires_action"))).await;
    let client = client(&provider);
    let payment = client.retrieve("pi_1", patient()).await.unwrap();
    assert_eq!(
        (payment.status.as_str(), payment.order_id),
        ("requires_action", Some(ORDER))
    );
    assert_eq!(client.retrieve("../refunds", patient()).await, Err(Cause::Unsendable));
    assert_eq!(provider.seen().len(), 1);
}

#[tokio::test]
async fn no_text_about_the_client_holds_the_secret() {
    let provider = Provider::start(|_, _| succeeded()).await;
    let settings = settings(&provider.url);
    let client = PaymentClient::new(&settings).unwrap();
    let texts = format!("{settings:?} {client:?}");
    assert!(!texts.contains(SECRET) && !texts.contains("sk_test"), "{texts}");

    let bad = PaymentSettings::new(&provider.url, SecretString::from(format!("{SECRET}\n")));
    let error = PaymentClient::new(&bad).unwrap_err();
    assert!(matches!(error, SettingsError::Secret) && !format!("{error} {error:?}").contains(SECRET));
    for url in ["ftp://127.0.0.1", "127.0.0.1:80", "", "http://user:word@127.0.0.1"] {
        let error = PaymentClient::new(&PaymentSettings::new(url, SecretString::from(SECRET))).unwrap_err();
        assert!(matches!(error, SettingsError::BaseUrl), "{url}");
    }
}

#[tokio::test]
async fn a_key_that_no_header_can_carry_is_not_sent() {
    let provider = Provider::start(|_, _| succeeded()).await;
    for key in ["", "a\nb", &"k".repeat(256)] {
        let answer = client(&provider)
            .charge(&ChargeRequest { key, ..a_charge() }, patient())
            .await;
        assert_eq!(answer, Answer::NotExecuted(Cause::Unsendable));
    }
    assert_eq!(provider.connections(), 0);
}
