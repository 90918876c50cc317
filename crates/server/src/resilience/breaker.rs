//! The circuit breaker of one dependency: the rules of `domain::breaker` with a lock, a clock, randomness and metrics.
//!
//! It sits inside the retries, so that each attempt counts and an open breaker ends them, and outside the bulkhead,
//! so that a dependency that is down costs neither a slot nor a connection.

use crate::metrics::BreakerMetrics;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::time::Instant;
use waybill_domain::breaker::{Breaker, CallOutcome, Open, Permit, Policy, State};

/// Refuses calls to a dependency that does not answer. One per dependency, shared by all who call it.
#[derive(Debug)]
pub struct CircuitBreaker {
    origin: Instant,
    // Held for a few comparisons, never across an await.
    inner: Mutex<Breaker>,
    metrics: BreakerMetrics,
}

/// The right to make one call. Dropped without a report, as when the call is cancelled, it counts as neutral and frees
/// the slot of the probe.
#[derive(Debug)]
#[must_use = "a permit that is dropped at once shows the breaker nothing"]
pub struct CallPermit<'a> {
    breaker: &'a CircuitBreaker,
    permit: Option<Permit>,
}

impl CircuitBreaker {
    /// A closed breaker.
    pub fn new(policy: Policy, metrics: BreakerMetrics) -> Self {
        metrics.changed_to(State::Closed);
        CircuitBreaker {
            origin: Instant::now(),
            inner: Mutex::new(Breaker::new(policy)),
            metrics,
        }
    }

    /// Lets one call through, or returns how long to stay away.
    pub fn admit(&self) -> Result<CallPermit<'_>, Open> {
        let admitted = self.permit();
        if admitted.is_err() {
            self.metrics.refusals.inc();
        }
        admitted
    }

    /// The same, of which a refusal is not counted.
    pub(super) fn permit(&self) -> Result<CallPermit<'_>, Open> {
        let admitted = self.change(|breaker| breaker.admit(self.now()));
        admitted.map(|permit| CallPermit {
            breaker: self,
            permit: Some(permit),
        })
    }

    /// Someone who asked past it was answered: the next call is a probe.
    pub(super) fn answered(&self) {
        self.change(|breaker| breaker.answered(self.now()));
    }

    /// How long calls will still be refused; `None` if the next one would pass. Asked before work is begun that needs
    /// the dependency later.
    pub fn retry_after(&self) -> Option<Duration> {
        self.lock().retry_after(self.now())
    }

    /// Changes the breaker and shows a new state in the metrics, under the lock: else an older state could be shown last.
    fn change<T>(&self, change: impl FnOnce(&mut Breaker) -> T) -> T {
        let mut breaker = self.lock();
        let state = breaker.state();
        let result = change(&mut breaker);
        if breaker.state() != state {
            self.metrics.changed_to(breaker.state());
        }
        result
    }

    fn now(&self) -> Duration {
        self.origin.elapsed()
    }

    /// No code under the lock panics; and if it did, that would be no reason to fail a call.
    fn lock(&self) -> MutexGuard<'_, Breaker> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl CallPermit<'_> {
    /// Reports to the breaker what the call showed.
    pub fn record(mut self, outcome: CallOutcome) {
        self.settle(outcome);
    }

    fn settle(&mut self, outcome: CallOutcome) {
        if let Some(permit) = self.permit.take() {
            let now = self.breaker.now();
            self.breaker
                .change(|breaker| breaker.record(permit, outcome, now, rand::random()));
        }
    }
}

impl Drop for CallPermit<'_> {
    fn drop(&mut self) {
        self.settle(CallOutcome::Neutral);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_refuses_after_a_failure_and_counts_the_refusals() {
        let policy = Policy {
            consecutive_failures: 1,
            ..Policy::default()
        };
        let metrics = BreakerMetrics::default();
        let breaker = CircuitBreaker::new(policy, metrics.clone());
        breaker.admit().unwrap().record(CallOutcome::Failure);
        assert!(breaker.admit().is_err());
        assert!(breaker.retry_after().is_some());
        assert_eq!(
            (metrics.state.get(), metrics.openings.get(), metrics.refusals.get()),
            (2, 1, 1)
        );
    }

    #[test]
    fn a_dropped_probe_lets_the_next_one_go() {
        // Open for no time at all: the next call is the probe.
        let policy = Policy {
            consecutive_failures: 1,
            open_min: Duration::ZERO,
            ..Policy::default()
        };
        let breaker = CircuitBreaker::new(policy, BreakerMetrics::default());
        breaker.admit().unwrap().record(CallOutcome::Failure);
        let probe = breaker.admit().unwrap();
        assert!(breaker.admit().is_err(), "one probe at a time");
        drop(probe);
        breaker.admit().unwrap().record(CallOutcome::Success);
        assert_eq!(breaker.lock().state(), State::Closed);
    }
}
