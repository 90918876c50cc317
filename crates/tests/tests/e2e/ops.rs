//! What operators and their machines see: health, readiness, metrics, reflection.

use std::collections::BTreeSet;
use std::io::Write as _;
use std::process::Stdio;

use futures_util::FutureExt as _;
use serde_json::{Value, json};
use testkit::process::{installed, read};
use testkit::wire::{a_ride, channel, get, get_json, http};
use testkit::{Rig, ServerProcess, until, until_eq};
use tonic::transport::Channel;
use tonic::{Code, Streaming};
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse};
use tonic_reflection::pb::v1::ServerReflectionRequest;
use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;
use waybill_proto::order::v1::GetOrderRequest;
use waybill_sandbox::port;
use waybill_sandbox::process::{Launch, Process};
use waybill_sandbox::proxy::Mode;

const ORDERS: &str = "waybill.order.v1.OrderService";
const LOCATIONS: &str = "waybill.location.v1.LocationService";
const FLEET: &str = "waybill.fleet.v1.FleetService";

async fn health(mut client: HealthClient<Channel>, service: &str) -> Result<ServingStatus, Code> {
    let request = HealthCheckRequest {
        service: service.to_owned(),
    };
    match client.check(request).await {
        Ok(answer) => Ok(answer.into_inner().status()),
        Err(status) => Err(status.code()),
    }
}

async fn until_health(rig: &Rig, service: &str, status: ServingStatus) {
    until_eq(service, Ok(status), async || health(rig.health(), service).await).await;
}

async fn ready(rig: &Rig) -> (u16, Value) {
    get_json(&format!("{}/readyz", rig.http())).await
}

/// Waits until `/readyz` has this status; its report.
async fn until_ready(rig: &Rig, status: u16) -> Value {
    until("/readyz has the status", async || match ready(rig).await {
        (found, report) if found == status => Ok(report),
        other => Err(other),
    })
    .await
}

#[tokio::test]
async fn a_server_with_its_stores_is_alive_and_ready() {
    let rig = Rig::start().await;
    assert_eq!(get(&format!("{}/livez", rig.http())).await.0, 200);
    let (status, report) = ready(&rig).await;
    assert_eq!(status, 200, "{report}");
    let expected = json!({ "status": "ready", "checks": { "payments": "ok", "postgres": "ok", "redis": "ok" } });
    assert_eq!(report, expected);
    assert_eq!(get(&format!("{}/", rig.http())).await.0, 404);
}

#[tokio::test]
async fn a_server_without_redis_is_alive_and_not_ready_and_says_why() {
    let rig = Rig::builder().redis_through_proxy().start().await;
    for mode in [Mode::Refuse, Mode::Blackhole] {
        rig.redis_line().set_mode(mode);
        let report = until_ready(&rig, 503).await;
        assert_eq!(report["status"], "not ready", "{mode:?}: {report}");
        assert_eq!(report["checks"]["postgres"], "ok", "{mode:?}: {report}");
        assert_ne!(report["checks"]["redis"], "ok", "{mode:?}: {report}");
        assert_eq!(get(&format!("{}/livez", rig.http())).await.0, 200);
        rig.redis_line().set_mode(Mode::Pass);
        until_ready(&rig, 200).await;
    }
}

#[tokio::test]
async fn without_postgres_orders_are_not_served_and_locations_are() {
    let rig = Rig::builder().postgres_through_proxy().start().await;
    for service in ["", ORDERS, LOCATIONS, FLEET] {
        until_health(&rig, service, ServingStatus::Serving).await;
    }
    let unknown = health(rig.health(), "waybill.rides.v1.RideService").await;
    assert_eq!(unknown, Err(Code::NotFound));

    rig.postgres_line().set_mode(Mode::Refuse);
    for service in ["", ORDERS, FLEET] {
        until_health(&rig, service, ServingStatus::NotServing).await;
    }
    assert_eq!(health(rig.health(), LOCATIONS).await, Ok(ServingStatus::Serving));
    let (status, report) = ready(&rig).await;
    assert_eq!((status, &report["checks"]["redis"]), (503, &json!("ok")), "{report}");
    assert_ne!(report["checks"]["postgres"], "ok", "{report}");

    rig.postgres_line().set_mode(Mode::Pass);
    until_health(&rig, ORDERS, ServingStatus::Serving).await;
}

