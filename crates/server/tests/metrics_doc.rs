//! `docs/metrics.md` is made from the code. Names, types, labels and help texts are those of the Prometheus text, and the
//! JSON fields are compared with the snapshot: a metric or a field that is not on the page fails this test.
//!
//! `RENEW_DOCS=1 cargo test -p waybill-server --test metrics_doc` writes the page.

#![allow(
    clippy::unwrap_used,
    reason = "the whole file is a test; clippy.toml excuses only the functions marked as such"
)]

use std::collections::BTreeSet;
use std::fmt::Write as _;

use serde_json::Value;
use tonic::Code;
use waybill_server::grpc;
use waybill_server::metrics::Metrics;

const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/metrics.md");

const INTRODUCTION: &str = "# Metrics

All that a Waybill process counts. This page is made from the help texts in `crates/server/src/metrics`, and a test keeps
it true; `RENEW_DOCS=1 cargo test -p waybill-server --test metrics_doc` writes it anew. What to do about a number is in
[the runbook](runbook.md).

`GET /metrics` at `http.addr` answers with JSON. With `?format=prometheus`, or with the `Accept` header of a scraper, the
same numbers come as Prometheus text (`OpenMetrics` 1.0), under the names of the first column. A counter counts from the
start of its process; a histogram has `_bucket`, `_sum` and `_count` after its name. A series appears when it first
counts, so an absent counter is 0. In a JSON field, `*` stands for the value of a label.
";

