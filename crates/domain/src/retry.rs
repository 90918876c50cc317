//! How long to wait before another try. Only arithmetic: whether a call may be tried again is for its caller to know.
//!
//! Two schedules. [`Policy`] is for a second attempt within one call, while a caller waits: full jitter, a random
//! time between zero and a bound that doubles, which of the schemes compared by M. Brooker, "Exponential Backoff And
//! Jitter" (AWS Architecture Blog, 2015), finishes with the fewest calls. [`next_try_after`] is for a step of an
//! order that will be tried again later by whoever sweeps, until the answer is definite.

use std::time::Duration;

/// The later tries of a step start at this distance.
const STEP_BASE: Duration = Duration::from_secs(1);
/// And never get rarer than this, so that an order is settled within a minute of the end of a fault, even if the first
/// try after it meets its tail.
const STEP_CAP: Duration = Duration::from_secs(30);
/// The share of the distance that is left to chance: orders that failed together do not come back together.
const STEP_SPREAD: f64 = 0.2;

/// How often and how far apart one call is attempted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Policy {
    /// Attempts in all, the first included. 1: never again.
    pub attempts_max: u32,
    /// The bound of the wait after the first attempt; it doubles with each.
    pub base: Duration,
    /// The bound never grows past this.
    pub cap: Duration,
}

impl Default for Policy {
    /// Two attempts: the third is the next try of the step, which a crash does not lose.
    fn default() -> Self {
        Policy {
            attempts_max: 2,
            base: Duration::from_millis(300),
            cap: Duration::from_secs(2),
        }
    }
}

impl Policy {
    /// How long to wait after `attempts` attempts (1 or more), or `None` if they were enough. `unit_random`: a random
    /// number from 0 to 1.
    pub fn wait_after(&self, attempts: u32, unit_random: f64) -> Option<Duration> {
        (attempts < self.attempts_max).then(|| delay(attempts, self.base, self.cap, unit_random))
    }
}

/// Full jitter: a time between zero and `base * 2^(attempt - 1)`, at most `cap`. `attempt` counts from 1;
/// `unit_random` is a random number from 0 to 1, and anything above or below counts as the nearer of the two.
pub fn delay(attempt: u32, base: Duration, cap: Duration, unit_random: f64) -> Duration {
    share(doubled(base, attempt, cap), unit_random.clamp(0.0, 1.0))
}

/// When to try a step of an order again after `tries` tries (1 or more): 1, 2, 4 ... 30 s, less up to a fifth that
/// `unit_random` (0 to 1) takes off.
pub fn next_try_after(tries: u32, unit_random: f64) -> Duration {
    share(
        doubled(STEP_BASE, tries, STEP_CAP),
        1.0 - STEP_SPREAD * unit_random.clamp(0.0, 1.0),
    )
}

fn doubled(base: Duration, attempt: u32, cap: Duration) -> Duration {
    let factor = 2_u32.checked_pow(attempt.saturating_sub(1)).unwrap_or(u32::MAX);
    base.saturating_mul(factor).min(cap)
}

/// A share of a time, never more than all of it: near the end of the range `mul_f64` rounds up, and panics.
/// A share that is no number is all of it.
fn share(time: Duration, share: f64) -> Duration {
    Duration::try_from_secs_f64(time.as_secs_f64() * share).map_or(time, |part| part.min(time))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_bound_doubles_up_to_the_cap() {
        let bound = |attempt| delay(attempt, Duration::from_millis(300), Duration::from_secs(2), 1.0).as_millis();
        assert_eq!([1, 2, 3, 4, 5].map(bound), [300, 600, 1200, 2000, 2000]);
    }

    #[test]
    fn the_jitter_is_full_so_that_the_wait_may_be_nothing() {
        let wait = |unit| delay(2, Duration::from_millis(300), Duration::from_secs(2), unit).as_millis();
        assert_eq!([0.0, 0.5, 1.0].map(wait), [0, 300, 600]);
    }

    #[test]
    fn a_policy_of_two_attempts_waits_once() {
        let policy = Policy::default();
        assert_eq!(policy.wait_after(1, 1.0), Some(Duration::from_millis(300)));
        assert_eq!(policy.wait_after(2, 1.0), None);
    }

    #[test]
    fn a_step_is_tried_after_one_second_and_then_less_often_up_to_half_a_minute() {
        let seconds = |tries| next_try_after(tries, 0.0).as_secs();
        assert_eq!(
            [1, 2, 3, 4, 5, 6, 7, 8, 40, u32::MAX].map(seconds),
            [1, 2, 4, 8, 16, 30, 30, 30, 30, 30]
        );
        assert_eq!(next_try_after(7, 1.0), Duration::from_secs(24));
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn no_input_gives_a_panic_or_a_wait_above_the_cap(attempt: u32, base_ms: u64, cap_ms: u64, random: f64) {
            let cap = Duration::from_millis(cap_ms);
            prop_assert!(delay(attempt, Duration::from_millis(base_ms), cap, random) <= cap);
            prop_assert!(next_try_after(attempt, random) <= STEP_CAP);
        }
    }
}
