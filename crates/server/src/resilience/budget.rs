//! The retry budget: retries are a share of the requests, whatever goes wrong.
//!
//! It sits with the retries and is shared by all calls to one dependency. Two attempts a call double the load on a
//! dependency in the moment in which it fails under load; with a budget the load grows by a tenth. The share and the
//! trickle per second are those of Finagle's and linkerd's `RetryBudget`, halved.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// How retries are earned.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct BudgetPolicy {
    /// Retries that each request earns.
    pub per_request: f64,
    /// Retries that each second earns, so that a quiet service can retry too.
    pub per_second: f64,
    /// No more than these are saved up; also what a process starts with.
    pub saved_max: f64,
}

impl Default for BudgetPolicy {
    fn default() -> Self {
        BudgetPolicy {
            per_request: 0.1,
            per_second: 1.0,
            saved_max: 10.0,
        }
    }
}

/// A token bucket that requests and time fill and retries empty.
#[derive(Debug)]
pub struct RetryBudget {
    policy: BudgetPolicy,
    origin: Instant,
    bucket: Mutex<Bucket>,
}

#[derive(Debug)]
struct Bucket {
    saved: f64,
    counted_until: Duration,
}

impl RetryBudget {
    /// A budget with all that may be saved up.
    pub fn new(policy: BudgetPolicy) -> Self {
        let bucket = Mutex::new(Bucket {
            saved: policy.saved_max,
            counted_until: Duration::ZERO,
        });
        RetryBudget {
            policy,
            origin: Instant::now(),
            bucket,
        }
    }

    /// Counts a request (not its retries).
    pub fn deposit(&self) {
        let now = self.origin.elapsed();
        self.lock().earn(&self.policy, now, self.policy.per_request);
    }

    /// Takes one retry out, if there is one.
    #[must_use = "without a token there must be no retry"]
    pub fn withdraw(&self) -> bool {
        let now = self.origin.elapsed();
        self.lock().spend(&self.policy, now)
    }

    fn lock(&self) -> MutexGuard<'_, Bucket> {
        self.bucket.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Bucket {
    fn earn(&mut self, policy: &BudgetPolicy, now: Duration, tokens: f64) {
        let seconds = now.saturating_sub(self.counted_until).as_secs_f64();
        self.counted_until = self.counted_until.max(now);
        self.saved = (self.saved + tokens + seconds * policy.per_second).min(policy.saved_max);
    }

    fn spend(&mut self, policy: &BudgetPolicy, now: Duration) -> bool {
        self.earn(policy, now, 0.0);
        let is_enough = self.saved >= 1.0;
        if is_enough {
            self.saved -= 1.0;
        }
        is_enough
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EMPTY: Bucket = Bucket {
        saved: 0.0,
        counted_until: Duration::ZERO,
    };

    #[test]
    fn a_thousand_failing_requests_earn_a_hundred_retries() {
        let policy = BudgetPolicy::default();
        let mut bucket = EMPTY;
        let retried = (0..1000).filter(|_| {
            bucket.earn(&policy, Duration::ZERO, policy.per_request);
            bucket.spend(&policy, Duration::ZERO)
        });
        // Ten tenths are a little less than one in binary.
        assert!((99..=100).contains(&retried.count()));
    }

    #[test]
    fn a_second_earns_one_retry_and_a_quiet_day_no_more_than_may_be_saved() {
        let policy = BudgetPolicy::default();
        let mut bucket = EMPTY;
        assert!(!bucket.spend(&policy, Duration::from_millis(999)));
        assert!(bucket.spend(&policy, Duration::from_secs(1)));
        assert!(!bucket.spend(&policy, Duration::from_secs(1)));
        let day = Duration::from_hours(24);
        assert_eq!((0..50).filter(|_| bucket.spend(&policy, day)).count(), 10);
    }

    #[test]
    fn a_full_budget_is_spent_by_retries_alone() {
        let budget = RetryBudget::new(BudgetPolicy {
            per_second: 0.0,
            saved_max: 2.0,
            ..BudgetPolicy::default()
        });
        assert_eq!(
            [budget.withdraw(), budget.withdraw(), budget.withdraw()],
            [true, true, false]
        );
        assert!(budget.lock().saved < 1.0);
    }
}