/// A part of the page: its title, and its metrics in the order of the code, each with its JSON fields.
type Part = (&'static str, &'static [(&'static str, &'static [&'static str])]);

const PARTS: &[Part] = &[
    (
        "Calls",
        &[
            ("waybill_grpc_calls_total", &["methods.*.count", "methods.*.errors"]),
            ("waybill_grpc_in_flight", &["methods.*.in_flight"]),
            ("waybill_grpc_latency_seconds", &["methods.*.avg_latency_ms"]),
            ("waybill_grpc_panics_total", &["panics"]),
        ],
    ),
    (
        "Connections and rate limits",
        &[
            ("waybill_rate_limit_waits_total", &["rate_limit_waits"]),
            ("waybill_rate_limit_wait_seconds_total", &["rate_limit_wait_ms"]),
            ("waybill_rate_limit_refusals_total", &["ingress.rate_limit_refusals.*"]),
            ("waybill_connections_open", &["ingress.connections_open"]),
            (
                "waybill_connections_over_limit_total",
                &["ingress.connections_over_limit"],
            ),
            (
                "waybill_connections_over_address_limit_total",
                &["ingress.connections_over_address_limit"],
            ),
            (
                "waybill_connections_without_header_total",
                &["ingress.connections_without_header"],
            ),
            ("waybill_connections_abusive_total", &["ingress.connections_abusive"]),
            ("waybill_tls_handshakes_total", &["tls.handshakes.*"]),
            ("waybill_tls_certificates_total", &["tls.certificates.*"]),
            (
                "waybill_tls_certificate_not_after_seconds",
                &["tls.certificate_not_after"],
            ),
            ("waybill_auth_calls_total", &["auth.calls.*"]),
            ("waybill_auth_key_reads_total", &["auth.key_reads.*.*"]),
        ],
    ),
    (
        "Orders",
        &[
            ("waybill_orders_finished_total", &["orders.finished.*"]),
            ("waybill_saga_steps_total", &["orders.steps.*.*"]),
            ("waybill_orders_charge_refusals_total", &["orders.charge_refusals"]),
            (
                "waybill_orders_overload_refusals_total",
                &["orders.overload_refusals.*"],
            ),
            ("waybill_sweeper_claims_total", &["orders.sweeper_claims"]),
            (
                "waybill_driver_liveness_checks_total",
                &["orders.driver_liveness_checks"],
            ),
            ("waybill_keys_expired_total", &["orders.keys_expired"]),
            (
                "waybill_payment_events_expired_total",
                &["orders.payment_events_expired"],
            ),
            ("waybill_links_expired_total", &["orders.links_expired"]),
            ("waybill_orders_unfinished", &["orders.unfinished"]),
            ("waybill_orders_needing_attention", &["orders.needs_attention"]),
            ("waybill_order_watches", &["orders.watches"]),
            ("waybill_link_watches", &["orders.link_watches"]),
            ("waybill_assignment_watches", &["orders.assignment_watches"]),
            ("waybill_order_transactions", &["orders.transactions"]),
            ("waybill_order_transactions_max", &["orders.transactions_max"]),
        ],
    ),
    (
        "Locations",
        &[
            ("waybill_fixes_total", &["locations.stored", "locations.refused"]),
            ("waybill_fixes_rejected_total", &["locations.rejected.*"]),
            ("waybill_foreign_keys_total", &["locations.foreign_keys"]),
            ("waybill_clocks_off_total", &["locations.clocks_off"]),
            ("waybill_history_rows_total", &["locations.history_rows"]),
            ("waybill_history_duplicates_total", &["locations.history_duplicates"]),
            ("waybill_history_lag_entries", &["locations.history_lag_entries"]),
            ("waybill_history_lag_seconds", &["locations.history_lag_sec"]),
            ("waybill_history_rereads_total", &["locations.history_rereads.*"]),
            ("waybill_fleet_watches", &["locations.fleet_watches"]),
        ],
    ),
    (
        "Trails",
        &[
            ("waybill_trail_segments_total", &["trails.segments"]),
            ("waybill_trail_tiles_total", &["trails.tiles"]),
            ("waybill_trail_lag_seconds", &["trails.lag_sec"]),
        ],
    ),
    (
        "Payment webhooks",
        &[("waybill_payment_events_total", &["webhooks.events.*"])],
    ),
    (
        "Dependencies",
        &[
            ("waybill_breaker_state", &["dependencies.breakers.*"]),
            ("waybill_breaker_openings_total", &["dependencies.breaker_openings.*"]),
            ("waybill_breaker_refusals_total", &["dependencies.breaker_refusals.*"]),
            ("waybill_store_timeouts_total", &["dependencies.store_timeouts.*"]),
            ("waybill_store_failures_total", &["dependencies.store_failures.*"]),
            (
                "waybill_group_commits_failed_total",
                &["dependencies.group_commits_failed"],
            ),
            ("waybill_pool_waits_total", &["dependencies.pool_waits.*"]),
            ("waybill_pool_wait_seconds_total", &["dependencies.pool_wait_ms.*"]),
            ("waybill_pool_refusals_total", &["dependencies.pool_refusals.*"]),
            ("waybill_egress_attempts_total", &["dependencies.egress_attempts.*"]),
            ("waybill_egress_retries_total", &["dependencies.egress_retries.*"]),
            (
                "waybill_egress_retries_refused_total",
                &["dependencies.egress_retries_refused.*"],
            ),
            ("waybill_egress_in_flight", &["dependencies.egress_in_flight.*"]),
            ("waybill_egress_waiting", &["dependencies.egress_waiting.*"]),
            ("waybill_egress_shed_total", &["dependencies.egress_shed.*"]),
            (
                "waybill_egress_rate_limit_waits_total",
                &["dependencies.egress_rate_limit_waits.*"],
            ),
            (
                "waybill_egress_rate_limit_wait_seconds_total",
                &["dependencies.egress_rate_limit_wait_ms.*"],
            ),
            (
                "waybill_egress_rate_limit_refusals_total",
                &["dependencies.egress_rate_limit_refusals.*"],
            ),
            (
                "waybill_egress_rate_limit_alone_total",
                &["dependencies.egress_rate_limit_alone.*"],
            ),
            ("waybill_provider_answers_total", &["dependencies.provider_answers.*"]),
        ],
    ),
];

const ONLY_IN_JSON: &[(&str, &str)] = &[
    ("uptime_sec", "Whole seconds since the start."),
    ("total_requests", "Calls that have ended, of all methods."),
    ("total_errors", "Those of them that ended with another status than OK."),
    ("in_flight", "Calls that have begun and not ended, of all methods."),
    ("methods.*.max_latency_ms", "Latency of the slowest call."),
    ("methods.*.last_latency_ms", "Latency of the call that ended last."),
    (
        "methods.*.p50_ms",
        "Half of the calls were not slower, to 1 %; since the start.",
    ),
    ("methods.*.p95_ms", "95 of 100 calls were not slower."),
    ("methods.*.p99_ms", "99 of 100 calls were not slower."),
];

#[test]
fn the_page_of_the_metrics_is_what_the_code_declares() {
    let metrics = Metrics::new(grpc::METHODS);
    touch(&metrics);
    let page = page(&metrics.openmetrics().unwrap());
    if std::env::var_os("RENEW_DOCS").is_some() {
        std::fs::write(PAGE, &page).unwrap();
    }
    let written = std::fs::read_to_string(PAGE).unwrap_or_default();
    assert!(
        written == page,
        "docs/metrics.md is not what the code declares: RENEW_DOCS=1 cargo test -p waybill-server --test metrics_doc"
    );
}

#[test]
fn every_field_of_the_snapshot_is_on_the_page() {
    let metrics = Metrics::new(grpc::METHODS);
    touch(&metrics);
    let fields = fields(&serde_json::to_value(metrics.snapshot()).unwrap());
    let with_metric = PARTS
        .iter()
        .flat_map(|(_, metrics)| *metrics)
        .flat_map(|(_, fields)| *fields);
    let listed = with_metric.chain(ONLY_IN_JSON.iter().map(|(field, _)| field));
    assert_eq!(fields, listed.map(|field| (*field).to_owned()).collect());
}

/// Gives every metric with labels a series: one without any does not show its labels.
fn touch(metrics: &Metrics) {
    for method in grpc::METHODS {
        metrics.grpc.begin(method).finish(Code::Ok);
    }
    metrics.ingress.refused("orders");
    drop(metrics.auth.key_reads("api_keys"));
    metrics.orders.finished("succeeded");
    metrics.orders.step("charge", "succeeded");
    metrics.locations.rejected("time_too_old", 1);
    metrics.webhooks.event("accepted");
    let dependencies = &metrics.dependencies;
    drop((dependencies.guard("postgres"), dependencies.pool("callers")));
    drop(dependencies.egress("payments"));
    dependencies.provider_answered("succeeded");
}

/// A metric, from the Prometheus text.
struct Declared {
    name: String,
    kind: String,
    labels: Vec<String>,
    help: String,
}

fn page(text: &str) -> String {
    let declared = declared(text);
    let names: Vec<&str> = declared.iter().map(|metric| metric.name.as_str()).collect();
    let listed = PARTS.iter().flat_map(|(_, metrics)| *metrics).map(|(name, _)| *name);
    assert_eq!(names, listed.collect::<Vec<_>>(), "declared, and listed in this test");

    let mut page = INTRODUCTION.to_owned();
    let mut declared = declared.into_iter();
    for (title, metrics) in PARTS {
        let _ = write!(
            page,
            "\n## {title}\n\n| metric | type | labels | in JSON | meaning |\n|---|---|---|---|---|\n"
        );
        for ((_, fields), metric) in metrics.iter().zip(declared.by_ref()) {
            let Declared {
                name,
                kind,
                labels,
                help,
            } = metric;
            let (labels, fields) = (code(&labels), code(fields));
            let _ = writeln!(page, "| `{name}` | {kind} | {labels} | {fields} | {help} |");
        }
    }
    page.push_str("\n## Only in JSON\n\n| field | meaning |\n|---|---|\n");
    for (field, meaning) in ONLY_IN_JSON {
        let _ = writeln!(page, "| `{field}` | {meaning} |");
    }
    page
}

fn code<T: AsRef<str>>(words: &[T]) -> String {
    let words: Vec<String> = words.iter().map(|word| format!("`{}`", word.as_ref())).collect();
    words.join(", ")
}

/// The metrics of a Prometheus text, in its order. Its lines are `# HELP name text`, `# TYPE name kind`, samples.
fn declared(text: &str) -> Vec<Declared> {
    let mut declared: Vec<Declared> = Vec::new();
    for line in text.lines() {
        if let Some((_, help)) = line.strip_prefix("# HELP ").and_then(|rest| rest.split_once(' ')) {
            declared.push(Declared {
                name: String::new(),
                kind: String::new(),
                labels: Vec::new(),
                help: help.to_owned(),
            });
        } else if let Some((name, kind)) = line.strip_prefix("# TYPE ").and_then(|rest| rest.split_once(' ')) {
            let metric = declared.last_mut().unwrap();
            let suffix = if kind == "counter" { "_total" } else { "" };
            (metric.name, metric.kind) = (format!("{name}{suffix}"), kind.to_owned());
        } else if !line.starts_with('#') {
            let metric = declared.last_mut().unwrap();
            let labels = line
                .split_once('{')
                .and_then(|(_, rest)| rest.split_once('}'))
                .map_or("", |(labels, _)| labels);
            let names = labels.split(',').filter_map(|label| label.split_once('='));
            metric.labels = names
                .map(|(name, _)| name.to_owned())
                .filter(|name| name != "le")
                .collect();
        }
    }
    declared
}

/// The fields of the snapshot, as `orders.finished.*`. A name below a metric's own is the value of a label.
fn fields(snapshot: &Value) -> BTreeSet<String> {
    let mut fields = BTreeSet::new();
    for (part, value) in snapshot.as_object().unwrap() {
        let inner = value.as_object().into_iter().flatten();
        for (name, value) in inner {
            match (part.as_str(), value.as_object()) {
                ("methods", Some(method)) => fields.extend(method.keys().map(|name| format!("methods.*.{name}"))),
                (_, Some(labels)) => {
                    let is_nested = labels.values().any(Value::is_object);
                    fields.insert(format!("{part}.{name}{}", if is_nested { ".*.*" } else { ".*" }));
                }
                (_, None) => {
                    fields.insert(format!("{part}.{name}"));
                }
            }
        }
        if !value.is_object() {
            fields.insert(part.clone());
        }
    }
    fields
}
