//! `/livez`, `/readyz`, `/metrics`.

use std::net::SocketAddr;
use std::sync::Arc;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::Code;
use waybill_server::http;
use waybill_server::http::ops;
use waybill_server::metrics::Metrics;
use waybill_server::readiness::{Probe, ProbeOutcome, Readiness};
use waybill_server::resilience::BreakerState;

const CREATE: &str = "/waybill.order.v1.OrderService/CreateOrder";

#[tokio::test]
async fn livez_is_ok_whatever_the_stores_do() {
    let server = OpsServer::start(vec![Probe::new("redis", || async {
        ProbeOutcome::Failed("gone".to_owned())
    })])
    .await;
    assert_eq!(server.get("/livez").await.code, 200);
}

#[tokio::test]
async fn readyz_is_ready_when_every_probe_is_and_shows_warnings() {
    let server = OpsServer::start(vec![
        Probe::new("redis", || async {
            ProbeOutcome::Warning("appendfsync is everysec".to_owned())
        }),
        Probe::new("postgres", || async { ProbeOutcome::Ok }),
    ])
    .await;

    let answer = server.get("/readyz").await;
    assert_eq!(answer.code, 200);
    let expected = json!({
        "status": "ready",
        "checks": { "postgres": "ok", "redis": "ok" },
        "warnings": ["redis: appendfsync is everysec"],
    });
    assert_eq!(answer.json(), expected);
}

#[tokio::test]
async fn readyz_names_what_fails_and_what_hangs() {
    let server = OpsServer::start(vec![
        Probe::new("postgres", || async { Err("connection refused".to_owned()).into() }),
        Probe::new("redis", std::future::pending),
        Probe::new("disk", || async { Ok(()).into() }),
    ])
    .await;

    let answer = server.get("/readyz").await;
    assert_eq!(answer.code, 503);
    let expected = json!({
        "status": "not ready",
        "checks": { "disk": "ok", "postgres": "connection refused", "redis": "no answer within 500 ms" },
    });
    assert_eq!(answer.json(), expected);
}

#[tokio::test]
async fn readyz_is_draining_from_the_moment_the_drain_begins() {
    let server = OpsServer::start(vec![Probe::new("redis", || async { ProbeOutcome::Ok })]).await;
    assert_eq!(server.get("/readyz").await.code, 200);

    server.draining.cancel();
    let answer = server.get("/readyz").await;
    assert_eq!((answer.code, &answer.json()["status"]), (503, &json!("draining")));
}

#[tokio::test]
async fn the_json_snapshot_has_exactly_the_names_of_the_contract_first() {
    let server = OpsServer::start(vec![]).await;
    server.metrics.grpc.begin(CREATE).finish(Code::Ok);
    server.metrics.grpc.begin(CREATE).finish(Code::NotFound);
    drop(server.metrics.grpc.begin("/no.Such/Method"));
    let _in_flight = server.metrics.grpc.begin(CREATE);
    server.metrics.locations.rejected("time_too_old", 2);
    server.metrics.orders.step("charge", "succeeded");
    server
        .metrics
        .dependencies
        .breaker("payments")
        .changed_to(BreakerState::HalfOpen);

    let answer = server.get("/metrics").await;
    assert_eq!(answer.header("content-type"), Some("application/json"));
    assert_eq!(
        names_in_order(&answer.body)[..7],
        [
            "uptime_sec",
            "total_requests",
            "total_errors",
            "in_flight",
            "rate_limit_waits",
            "rate_limit_wait_ms",
            "methods"
        ]
    );
    let shown = answer.json();
    let method = shown["methods"][CREATE].as_object().expect("the method is shown");
    let mut names: Vec<&str> = method.keys().map(String::as_str).collect();
    names.sort_unstable();
    let mut expected = [
        "count",
        "errors",
        "in_flight",
        "avg_latency_ms",
        "max_latency_ms",
        "last_latency_ms",
        "p50_ms",
        "p95_ms",
        "p99_ms",
    ];
    expected.sort_unstable();
    assert_eq!(names, expected);
    assert_eq!(
        (&method["count"], &method["errors"], &method["in_flight"]),
        (&json!(2), &json!(1), &json!(1))
    );
    assert_eq!(
        (&shown["total_requests"], &shown["total_errors"], &shown["in_flight"]),
        (&json!(3), &json!(2), &json!(1))
    );
    assert_eq!(shown["methods"]["unknown"]["count"], json!(1));
    assert_eq!(
        shown["methods"].as_object().map(serde_json::Map::len),
        Some(2),
        "no series for a path that a caller made up"
    );
    assert_eq!(shown["locations"]["rejected"], json!({ "time_too_old": 2 }));
    assert_eq!(shown["orders"]["steps"], json!({ "charge": { "succeeded": 1 } }));
    assert_eq!(shown["dependencies"]["breakers"], json!({ "payments": "half_open" }));
}

