//! A fix: one driver, one position, one time. And which times are accepted.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use thiserror::Error;

use crate::id::DriverId;
use crate::position::Position;

/// Which fixes are taken in, by their age at the server's clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TimeWindow {
    /// How far a device's clock may be ahead. A fix further ahead would hide all later ones.
    pub future_max: Duration,
    /// How old a fix may be when it arrives.
    pub age_max: Duration,
}

/// Why a fix's time was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum TimeError {
    /// Ahead of the server's clock by more than the window allows.
    #[error("is too far ahead of the server's clock")]
    InFuture,
    /// Behind the server's clock by more than the window allows.
    #[error("is too old")]
    TooOld,
}

/// One driver at one place at one time.
#[derive(Debug, Clone, PartialEq)]
pub struct Fix {
    /// The driver.
    pub driver: DriverId,
    /// The position.
    pub position: Position,
    /// The time, by the device, in whole microseconds: what Postgres keeps, so that a fix compares equal to its row.
    pub recorded_at: Timestamp,
}

/// A driver's newest fix.
#[derive(Debug, Clone, PartialEq)]
pub struct LatestFix {
    /// It.
    pub fix: Fix,
    /// When it arrived, by the server's clock.
    pub arrived_at: Timestamp,
}

/// Which fixes say where a driver is. A device's clock may be wrong, so the server's decides: by when a fix arrives. Which of two fixes of
/// one driver is the newer one is decided by the device's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Freshness {
    /// For how long after its arrival.
    pub ttl: Duration,
    /// How long before its arrival it may have been measured, by a device's clock that may be slow by as much. Older ones were kept on the way.
    pub live_age_max: Duration,
}

impl Freshness {
    /// Whether a fix that arrived then says where its driver is, until it is stale.
    pub fn is_live(&self, recorded_at: Timestamp, arrived_at: Timestamp) -> bool {
        arrived_at.duration_since(recorded_at) <= signed(self.live_age_max)
    }

    /// What arrived at this time or later is fresh at `now`.
    pub fn since(&self, now: Timestamp) -> Timestamp {
        now.saturating_sub(signed(self.ttl)).unwrap_or(Timestamp::MIN)
    }

    /// Until when what arrived then is fresh.
    pub fn until(&self, arrived_at: Timestamp) -> Timestamp {
        arrived_at.saturating_add(signed(self.ttl)).unwrap_or(Timestamp::MAX)
    }
}

impl Fix {
    /// A fix whose time lies in the window round `now`.
    pub fn new(
        driver: DriverId,
        position: Position,
        recorded_at: Timestamp,
        now: Timestamp,
        window: TimeWindow,
    ) -> Result<Fix, TimeError> {
        let ahead = recorded_at.duration_since(now);
        if ahead > signed(window.future_max) {
            return Err(TimeError::InFuture);
        }
        if -ahead > signed(window.age_max) {
            return Err(TimeError::TooOld);
        }
        Ok(Fix {
            driver,
            position,
            recorded_at: whole_micros(recorded_at),
        })
    }
}

/// The time, cut to whole microseconds.
fn whole_micros(at: Timestamp) -> Timestamp {
    Timestamp::from_microsecond(at.as_microsecond()).unwrap_or(at)
}

fn signed(duration: Duration) -> SignedDuration {
    SignedDuration::try_from(duration).unwrap_or(SignedDuration::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const WINDOW: TimeWindow = TimeWindow {
        future_max: Duration::from_secs(30),
        age_max: Duration::from_hours(24),
    };

    fn at(offset_secs: i64) -> Result<Fix, TimeError> {
        let now: Timestamp = "2026-05-23T18:00:00Z".parse().unwrap();
        let recorded = now + SignedDuration::from_secs(offset_secs);
        Fix::new(
            "cab-1".parse().unwrap(),
            Position::new(1.0, 2.0).unwrap(),
            recorded,
            now,
            WINDOW,
        )
    }

    #[test]
    fn times_within_the_window_are_taken_and_its_edges_too() {
        for offset in [0, 30, -1, -86_400] {
            assert!(at(offset).is_ok(), "{offset} s");
        }
        assert_eq!(at(31), Err(TimeError::InFuture));
        assert_eq!(at(-86_401), Err(TimeError::TooOld));
    }

    #[test]
    fn the_ends_of_time_are_refused_and_do_not_overflow() {
        let now: Timestamp = "2026-05-23T18:00:00Z".parse().unwrap();
        let fix = |at| {
            Fix::new(
                "cab-1".parse().unwrap(),
                Position::new(1.0, 2.0).unwrap(),
                at,
                now,
                WINDOW,
            )
        };
        assert_eq!(fix(Timestamp::MAX), Err(TimeError::InFuture));
        assert_eq!(fix(Timestamp::MIN), Err(TimeError::TooOld));
    }

    #[test]
    fn times_are_cut_to_microseconds() {
        let now: Timestamp = "2026-05-23T18:00:00.123456789Z".parse().unwrap();
        let fix = Fix::new(
            "cab-1".parse().unwrap(),
            Position::new(1.0, 2.0).unwrap(),
            now,
            now,
            WINDOW,
        )
        .unwrap();
        assert_eq!(fix.recorded_at.to_string(), "2026-05-23T18:00:00.123456Z");
    }
}
