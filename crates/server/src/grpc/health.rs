//! How the server is, for operators: its readiness and its numbers as one message.

use std::sync::Arc;

use jiff::Timestamp;
use waybill_proto::admin::v1 as pb;

use super::render::{duration, timestamp};
use crate::metrics::{Health, MethodCounts, Metrics};
use crate::readiness::{ProbeOutcome, Readiness};

/// How this server is.
#[derive(Clone)]
pub struct ServerHealth {
    readiness: Arc<Readiness>,
    metrics: Arc<Metrics>,
    started_at: Timestamp,
}

impl ServerHealth {
    /// Asks this, and reads these; made at the start of the server.
    pub fn new(readiness: Arc<Readiness>, metrics: Arc<Metrics>) -> ServerHealth {
        ServerHealth {
            readiness,
            metrics,
            started_at: Timestamp::now(),
        }
    }

    /// As it is now.
    pub(super) async fn shown(&self) -> pb::ShowHealthResponse {
        let report = self.readiness.report().await;
        let Health {
            breakers,
            history_lag_entries,
            fixes_stored,
            fixes_refused,
            orders_unfinished,
            orders_needing_attention,
            fleet_watches,
            latency_bounds,
            methods,
        } = self.metrics.health();
        let breakers = breakers.into_iter().map(|(dependency, state)| pb::CircuitBreaker {
            dependency,
            state: state.replace('_', " "),
        });
        pb::ShowHealthResponse {
            now: Some(timestamp(Timestamp::now())),
            started_at: Some(timestamp(self.started_at)),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            status: report.status.as_str().to_owned(),
            checks: report.checks.into_iter().map(check).collect(),
            breakers: breakers.collect(),
            history_lag_entries,
            fixes_stored: signed(fixes_stored),
            fixes_refused: signed(fixes_refused),
            orders_unfinished,
            orders_needing_attention,
            fleet_watches,
            latency_bounds: latency_bounds.into_iter().map(duration).collect(),
            methods: methods.into_iter().map(method).collect(),
        }
    }
}

fn check((name, outcome): (std::borrow::Cow<'static, str>, ProbeOutcome)) -> pb::HealthCheck {
    let (is_ok, message) = match outcome {
        ProbeOutcome::Ok => (true, String::new()),
        ProbeOutcome::Warning(text) => (true, text),
        ProbeOutcome::Failed(why) => (false, why),
    };
    let name = name.into_owned();
    pb::HealthCheck { name, is_ok, message }
}

fn method(counts: MethodCounts) -> pb::MethodHealth {
    pb::MethodHealth {
        method: counts.method.to_owned(),
        calls: signed(counts.calls),
        errors: signed(counts.errors),
        in_flight: counts.in_flight,
        latency_counts: counts.latency_counts.into_iter().map(signed).collect(),
    }
}

fn signed(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
