//! How much work may be in progress at a time, learned from how long it takes; and how long more of it may wait.
//!
//! The limit is that of TCP Vegas, as in Netflix's concurrency-limits: while work takes about as long as it does at best, and all places are used,
//! there is one more; once it takes much longer, work waits for work, and there are fewer. What it takes at best is that of the last minute, as in
//! BBR (Cardwell et al., ACM Queue, 2016): while a line stands, for a moment of each half there are few places, since an overload that lasts would show
//! nothing but itself. The wait is that of Facebook's "Fail at Scale" (ACM Queue, 2015): long enough for a burst, and short while others have been waiting
//! all the time, which is no burst.

use std::time::Duration;

/// Places are never fewer.
const LIMIT_MIN: f64 = 32.0;
/// Places before anything is learned.
const LIMIT_FIRST: f64 = 64.0;
/// So much work is looked at together.
const WINDOW: u32 = 32;
/// Work takes much longer if it takes so many times as long as at best, and so much more.
const SLOW_TIMES: f64 = 2.0;
const SLOW_MORE: Duration = Duration::from_millis(5);
/// What is left of the places then.
const FEWER: f64 = 0.9;
/// The best is that of this epoch and of the one before.
const EPOCH: Duration = Duration::from_secs(30);
/// In a probe there are the fewest places until so much work was done with no more in progress. In the first window of it ends what began before. What
/// goes on is in progress all the same, so a probe lasts no longer than that.
const PROBE_WINDOWS: u32 = 2;
const PROBE_MAX: Duration = Duration::from_millis(500);
/// There is at most one in the time of an epoch, and only once a line has stood for so long. Where none stands, the best is what work takes anyway, and a
/// probe would hold it up for nothing. A line that is there only until there are enough places, as after a moment in which a disk stood still, is gone by then.
const LASTING: Duration = Duration::from_secs(5);

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
    /// How long a window of work took at best, on average: in this epoch, and in the one before.
    best: Option<Duration>,
    best_before: Option<Duration>,
    epoch_at: Duration,
    /// When the last probe began, and the windows of it that are left.
    probed_at: Option<Duration>,
    probes: u32,
    count: u32,
    sum: Duration,
    was_full: bool,
    /// Whether a line stood in this window, and since when one has in each.
    was_standing: bool,
    standing_since: Option<Duration>,
}

impl ConcurrencyLimit {
    /// Up to so many places.
    pub fn new(max: usize) -> ConcurrencyLimit {
        let max = f64::from(u32::try_from(max).unwrap_or(u32::MAX));
        ConcurrencyLimit {
            limit: LIMIT_FIRST.min(max),
            max,
            best: None,
            best_before: None,
            epoch_at: Duration::ZERO,
            probed_at: None,
            probes: 0,
            count: 0,
            sum: Duration::ZERO,
            was_full: false,
            was_standing: false,
            standing_since: None,
        }
    }

    /// How many.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "from 1 to a count"
    )]
    pub fn get(&self) -> usize {
        match self.probes {
            0 => self.limit as usize,
            _ => self.limit.min(LIMIT_MIN) as usize,
        }
    }

    /// All places were taken; and whether they had been [for a while](ControlledDelay::is_controlled).
    pub fn note_full(&mut self, is_standing: bool) {
        self.was_full = true;
        self.was_standing |= is_standing;
    }

    /// Whether work that takes so long waits for other work.
    pub fn is_slow(&self, took: Duration) -> bool {
        let best = self.best.into_iter().chain(self.best_before).min();
        best.is_some_and(|best| took > best.mul_f64(SLOW_TIMES) + SLOW_MORE)
    }

    /// Work that ends now, by any fixed origin, took so long; as much was in progress, with it.
    pub fn record(&mut self, took: Duration, in_progress: usize, now: Duration) {
        if self.probes > 0 {
            if since(self.probed_at, now).is_none_or(|probed| probed > PROBE_MAX) {
                self.probes = 0;
            } else if in_progress > self.get() {
                (self.count, self.sum) = (0, Duration::ZERO);
                return;
            }
        }
        (self.count, self.sum) = (self.count + 1, self.sum + took);
        if self.count < WINDOW {
            return;
        }
        let mean = self.sum / self.count;
        let (was_full, was_standing) = (self.was_full, self.was_standing);
        (self.count, self.sum) = (0, Duration::ZERO);
        (self.was_full, self.was_standing) = (false, false);
        if now.saturating_sub(self.epoch_at) >= EPOCH {
            (self.best_before, self.best) = (self.best.take(), None);
            self.epoch_at = now;
        }
        self.best = Some(self.best.map_or(mean, |best| best.min(mean)));
        if self.probes > 0 {
            self.probes -= 1;
            return;
        }
        if self.is_slow(mean) {
            self.limit = (self.limit * FEWER).max(LIMIT_MIN.min(self.max));
        } else if was_full {
            self.limit = (self.limit + 1.0).min(self.max);
        }
        self.standing_since = was_standing.then_some(self.standing_since.unwrap_or(now));
        let is_lasting = since(self.standing_since, now).is_some_and(|stood| stood >= LASTING);
        if is_lasting && since(self.probed_at, now).is_none_or(|probed| probed >= EPOCH) {
            (self.probed_at, self.probes) = (Some(now), PROBE_WINDOWS);
        }
    }
}

