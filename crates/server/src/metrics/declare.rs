//! How a metric is declared (made and registered in one expression, beside its help text), and how it is shown in JSON.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Metric, Registry, Unit};
use serde::Serializer;

/// Registers a metric and returns the handle with which it is counted.
pub(super) trait Declare {
    /// A metric without a unit. The Prometheus text adds `_total` to the name of a counter.
    fn declare<M: Metric + Clone>(&mut self, name: &'static str, help: &'static str, metric: M) -> M;

    /// A metric in seconds. The Prometheus text adds `_seconds` to its name.
    fn declare_seconds<M: Metric + Clone>(&mut self, name: &'static str, help: &'static str, metric: M) -> M;
}

impl Declare for Registry {
    fn declare<M: Metric + Clone>(&mut self, name: &'static str, help: &'static str, metric: M) -> M {
        self.register(name, help, metric.clone());
        metric
    }

    fn declare_seconds<M: Metric + Clone>(&mut self, name: &'static str, help: &'static str, metric: M) -> M {
        self.register_with_unit(name, help, Unit::Seconds, metric.clone());
        metric
    }
}

/// For `#[serde(serialize_with)]`.
pub(super) fn count<S: Serializer>(counter: &Counter, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u64(counter.get())
}

/// For `#[serde(serialize_with)]`.
pub(super) fn level<S: Serializer>(gauge: &Gauge, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_i64(gauge.get())
}
