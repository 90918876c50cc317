//! The guards around a call to the provider, outermost first:
//! deadline, retry, breaker, bulkhead with its line, rate limit, timeout of the attempt, client.
//!
//! A charge stands in the line before its call begins, and brings its [`Place`] along: there it waits for longer than a call
//! may take. All other calls stand in it within their deadline.

use super::answer::Cause;
use super::settings::{PaymentSettings, SettingsError};
use super::wire::{Fault, Outgoing, Reply, Wire};
use crate::metrics::EgressMetrics;
use crate::resilience::{
    Bulkhead, CallOutcome, CircuitBreaker, Deadline, EgressLimit, ExpectedCall, RetryBudget, SharedBucket, Slot, Turn,
    WaitsTooLong,
};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use waybill_domain::retry;

/// An attempt without an answer counts as a failure if it had this share of the time that one has at most. One that had less
/// began late, behind another one or a query, and shows nothing.
const TIME_ENOUGH: f64 = 0.9;

/// The guards of one provider, shared by all calls.
#[derive(Debug)]
pub(super) struct Stack {
    total_timeout: Duration,
    attempt_timeout: Duration,
    retry: retry::Policy,
    budget: RetryBudget,
    pub breaker: CircuitBreaker,
    bulkhead: Bulkhead,
    limit: EgressLimit,
    wire: Wire,
    metrics: EgressMetrics,
}

/// A place at the provider: a slot of the bulkhead, and the right to send one request. Held for all requests of one step.
#[derive(Debug)]
#[must_use = "the next in the line has the place as soon as it is dropped"]
pub struct Place {
    slot: Slot,
    may_send: AtomicBool,
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
    pub fn new(settings: &PaymentSettings, metrics: EgressMetrics) -> Result<Self, SettingsError> {
        Ok(Stack {
            total_timeout: settings.total_timeout,
            attempt_timeout: settings.attempt_timeout,
            retry: settings.retry,
            budget: RetryBudget::new(settings.retry_budget),
            breaker: CircuitBreaker::new(settings.breaker, metrics.breaker.clone()),
            bulkhead: Bulkhead::new(settings.in_flight_max, metrics.bulkhead.clone()),
            limit: EgressLimit::new(settings.rate_per_second, metrics.rate_limit.clone()),
            wire: Wire::new(settings)?,
            metrics,
        })
    }

    /// Shares the rate limit with all who take from this bucket.
    pub fn share_rate(&mut self, bucket: Arc<dyn SharedBucket>) {
        self.limit.share(bucket, self.metrics.rate_limit_alone.clone());
    }

    /// Deadline: outermost, because every wait below is the caller's wait too. It is handed down, and not applied from
    /// outside: of a future that is dropped no one knows whether its request was sent.
    pub fn bounded(&self, deadline: Deadline) -> Deadline {
        deadline.min(Deadline::after(self.total_timeout))
    }

    /// Whether one more charge would find a place soon enough: then it is counted as waiting, until it stands in the line.
    pub fn expect(&self, wait_max: Duration) -> Result<ExpectedCall, WaitsTooLong> {
        self.bulkhead.expect(self.limit.per_second(), wait_max)
    }

    /// Bulkhead, then rate limit: waits in the line for a place, at most until the deadline.
    pub async fn place(&self, turn: Turn, deadline: Deadline) -> Result<Place, Cause> {
        let head = deadline.bound(self.bulkhead.head(turn)).await.map_err(|_| {
            self.metrics.bulkhead.shed.inc();
            Cause::BulkheadFull
        })?;
        // While the breaker is open no request is sent: the line is served quickly, so that its orders are deferred.
        let may_send = self.breaker.retry_after().is_none();
        if may_send {
            self.until_allowed(deadline).await?;
        }
        Ok(Place {
            slot: head.enter(),
            may_send: AtomicBool::new(may_send),
        })
    }

    /// Retry: outside the breaker, so that each attempt is counted there and an open one ends them.
    pub async fn call(&self, outgoing: &Outgoing, place: Option<&Place>, deadline: Deadline) -> Exchange {
        self.budget.deposit();
        let mut in_doubt = None;
        let mut attempts = 1;
        loop {
            let result = self.attempt(outgoing, place, deadline).await;
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

    async fn attempt(&self, outgoing: &Outgoing, place: Option<&Place>, deadline: Deadline) -> Result<Reply, Fault> {
        if deadline.is_past() {
            return Err(Fault::NotExecuted(Cause::DeadlinePassed));
        }
        // Breaker: outside the bulkhead, so that a dead provider costs no slot. From here on an early return drops the
        // permit, which counts as neutral: a refusal of ours shows nothing about the provider.
        let permit = self.breaker.admit().map_err(|open| {
            let retry_after = open.retry_after;
            Fault::NotExecuted(Cause::BreakerOpen { retry_after })
        })?;
        let own;
        let place = if let Some(place) = place {
            place
        } else {
            own = self.place(Turn::First, deadline).await.map_err(Fault::NotExecuted)?;
            &own
        };
        // The first request of a place had its turn under the rate limit at the head of the line.
        if !place.may_send.swap(false, Ordering::Relaxed) {
            self.until_allowed(deadline).await.map_err(Fault::NotExecuted)?;
        }
        place.slot.used();
        // Timeout of the attempt: innermost, so that it measures the provider alone.
        self.metrics.attempts.inc();
        let deadline = deadline.min(Deadline::after(self.attempt_timeout));
        let was_hurried = deadline.remaining() < self.attempt_timeout.min(self.total_timeout).mul_f64(TIME_ENOUGH);
        let sent = deadline.bound(self.wire.send(outgoing)).await;
        let result = sent.unwrap_or(Err(Fault::Ambiguous(Cause::TimedOut)));
        permit.record(outcome(&result, was_hurried));
        result
    }

    /// Rate limit: outside the timeout of the attempt, because our own wait is not the provider's slowness.
    async fn until_allowed(&self, deadline: Deadline) -> Result<(), Cause> {
        self.limit.until_ready(deadline).await.map_err(|_| Cause::RateLimited)
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
            self.metrics.retries_refused.inc();
            return None;
        }
        self.metrics.retries.inc();
        Some(wait)
    }
}

/// Whether a second attempt may end otherwise. After a 5xx it does not: Stripe stores it under the key and replays it, so
/// it is left to the later tries of the order's step. Our own refusals are intended, and not retried.
fn deserves_another(result: &Result<Reply, Fault>) -> bool {
    match result {
        Ok(reply) => reply.status == 429,
        Err(Fault::NotExecuted(cause)) => *cause == Cause::NoConnection,
        Err(Fault::Ambiguous(cause)) => matches!(cause, Cause::TimedOut | Cause::ConnectionLost),
    }
}

/// What an attempt shows about the health of the provider: an answer below 500 is a sign of life, also a decline or a
/// 429. `was_hurried`: the caller's deadline left less than the time that an attempt has.
fn outcome(result: &Result<Reply, Fault>, was_hurried: bool) -> CallOutcome {
    match result {
        Ok(reply) if reply.status < 500 => CallOutcome::Success,
        // One caller without time must not close the provider to all others.
        Err(Fault::Ambiguous(Cause::TimedOut)) if was_hurried => CallOutcome::Neutral,
        Err(Fault::NotExecuted(Cause::Unsendable)) => CallOutcome::Neutral,
        Ok(_) | Err(_) => CallOutcome::Failure,
    }
}
