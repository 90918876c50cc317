//! Which part of a run a moment belongs to: the warm-up, a second, a stage.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tokio::time::Instant;

/// Seconds that are reported one by one. A longer run is still counted and measured in whole and by stage.
const SECONDS_MAX: usize = 100_000;

/// A time of constant rate that is reported by itself.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct StageSpan {
    /// From here on, since the start of the run.
    pub(crate) from: Duration,
    /// Up to here, exclusive.
    pub(crate) until: Duration,
    /// Arrivals a second, by plan.
    pub(crate) rate: f64,
}

/// The parts of a run on the clock.
#[derive(Debug, Clone)]
pub(crate) struct Timeline {
    started: Instant,
    started_at: Timestamp,
    warm_up: Duration,
    stages: Vec<StageSpan>,
    /// How many seconds are counted one by one.
    seconds: usize,
    /// In ns since the start, once it is known. Shared by the clones: all learn of a stop.
    ends_ns: Arc<AtomicU64>,
}

/// A moment of the measured part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Moment {
    /// The second, from the end of the warm-up, where it is one of those that are counted one by one.
    pub(super) second: Option<usize>,
    /// The stage; the number of stages, one more than the last, for a moment that is in none.
    pub(super) stage: usize,
}

impl Timeline {
    /// A run that starts with its warm-up at `started`; the stages are those of its schedule.
    pub(crate) fn new(started: Instant, warm_up: Duration, stages: &[StageSpan]) -> Timeline {
        // Of two clocks read one after the other, the one that is shifted to fit the other.
        let (now, now_at) = (Instant::now(), Timestamp::now());
        let shift = |span| SignedDuration::try_from(span).unwrap_or_default();
        let since = shift(now.saturating_duration_since(started)) - shift(started.saturating_duration_since(now));
        Timeline {
            started,
            started_at: now_at.checked_sub(since).unwrap_or(now_at),
            warm_up,
            stages: stages.to_vec(),
            seconds: SECONDS_MAX,
            ends_ns: Arc::new(AtomicU64::new(u64::MAX)),
        }
    }

    /// A run that starts now, without a warm-up, and whose seconds are not counted one by one.
    pub(crate) fn without_seconds() -> Timeline {
        Timeline {
            seconds: 0,
            ..Timeline::new(Instant::now(), Duration::ZERO, &[])
        }
    }

    /// When the warm-up began.
    pub(crate) fn started(&self) -> Instant {
        self.started
    }

    /// When the warm-up began by the wall clock.
    pub(crate) fn started_at(&self) -> Timestamp {
        self.started_at
    }

    /// How long the warm-up is.
    pub(crate) fn warm_up(&self) -> Duration {
        self.warm_up
    }

    /// When the warm-up ends.
    pub(crate) fn measured_from(&self) -> Instant {
        self.started + self.warm_up
    }

    /// The measured part ends at `at`, unless it ended before.
    pub(crate) fn end(&self, at: Instant) {
        self.ends_ns.fetch_min(self.since_start_ns(at), Ordering::Relaxed);
    }

    /// Whether the measured part has ended by `at`.
    pub(super) fn has_ended(&self, at: Instant) -> bool {
        self.since_start_ns(at) >= self.ends_ns.load(Ordering::Relaxed)
    }

    fn since_start_ns(&self, at: Instant) -> u64 {
        let since = at.saturating_duration_since(self.started);
        u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
    }

    /// The stages, by the time since the start of the run.
    pub(crate) fn stages(&self) -> &[StageSpan] {
        &self.stages
    }

    /// Where `at` is in the measured part; none in the warm-up.
    pub(super) fn moment(&self, at: Instant) -> Option<Moment> {
        let since = at.checked_duration_since(self.measured_from())?;
        let since_start = since + self.warm_up;
        Some(Moment {
            second: usize::try_from(since.as_secs())
                .ok()
                .filter(|second| *second < self.seconds),
            // Each begins where the one before ends, and the first with the measured part.
            stage: self.stages.partition_point(|stage| stage.until <= since_start),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_intended_time_decides_to_which_part_a_call_belongs() {
        let started = Instant::now();
        let stage = |from, until| StageSpan {
            from: Duration::from_secs(from),
            until: Duration::from_secs(until),
            rate: 1.0,
        };
        let timeline = Timeline::new(started, Duration::from_secs(2), &[stage(2, 5), stage(5, 8)]);
        let moment = |millis| {
            let moment = timeline.moment(started + Duration::from_millis(millis));
            moment.map(|moment| (moment.second, moment.stage))
        };
        assert_eq!(moment(1_999), None);
        assert_eq!(moment(2_000), Some((Some(0), 0)));
        assert_eq!(moment(4_999), Some((Some(2), 0)));
        assert_eq!(moment(5_000), Some((Some(3), 1)));
        assert_eq!(moment(8_000), Some((Some(6), 2)), "after the last stage");
    }
}
