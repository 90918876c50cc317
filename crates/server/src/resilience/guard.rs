//! A timeout and a breaker for a store.
//!
//! Postgres and Redis have pools that bound what is in flight, and statements that are not sent again blindly, so two
//! guards are enough. The timeout here is the one that counts: redis-rs does not apply its own to a command that is
//! issued while the connection is being made again.

use crate::resilience::{BreakerSnapshot, CircuitBreaker, Deadline};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use waybill_domain::breaker::{CallOutcome, Open, Policy};

/// Stands before one store.
#[derive(Debug)]
pub struct Guard {
    timeout: Duration,
    breaker: CircuitBreaker,
    calls: AtomicU64,
    timed_out: AtomicU64,
    failed: AtomicU64,
}

/// Why there is no answer.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum GuardError<E> {
    /// The breaker is open: nothing was sent, try again after so long.
    #[error(transparent)]
    Refused(#[from] Open),
    /// No answer in time: what was sent may have been done.
    #[error("no answer in time")]
    TimedOut,
    /// The store's own error.
    #[error("the call failed")]
    Failed(#[source] E),
}

/// What a guard saw so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GuardSnapshot {
    /// Its breaker.
    pub breaker: BreakerSnapshot,
    /// Calls, refused ones included.
    pub calls: u64,
    /// Calls that had no answer in time.
    pub timed_out: u64,
    /// Calls that the store answered with an error.
    pub failed: u64,
}

impl Guard {
    /// Stands before the store of this name; no call takes longer than `timeout`.
    pub fn new(name: &'static str, timeout: Duration, policy: Policy) -> Self {
        Guard {
            timeout,
            breaker: CircuitBreaker::new(name, policy),
            calls: AtomicU64::new(0),
            timed_out: AtomicU64::new(0),
            failed: AtomicU64::new(0),
        }
    }

    /// Runs a call within the timeout. `classify` decides what an error means for the breaker: a violated constraint is a
    /// `Success`, for the store answered.
    pub async fn call<T, E>(
        &self,
        call: impl Future<Output = Result<T, E>>,
        classify: impl FnOnce(&E) -> CallOutcome,
    ) -> Result<T, GuardError<E>> {
        self.calls.fetch_add(1, Ordering::Relaxed);
        // The breaker first: a store that is down must not cost each caller its whole timeout.
        let permit = self.breaker.admit()?;
        let Ok(result) = Deadline::after(self.timeout).bound(call).await else {
            self.timed_out.fetch_add(1, Ordering::Relaxed);
            permit.record(CallOutcome::Failure);
            return Err(GuardError::TimedOut);
        };
        match result {
            Ok(value) => {
                permit.record(CallOutcome::Success);
                Ok(value)
            }
            Err(error) => {
                self.failed.fetch_add(1, Ordering::Relaxed);
                permit.record(classify(&error));
                Err(GuardError::Failed(error))
            }
        }
    }

    /// The breaker, for those who ask before they begin.
    pub fn breaker(&self) -> &CircuitBreaker {
        &self.breaker
    }

    /// What it saw so far.
    pub fn snapshot(&self) -> GuardSnapshot {
        GuardSnapshot {
            breaker: self.breaker.snapshot(),
            calls: self.calls.load(Ordering::Relaxed),
            timed_out: self.timed_out.load(Ordering::Relaxed),
            failed: self.failed.load(Ordering::Relaxed),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resilience::BreakerState;
    use std::future::{pending, ready};

    type Answer = Result<u8, &'static str>;

    fn guard(timeout: Duration) -> Guard {
        Guard::new(
            "redis",
            timeout,
            Policy {
                consecutive_failures: 2,
                ..Policy::default()
            },
        )
    }

    fn broken(_: &&'static str) -> CallOutcome {
        CallOutcome::Failure
    }

    #[tokio::test]
    async fn a_store_that_hangs_is_left_alone_after_a_few_timeouts() {
        let guard = guard(Duration::from_millis(5));
        for _ in 0..2 {
            let hung = guard.call(pending::<Answer>(), broken).await;
            assert_eq!(hung, Err(GuardError::TimedOut));
        }
        let mut was_called = false;
        let call = async {
            was_called = true;
            Answer::Ok(1)
        };
        assert!(matches!(guard.call(call, broken).await, Err(GuardError::Refused(_))));
        assert!(!was_called);
        assert_eq!((guard.snapshot().calls, guard.snapshot().timed_out), (3, 2));
    }

    #[tokio::test]
    async fn an_error_that_is_an_answer_leaves_it_closed_and_a_broken_one_does_not() {
        let guard = guard(Duration::from_mins(1));
        for _ in 0..20 {
            let answer = guard
                .call(ready(Answer::Err("duplicate key")), |_| CallOutcome::Success)
                .await;
            assert_eq!(answer, Err(GuardError::Failed("duplicate key")));
        }
        assert_eq!(guard.breaker().state(), BreakerState::Closed);
        for _ in 0..2 {
            let _ = guard.call(ready(Answer::Err("connection lost")), broken).await;
        }
        assert_eq!(guard.breaker().state(), BreakerState::Open);
    }
}
