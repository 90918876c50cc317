//! The egress rate limit: no more calls a second than the dependency sells us.
//!
//! It sits inside the bulkhead, because it waits: only calls in flight can wait, so their number is bounded. It sits
//! outside the timeout of the attempt, because our own wait is not the dependency's slowness. A call whose turn comes after
//! its deadline is refused at once and takes no token.

use crate::metrics::WaitMetrics;
use crate::resilience::Deadline;
use governor::clock::{Clock, DefaultClock};
use governor::{DefaultDirectRateLimiter, Quota};
use std::num::NonZeroU32;

/// Spaces calls out.
#[derive(Debug)]
pub struct EgressLimit {
    limiter: DefaultDirectRateLimiter,
    clock: DefaultClock,
    metrics: WaitMetrics,
}

/// The turn of this call comes after its deadline.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the rate limit would hold the call past its deadline")]
pub struct TooLate;

impl EgressLimit {
    /// `per_second` calls a second, and as many at once after a quiet second.
    pub fn new(per_second: NonZeroU32, metrics: WaitMetrics) -> Self {
        EgressLimit {
            limiter: DefaultDirectRateLimiter::direct(Quota::per_second(per_second)),
            clock: DefaultClock::default(),
            metrics,
        }
    }

    /// Waits for a turn, at most until the deadline.
    pub async fn until_ready(&self, deadline: Deadline) -> Result<(), TooLate> {
        let mut waiting = None;
        while let Err(not_until) = self.limiter.check() {
            let wait = not_until.wait_time_from(self.clock.now());
            if wait >= deadline.remaining() {
                self.metrics.refusals.inc();
                return Err(TooLate);
            }
            waiting.get_or_insert_with(|| self.metrics.begin());
            tokio::time::sleep(wait).await;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn limit(per_second: u32) -> (EgressLimit, WaitMetrics) {
        let metrics = WaitMetrics::default();
        (
            EgressLimit::new(NonZeroU32::new(per_second).unwrap(), metrics.clone()),
            metrics,
        )
    }

    #[tokio::test]
    async fn a_call_whose_turn_is_after_its_deadline_is_refused() {
        let (limit, metrics) = limit(1);
        let minute = Deadline::after(Duration::from_mins(1));
        assert_eq!(limit.until_ready(minute).await, Ok(()));
        assert_eq!(
            limit.until_ready(Deadline::after(Duration::from_millis(1))).await,
            Err(TooLate)
        );
        assert_eq!((metrics.waits.get(), metrics.refusals.get()), (0, 1));
        assert!(metrics.seconds.get() == 0.0);
    }

    #[tokio::test]
    async fn a_call_that_may_wait_waits_and_is_counted() {
        let (limit, metrics) = limit(50);
        let minute = Deadline::after(Duration::from_mins(1));
        for _ in 0..52 {
            assert_eq!(limit.until_ready(minute).await, Ok(()));
        }
        assert!(metrics.waits.get() >= 1 && metrics.seconds.get() > 0.0, "{metrics:?}");
    }
}
