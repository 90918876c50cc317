//! What the payment client counts, for the metrics.

use super::answer::Answer;
use super::stack::Stack;
use crate::resilience::{BreakerSnapshot, BulkheadSnapshot, EgressLimitSnapshot};
use std::sync::atomic::{AtomicU64, Ordering};

/// What happened since the start. The five answers add up to `calls`, less those in flight and those whose caller
/// went away.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Snapshot {
    /// Charges and refunds.
    pub calls: u64,
    /// Pages and single objects that were read.
    pub reads: u64,
    /// Charges and refunds that were done.
    pub done: u64,
    /// That were refused for good.
    pub declined: u64,
    /// That were not executed.
    pub not_executed: u64,
    /// That the provider was still at.
    pub in_progress: u64,
    /// That may have been executed.
    pub ambiguous: u64,
    /// Requests on the wire, retries and reads included.
    pub attempts: u64,
    /// Second attempts.
    pub retries: u64,
    /// Second attempts that the budget did not allow.
    pub retries_refused: u64,
    /// Retries that the budget has left.
    pub retry_budget_left: f64,
    /// The breaker.
    pub breaker: BreakerSnapshot,
    /// Calls in flight, and those that were shed.
    pub bulkhead: BulkheadSnapshot,
    /// Waits for the rate limit.
    pub rate_limit: EgressLimitSnapshot,
}

#[derive(Debug, Default)]
pub(super) struct Counters {
    calls: AtomicU64,
    reads: AtomicU64,
    done: AtomicU64,
    declined: AtomicU64,
    not_executed: AtomicU64,
    in_progress: AtomicU64,
    ambiguous: AtomicU64,
}

impl Counters {
    pub fn begin(&self) {
        self.calls.fetch_add(1, Ordering::Relaxed);
    }

    pub fn begin_read(&self) {
        self.reads.fetch_add(1, Ordering::Relaxed);
    }

    pub fn count<T>(&self, answer: &Answer<T>) {
        let counter = match answer {
            Answer::Done(_) => &self.done,
            Answer::Declined(_) => &self.declined,
            Answer::NotExecuted(_) => &self.not_executed,
            Answer::InProgress => &self.in_progress,
            Answer::Ambiguous(_) => &self.ambiguous,
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    pub fn snapshot(&self, stack: &Stack) -> Snapshot {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Snapshot {
            calls: read(&self.calls),
            reads: read(&self.reads),
            done: read(&self.done),
            declined: read(&self.declined),
            not_executed: read(&self.not_executed),
            in_progress: read(&self.in_progress),
            ambiguous: read(&self.ambiguous),
            attempts: read(&stack.attempts),
            retries: read(&stack.retries),
            retries_refused: read(&stack.retries_refused),
            retry_budget_left: stack.budget.left(),
            breaker: stack.breaker.snapshot(),
            bulkhead: stack.bulkhead.snapshot(),
            rate_limit: stack.limit.snapshot(),
        }
    }
}
