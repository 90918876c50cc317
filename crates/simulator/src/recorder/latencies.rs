//! Latencies gathered into a histogram of a bounded relative error (Tene, `HdrHistogram`), and what is reported of them.

use std::time::Duration;

use hdrhistogram::{Counter, Histogram};

use super::measured::{Bucket, Latency};

/// The latency above which all are equally late: deadlines are far below.
const LATENCY_MAX_MICROS: u64 = 600_000_000;

/// Bars of a reported histogram for each tenfold of latency: 12 % wide, as fine as an eye needs.
const BUCKETS_PER_TENFOLD: f64 = 20.0;

/// Latencies in µs. It takes as much memory as its longest latency needs: some 4 KB for those below 10 ms at two
/// digits.
#[derive(Debug, Clone)]
pub(crate) struct Latencies<T: Counter>(Histogram<T>);

impl<T: Counter> Latencies<T> {
    pub(crate) fn new(significant_digits: u8) -> Latencies<T> {
        #[expect(
            clippy::expect_used,
            reason = "each caller asks for two digits or three, and five are allowed"
        )]
        Latencies(Histogram::new(significant_digits).expect("a precision that histograms have"))
    }

    pub(crate) fn record(&mut self, latency: Duration) {
        let micros = u64::try_from(latency.as_micros()).unwrap_or(u64::MAX);
        // It grows by itself, and the bound is far below what it can grow to. Under 1 µs is 1 µs.
        let _ = self.0.record(micros.clamp(1, LATENCY_MAX_MICROS));
    }

    pub(crate) fn add(&mut self, other: &Latencies<T>) {
        // It grows to what the other one holds.
        let _ = self.0.add(&other.0);
    }

    /// The latency that a share of all did not exceed, in ms; 0 when there is none.
    pub(crate) fn quantile_ms(&self, quantile: f64) -> f64 {
        millis(self.0.value_at_quantile(quantile))
    }

    pub(crate) fn latency(&self) -> Latency {
        if self.0.is_empty() {
            return Latency::default();
        }
        Latency {
            min_ms: millis(self.0.min()),
            mean_ms: self.0.mean() / 1e3,
            p50_ms: self.quantile_ms(0.50),
            p90_ms: self.quantile_ms(0.90),
            p99_ms: self.quantile_ms(0.99),
            p999_ms: self.quantile_ms(0.999),
            max_ms: millis(self.0.max()),
        }
    }

    pub(crate) fn buckets(&self) -> Vec<Bucket> {
        let mut buckets: Vec<(i32, u64)> = Vec::new();
        for value in self.0.iter_recorded() {
            let number = bucket_of(value.value_iterated_to());
            let count = value.count_at_value().as_u64();
            match buckets.last_mut() {
                Some(last) if last.0 == number => last.1 += count,
                _ => buckets.push((number, count)),
            }
        }
        let bucket = |(number, count)| Bucket {
            up_to_ms: 10_f64.powf(f64::from(number) / BUCKETS_PER_TENFOLD) / 1e3,
            count,
        };
        buckets.into_iter().map(bucket).collect()
    }
}

/// The first bucket that reaches up to so many µs.
#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    reason = "latencies below ten minutes"
)]
fn bucket_of(micros: u64) -> i32 {
    ((micros.max(1) as f64).log10() * BUCKETS_PER_TENFOLD).ceil() as i32
}

#[expect(clippy::cast_precision_loss, reason = "latencies below ten minutes")]
fn millis(micros: u64) -> f64 {
    micros as f64 / 1e3
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_histogram_holds_every_latency_there_can_be() {
        let mut latencies = Latencies::<u32>::new(3);
        assert_eq!(latencies.latency(), Latency::default());
        for latency in [Duration::ZERO, Duration::from_millis(5), Duration::from_hours(10)] {
            latencies.record(latency);
        }
        let seen = latencies.latency();
        assert!((seen.min_ms - 0.001).abs() < 1e-9, "{seen:?}");
        assert!((seen.p50_ms - 5.0).abs() < 0.01, "{seen:?}");
        assert!((seen.max_ms - 600_000.0).abs() < 600.0, "{seen:?}");
        assert_eq!(latencies.buckets().iter().map(|bucket| bucket.count).sum::<u64>(), 3);
    }

    #[test]
    fn what_is_added_is_in_the_sum_whatever_its_range() {
        let (mut short, mut long) = (Latencies::<u32>::new(2), Latencies::<u32>::new(2));
        (0..99).for_each(|_| short.record(Duration::from_micros(800)));
        long.record(Duration::from_secs(9));
        short.add(&long);
        let seen = short.latency();
        assert!(seen.p90_ms < 0.9 && seen.max_ms > 8_900.0, "{seen:?}");
    }

    #[test]
    fn buckets_rise_and_hold_what_is_up_to_their_bound() {
        let mut latencies = Latencies::<u64>::new(3);
        (1..=2_000).for_each(|micros| latencies.record(Duration::from_micros(micros)));
        let buckets = latencies.buckets();
        assert!(buckets.is_sorted_by(|a, b| a.up_to_ms < b.up_to_ms), "{buckets:?}");
        let up_to_a_ms: u64 = buckets
            .iter()
            .filter(|bucket| bucket.up_to_ms <= 1.000_1)
            .map(|bucket| bucket.count)
            .sum();
        assert!((999..=1_001).contains(&up_to_a_ms), "{up_to_a_ms}");
    }
}
