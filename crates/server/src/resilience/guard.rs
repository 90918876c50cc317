//! A timeout and a breaker for a store.
//!
//! A store needs no more: its own client bounds the connections, and no statement is retried here. The timeout of the guard
//! is the one that counts: redis-rs does not apply its own to a command that is issued while it reconnects.

use crate::metrics::{DependencyMetrics, GuardMetrics};
use crate::resilience::{CircuitBreaker, Deadline};
use std::time::Duration;
use waybill_domain::breaker::{CallOutcome, Open, Policy};

/// Stands before one store.
#[derive(Debug)]
pub struct Guard {
    timeout: Duration,
    breaker: CircuitBreaker,
    metrics: GuardMetrics,
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

impl Guard {
    /// Stands before the store of this name; no call takes longer than `timeout`.
    pub fn new(name: &'static str, timeout: Duration, policy: Policy) -> Self {
        Guard::with_metrics(name, timeout, policy, &DependencyMetrics::default())
    }

    /// The same, counted in these metrics.
    pub fn with_metrics(name: &'static str, timeout: Duration, policy: Policy, metrics: &DependencyMetrics) -> Self {
        let metrics = metrics.guard(name);
        Guard {
            timeout,
            breaker: CircuitBreaker::new(policy, metrics.breaker.clone()),
            metrics,
        }
    }

    /// How long a call may take.
    pub fn timeout(&self) -> Duration {
        self.timeout
    }

    /// Whoever gives up a call after this has seen that there is no answer: the store's own limits end a call sooner.
    pub fn patience(&self) -> Duration {
        self.timeout / 2
    }

    /// Says that the store did not answer: to who asked past the breaker, or gave up.
    pub fn report_failure(&self) {
        if let Ok(permit) = self.breaker.permit() {
            permit.record(CallOutcome::Failure);
        }
    }

    /// Says that the store answered: to who asked past the breaker. It is not left alone for longer, which may be a quarter of a minute after
    /// an outage.
    pub fn report_answer(&self) {
        self.breaker.answered();
    }

    /// Runs a call within the timeout. `classify` decides what an error means for the breaker: a violated constraint is a
    /// `Success`, for the store answered.
    pub async fn call<T, E>(
        &self,
        call: impl Future<Output = Result<T, E>>,
        classify: impl FnOnce(&E) -> CallOutcome,
    ) -> Result<T, GuardError<E>> {
        // The breaker first: a store that is down must not cost each caller its whole timeout.
        let permit = self.breaker.admit()?;
        let Ok(result) = Deadline::after(self.timeout).bound(call).await else {
            self.metrics.timeouts.inc();
            permit.record(CallOutcome::Failure);
            return Err(GuardError::TimedOut);
        };
        match result {
            Ok(value) => {
                permit.record(CallOutcome::Success);
                Ok(value)
            }
            Err(error) => {
                let outcome = classify(&error);
                self.metrics.failures.inc_by(u64::from(outcome != CallOutcome::Success));
                permit.record(outcome);
                Err(GuardError::Failed(error))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
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
        let metrics = &guard.metrics;
        assert_eq!((metrics.breaker.refusals.get(), metrics.timeouts.get()), (1, 2));
    }

    #[tokio::test]
    async fn who_asks_past_the_breaker_opens_it_too() {
        let guard = guard(Duration::from_secs(4));
        for _ in 0..3 {
            guard.report_failure();
        }
        let refused = guard.call(ready(Answer::Ok(1)), broken).await;
        assert!(matches!(refused, Err(GuardError::Refused(_))));
    }

    #[tokio::test]
    async fn who_is_answered_past_the_breaker_has_the_next_call_try() {
        let guard = guard(Duration::from_secs(4));
        for _ in 0..2 {
            guard.report_failure();
        }
        guard.report_answer();
        assert_eq!(guard.call(ready(Answer::Ok(1)), broken).await, Ok(1));
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
        let metrics = &guard.metrics;
        assert_eq!((metrics.breaker.openings.get(), metrics.failures.get()), (0, 0));
        for _ in 0..2 {
            let _ = guard.call(ready(Answer::Err("connection lost")), broken).await;
        }
        assert_eq!((metrics.breaker.openings.get(), metrics.failures.get()), (1, 2));
    }
}
