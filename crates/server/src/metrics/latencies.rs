//! Latencies, recorded once and shown twice: as percentiles in JSON, as buckets in the Prometheus text.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hdrhistogram::Histogram;
use prometheus_client::encoding::{EncodeMetric, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::{MetricType, TypedMetric};

/// Upper bounds of the buckets, in microseconds: from a read of Redis to the longest deadline.
pub(super) const BUCKETS_US: [u64; 14] = [
    500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000, 2_500_000, 10_000_000,
    30_000_000,
];

/// The longest latency that percentiles distinguish, in microseconds: an hour. What is longer counts as this.
const MAX_US: u64 = 3_600_000_000;

/// Latencies since the start. Percentiles and the bounds of buckets are exact to 1 %. A clone is another handle on the
/// same.
#[derive(Debug, Clone)]
pub(super) struct Latencies(Arc<Mutex<Recorded>>);

/// Of all latencies so far, in microseconds.
#[derive(Debug)]
pub(super) struct Summary {
    pub count: u64,
    pub mean_us: u64,
    pub max_us: u64,
    pub last_us: u64,
    pub p50_us: u64,
    pub p95_us: u64,
    pub p99_us: u64,
}

#[derive(Debug)]
struct Recorded {
    count: u64,
    sum_us: u64,
    max_us: u64,
    last_us: u64,
    /// Two digits, in 24 KiB. Making it cannot fail, since its bounds are constants in range.
    spread: Option<Histogram<u64>>,
}

impl Latencies {
    pub fn record(&self, latency: Duration) {
        let latency_us = u64::try_from(latency.as_micros()).unwrap_or(u64::MAX);
        // Held for some tens of nanoseconds.
        let mut recorded = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        recorded.count += 1;
        recorded.sum_us = recorded.sum_us.saturating_add(latency_us);
        recorded.max_us = recorded.max_us.max(latency_us);
        recorded.last_us = latency_us;
        if let Some(spread) = &mut recorded.spread {
            spread.saturating_record(latency_us);
        }
    }

    /// How many were in each bucket of [`BUCKETS_US`], and last how many took longer.
    pub fn buckets(&self) -> Vec<u64> {
        let recorded = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        recorded.buckets()
    }

    pub fn summary(&self) -> Summary {
        let recorded = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let spread = recorded.spread.as_ref();
        let percentile_us = |quantile| spread.map_or(0, |spread| spread.value_at_quantile(quantile));
        Summary {
            count: recorded.count,
            mean_us: recorded.sum_us.checked_div(recorded.count).unwrap_or(0),
            max_us: recorded.max_us,
            last_us: recorded.last_us,
            p50_us: percentile_us(0.50),
            p95_us: percentile_us(0.95),
            p99_us: percentile_us(0.99),
        }
    }
}

impl Recorded {
    fn buckets(&self) -> Vec<u64> {
        let up_to = |bound_us| {
            self.spread
                .as_ref()
                .map_or(0, |spread| spread.count_between(0, bound_us))
        };
        let (mut buckets, mut below) = (Vec::with_capacity(BUCKETS_US.len() + 1), 0);
        for bound_us in BUCKETS_US {
            let count = up_to(bound_us);
            buckets.push(count - below);
            below = count;
        }
        buckets.push(self.count - below);
        buckets
    }
}

impl Default for Latencies {
    fn default() -> Self {
        Latencies(Arc::new(Mutex::new(Recorded {
            count: 0,
            sum_us: 0,
            max_us: 0,
            last_us: 0,
            spread: Histogram::new_with_bounds(1, MAX_US, 2).ok(),
        })))
    }
}

impl TypedMetric for Latencies {
    const TYPE: MetricType = MetricType::Histogram;
}

impl EncodeMetric for Latencies {
    fn encode(&self, mut encoder: MetricEncoder) -> Result<(), fmt::Error> {
        let recorded = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let bounds = BUCKETS_US.map(|bound_us| Duration::from_micros(bound_us).as_secs_f64());
        let bounds = bounds.into_iter().chain([f64::INFINITY]);
        let buckets: Vec<(f64, u64)> = bounds.zip(recorded.buckets()).collect();
        let sum = Duration::from_micros(recorded.sum_us).as_secs_f64();
        encoder.encode_histogram::<NoLabelSet>(sum, recorded.count, &buckets, None)
    }

    fn metric_type(&self) -> MetricType {
        Self::TYPE
    }
}

#[cfg(test)]
mod tests {
    use prometheus_client::encoding::text::encode;
    use prometheus_client::registry::Registry;

    use super::*;

    #[test]
    fn each_latency_is_in_every_bucket_at_or_above_it() {
        let latencies = Latencies::default();
        let mut registry = Registry::default();
        registry.register("latency", "How long", latencies.clone());
        for micros in [400, 500, 3_000, 31_000_000] {
            latencies.record(Duration::from_micros(micros));
        }
        // Longer than what percentiles distinguish.
        latencies.record(Duration::from_secs(4_000));

        let mut text = String::new();
        encode(&mut text, &registry).unwrap();
        for line in [
            "latency_sum 4031.0039",
            "latency_count 5",
            "latency_bucket{le=\"0.0005\"} 2",
            "latency_bucket{le=\"0.0025\"} 2",
            "latency_bucket{le=\"0.005\"} 3",
            "latency_bucket{le=\"30.0\"} 3",
            "latency_bucket{le=\"+Inf\"} 5",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
        }
    }
}
