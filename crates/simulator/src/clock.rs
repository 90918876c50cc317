//! Puts the times of a trace onto the present: its first second is now, and its spacing is divided by the speed.

use std::time::Duration;

use jiff::Timestamp;
use tokio::time::Instant;

/// The greatest speed: 10 µs for a trace second. Beyond it the microseconds that the server stores could no longer
/// distinguish two seconds of one driver with room to spare, and no machine keeps up anyway.
pub const SPEED_MAX: f64 = 100_000.0;

/// The speed is not a number above zero and up to [`SPEED_MAX`].
#[derive(Debug, Clone, Copy, PartialEq, thiserror::Error)]
#[error("the speed must be above 0 and at most {SPEED_MAX}, and {0} is not")]
pub struct SpeedError(pub f64);

/// The mapping from trace time to now. The same trace second always maps to the same microsecond.
#[derive(Debug, Clone, Copy)]
pub struct TraceClock {
    trace_start: i64,
    started_at: Timestamp,
    started: Instant,
    speed: f64,
}

impl TraceClock {
    /// A clock on which `trace_start` (Unix seconds) is the moment that is `started_at` by the wall clock and
    /// `started` by the monotonic one.
    pub fn new(
        trace_start: i64,
        started_at: Timestamp,
        started: Instant,
        speed: f64,
    ) -> Result<TraceClock, SpeedError> {
        // A comparison with NaN is false, so NaN is refused here too.
        if speed > 0.0 && speed <= SPEED_MAX {
            Ok(TraceClock {
                trace_start,
                started_at,
                started,
                speed,
            })
        } else {
            Err(SpeedError(speed))
        }
    }

    /// What the clock on the wall shows at a trace second: Unix time in microseconds.
    pub fn unix_micros(&self, trace_second: i64) -> i64 {
        self.started_at
            .as_microsecond()
            .saturating_add(self.micros_since_start(trace_second))
    }

    /// When a trace second is due. Before the start of the trace means at its start.
    pub fn due(&self, trace_second: i64) -> Instant {
        let micros = u64::try_from(self.micros_since_start(trace_second)).unwrap_or(0);
        self.started + Duration::from_micros(micros)
    }

    /// How long a span of trace seconds takes at this speed.
    pub fn span(&self, trace_seconds: i64) -> Duration {
        self.due(self.trace_start.saturating_add(trace_seconds)) - self.started
    }

    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        reason = "a day in µs has 37 bits of 53"
    )]
    fn micros_since_start(&self, trace_second: i64) -> i64 {
        (trace_second.saturating_sub(self.trace_start) as f64 * 1e6 / self.speed).round() as i64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: i64 = 1_211_526_000;

    fn clock(speed: f64) -> TraceClock {
        let started_at = Timestamp::from_microsecond(1_700_000_000_123_456).unwrap();
        TraceClock::new(START, started_at, Instant::now(), speed).unwrap()
    }

    #[test]
    fn every_second_of_a_day_keeps_a_microsecond_of_its_own() {
        for speed in [1.0, 720.0, 777.7, 10_000.0] {
            let clock = clock(speed);
            let day: Vec<i64> = (START..START + 86_400)
                .map(|second| clock.unix_micros(second))
                .collect();
            assert!(
                day.is_sorted_by(|a, b| a < b),
                "two seconds fall together at speed {speed}"
            );
        }
    }

    #[test]
    fn the_trace_begins_now_and_its_spacing_is_divided_by_the_speed() {
        let clock = clock(720.0);
        assert_eq!(clock.unix_micros(START), 1_700_000_000_123_456);
        assert_eq!(clock.unix_micros(START + 3_600) - clock.unix_micros(START), 5_000_000);
        assert_eq!(clock.due(START + 3_600) - clock.due(START), Duration::from_secs(5));
        assert_eq!(clock.span(72), Duration::from_millis(100));
    }

    #[test]
    fn a_speed_that_is_no_speed_is_refused() {
        for speed in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            assert!(
                TraceClock::new(START, Timestamp::UNIX_EPOCH, Instant::now(), speed).is_err(),
                "{speed}"
            );
        }
    }
}
