//! What happened so far, counted while it happens: every fix and every order ends in exactly one of these numbers.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hdrhistogram::Histogram;
use serde::Serialize;
use tokio::time::Instant;

use crate::customers::Outcome;

/// The seconds over which the rate of fixes is taken.
const RATE_SECONDS: usize = 5;

/// The latency above which all orders count as equally late: an order is given up long before.
const LATENCY_MAX_MICROS: u64 = 600_000_000;

/// The counters of one run, shared by all of its tasks and by whoever draws them on a screen.
#[derive(Debug)]
pub struct Stats {
    started: Instant,
    placed: AtomicU64,
    in_flight: AtomicU64,
    succeeded: AtomicU64,
    refunded: AtomicU64,
    failed: AtomicU64,
    gave_up: AtomicU64,
    completed: AtomicU64,
    retries: AtomicU64,
    delayed: AtomicU64,
    sent: AtomicU64,
    acknowledged: AtomicU64,
    rejected: AtomicU64,
    resent: AtomicU64,
    drivers_seen: AtomicU64,
    broken_streams: AtomicU64,
    latency_micros: Mutex<Option<Histogram<u64>>>,
    recent_fixes: Mutex<RecentSeconds>,
}

/// The state of a run at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Snapshot {
    /// Since the counters were made.
    pub elapsed: Duration,
    /// The orders.
    pub orders: OrderCounts,
    /// The fixes.
    pub locations: LocationCounts,
}

/// The orders of a run. `placed` = `in_flight` + `succeeded` + `refunded` + `failed` + `gave_up`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct OrderCounts {
    /// Orders begun.
    pub placed: u64,
    /// Orders without a settled answer yet.
    pub in_flight: u64,
    /// Orders that got a driver.
    pub succeeded: u64,
    /// Orders that got their money back.
    pub refunded: u64,
    /// Orders that were never charged.
    pub failed: u64,
    /// Orders without a settled answer when the time was up, or refused for good.
    pub gave_up: u64,
    /// Rides brought to their end.
    pub completed: u64,
    /// Calls that were repeated.
    pub retries: u64,
    /// Orders that came late because too many were in flight.
    pub delayed: u64,
    /// From the intended time of an order to its settled answer: half of the orders were as fast as this.
    pub latency_p50: Duration,
    /// The same for 99 of 100 orders.
    pub latency_p99: Duration,
}

/// The fixes of a run.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct LocationCounts {
    /// Distinct fixes handed to the server; sending one again does not count again.
    pub sent: u64,
    /// Distinct fixes that the server stored.
    pub acknowledged: u64,
    /// Distinct fixes that the server refused by name.
    pub rejected: u64,
    /// Fixes sent again because their stream broke.
    pub resent: u64,
    /// Streams that broke.
    pub broken_streams: u64,
    /// Drivers that sent a fix.
    pub drivers_seen: u64,
    /// Fixes acknowledged a second, over the last seconds.
    pub per_second: f64,
}

/// What a run came to: the numbers that are reported.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Summary {
    /// How long it took.
    pub seconds: f64,
    /// What became of the orders.
    pub orders: OrderSummary,
    /// What became of the fixes.
    pub locations: LocationSummary,
}

/// What became of the orders.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct OrderSummary {
    /// Orders placed.
    pub created: u64,
    /// With a driver.
    pub succeeded: u64,
    /// Charged and refunded in full.
    pub refunded: u64,
    /// Never charged.
    pub failed: u64,
}

/// What became of the fixes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct LocationSummary {
    /// Distinct fixes sent.
    pub sent: u64,
    /// Distinct fixes that the server stored.
    pub acknowledged: u64,
    /// Distinct fixes that the server refused by name.
    pub rejected: u64,
}

