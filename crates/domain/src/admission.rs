//! How much work may be in progress at a time, learned from how long it takes; and how long more of it may wait.
//!
//! The limit is that of TCP Vegas, as in Netflix's concurrency-limits: while work takes about as long as it does at best, and all places are used,
//! there is one more; once it takes much longer, work waits for work, and there are fewer. The wait is that of Facebook's "Fail at Scale" (ACM
//! Queue, 2015): long enough for a burst, and short while others have been waiting all the time, which is no burst.

use std::time::Duration;

/// Places are never fewer.
const LIMIT_MIN: f64 = 32.0;
/// Places before anything is learned.
const LIMIT_FIRST: f64 = 64.0;
/// So much work is looked at together.
const WINDOW: u32 = 32;
/// Work takes much longer if it takes so many times as long as at best, and so much more.
const SLOW_TIMES: f64 = 3.0;
const SLOW_MORE: Duration = Duration::from_millis(15);
/// What is left of the places then.
const FEWER: f64 = 0.9;
/// The best grows by so much a second: a disk that got slower is no overload.
const BEST_GROWS: f64 = 0.01;

/// How long work may wait in a burst; and while others have been waiting for all of [`STANDING`], or were refused within [`AFTER_REFUSAL`].
const BURST: Duration = Duration::from_millis(500);
const CONTROLLED: Duration = Duration::from_millis(20);
const STANDING: Duration = Duration::from_millis(100);
const AFTER_REFUSAL: Duration = Duration::from_secs(1);

/// How many places there are.
#[derive(Debug, Clone)]
pub struct ConcurrencyLimit {
    limit: f64,
    max: f64,
    /// How long a window of work took at best, on average.
    best: Option<Duration>,
    best_at: Duration,
    count: u32,
    sum: Duration,
    was_full: bool,
}

impl ConcurrencyLimit {
    /// Up to so many places.
    pub fn new(max: usize) -> ConcurrencyLimit {
        let max = f64::from(u32::try_from(max).unwrap_or(u32::MAX));
        ConcurrencyLimit {
            limit: LIMIT_FIRST.min(max),
            max,
            best: None,
            best_at: Duration::ZERO,
            count: 0,
            sum: Duration::ZERO,
            was_full: false,
        }
    }

    /// How many.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "from 1 to a count"
    )]
    pub fn get(&self) -> usize {
        self.limit as usize
    }

    /// All places were taken.
    pub fn note_full(&mut self) {
        self.was_full = true;
    }

    /// Work that ends now, by any fixed origin, took so long.
    pub fn record(&mut self, took: Duration, now: Duration) {
        (self.count, self.sum) = (self.count + 1, self.sum + took);
        if self.count < WINDOW {
            return;
        }
        let mean = self.sum / self.count;
        let growth = 1.0 + BEST_GROWS * now.saturating_sub(self.best_at).as_secs_f64();
        let best = self.best.map_or(mean, |best| mean.min(best.mul_f64(growth)));
        self.best_at = now;
        if mean > best.mul_f64(SLOW_TIMES) + SLOW_MORE {
            self.limit = (self.limit * FEWER).max(LIMIT_MIN.min(self.max));
        } else if self.was_full {
            self.limit = (self.limit + 1.0).min(self.max);
        }
        (self.best, self.count, self.sum, self.was_full) = (Some(best), 0, Duration::ZERO, false);
    }
}

/// How long work may wait for a place. Times are since any fixed origin.
#[derive(Debug, Clone, Default)]
pub struct ControlledDelay {
    /// When work last found a place at once.
    free_at: Duration,
    /// When some last waited in vain.
    refused_at: Option<Duration>,
}

impl ControlledDelay {
    /// Work found a place at once.
    pub fn note_free(&mut self, now: Duration) {
        self.free_at = now;
    }

    /// Work waited in vain.
    pub fn note_refused(&mut self, now: Duration) {
        self.refused_at = Some(now);
    }

    /// Whether there has been too much work for a while.
    pub fn is_controlled(&self, now: Duration) -> bool {
        let is_refused = self
            .refused_at
            .is_some_and(|at| now.saturating_sub(at) <= AFTER_REFUSAL);
        is_refused || now.saturating_sub(self.free_at) > STANDING
    }

    /// How long work that comes now may wait.
    pub fn wait_max(&self, now: Duration) -> Duration {
        if self.is_controlled(now) { CONTROLLED } else { BURST }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// So many windows a second.
    const RATE: u32 = 10;

    fn windows(limit: &mut ConcurrencyLimit, count: u32, took: Duration) {
        for n in 0..count * WINDOW {
            limit.note_full();
            limit.record(
                took,
                limit.best_at + Duration::from_secs(1) / RATE * u32::from(n % WINDOW == WINDOW - 1),
            );
        }
    }

    const FAST: Duration = Duration::from_millis(5);

    #[test]
    fn there_are_more_places_while_all_are_used_and_work_is_as_fast_as_ever() {
        let mut limit = ConcurrencyLimit::new(100);
        windows(&mut limit, 10, FAST);
        assert_eq!(limit.get(), 74);
        windows(&mut limit, 100, FAST);
        assert_eq!(limit.get(), 100);
        for _ in 0..10 * WINDOW {
            limit.record(FAST, limit.best_at);
        }
        assert_eq!(limit.get(), 100, "who does not need them keeps them");
    }

    #[test]
    fn there_are_fewer_once_work_waits_for_work_and_never_less_than_a_few() {
        let mut limit = ConcurrencyLimit::new(4_096);
        windows(&mut limit, 1, FAST);
        windows(&mut limit, 1, FAST * 6);
        let before = limit.get();
        windows(&mut limit, 1, FAST * 10);
        assert!(limit.get() < before, "{limit:?}");
        windows(&mut limit, 50, FAST * 10);
        assert_eq!(limit.get(), 32);
        assert_eq!(ConcurrencyLimit::new(2).get(), 2);
    }

    /// A disk that takes ten times as long from now on is as fast as it is.
    #[test]
    fn what_has_become_slow_for_good_is_no_overload() {
        let mut limit = ConcurrencyLimit::new(4_096);
        windows(&mut limit, 10, FAST);
        windows(&mut limit, 20 * RATE, FAST * 10);
        assert_eq!(limit.get(), 32, "not while it lasts for seconds");
        windows(&mut limit, 300 * RATE, FAST * 10);
        assert!(limit.get() > 100, "{limit:?}");
    }

    #[test]
    fn a_burst_may_wait_and_a_standing_line_may_not() {
        let mut delay = ControlledDelay::default();
        let at = Duration::from_millis;
        delay.note_free(at(1_000));
        assert_eq!(delay.wait_max(at(1_100)), BURST);
        assert_eq!(delay.wait_max(at(1_101)), CONTROLLED);
        delay.note_free(at(1_200));
        assert_eq!(delay.wait_max(at(1_201)), BURST);
        // Places that are free now and then end no overload.
        delay.note_refused(at(1_300));
        delay.note_free(at(1_400));
        assert_eq!(delay.wait_max(at(2_300)), CONTROLLED);
        delay.note_free(at(2_300));
        assert_eq!(delay.wait_max(at(2_301)), BURST);
    }
}
