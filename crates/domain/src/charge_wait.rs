//! How long the charge of a new order would wait at the payment provider. A new order is admitted by that: one that could not
//! be charged soon is refused before it is begun.

use std::num::NonZeroU32;
use std::time::Duration;

/// The weight of the newest of the values that a mean is made of: after 16 of them, two thirds of the mean are new.
const NEWEST: f64 = 1.0 / 16.0;

/// What may be sent to the provider.
#[derive(Debug, Clone, Copy)]
pub struct Capacity {
    /// Calls in flight at most.
    pub places: usize,
    /// Calls a second at most.
    pub per_second: NonZeroU32,
}

/// What is under way to the provider.
#[derive(Debug, Clone, Copy, Default)]
pub struct Load {
    /// Calls that wait, and those of orders that are being accepted.
    pub waiting: usize,
    /// Calls in flight.
    pub in_flight: usize,
    /// For how long they have been in flight, on average.
    pub age: Duration,
    /// How long the last calls were in flight, on average.
    pub service: Duration,
    /// How long the last calls waited for the rate limit alone, each at the head of the line, on average.
    pub turn: Duration,
}

/// A mean of the last values, of which the newer ones weigh more. Zero as long as there is none.
#[derive(Debug, Clone, Copy, Default)]
pub struct RecentMean(Option<Duration>);

impl RecentMean {
    /// Counts a value.
    pub fn record(&mut self, value: Duration) {
        self.0 = Some(match self.0 {
            None => value,
            Some(mean) => mean.mul_f64(1.0 - NEWEST) + value.mul_f64(NEWEST),
        });
    }

    /// The mean.
    pub fn get(self) -> Duration {
        self.0.unwrap_or_default()
    }
}

/// How long one more call would wait until it is sent: for a place, or for the rate limit, whichever takes longer.
pub fn charge_wait(capacity: Capacity, load: Load) -> Duration {
    // One call behind the other, at the rate that is allowed. Where others use the same rate up, a turn takes longer.
    let turn = load.turn.max(Duration::from_secs(1) / capacity.per_second.get());
    let for_rate = times(turn, load.waiting);
    let free = capacity.places.saturating_sub(load.in_flight);
    let behind = (load.waiting + 1).saturating_sub(free);
    // Calls that are in flight for longer than the last ones took are slower than those: a provider that hangs has no last
    // ones at all.
    let service = load.service.max(load.age);
    let for_place = times(service, behind) / u32::try_from(capacity.places.max(1)).unwrap_or(u32::MAX);
    for_rate.max(for_place)
}

fn times(time: Duration, count: usize) -> Duration {
    time.saturating_mul(u32::try_from(count).unwrap_or(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn wait(load: Load) -> Duration {
        let capacity = Capacity {
            places: 32,
            per_second: NonZeroU32::new(100).unwrap(),
        };
        charge_wait(capacity, load)
    }

    #[test]
    fn without_a_history_and_with_free_places_a_call_is_sent_at_once() {
        assert_eq!(wait(Load::default()), Duration::ZERO);
        let slow = Load {
            in_flight: 31,
            age: SECOND,
            service: SECOND,
            ..Load::default()
        };
        assert_eq!(wait(slow), Duration::ZERO, "one place is free");
    }

    #[test]
    fn behind_the_calls_that_wait_it_waits_for_as_long_as_they_take() {
        let slow = |waiting| Load {
            waiting,
            in_flight: 32,
            age: SECOND / 2,
            service: SECOND,
            ..Load::default()
        };
        assert_eq!(wait(slow(0)), SECOND / 32, "the next place that is free");
        assert_eq!(wait(slow(159)), 5 * SECOND);
    }

    #[test]
    fn calls_that_are_being_accepted_take_the_places_that_are_free() {
        let begun = Load {
            waiting: 63,
            service: SECOND,
            ..Load::default()
        };
        assert_eq!(wait(begun), SECOND);
    }

    #[test]
    fn a_provider_that_hangs_is_slower_the_longer_it_does() {
        let hangs = |age| Load {
            waiting: 63,
            in_flight: 32,
            age,
            service: Duration::from_millis(10),
            ..Load::default()
        };
        assert_eq!(wait(hangs(SECOND)), 2 * SECOND);
        assert_eq!(wait(hangs(10 * SECOND)), 20 * SECOND);
    }

    #[test]
    fn the_rate_limit_holds_a_quick_provider_back() {
        let quick = |turn| Load {
            waiting: 300,
            service: Duration::from_millis(5),
            turn,
            ..Load::default()
        };
        assert_eq!(wait(quick(Duration::ZERO)), 3 * SECOND);
        // Two other instances have their share.
        assert_eq!(wait(quick(Duration::from_millis(30))), 9 * SECOND);
    }

    #[test]
    fn the_mean_follows_the_last_values_and_one_of_them_does_not_decide() {
        let mut mean = RecentMean::default();
        assert_eq!(mean.get(), Duration::ZERO);
        mean.record(10 * SECOND);
        assert_eq!(mean.get(), 10 * SECOND);
        mean.record(Duration::ZERO);
        assert!(mean.get() > 9 * SECOND);
        for _ in 0..64 {
            mean.record(SECOND);
        }
        assert!(mean.get() < SECOND * 6 / 5, "{mean:?}");
    }

    #[test]
    fn no_number_overflows() {
        let full = Load {
            waiting: usize::MAX - 1,
            in_flight: usize::MAX,
            age: Duration::MAX,
            service: Duration::MAX,
            turn: Duration::MAX,
        };
        assert!(wait(full) > SECOND);
    }
}
