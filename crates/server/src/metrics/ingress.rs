//! What the edge lets in, slows and refuses before a handler does any work.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use serde::Serialize;

use super::declare::Declare as _;
use super::labelled::Labelled;
use super::waits::{SecondsCounter, whole_ms};

/// Counts connections, rate-limit waits and refusals.
#[derive(Debug)]
pub struct IngressMetrics {
    waits: Counter,
    wait_seconds: SecondsCounter,
    refusals: Labelled<Counter, 1>,
    connections_open: Gauge,
    connections_over_limit: Counter,
    connections_over_address_limit: Counter,
    connections_without_header: Counter,
    connections_abusive: Counter,
}

/// Connections and refusals at one moment.
#[derive(Debug, Serialize)]
pub struct IngressSnapshot {
    /// Calls refused by a rate limit, by class.
    pub rate_limit_refusals: BTreeMap<Cow<'static, str>, u64>,
    /// gRPC connections that are open.
    pub connections_open: i64,
    /// gRPC connections closed at once, since too many were open.
    pub connections_over_limit: u64,
    /// gRPC connections closed at once, since too many of their address were open.
    pub connections_over_address_limit: u64,
    /// gRPC connections from trusted networks closed for a missing or bad header of the PROXY protocol.
    pub connections_without_header: u64,
    /// gRPC connections closed for a flood of control frames, or for not beginning to speak HTTP/2.
    pub connections_abusive: u64,
}

impl IngressMetrics {
    pub(super) fn new(registry: &mut Registry) -> IngressMetrics {
        IngressMetrics {
            waits: registry.declare(
                "rate_limit_waits",
                "How often a call or a stream waited for a rate limit",
                Counter::default(),
            ),
            wait_seconds: registry.declare_seconds(
                "rate_limit_wait",
                "Time that calls and streams waited for a rate limit",
                Counter::default(),
            ),
            refusals: registry.declare(
                "rate_limit_refusals",
                "Calls refused with RESOURCE_EXHAUSTED by a rate limit, by class of call",
                Labelled::new(["class"]),
            ),
            connections_open: registry.declare("connections_open", "gRPC connections that are open", Gauge::default()),
            connections_over_limit: registry.declare(
                "connections_over_limit",
                "gRPC connections closed at once, since too many were open",
                Counter::default(),
            ),
            connections_over_address_limit: registry.declare(
                "connections_over_address_limit",
                "gRPC connections closed at once, since too many of their address were open",
                Counter::default(),
            ),
            connections_without_header: registry.declare(
                "connections_without_header",
                "gRPC connections from trusted networks closed for a missing, late or bad header of the PROXY protocol",
                Counter::default(),
            ),
            connections_abusive: registry.declare(
                "connections_abusive",
                "gRPC connections closed for a flood of control frames, or for not beginning to speak HTTP/2",
                Counter::default(),
            ),
        }
    }

    /// A call or a stream begins to wait for a rate limit.
    pub fn wait_begun(&self) {
        self.waits.inc();
    }

    /// It has waited so long.
    pub fn waited(&self, time: Duration) {
        self.wait_seconds.inc_by(time.as_secs_f64());
    }

    /// A call was refused by the rate limit of its class.
    pub fn refused(&self, class: &'static str) {
        self.refusals.get([class]).inc();
    }

    /// A connection was opened.
    pub fn connection_opened(&self) {
        self.connections_open.inc();
    }

    /// It was closed.
    pub fn connection_closed(&self) {
        self.connections_open.dec();
    }

    /// A connection was closed at once, since too many are open.
    pub fn connection_over_limit(&self) {
        self.connections_over_limit.inc();
    }

    /// A connection was closed at once, since too many of its address are open.
    pub fn connection_over_address_limit(&self) {
        self.connections_over_address_limit.inc();
    }

    /// A connection was closed, since its balancer did not say whose it is.
    pub fn connection_without_header(&self) {
        self.connections_without_header.inc();
    }

    /// A connection is closed for what its peer does.
    pub fn connection_abusive(&self) {
        self.connections_abusive.inc();
    }

    /// How often something waited, and how many milliseconds in all.
    pub(super) fn waits(&self) -> (u64, u64) {
        (self.waits.get(), whole_ms(&self.wait_seconds))
    }

    pub(super) fn snapshot(&self) -> IngressSnapshot {
        IngressSnapshot {
            rate_limit_refusals: self.refusals.counts(),
            connections_open: self.connections_open.get(),
            connections_over_limit: self.connections_over_limit.get(),
            connections_over_address_limit: self.connections_over_address_limit.get(),
            connections_without_header: self.connections_without_header.get(),
            connections_abusive: self.connections_abusive.get(),
        }
    }
}
