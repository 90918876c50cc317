//! The guards round a call to the provider, outermost first:
//! deadline, retry, breaker, bulkhead, rate limit, timeout of the attempt, client.

use super::answer::Why;
use super::settings::{Settings, SettingsError};
use super::wire::{Fault, Outgoing, Reply, Wire};
use crate::resilience::{Bulkhead, CircuitBreaker, Deadline, EgressLimit, Outcome, RetryBudget};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use waybill_domain::retry;

/// The guards of one provider, shared by all calls.
#[derive(Debug)]
pub(super) struct Stack {
    total_timeout: Duration,
    attempt_timeout: Duration,
    retry: retry::Policy,
    pub budget: RetryBudget,
    pub breaker: CircuitBreaker,
    pub bulkhead: Bulkhead,
    pub limit: EgressLimit,
    wire: Wire,
    pub attempts: AtomicU64,
    pub retries: AtomicU64,
    pub retries_refused: AtomicU64,
}

/// How a call ended.
#[derive(Debug)]
pub(super) struct Exchange {
    /// The last attempt.
    pub result: Result<Reply, Fault>,
    /// Set if an attempt before the last may have been executed: then "the last was not" proves nothing.
    pub doubt: Option<Why>,
}

impl Stack {
    pub fn new(settings: &Settings) -> Result<Self, SettingsError> {
        Ok(Stack {
            total_timeout: settings.total_timeout,
            attempt_timeout: settings.attempt_timeout,
            retry: settings.retry,
            budget: RetryBudget::new(settings.retry_budget),
            breaker: CircuitBreaker::new("payments", settings.breaker),
            bulkhead: Bulkhead::new(settings.in_flight_max),
            limit: EgressLimit::new(settings.rate_per_second),
            wire: Wire::new(settings)?,
            attempts: AtomicU64::new(0),
            retries: AtomicU64::new(0),
            retries_refused: AtomicU64::new(0),
        })
    }

    /// Deadline: outermost, because every wait below is the caller's wait too. It is handed down and not wrapped
    /// round: a future that is cut off from outside cannot tell any more whether its request was sent.
    pub fn bounded(&self, deadline: Deadline) -> Deadline {
        deadline.min(Deadline::after(self.total_timeout))
    }

    /// Retry: outside the breaker, so that each attempt is counted there and an open one ends them.
    pub async fn call(&self, outgoing: &Outgoing, deadline: Deadline) -> Exchange {
        self.budget.deposit();
        let mut doubt = None;
        let mut attempts = 1;
        loop {
            let result = self.attempt(outgoing, deadline).await;
            let Some(wait) = self.wait_before_retry(&result, attempts, deadline) else {
                return Exchange { result, doubt };
            };
            if let Err(Fault::Ambiguous(why)) = result {
                doubt = Some(why);
            }
            tokio::time::sleep(wait).await;
            attempts += 1;
        }
    }

    async fn attempt(&self, outgoing: &Outgoing, deadline: Deadline) -> Result<Reply, Fault> {
        if deadline.is_past() {
            return Err(Fault::NotExecuted(Why::DeadlinePassed));
        }
        // Breaker: outside the bulkhead, so that a dead provider costs no slot. From here on an early return drops
        // the admission, which counts as neutral: that we refused a call ourselves says nothing about the provider.
        let admission = self.breaker.admit().map_err(|open| {
            let retry_after = open.retry_after;
            Fault::NotExecuted(Why::BreakerOpen { retry_after })
        })?;
        // Bulkhead: outside all that takes time, the wait for the rate limit included, and it never waits itself.
        let _slot = self
            .bulkhead
            .try_enter()
            .map_err(|_| Fault::NotExecuted(Why::BulkheadFull))?;
        // Rate limit: inside the bulkhead, which bounds how many wait; outside the timeout, because our own wait is
        // not the provider's slowness.
        self.limit
            .until_ready(deadline)
            .await
            .map_err(|_| Fault::NotExecuted(Why::RateLimited))?;
        // Timeout of the attempt: innermost, so that it measures the provider alone and leaves time for another try.
        self.attempts.fetch_add(1, Ordering::Relaxed);
        let own = Deadline::after(self.attempt_timeout);
        let sent = own.min(deadline).bound(self.wire.send(outgoing)).await;
        let result = sent.unwrap_or(Err(Fault::Ambiguous(Why::TimedOut)));
        admission.record(outcome(&result, deadline < own));
        result
    }

    /// How long to wait before the next attempt; `None` if there is to be none.
    fn wait_before_retry(&self, result: &Result<Reply, Fault>, attempts: u32, deadline: Deadline) -> Option<Duration> {
        if !deserves_another(result) {
            return None;
        }
        let wait = self
            .retry
            .wait_after(attempts, rand::random())
            .filter(|wait| *wait < deadline.remaining())?;
        // The budget last: a token is taken only for a retry that happens.
        if !self.budget.withdraw() {
            self.retries_refused.fetch_add(1, Ordering::Relaxed);
            return None;
        }
        self.retries.fetch_add(1, Ordering::Relaxed);
        Some(wait)
    }
}

/// Only what a second later may be otherwise. A 5xx is not: Stripe stores it under the key and replays it, so the
/// later tries of the order's step are the right place for it. Our own refusals are not: they are meant.
fn deserves_another(result: &Result<Reply, Fault>) -> bool {
    match result {
        Ok(reply) => reply.status == 429,
        Err(Fault::NotExecuted(why)) => *why == Why::NoConnection,
        Err(Fault::Ambiguous(why)) => matches!(why, Why::TimedOut | Why::ConnectionLost),
    }
}

/// What an attempt says about the health of the provider: an answer below 500 is a sign of life, a decline and a 429
/// included. `was_hurried`: the caller's deadline was sooner than the timeout of the attempt.
fn outcome(result: &Result<Reply, Fault>, was_hurried: bool) -> Outcome {
    match result {
        Ok(reply) if reply.status < 500 => Outcome::Success,
        // One caller without time must not close the provider to all others.
        Err(Fault::Ambiguous(Why::TimedOut)) if was_hurried => Outcome::Neutral,
        Err(Fault::NotExecuted(Why::Unsendable)) => Outcome::Neutral,
        Ok(_) | Err(_) => Outcome::Failure,
    }
}