/// The next status that a watcher of a service gets.
async fn next_status(statuses: &mut Streaming<HealthCheckResponse>) -> ServingStatus {
    statuses.message().await.unwrap().expect("it goes on").status()
}

#[tokio::test]
async fn who_watches_a_service_gets_changes_alone_and_of_one_that_is_not_there_that_it_is_not() {
    let rig = Rig::builder().redis_through_proxy().start().await;
    let watch = async |service: &str| {
        let request = HealthCheckRequest {
            service: service.to_owned(),
        };
        rig.health().watch(request).await.unwrap().into_inner()
    };
    until_health(&rig, ORDERS, ServingStatus::Serving).await;
    let (mut orders, mut rides) = (watch(ORDERS).await, watch("waybill.rides.v1.RideService").await);
    assert_eq!(next_status(&mut rides).await, ServingStatus::ServiceUnknown);
    assert_eq!(next_status(&mut orders).await, ServingStatus::Serving);
    for (mode, status) in [
        (Mode::Refuse, ServingStatus::NotServing),
        (Mode::Pass, ServingStatus::Serving),
    ] {
        // Meanwhile it is looked at again, and is as it was.
        let answered = rig.redis_line().traffic().reply_bytes;
        until("it was looked at", async || {
            mode == Mode::Pass || rig.redis_line().traffic().reply_bytes > answered + 100
        })
        .await;
        rig.redis_line().set_mode(mode);
        assert_eq!(next_status(&mut orders).await, status);
    }
    assert!(rides.message().now_or_never().is_none(), "it is open, and says no more");
}

/// Before it was looked at for the first time it does not serve, and is there.
#[tokio::test]
async fn who_watches_a_server_from_its_first_moment_on_learns_that_it_serves() {
    let rig = Rig::start().await;
    let request = HealthCheckRequest {
        service: ORDERS.to_owned(),
    };
    let mut statuses = rig.health().watch(request).await.unwrap().into_inner();
    loop {
        match next_status(&mut statuses).await {
            ServingStatus::Serving => return,
            status => assert_eq!(status, ServingStatus::NotServing),
        }
    }
}

#[tokio::test]
async fn without_redis_nothing_is_served() {
    let rig = Rig::builder().redis_through_proxy().start().await;
    rig.redis_line().set_mode(Mode::Refuse);
    for service in ["", ORDERS, LOCATIONS, FLEET] {
        until_health(&rig, service, ServingStatus::NotServing).await;
    }
}

#[tokio::test]
async fn a_redis_that_may_lose_fixes_is_warned_of_and_ready() {
    let mut rig = Rig::builder().private_stores().start().await;
    for (setting, value) in [("appendfsync", "everysec"), ("appendonly", "no")] {
        let mut set = redis::cmd("CONFIG");
        set.arg("SET").arg(setting).arg(value);
        set.exec_async(&mut rig.redis().await).await.unwrap();
        let (status, report) = ready(&rig).await;
        assert_eq!(status, 200, "{report}");
        let warning = report["warnings"][0].as_str().unwrap();
        assert!(warning.starts_with("redis: ") && warning.contains(setting), "{warning}");
    }
    rig.stop_servers().await;
}

#[tokio::test]
async fn the_metrics_have_the_keys_that_they_must_and_count_a_call() {
    let rig = Rig::start().await;
    let unknown = GetOrderRequest {
        order_id: uuid::Uuid::now_v7().to_string(),
    };
    rig.orders().get_order(unknown).await.unwrap_err();
    rig.driver_at("cab-1", 1.0, 1.0).await;

    let metrics = until("both calls have ended", async || {
        let metrics = rig.metrics().await;
        if metrics["total_requests"] == 2 {
            Ok(metrics)
        } else {
            Err(metrics)
        }
    })
    .await;
    for key in "uptime_sec total_errors in_flight rate_limit_waits rate_limit_wait_ms".split(' ') {
        assert!(metrics[key].is_u64(), "{key}: {metrics}");
    }
    let found = json!([metrics["total_errors"], metrics["in_flight"]]);
    assert_eq!(found, json!([1, 0]));
    let method = &metrics["methods"]["/waybill.order.v1.OrderService/GetOrder"];
    let keys: BTreeSet<&str> = method.as_object().unwrap().keys().map(String::as_str).collect();
    let required = "count errors in_flight avg_latency_ms max_latency_ms last_latency_ms p50_ms p95_ms p99_ms";
    assert_eq!(keys, required.split(' ').collect());
    assert_eq!(json!([method["count"], method["errors"]]), json!([1, 1]));
    assert!(method["max_latency_ms"].as_f64() > Some(0.0), "{method}");
    let good = &metrics["methods"]["/waybill.location.v1.LocationService/ReportLocations"];
    assert_eq!(json!([good["count"], good["errors"]]), json!([1, 0]));
}

