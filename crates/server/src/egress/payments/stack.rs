//! The guards round a call to the provider, outermost first:
//! deadline, retry, breaker, bulkhead, rate limit, timeout of the attempt, client.

use super::answer::Cause;
use super::settings::{PaymentSettings, SettingsError};
use super::wire::{Fault, Outgoing, Reply, Wire};
use crate::resilience::{Bulkhead, CallOutcome, CircuitBreaker, Deadline, EgressLimit, RetryBudget};
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
    pub in_doubt: Option<Cause>,
}

impl Stack {
    pub fn new(settings: &PaymentSettings) -> Result<Self, SettingsError> {
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
    /// round: a future that is cut off from outside does not know any more whether its request was sent.
    pub fn bounded(&self, deadline: Deadline) -> Deadline {
        deadline.min(Deadline::after(self.total_timeout))
    }

    /// Retry: outside the breaker, so that each attempt is counted there and an open one ends them.
    pub async fn call(&self, outgoing: &Outgoing, deadline: Deadline) -> Exchange {
        self.budget.deposit();
        let mut in_doubt = None;
        let mut attempts = 1;
        loop {
            let result = self.attempt(outgoing, deadline).await;
            let Some(wait) = self.wait_before_retry(&result, attempts, deadline) else {
                return Exchange { result, in_doubt };
            };
            if let Err(Fault::Ambiguous(cause)) = result {
                in_doubt = Some(cause);
            }
            tokio::time::sleep(wait).await;
            attempts += 1;
        }
    }

    async fn attempt(&self, outgoing: &Outgoing, deadline: Deadline) -> Result<Reply, Fault> {
        if deadline.is_past() {
            return Err(Fault::NotExecuted(Cause::DeadlinePassed));
        }
        // Breaker: outside the bulkhead, so that a dead provider costs no slot. From here on an early return drops
        // the permit, which counts as neutral: that we refused a call ourselves says nothing about the provider.
        let permit = self.breaker.admit().map_err(|open| {
            let retry_after = open.retry_after;
            Fault::NotExecuted(Cause::BreakerOpen { retry_after })
        })?;
        // Bulkhead: outside all that takes time, the wait for the rate limit included, and it never waits itself.
        let _slot = self
            .bulkhead
            .try_enter()
            .map_err(|_| Fault::NotExecuted(Cause::BulkheadFull))?;
        // Rate limit: inside the bulkhead, which bounds how many wait; outside the timeout, because our own wait is
        // not the provider's slowness.
        self.limit
            .until_ready(deadline)
            .await
            .map_err(|_| Fault::NotExecuted(Cause::RateLimited))?;
        // Timeout of the attempt: innermost, so that it measures the provider alone and leaves time for another try.
        self.attempts.fetch_add(1, Ordering::Relaxed);
        let own = Deadline::after(self.attempt_timeout);
        let sent = own.min(deadline).bound(self.wire.send(outgoing)).await;
        let result = sent.unwrap_or(Err(Fault::Ambiguous(Cause::TimedOut)));
        permit.record(outcome(&result, deadline < own));
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
/// later tries of the order's step are the right place for it. Our own refusals are not: they are intended.
fn deserves_another(result: &Result<Reply, Fault>) -> bool {
    match result {
        Ok(reply) => reply.status == 429,
        Err(Fault::NotExecuted(cause)) => *cause == Cause::NoConnection,
        Err(Fault::Ambiguous(cause)) => matches!(cause, Cause::TimedOut | Cause::ConnectionLost),
    }
}

/// What an attempt says about the health of the provider: an answer below 500 is a sign of life, a decline and a 429
/// included. `was_hurried`: the caller's deadline was sooner than the timeout of the attempt.
fn outcome(result: &Result<Reply, Fault>, was_hurried: bool) -> CallOutcome {
    match result {
        Ok(reply) if reply.status < 500 => CallOutcome::Success,
        // One caller without time must not close the provider to all others.
        Err(Fault::Ambiguous(Cause::TimedOut)) if was_hurried => CallOutcome::Neutral,
        Err(Fault::NotExecuted(Cause::Unsendable)) => CallOutcome::Neutral,
        Ok(_) | Err(_) => CallOutcome::Failure,
    }
}
