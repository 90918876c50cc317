//! The egress rate limit: no more calls a second than the dependency sells us.
//!
//! It sits inside the bulkhead, because it waits: no more wait than may be in flight, so the wait itself is bounded.
//! It sits outside the timeout of the attempt, because our own wait says nothing about the dependency. A call whose
//! turn comes after its deadline is refused at once and takes no token.

use crate::resilience::Deadline;
use governor::clock::{Clock, DefaultClock};
use governor::{DefaultDirectRateLimiter, Quota};
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::time::Instant;

/// Spaces calls out.
#[derive(Debug)]
pub struct EgressLimit {
    limiter: DefaultDirectRateLimiter,
    clock: DefaultClock,
    waits: AtomicU64,
    waited_nanos: AtomicU64,
    refused: AtomicU64,
}

/// The turn of this call comes after its deadline.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the rate limit would hold the call past its deadline")]
pub struct TooLate;

/// What a limit did so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EgressLimitSnapshot {
    /// Calls that had to wait and then went.
    pub waits: u64,
    /// How long they waited together.
    pub waited: Duration,
    /// Calls that were refused.
    pub refused: u64,
}

impl EgressLimit {
    /// `per_second` calls a second, and as many at once after a quiet second.
    pub fn new(per_second: NonZeroU32) -> Self {
        EgressLimit {
            limiter: DefaultDirectRateLimiter::direct(Quota::per_second(per_second)),
            clock: DefaultClock::default(),
            waits: AtomicU64::new(0),
            waited_nanos: AtomicU64::new(0),
            refused: AtomicU64::new(0),
        }
    }

    /// Waits for a turn, at most until the deadline.
    pub async fn until_ready(&self, deadline: Deadline) -> Result<(), TooLate> {
        let started = Instant::now();
        let mut has_waited = false;
        while let Err(not_until) = self.limiter.check() {
            let wait = not_until.wait_time_from(self.clock.now());
            if wait >= deadline.remaining() {
                self.refused.fetch_add(1, Ordering::Relaxed);
                return Err(TooLate);
            }
            has_waited = true;
            tokio::time::sleep(wait).await;
        }
        if has_waited {
            let nanos = u64::try_from(started.elapsed().as_nanos()).unwrap_or(u64::MAX);
            self.waits.fetch_add(1, Ordering::Relaxed);
            self.waited_nanos.fetch_add(nanos, Ordering::Relaxed);
        }
        Ok(())
    }

    /// What it did so far.
    pub fn snapshot(&self) -> EgressLimitSnapshot {
        EgressLimitSnapshot {
            waits: self.waits.load(Ordering::Relaxed),
            waited: Duration::from_nanos(self.waited_nanos.load(Ordering::Relaxed)),
            refused: self.refused.load(Ordering::Relaxed),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limit(per_second: u32) -> EgressLimit {
        EgressLimit::new(NonZeroU32::new(per_second).unwrap())
    }

    #[tokio::test]
    async fn a_call_whose_turn_is_after_its_deadline_is_refused() {
        let limit = limit(1);
        let minute = Deadline::after(Duration::from_mins(1));
        assert_eq!(limit.until_ready(minute).await, Ok(()));
        assert_eq!(
            limit.until_ready(Deadline::after(Duration::from_millis(1))).await,
            Err(TooLate)
        );
        assert_eq!(
            limit.snapshot(),
            EgressLimitSnapshot {
                waits: 0,
                waited: Duration::ZERO,
                refused: 1
            }
        );
    }

    #[tokio::test]
    async fn a_call_that_may_wait_waits_and_is_counted() {
        let limit = limit(50);
        let minute = Deadline::after(Duration::from_mins(1));
        for _ in 0..52 {
            assert_eq!(limit.until_ready(minute).await, Ok(()));
        }
        let snapshot = limit.snapshot();
        assert!(snapshot.waits >= 1 && !snapshot.waited.is_zero(), "{snapshot:?}");
    }
}