#[tokio::test]
async fn a_scraper_that_asks_for_text_gets_text() {
    let rig = Rig::start().await;
    rig.driver_at("cab-1", 1.0, 1.0).await;
    for accept in [
        "text/plain",
        "application/openmetrics-text;version=1.0.0,text/plain;q=0.5",
    ] {
        let request = http().get(format!("{}/metrics", rig.http()));
        let answer = request.header("accept", accept).send().await.unwrap();
        let kind = answer.headers()["content-type"].to_str().unwrap().to_owned();
        assert!(kind.starts_with(accept.split(';').next().unwrap()), "{kind}");
        let text = answer.text().await.unwrap();
        let is_new = accept.starts_with("application/openmetrics-text");
        let counter = if is_new { "waybill_fixes" } else { "waybill_fixes_total" };
        assert!(text.contains(&format!("# TYPE {counter} counter\n")), "{text}");
        assert_eq!(text.ends_with("# EOF\n"), is_new, "{text}");
        assert!(text.contains("ReportLocations"), "{text}");
    }
}

/// By the scraper's own checks: of the format, and of what good names and helps are.
#[tokio::test]
async fn prometheus_finds_nothing_wrong_with_the_metrics() {
    let Some(promtool) = installed("promtool") else { return };
    let rig = Rig::start().await;
    rig.driver_at("cab-1", 1.0, 1.0).await;
    let request = http().get(format!("{}/metrics", rig.http()));
    let request = request.header("accept", "text/plain;version=0.0.4");
    let text = request.send().await.unwrap().text().await.unwrap();
    let mut command = std::process::Command::new(promtool);
    command.args(["check", "metrics"]).stdin(Stdio::piped());
    let mut check = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    check.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let checked = check.wait_with_output().unwrap();
    let found = String::from_utf8_lossy(&[checked.stdout, checked.stderr].concat()).into_owned();
    assert!(checked.status.success() && found.is_empty(), "{found}{text}");
}

/// What a Prometheus answers to this path of its API.
async fn prometheus(port: u16, path: &str) -> Value {
    let url = format!("http://127.0.0.1:{port}/api/v1/{path}");
    match http().get(&url).send().await {
        Ok(answer) => answer.json().await.unwrap_or_default(),
        Err(error) => json!({ "error": error.to_string() }),
    }
}