/// How long ago that was.
fn since(at: Option<Duration>, now: Duration) -> Option<Duration> {
    at.map(|at| now.saturating_sub(at))
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

    const FAST: Duration = Duration::from_millis(20);
    /// What a store does a second.
    const RATE: f64 = 1_500.0;

    /// A store that does work one after the other, as fast as ever, for so long.
    struct Store {
        limit: ConcurrencyLimit,
        now: Duration,
        /// How long work takes that is alone.
        alone: Duration,
    }

    impl Store {
        fn new(max: usize, alone: Duration) -> Store {
            Store {
                limit: ConcurrencyLimit::new(max),
                now: Duration::ZERO,
                alone,
            }
        }

        /// Work comes all the time, takes all places, and stands in a line for more.
        fn overloaded(&mut self, time: Duration) {
            let end = self.now + time;
            while self.now < end {
                self.limit.note_full(true);
                let places = u32::try_from(self.limit.get()).unwrap();
                let in_line = Duration::from_secs_f64(f64::from(places) / RATE);
                self.now += Duration::from_secs_f64(1.0 / RATE);
                self.limit.record(in_line.max(self.alone), self.limit.get(), self.now);
            }
        }

        /// So much work finds places that it takes so long.
        fn busy(&mut self, in_progress: usize, took: Duration, time: Duration) {
            let end = self.now + time;
            while self.now < end {
                self.now += Duration::from_secs_f64(1.0 / RATE);
                self.limit.record(took, in_progress, self.now);
            }
        }

        /// Work finds places free.
        fn at_ease(&mut self, time: Duration) {
            let end = self.now + time;
            while self.now < end {
                self.now += Duration::from_millis(10);
                self.limit.record(self.alone, 1, self.now);
            }
        }
    }

    #[test]
    fn there_are_more_places_while_all_are_used_and_work_is_as_fast_as_ever() {
        let mut limit = ConcurrencyLimit::new(100);
        let record = |limit: &mut ConcurrencyLimit, windows: u32, is_full: bool| {
            for _ in 0..windows * WINDOW {
                if is_full {
                    limit.note_full(false);
                }
                limit.record(FAST, 1, Duration::ZERO);
            }
        };
        assert_eq!(limit.get(), 64);
        record(&mut limit, 10, true);
        assert_eq!(limit.get(), 74);
        record(&mut limit, 100, true);
        assert_eq!(limit.get(), 100);
        record(&mut limit, 10, false);
        assert_eq!(limit.get(), 100, "who does not need them keeps them");
    }

    #[test]
    fn there_are_fewer_once_work_waits_for_work_and_never_less_than_a_few() {
        let mut store = Store::new(4_096, FAST);
        store.at_ease(Duration::from_secs(1));
        store.overloaded(Duration::from_secs(5));
        // Twice 20 ms and 5 more: 67 of 1,500 a second.
        assert!((60..=75).contains(&store.limit.get()), "{:?}", store.limit);
        for _ in 0..50 * WINDOW {
            store.limit.record(FAST * 100, 100, store.now);
        }
        assert_eq!(store.limit.get(), 32);
        assert_eq!(ConcurrencyLimit::new(2).get(), 2);
    }

    /// Else a server that stores all that comes would refuse a part of it each half minute: what goes on takes more places than there are then.
    #[test]
    fn work_that_always_finds_a_place_is_never_held_up_by_a_probe() {
        let mut limit = ConcurrencyLimit::new(4_096);
        let (a_second, in_progress) = (1_200, 60);
        for number in 0..100 * a_second {
            let now = Duration::from_secs(1) * number / a_second;
            limit.record(Duration::from_millis(50), in_progress, now);
            assert!(limit.get() > in_progress, "at {now:?}: {limit:?}");
        }
    }

    /// However long it lasts, and though nothing is as fast meanwhile as before.
    #[test]
    fn an_overload_that_lasts_is_not_taken_for_the_best() {
        let mut known = Store::new(4_096, FAST);
        known.at_ease(Duration::from_secs(1));
        let mut begun_in_it = Store::new(4_096, FAST);
        for minutes in 1..=10 {
            for store in [&mut known, &mut begun_in_it] {
                store.overloaded(Duration::from_mins(1));
                // 32 places take 21 ms, and twice that and 5 more is 48 ms, which is 71 places.
                assert!(store.limit.limit < 75.0, "after {minutes} min: {:?}", store.limit);
            }
        }
    }

    #[test]
    fn what_was_in_progress_before_a_probe_is_no_part_of_it_and_what_goes_on_does_not_make_it_last() {
        let mut store = Store::new(4_096, FAST);
        store.at_ease(Duration::from_secs(1));
        store.overloaded(EPOCH);
        while store.limit.probes == 0 {
            store.overloaded(Duration::from_millis(1));
        }
        let before = store.limit.clone();
        let end = before.probed_at.unwrap() + PROBE_MAX;
        for _ in 0..10 * WINDOW {
            store.limit.record(FAST * 100, 100, end);
        }
        assert_eq!((store.limit.probes, store.limit.best), (before.probes, before.best));
        assert_eq!(store.limit.get(), 32);
        for _ in 0..WINDOW {
            store.limit.record(FAST, 100, end + FAST);
        }
        assert!(store.limit.get() > 40, "{:?}", store.limit);
    }

    /// Else each moment in which a disk stands still would be followed by one with few places.
    #[test]
    fn there_is_a_probe_once_a_line_lasts_and_none_for_one_that_is_soon_gone() {
        let mut store = Store::new(4_096, FAST);
        for _ in 0..5 {
            store.at_ease(EPOCH);
            store.overloaded(LASTING.mul_f64(0.8));
        }
        assert_eq!(store.limit.probed_at, None);
        store.overloaded(Duration::from_secs(2));
        assert!(store.limit.probed_at.is_some(), "{:?}", store.limit);
    }

    /// As load grows over minutes, work takes longer without a line, and that becomes the best.
    #[test]
    fn a_best_that_is_none_is_put_right_in_the_first_seconds_of_an_overload() {
        let mut store = Store::new(4_096, FAST);
        store.busy(90, FAST * 3, Duration::from_mins(2));
        store.overloaded(LASTING.mul_f64(0.95));
        assert!(store.limit.get() > 100, "it was believed: {:?}", store.limit);
        store.overloaded(Duration::from_secs(1));
        assert!((60..75).contains(&store.limit.get()), "{:?}", store.limit);
    }

    /// A disk that takes ten times as long from now on is as fast as it is.
    #[test]
    fn what_has_become_slow_for_good_is_no_overload() {
        let mut store = Store::new(4_096, FAST);
        store.at_ease(Duration::from_secs(10));
        store.alone = FAST * 10;
        store.overloaded(Duration::from_secs(10));
        assert_eq!(store.limit.get(), 32, "not while it lasts for seconds");
        store.overloaded(Duration::from_mins(2));
        assert!(store.limit.get() > 75, "{:?}", store.limit);
        store.alone = FAST;
        store.at_ease(Duration::from_secs(1));
        store.overloaded(Duration::from_secs(10));
        assert!(
            store.limit.get() < 75,
            "what is fast again is so at once: {:?}",
            store.limit
        );
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