#[tokio::test]
async fn prometheus_text_is_well_formed_and_given_to_those_who_ask() {
    let server = OpsServer::start(vec![]).await;
    server.metrics.grpc.begin(CREATE).finish(Code::NotFound);
    server.metrics.locations.stored(3);
    server.metrics.orders.finished("succeeded");
    server
        .metrics
        .dependencies
        .breaker("payments")
        .changed_to(BreakerState::Open);

    let asked = [
        server.get("/metrics?format=prometheus").await,
        server
            .get_accepting(
                "/metrics",
                "application/openmetrics-text;version=1.0.0,text/plain;q=0.5",
            )
            .await,
        server.get_accepting("/metrics", "text/plain;version=0.0.4").await,
    ];
    for answer in &asked {
        assert_eq!(answer.code, 200);
        match answer.body.strip_suffix("# EOF\n") {
            Some(openmetrics) => check_text(openmetrics, ""),
            None => check_text(&answer.body, "_total"),
        }
        for line in [
            format!("waybill_grpc_calls_total{{method=\"{CREATE}\",code=\"NOT_FOUND\"}} 1"),
            format!("waybill_grpc_in_flight{{method=\"{CREATE}\"}} 0"),
            format!("waybill_grpc_latency_seconds_count{{method=\"{CREATE}\"}} 1"),
            "waybill_fixes_total{outcome=\"stored\"} 3".to_owned(),
            "waybill_orders_finished_total{status=\"succeeded\"} 1".to_owned(),
            "waybill_breaker_state{dependency=\"payments\"} 2".to_owned(),
        ] {
            assert!(
                answer.body.lines().any(|found| found == line),
                "no line {line} in\n{}",
                answer.body
            );
        }
    }
    assert!(
        asked[0]
            .header("content-type")
            .unwrap()
            .starts_with("application/openmetrics-text")
    );
    assert!(asked[2].header("content-type").unwrap().starts_with("text/plain"));
    let are_marked = asked.each_ref().map(|answer| answer.body.ends_with("# EOF\n"));
    assert_eq!(are_marked, [true, true, false]);
}

#[tokio::test]
async fn anything_else_is_not_found_in_json() {
    let server = OpsServer::start(vec![]).await;
    let answer = server.get("/debug/pprof").await;
    assert_eq!((answer.code, &answer.json()["error"]), (404, &json!("not found")));
}

#[tokio::test]
async fn an_address_in_use_is_reported_in_one_line() {
    let taken = http::bind(SocketAddr::from(([127, 0, 0, 1], 0)), "--http-addr")
        .await
        .unwrap();
    let address = taken.local_addr().unwrap();
    let error = http::bind(address, "--http-addr").await.unwrap_err();
    assert_eq!(
        error.to_string(),
        format!("address {address} is in use: choose another with --http-addr")
    );
}

/// Every line is a sample of a metric whose HELP and TYPE came before it, once; the names of counters end so there.
fn check_text(text: &str, counters_end: &str) {
    let mut described = Vec::new();
    for line in text.lines() {
        if let Some(name) = line.strip_prefix("# TYPE ") {
            let (name, kind) = name.split_once(' ').unwrap();
            assert!(kind != "counter" || name.ends_with(counters_end), "{name}");
            assert!(!described.contains(&name), "{name} is described twice");
            described.push(name);
        } else if !line.starts_with("# ") {
            let current = described.last().expect("a description before the first sample");
            assert!(line.starts_with(current), "{line} is not of {current}");
            let value = line.rsplit(' ').next().unwrap();
            assert!(value.parse::<f64>().is_ok(), "{line} has no number");
        }
    }
    assert!(described.len() > 15, "{described:?}");
}

/// The names of the outermost object, in the order of the text.
fn names_in_order(json: &str) -> Vec<String> {
    let value: Value = serde_json::from_str(json).unwrap();
    let mut names: Vec<String> = value.as_object().unwrap().keys().cloned().collect();
    names.sort_by_key(|name| json.find(&format!("\"{name}\":")).unwrap());
    names
}

/// A running server server with its own metrics.
struct OpsServer {
    address: SocketAddr,
    metrics: Arc<Metrics>,
    draining: CancellationToken,
}

struct Answer {
    code: u16,
    head: String,
    body: String,
}

impl OpsServer {
    async fn start(probes: Vec<Probe>) -> OpsServer {
        let listener = http::bind(SocketAddr::from(([127, 0, 0, 1], 0)), "--http-addr")
            .await
            .unwrap();
        let address = listener.local_addr().unwrap();
        let metrics = Arc::new(Metrics::new(&[CREATE]));
        let draining = CancellationToken::new();
        let readiness = Arc::new(Readiness::new(probes, draining.clone()));
        let router = ops::router(Arc::clone(&metrics), readiness, String::new().into());
        TaskTracker::new().spawn(http::serve(listener, router, None, std::future::pending()));
        OpsServer {
            address,
            metrics,
            draining,
        }
    }

    async fn get(&self, path: &str) -> Answer {
        self.get_accepting(path, "*/*").await
    }

    async fn get_accepting(&self, path: &str, accept: &str) -> Answer {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nhost: waybill\r\naccept: {accept}\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        // The server closes after its answer, so the end of the stream is the end of the answer.
        let mut text = String::new();
        stream.read_to_string(&mut text).await.unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        let code = head.split(' ').nth(1).unwrap().parse().unwrap();
        Answer {
            code,
            head: head.to_owned(),
            body: body.to_owned(),
        }
    }
}

impl Answer {
    fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap()
    }

    fn header(&self, name: &str) -> Option<&str> {
        self.head
            .lines()
            .find_map(|line| line.strip_prefix(&format!("{name}: ")))
    }
}
