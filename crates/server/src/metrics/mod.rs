//! What the service counts, and the two forms in which it is read: a JSON snapshot and the Prometheus text.
//!
//! A [`Metrics`] owns its registry; there is no global, so that a test runs many servers in one process. Each part of
//! the service has one small struct with plain methods; a guard before a dependency holds handles of its counters. Each
//! metric is documented where it is declared: `docs/metrics.md` is made from the help texts. Label values are `&'static
//! str`, so the number of series is bounded by the code; nothing that a caller sends (a path, an id) becomes a label.
//!
//! To add a metric: declare it in the struct of its part, add a method that counts, and a line in `tests/metrics_doc.rs`,
//! which then writes the page.

mod auth;
mod declare;
mod dependencies;
mod grpc;
mod health;
mod ingress;
mod labelled;
mod latencies;
mod locations;
mod orders;
mod tls;
mod trails;
mod waits;
mod webhooks;

use std::time::Instant;

use prometheus_client::encoding::text;
use prometheus_client::registry::Registry;
use serde::Serialize;

pub use self::auth::{AuthMetrics, KeyReadMetrics};
pub use self::dependencies::{BreakerMetrics, BulkheadMetrics, DependencyMetrics, EgressMetrics, GuardMetrics};
use self::grpc::MethodSnapshots;
pub use self::grpc::{Call, GrpcMetrics, MethodSnapshot, UNKNOWN_METHOD};
pub use self::health::{Health, MethodCounts};
pub use self::ingress::{IngressMetrics, IngressSnapshot};
pub use self::locations::LocationMetrics;
pub use self::orders::{AdmissionMetrics, OrderMetrics};
pub use self::tls::TlsMetrics;
pub use self::trails::TrailMetrics;
pub use self::waits::{Wait, WaitMetrics};
pub use self::webhooks::WebhookMetrics;

/// All that one server counts. Share it in an `Arc`.
#[derive(Debug)]
pub struct Metrics {
    /// Calls, per method.
    pub grpc: GrpcMetrics,
    /// Connections and rate limits.
    pub ingress: IngressMetrics,
    /// TLS of the listeners.
    pub tls: TlsMetrics,
    /// Callers.
    pub auth: AuthMetrics,
    /// Orders and the steps of their sagas.
    pub orders: OrderMetrics,
    /// Positions, and their way into the history.
    pub locations: LocationMetrics,
    /// The map that the fleet draws.
    pub trails: TrailMetrics,
    /// Webhooks of the payment provider.
    pub webhooks: WebhookMetrics,
    /// What the service depends on: stores and the payment provider.
    pub dependencies: DependencyMetrics,
    started: Instant,
    registry: Registry,
}

/// All of [`Metrics`], as `/metrics` shows it. Numbers of different fields are read one after the other, some only when
/// this is serialized, so they may differ by the calls that ended in between.
#[derive(Debug, Serialize)]
pub struct Snapshot {
    /// Whole seconds since the start.
    pub uptime_sec: u64,
    /// Calls that have ended, of all methods.
    pub total_requests: u64,
    /// Those of them that ended with another status than OK.
    pub total_errors: u64,
    /// Calls that have begun and not ended.
    pub in_flight: i64,
    /// How often a call or a stream waited for a rate limit.
    pub rate_limit_waits: u64,
    /// Milliseconds waited so, in all.
    pub rate_limit_wait_ms: u64,
    /// By method, as `/package.Service/Method`; calls of methods that do not exist are under [`UNKNOWN_METHOD`].
    pub methods: MethodSnapshots,
    /// Calls that ended in a panic, a defect of Waybill.
    pub panics: u64,
    /// Connections and refusals.
    pub ingress: IngressSnapshot,
    /// TLS of the listeners.
    pub tls: TlsMetrics,
    /// Callers.
    pub auth: AuthMetrics,
    /// Orders and the steps of their sagas.
    pub orders: OrderMetrics,
    /// Positions, and their way into the history.
    pub locations: LocationMetrics,
    /// The map that the fleet draws.
    pub trails: TrailMetrics,
    /// Webhooks of the payment provider.
    pub webhooks: WebhookMetrics,
    /// Stores, the payment provider, and the guards before them.
    pub dependencies: DependencyMetrics,
}

impl Metrics {
    /// Nothing counted yet. `methods` are the paths of all methods served, as `/package.Service/Method`.
    pub fn new(methods: &[&'static str]) -> Metrics {
        let mut registry = Registry::with_prefix("waybill");
        Metrics {
            grpc: GrpcMetrics::new(methods, &mut registry),
            ingress: IngressMetrics::new(&mut registry),
            tls: TlsMetrics::new(&mut registry),
            auth: AuthMetrics::new(&mut registry),
            orders: OrderMetrics::new(&mut registry),
            locations: LocationMetrics::new(&mut registry),
            trails: TrailMetrics::new(&mut registry),
            webhooks: WebhookMetrics::new(&mut registry),
            dependencies: DependencyMetrics::new(&mut registry),
            started: Instant::now(),
            registry,
        }
    }

    /// All numbers as they are now.
    pub fn snapshot(&self) -> Snapshot {
        let methods = self.grpc.snapshot();
        let (waits, wait_ms) = self.ingress.waits();
        Snapshot {
            uptime_sec: self.started.elapsed().as_secs(),
            total_requests: methods.values().map(|method| method.count).sum(),
            total_errors: methods.values().map(|method| method.errors).sum(),
            in_flight: methods.values().map(|method| method.in_flight).sum(),
            rate_limit_waits: waits,
            rate_limit_wait_ms: wait_ms,
            methods,
            panics: self.grpc.panics(),
            ingress: self.ingress.snapshot(),
            tls: self.tls.clone(),
            auth: self.auth.clone(),
            orders: self.orders.clone(),
            locations: self.locations.clone(),
            trails: self.trails.clone(),
            webhooks: self.webhooks.clone(),
            dependencies: self.dependencies.clone(),
        }
    }

    /// The same in the text format of `OpenMetrics` 1.0, which Prometheus reads. It ends with `# EOF`.
    pub fn openmetrics(&self) -> Result<String, std::fmt::Error> {
        let mut text = String::new();
        text::encode(&mut text, &self.registry)?;
        Ok(text)
    }
}