impl Default for Stats {
    fn default() -> Self {
        Stats {
            started: Instant::now(),
            placed: AtomicU64::default(),
            in_flight: AtomicU64::default(),
            succeeded: AtomicU64::default(),
            refunded: AtomicU64::default(),
            failed: AtomicU64::default(),
            gave_up: AtomicU64::default(),
            completed: AtomicU64::default(),
            retries: AtomicU64::default(),
            delayed: AtomicU64::default(),
            sent: AtomicU64::default(),
            acknowledged: AtomicU64::default(),
            rejected: AtomicU64::default(),
            resent: AtomicU64::default(),
            drivers_seen: AtomicU64::default(),
            broken_streams: AtomicU64::default(),
            // The bounds are constants that the histogram takes; a test sees to it.
            latency_micros: Mutex::new(Histogram::new_with_bounds(1, LATENCY_MAX_MICROS, 3).ok()),
            recent_fixes: Mutex::default(),
        }
    }
}

impl Stats {
    /// Everything as it is now.
    pub fn snapshot(&self) -> Snapshot {
        let elapsed = self.started.elapsed();
        let quantile = |q| match &*lock(&self.latency_micros) {
            Some(latencies) => Duration::from_micros(latencies.value_at_quantile(q)),
            None => Duration::ZERO,
        };
        Snapshot {
            elapsed,
            orders: OrderCounts {
                placed: read(&self.placed),
                in_flight: read(&self.in_flight),
                succeeded: read(&self.succeeded),
                refunded: read(&self.refunded),
                failed: read(&self.failed),
                gave_up: read(&self.gave_up),
                completed: read(&self.completed),
                retries: read(&self.retries),
                delayed: read(&self.delayed),
                latency_p50: quantile(0.50),
                latency_p99: quantile(0.99),
            },
            locations: LocationCounts {
                sent: read(&self.sent),
                acknowledged: read(&self.acknowledged),
                rejected: read(&self.rejected),
                resent: read(&self.resent),
                broken_streams: read(&self.broken_streams),
                drivers_seen: read(&self.drivers_seen),
                per_second: lock(&self.recent_fixes).per_second(elapsed.as_secs()),
            },
        }
    }

    /// The numbers of a run that took `elapsed`.
    pub fn summary(&self, elapsed: Duration) -> Summary {
        Summary {
            seconds: elapsed.as_secs_f64(),
            orders: OrderSummary {
                created: read(&self.placed),
                succeeded: read(&self.succeeded),
                refunded: read(&self.refunded),
                failed: read(&self.failed),
            },
            locations: LocationSummary {
                sent: read(&self.sent),
                acknowledged: read(&self.acknowledged),
                rejected: read(&self.rejected),
            },
        }
    }

    pub(crate) fn order_placed(&self) {
        add(&self.placed, 1);
        add(&self.in_flight, 1);
    }

    /// Counts the end of an order. Orders that were given up have no latency: their answer never came.
    pub(crate) fn order_settled(&self, outcome: &Outcome, latency: Duration) {
        self.in_flight.fetch_sub(1, Ordering::Relaxed);
        match outcome {
            Outcome::Succeeded { .. } => add(&self.succeeded, 1),
            Outcome::Refunded { .. } => add(&self.refunded, 1),
            Outcome::Failed { .. } => add(&self.failed, 1),
            Outcome::GaveUp => return add(&self.gave_up, 1),
        }
        if let Some(latencies) = &mut *lock(&self.latency_micros) {
            latencies.saturating_record(u64::try_from(latency.as_micros()).unwrap_or(u64::MAX));
        }
    }

    pub(crate) fn order_delayed(&self) {
        add(&self.delayed, 1);
    }

    pub(crate) fn ride_completed(&self) {
        add(&self.completed, 1);
    }

    pub(crate) fn call_repeated(&self) {
        add(&self.retries, 1);
    }

    pub(crate) fn fixes_sent(&self, first_time: u64, again: u64) {
        add(&self.sent, first_time);
        add(&self.resent, again);
    }

    pub(crate) fn fixes_settled(&self, acknowledged: u64, rejected: u64) {
        add(&self.acknowledged, acknowledged);
        add(&self.rejected, rejected);
        lock(&self.recent_fixes).add(self.started.elapsed().as_secs(), acknowledged);
    }