/// A Prometheus as it is installed, which is given the address of the server and nothing else.
#[tokio::test]
async fn prometheus_scrapes_a_server_and_knows_its_metrics() {
    let Some(program) = installed("prometheus") else { return };
    let rig = Rig::start().await;
    rig.driver_at("cab-1", 1.0, 1.0).await;
    let (port, nothing) = (port::free(), port::free());
    let target = rig.http().replace("http://", "");
    let settings = format!(
        "global: {{ scrape_interval: 1s }}
scrape_configs:
  - job_name: waybill
    static_configs: [{{ targets: [\"{target}\"] }}]
  - job_name: nothing
    static_configs: [{{ targets: [\"127.0.0.1:{nothing}\"] }}]
"
    );
    let (file, log) = (rig.folder().join("prometheus.yml"), rig.folder().join("prometheus.log"));
    std::fs::write(&file, settings).unwrap();
    let args = [
        format!("--config.file={}", file.display()),
        format!("--storage.tsdb.path={}", rig.folder().join("prometheus").display()),
        format!("--web.listen-address=127.0.0.1:{port}"),
    ];
    let _process = Process::start(Launch {
        program,
        args: args.map(Into::into).into(),
        output: std::fs::File::create(&log).unwrap(),
    })
    .unwrap();
    let value = async |query: &str| {
        let answer = prometheus(port, &format!("query?query={query}")).await;
        let value = answer["data"]["result"][0]["value"][1].as_str();
        value
            .map(str::to_owned)
            .ok_or_else(|| format!("{answer} {}", read(&log)))
    };
    for (job, up) in [("waybill", "1"), ("nothing", "0")] {
        until_eq(job, Ok(up.to_owned()), async || {
            value(&format!("up{{job=\"{job}\"}}")).await
        })
        .await;
    }
    let calls = "{method=\"/waybill.location.v1.LocationService/ReportLocations\"}";
    for metric in ["waybill_grpc_calls_total", "waybill_grpc_latency_seconds_count"] {
        until_eq(metric, Ok("1".to_owned()), async || {
            value(&format!("{metric}{calls}")).await
        })
        .await;
    }
    let known = prometheus(port, "metadata").await;
    let kind = |names: [&str; 2]| {
        let of = names.iter().find_map(|name| known["data"][name][0]["type"].as_str());
        of.unwrap_or_default().to_owned()
    };
    assert_eq!(
        kind(["waybill_grpc_calls", "waybill_grpc_calls_total"]),
        "counter",
        "{known}"
    );
    assert_eq!(kind(["waybill_grpc_latency_seconds"; 2]), "histogram", "{known}");
    assert_eq!(kind(["waybill_connections_open"; 2]), "gauge", "{known}");
}

async fn reflected(channel: Channel) -> Result<BTreeSet<String>, Code> {
    let request = ServerReflectionRequest {
        host: String::new(),
        message_request: Some(MessageRequest::ListServices(String::new())),
    };
    let mut client = ServerReflectionClient::new(channel);
    let answer = client.server_reflection_info(tokio_stream::once(request)).await;
    let mut answers = answer.map_err(|status| status.code())?.into_inner();
    match answers.message().await.unwrap().unwrap().message_response.unwrap() {
        MessageResponse::ListServicesResponse(list) => Ok(list.service.into_iter().map(|one| one.name).collect()),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn the_services_are_listed_only_where_reflection_is_on() {
    let rig = Rig::builder().set("grpc.reflection", "true").start().await;
    let services = reflected(channel(&rig.grpc_addr())).await.unwrap();
    for service in [ORDERS, LOCATIONS, FLEET, "grpc.health.v1.Health"] {
        assert!(services.contains(service), "{services:?}");
    }
    let rig = Rig::start().await;
    assert_eq!(reflected(channel(&rig.grpc_addr())).await, Err(Code::Unimplemented));
}

#[tokio::test]
async fn a_process_may_serve_locations_only() {
    let rig = Rig::builder().no_server().start().await;
    let server = ServerProcess::start(&rig, &[("grpc.services", "location")]).await;
    let refusal = server.orders().create_order(a_ride()).await.unwrap_err();
    assert_eq!(refusal.code(), Code::Unimplemented);
    let client = || HealthClient::new(channel(server.grpc_addr()));
    let serving = Ok(ServingStatus::Serving);
    until_eq(LOCATIONS, serving, async || health(client(), LOCATIONS).await).await;
    assert_eq!(health(client(), ORDERS).await, Err(Code::NotFound));
    let mut stream = crate::locations::driver_stream::DriverStream::open(server.locations()).await;
    stream
        .store(0, crate::locations::driver_stream::track("cab-1", 1))
        .await;
    assert_eq!(server.stop().await.code(), Some(0));
}

/// Numbers and reasons are for who has the token, where one is set. Whether the process lives is no secret.
#[tokio::test]
async fn with_a_token_the_numbers_are_for_who_has_it() {
    let rig = Rig::builder().set("http.token", "scraper-canary").start().await;
    let ask = async |path: &str, header: Option<&str>| {
        let mut call = http().get(format!("{}{path}", rig.http()));
        if let Some(header) = header {
            call = call.header("authorization", header);
        }
        let answer = call.send().await.unwrap();
        let challenge = answer
            .headers()
            .get("www-authenticate")
            .map(|value| value.as_bytes().to_vec());
        (answer.status().as_u16(), challenge)
    };
    for path in ["/metrics", "/metrics?format=prometheus", "/readyz"] {
        for wrong in [
            None,
            Some("Bearer scraper-canar"),
            Some("Bearer scraper-canary2"),
            Some("Basic scraper-canary"),
            Some("Bearer "),
        ] {
            assert_eq!(
                ask(path, wrong).await,
                (401, Some(b"Bearer".to_vec())),
                "{path} {wrong:?}"
            );
        }
        assert_eq!(ask(path, Some("Bearer scraper-canary")).await.0, 200, "{path}");
        assert_eq!(ask(path, Some("bearer scraper-canary")).await.0, 200, "{path}");
    }
    assert_eq!(ask("/livez", None).await.0, 200);
    assert_eq!(ask("/", None).await.0, 404);
}
