//! The circuit breaker of one dependency: the rules of `domain::breaker` with a lock, a clock and chance.
//!
//! It sits inside the retries, so that each attempt counts and an open breaker ends them, and outside the bulkhead,
//! so that a dependency that is down costs neither a slot nor a connection.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::time::Instant;
use waybill_domain::breaker::{Breaker, CallOutcome, Open, Permit, Policy, State};

/// Refuses calls to a dependency that does not answer. One per dependency, shared by all who call it.
#[derive(Debug)]
pub struct CircuitBreaker {
    name: &'static str,
    origin: Instant,
    // Held for a few comparisons, never across an await.
    inner: Mutex<Breaker>,
    refused: AtomicU64,
}

/// What a breaker did so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BreakerSnapshot {
    /// The dependency.
    pub name: &'static str,
    /// Whether calls pass.
    pub state: State,
    /// How often it opened, failed probes included.
    pub opened: u64,
    /// Calls that it refused.
    pub refused: u64,
}

/// The right to make one call. Dropped without a report, as when the call is cancelled, it counts as neutral and frees
/// the slot of the probe.
#[derive(Debug)]
#[must_use = "an admission that is dropped at once shows the breaker nothing"]
pub struct CallPermit<'a> {
    breaker: &'a CircuitBreaker,
    permit: Option<Permit>,
}

impl CircuitBreaker {
    /// A closed breaker for the dependency of this name.
    pub fn new(name: &'static str, policy: Policy) -> Self {
        let inner = Mutex::new(Breaker::new(policy));
        CircuitBreaker {
            name,
            origin: Instant::now(),
            inner,
            refused: AtomicU64::new(0),
        }
    }

    /// The dependency that it stands for.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Lets one call through, or says how long to stay away.
    pub fn admit(&self) -> Result<CallPermit<'_>, Open> {
        let admitted = self.lock().admit(self.now());
        match admitted {
            Ok(permit) => Ok(CallPermit {
                breaker: self,
                permit: Some(permit),
            }),
            Err(open) => {
                self.refused.fetch_add(1, Ordering::Relaxed);
                Err(open)
            }
        }
    }

    /// How long calls will still be refused; `None` if the next one would pass. For those who would rather not begin
    /// something that needs the dependency later.
    pub fn retry_after(&self) -> Option<Duration> {
        self.lock().retry_after(self.now())
    }

    /// Whether calls pass.
    pub fn state(&self) -> State {
        self.lock().state()
    }

    /// What it did so far.
    pub fn snapshot(&self) -> BreakerSnapshot {
        let inner = self.lock();
        BreakerSnapshot {
            name: self.name,
            state: inner.state(),
            opened: inner.opened_count(),
            refused: self.refused.load(Ordering::Relaxed),
        }
    }

    fn now(&self) -> Duration {
        self.origin.elapsed()
    }

    /// No code under the lock panics, and a breaker would be no reason to fail a call.
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
            self.breaker
                .lock()
                .record(permit, outcome, self.breaker.now(), rand::random());
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

    fn touchy() -> CircuitBreaker {
        let policy = Policy {
            consecutive_failures: 1,
            ..Policy::default()
        };
        CircuitBreaker::new("payments", policy)
    }

    #[test]
    fn it_refuses_after_a_failure_and_counts_the_refusals() {
        let breaker = touchy();
        breaker.admit().unwrap().record(CallOutcome::Failure);
        assert!(breaker.admit().is_err());
        assert!(breaker.retry_after().is_some());
        let expected = BreakerSnapshot {
            name: "payments",
            state: State::Open,
            opened: 1,
            refused: 1,
        };
        assert_eq!(breaker.snapshot(), expected);
    }

    #[test]
    fn a_dropped_probe_lets_the_next_one_go() {
        // Open for no time at all: the next call is the probe.
        let policy = Policy {
            consecutive_failures: 1,
            open_min: Duration::ZERO,
            ..Policy::default()
        };
        let breaker = CircuitBreaker::new("payments", policy);
        breaker.admit().unwrap().record(CallOutcome::Failure);
        let probe = breaker.admit().unwrap();
        assert!(breaker.admit().is_err(), "one probe at a time");
        drop(probe);
        breaker.admit().unwrap().record(CallOutcome::Success);
        assert_eq!(breaker.state(), State::Closed);
    }
}
