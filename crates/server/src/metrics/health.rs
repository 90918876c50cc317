//! The numbers by which a person sees how a server is.

use std::time::Duration;

use super::Metrics;
use super::latencies::BUCKETS_US;

/// How a server is, in numbers. Counts are since the start.
#[derive(Debug)]
pub struct Health {
    /// The state of each circuit breaker (closed, `half_open`, open), by dependency.
    pub breakers: Vec<(String, &'static str)>,
    /// Entries that are stored and not yet in the history.
    pub history_lag_entries: i64,
    /// Fixes that were stored.
    pub fixes_stored: u64,
    /// Fixes that are to be sent again.
    pub fixes_refused: u64,
    /// Orders that are not settled.
    pub orders_unfinished: i64,
    /// Orders that wait for an operator.
    pub orders_needing_attention: i64,
    /// Watches of drivers.
    pub fleet_watches: i64,
    /// The upper bounds of [`MethodCounts::latency_counts`]; its last bucket has none.
    pub latency_bounds: Vec<Duration>,
    /// The methods that were called.
    pub methods: Vec<MethodCounts>,
}

/// What one method counted.
#[derive(Debug)]
pub struct MethodCounts {
    /// As `package.Service/Method`.
    pub method: &'static str,
    /// Calls that have ended.
    pub calls: u64,
    /// Those of them that ended with another status than OK.
    pub errors: u64,
    /// Calls that have begun and not ended.
    pub in_flight: i64,
    /// Calls that have ended, by how long they took.
    pub latency_counts: Vec<u64>,
}

impl Metrics {
    /// The numbers as they are now.
    pub fn health(&self) -> Health {
        let (fixes_stored, fixes_refused) = self.locations.fixes();
        let (orders_unfinished, orders_needing_attention) = self.orders.open();
        Health {
            breakers: self.dependencies.breakers(),
            history_lag_entries: self.locations.lag(),
            fixes_stored,
            fixes_refused,
            orders_unfinished,
            orders_needing_attention,
            fleet_watches: self.locations.watches(),
            latency_bounds: BUCKETS_US.map(Duration::from_micros).to_vec(),
            methods: self.grpc.counts(),
        }
    }
}