    pub(crate) fn driver_seen(&self) {
        add(&self.drivers_seen, 1);
    }

    pub(crate) fn stream_broken(&self) {
        add(&self.broken_streams, 1);
    }
}

/// Counts of the last few seconds, a slot a second.
#[derive(Debug, Default)]
struct RecentSeconds {
    /// The current second and those before it, at their number modulo the length.
    slots: [(u64, u64); RATE_SECONDS + 1],
}

impl RecentSeconds {
    fn add(&mut self, second: u64, count: u64) {
        let slots = self.slots.len() as u64;
        // The index is below the length.
        if let Some(slot) = self.slots.get_mut(usize::try_from(second % slots).unwrap_or(0)) {
            *slot = if slot.0 == second {
                (second, slot.1 + count)
            } else {
                (second, count)
            };
        }
    }

    /// Over the whole seconds before `second`, which is not over yet.
    #[expect(clippy::cast_precision_loss, reason = "counts of a few seconds")]
    fn per_second(&self, second: u64) -> f64 {
        let seconds = second.min(RATE_SECONDS as u64);
        let recent = self
            .slots
            .iter()
            .filter(|slot| slot.0 < second && slot.0 + seconds >= second);
        recent.map(|slot| slot.1).sum::<u64>() as f64 / seconds.max(1) as f64
    }
}

fn add(counter: &AtomicU64, count: u64) {
    counter.fetch_add(count, Ordering::Relaxed);
}

fn read(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}

/// A count is whole whoever panicked beside it.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn succeeded() -> Outcome {
        Outcome::Succeeded {
            order_id: "o".to_owned(),
            driver_id: "d".to_owned(),
        }
    }

    #[test]
    fn every_order_is_in_exactly_one_count_and_latencies_are_those_of_settled_ones() {
        let stats = Stats::default();
        (0..5).for_each(|_| stats.order_placed());
        for outcome in [
            succeeded(),
            Outcome::Refunded {
                order_id: "2".to_owned(),
            },
            Outcome::Failed {
                order_id: "3".to_owned(),
            },
        ] {
            stats.order_settled(&outcome, Duration::from_millis(10));
        }
        stats.order_settled(&Outcome::GaveUp, Duration::from_mins(2));

        let orders = stats.snapshot().orders;
        let ends = (
            orders.succeeded,
            orders.refunded,
            orders.failed,
            orders.gave_up,
            orders.in_flight,
        );
        assert_eq!((orders.placed, ends), (5, (1, 1, 1, 1, 1)));
        assert!(
            orders.latency_p99 < Duration::from_millis(11),
            "{:?}",
            orders.latency_p99
        );
        assert!(
            orders.latency_p50 >= Duration::from_millis(10),
            "{:?}",
            orders.latency_p50
        );
    }

    #[test]
    fn the_rate_is_that_of_the_last_whole_seconds() {
        let mut recent = RecentSeconds::default();
        assert!(recent.per_second(0).abs() < f64::EPSILON);
        (0..100).for_each(|second| recent.add(second, second));
        // 94 + 95 + 96 + 97 + 98, without the unfinished 99.
        assert!(
            (recent.per_second(99) - 96.0).abs() < f64::EPSILON,
            "{}",
            recent.per_second(99)
        );
        assert!(recent.per_second(200).abs() < f64::EPSILON, "an idle fleet has no rate");
    }

    #[test]
    fn the_summary_has_the_reported_shape() {
        let stats = Stats::default();
        stats.order_placed();
        stats.order_settled(&succeeded(), Duration::from_millis(1));
        stats.fixes_sent(3, 1);
        stats.fixes_settled(2, 1);

        let summary = serde_json::to_value(stats.summary(Duration::from_millis(1_500))).unwrap();
        let expected = serde_json::json!({
            "seconds": 1.5,
            "orders": {"created": 1, "succeeded": 1, "refunded": 0, "failed": 0},
            "locations": {"sent": 3, "acknowledged": 2, "rejected": 1},
        });
        assert_eq!(summary, expected);
    }
}
