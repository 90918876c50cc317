//! A timeout and a breaker for a store.
//!
//! Postgres and Redis have pools that bound what is in flight, and statements that are not sent again blindly, so two
//! guards are enough. The timeout is here although both clients have their own: redis-rs does not apply its
//! response timeout to a command that is issued while the connection is being made again.

use crate::resilience::{BreakerSnapshot, CircuitBreaker, Deadline};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use waybill_domain::breaker::{Open, Outcome, Policy};

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

    /// Runs a call, not past `deadline` and not past the guard's own timeout. `classify` says what an error means for
    /// the breaker: a violated constraint is a `Success`, for the store answered.
    pub async fn call<T, E>(
        &self,
        deadline: Deadline,
        call: impl Future<Output = Result<T, E>>,
        classify: impl FnOnce(&E) -> Outcome,
    ) -> Result<T, GuardError<E>> {
        self.calls.fetch_add(1, Ordering::Relaxed);
        // The breaker first: a store that is down must not cost each caller its whole timeout.
        let admission = self.breaker.admit()?;
        let own = Deadline::after(self.timeout);
        let Ok(result) = own.min(deadline).bound(call).await else {
            self.timed_out.fetch_add(1, Ordering::Relaxed);
            // A caller in a hurry has learned nothing about the store; else one client with deadlines of a
            // millisecond could take the store away from all others.
            admission.record(if own <= deadline {
                Outcome::Failure
            } else {
                Outcome::Neutral
            });
            return Err(GuardError::TimedOut);
        };
        match result {
            Ok(value) => {
                admission.record(Outcome::Success);
                Ok(value)
            }
            Err(error) => {
                self.failed.fetch_add(1, Ordering::Relaxed);
                admission.record(classify(&error));
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

    fn patient() -> Deadline {
        Deadline::after(Duration::from_mins(1))
    }

    fn broken(_: &&'static str) -> Outcome {
        Outcome::Failure
    }

    #[tokio::test]
    async fn a_store_that_hangs_is_left_alone_after_a_few_timeouts() {
        let guard = guard(Duration::from_millis(5));
        for _ in 0..2 {
            let hung = guard.call(patient(), pending::<Answer>(), broken).await;
            assert_eq!(hung, Err(GuardError::TimedOut));
        }
        let mut was_called = false;
        let call = async {
            was_called = true;
            Answer::Ok(1)
        };
        assert!(matches!(
            guard.call(patient(), call, broken).await,
            Err(GuardError::Refused(_))
        ));
        assert!(!was_called);
        assert_eq!((guard.snapshot().calls, guard.snapshot().timed_out), (3, 2));
    }

    #[tokio::test]
    async fn callers_in_a_hurry_do_not_open_the_breaker_for_others() {
        let guard = guard(Duration::from_mins(1));
        for _ in 0..20 {
            let deadline = Deadline::after(Duration::from_millis(1));
            assert_eq!(
                guard.call(deadline, pending::<Answer>(), broken).await,
                Err(GuardError::TimedOut)
            );
        }
        assert_eq!(guard.call(patient(), ready(Answer::Ok(1)), broken).await, Ok(1));
    }

    #[tokio::test]
    async fn an_error_that_is_an_answer_leaves_it_closed_and_a_broken_one_does_not() {
        let guard = guard(Duration::from_mins(1));
        for _ in 0..20 {
            let answer = guard
                .call(patient(), ready(Answer::Err("duplicate key")), |_| Outcome::Success)
                .await;
            assert_eq!(answer, Err(GuardError::Failed("duplicate key")));
        }
        assert_eq!(guard.breaker().state(), BreakerState::Closed);
        for _ in 0..2 {
            let _ = guard
                .call(patient(), ready(Answer::Err("connection lost")), broken)
                .await;
        }
        assert_eq!(guard.breaker().state(), BreakerState::Open);
    }
}
