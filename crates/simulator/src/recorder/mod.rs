//! Counts the calls of one operation while they are made, from as many tasks as there are, and reports what they came to.
//!
//! One lock guards the counts, held for the time of an addition; what happens together, such as the fixes of one message,
//! is recorded together. The intended start time of a call decides to which second and stage it belongs, and whether it
//! is left out with the warm-up; only the screen's counters have all. A latency counts from the intended start time, so a
//! server that stalls is seen by every call that it kept waiting (Tene, "How NOT to Measure Latency", 2013: coordinated
//! omission).

mod counts;
mod latencies;
mod measured;
mod timeline;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;
use tonic::{Code, Status};
use waybill_proto::code_name;

use self::counts::{Counts, Part, RECENT_SECONDS};
pub(crate) use self::latencies::Latencies;
pub use self::measured::{Bucket, Latency, Operation, Second, Stage, Totals};
pub(crate) use self::timeline::{StageSpan, Timeline};

/// Counts the calls of one operation. Clones count for the same one.
#[derive(Debug, Clone)]
pub(crate) struct Recorder {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    name: &'static str,
    unit: &'static str,
    timeline: Timeline,
    counts: Mutex<Counts>,
}

/// An operation at one moment of its run, for a screen. The warm-up is in it.
#[derive(Debug, Clone, PartialEq)]
pub struct LiveOperation {
    /// The call.
    pub name: &'static str,
    /// How many there were so far.
    pub totals: Totals,
    /// Made and not ended yet.
    pub in_flight: u64,
    /// Scheduled a second, over the last seconds.
    pub offered_per_second: f64,
    /// Answered a second, over the last seconds.
    pub answered_per_second: f64,
    /// Half of the answers of the last seconds came as fast, in milliseconds.
    pub p50_ms: f64,
    /// 99 of 100 answers of the last seconds came as fast, in milliseconds.
    pub p99_ms: f64,
    /// How long after its intended start time the latest call of the last seconds was made.
    pub behind_max: Duration,
}

impl Recorder {
    /// Counts `name`, such as `CreateOrder`, in `unit`, such as `orders`.
    pub(crate) fn new(name: &'static str, unit: &'static str, timeline: &Timeline) -> Recorder {
        let inner = Inner {
            name,
            unit,
            timeline: timeline.clone(),
            counts: Mutex::default(),
        };
        Recorder { inner: Arc::new(inner) }
    }

    /// A call was scheduled for each of the intended start times.
    pub(crate) fn offered(&self, intended: impl IntoIterator<Item = Instant>) {
        let mut counts = self.counts();
        for intended_at in intended {
            counts.count(self.moment(intended_at), |totals| totals.offered += 1);
            if let Some(recent) = counts.recent(self.second(intended_at)) {
                recent.offered += 1;
            }
        }
    }

    /// Each of these calls was made again, since it had failed.
    pub(crate) fn repeated(&self, intended: impl IntoIterator<Item = Instant>) {
        let mut counts = self.counts();
        for intended_at in intended {
            counts.count(self.moment(intended_at), |totals| totals.repeated += 1);
        }
    }

    /// These calls were made at `at`, in one message or one after the other.
    pub(crate) fn started(&self, intended: impl IntoIterator<Item = Instant>, at: Instant) {
        let second = self.second(at);
        let mut counts = self.counts();
        for intended_at in intended {
            counts.count(self.moment(intended_at), |totals| totals.started += 1);
            if let Some(recent) = counts.recent(second) {
                recent.behind_max = recent.behind_max.max(at.saturating_duration_since(intended_at));
            }
        }
    }

    /// These calls were answered with success at `at`. Their latencies count from their intended start times.
    pub(crate) fn answered(&self, intended: impl IntoIterator<Item = Instant>, at: Instant) {
        let second = self.second(at);
        let completed_in = self.moment(at).filter(|_| !self.inner.timeline.has_ended(at));
        let mut completed = 0;
        let mut counts = self.counts();
        for intended_at in intended {
            let (moment, latency) = (self.moment(intended_at), at.saturating_duration_since(intended_at));
            counts.count(moment, |totals| totals.answered += 1);
            counts.latency(moment, latency);
            if let Some(recent) = counts.recent(second) {
                recent.record(latency);
            }
            completed += 1;
        }
        if let Some(moment) = completed_in {
            counts.completed(moment, completed);
        }
    }

    /// This call ended with an error: refused by a limit, or failed.
    pub(crate) fn ended(&self, intended_at: Instant, code: Code) {
        if code == Code::ResourceExhausted {
            self.count_error(intended_at, code_name(code), |totals| totals.refused += 1);
        } else {
            self.failed(intended_at, code_name(code));
        }
    }

    /// This call failed for a reason that is not a gRPC code, such as the status of an order.
    pub(crate) fn failed(&self, intended_at: Instant, reason: &'static str) {
        self.count_error(intended_at, reason, |totals| totals.failed += 1);
    }

    /// This call came to `answer` at `at`.
    pub(crate) fn concluded<T>(&self, intended_at: Instant, at: Instant, answer: &Result<T, Status>) {
        match answer {
            Ok(_) => self.answered([intended_at], at),
            Err(status) => self.ended(intended_at, status.code()),
        }
    }

    /// Calls that could have been made at these times were made at `at`, and nothing but this process delayed them.
    /// Reported for the whole run.
    pub(crate) fn late(&self, possible: impl IntoIterator<Item = Instant>, at: Instant) {
        let mut counts = self.counts();
        for possible_at in possible {
            if self.moment(possible_at).is_some() {
                counts.late.record(at.saturating_duration_since(possible_at));
            }
        }
    }

    /// What the operation came to, when so much was measured.
    pub(crate) fn operation(&self, measured: Duration) -> Operation {
        let counts = self.counts();
        let whole = counts.whole();
        let timeline = &self.inner.timeline;
        let seconds = (0..).zip(&counts.seconds).map(|(second, part)| Second {
            second,
            totals: part.totals,
            completed: part.completed,
            latency: part.latencies.latency(),
        });
        let ended = timeline.warm_up() + measured;
        let none = Part::of_stage();
        let stages = timeline.stages().iter().enumerate().filter_map(|(number, span)| {
            let part = counts.stages.get(number).unwrap_or(&none);
            let lasted = span.until.min(ended).checked_sub(span.from)?;
            (!lasted.is_zero()).then(|| stage(part, lasted))
        });
        Operation {
            name: self.inner.name.to_owned(),
            unit: self.inner.unit,
            totals: whole.totals,
            answered_per_second: per_second(whole.completed, measured),
            latency: whole.latencies.latency(),
            histogram: whole.latencies.buckets(),
            errors: counts
                .errors
                .iter()
                .map(|(name, count)| ((*name).to_owned(), *count))
                .collect(),
            seconds: seconds.collect(),
            stages: stages.collect(),
        }
    }

    /// The operation as it is at `now`.
    #[expect(clippy::cast_precision_loss, reason = "counts of a few seconds")]
    pub(crate) fn live(&self, now: Instant) -> LiveOperation {
        let second = self.second(now);
        let mut latencies = Latencies::<u32>::new(2);
        let (mut offered, mut answered, mut behind_max) = (0, 0, Duration::ZERO);
        let counts = self.counts();
        for recent in counts.recent_before(second) {
            offered += recent.offered;
            answered += recent.answered;
            behind_max = behind_max.max(recent.behind_max);
            latencies.add(&recent.latencies);
        }
        let totals = counts.live;
        let seconds = second.clamp(1, RECENT_SECONDS as u64) as f64;
        LiveOperation {
            name: self.inner.name,
            totals,
            // An end may be counted before its start.
            in_flight: totals
                .started
                .saturating_sub(totals.answered + totals.refused + totals.failed),
            offered_per_second: offered as f64 / seconds,
            answered_per_second: answered as f64 / seconds,
            p50_ms: latencies.quantile_ms(0.50),
            p99_ms: latencies.quantile_ms(0.99),
            behind_max,
        }
    }

    /// How many there were so far, the warm-up included.
    pub(crate) fn totals(&self) -> Totals {
        self.counts().live
    }

    /// How many of the measured calls ended with this error.
    pub(crate) fn errors(&self, name: &str) -> u64 {
        self.counts().errors.get(name).copied().unwrap_or(0)
    }

    /// The latencies of the whole measured part so far.
    pub(crate) fn latency(&self) -> Latency {
        self.counts().whole().latencies.latency()
    }

    /// The lateness that was this process's own.
    pub(crate) fn lateness(&self) -> Latencies<u64> {
        self.counts().late.clone()
    }

    fn count_error(&self, intended_at: Instant, name: &'static str, count: impl Fn(&mut Totals)) {
        let moment = self.moment(intended_at);
        let mut counts = self.counts();
        counts.count(moment, count);
        if moment.is_some() {
            *counts.errors.entry(name).or_default() += 1;
        }
    }

    fn moment(&self, at: Instant) -> Option<timeline::Moment> {
        self.inner.timeline.moment(at)
    }

    fn second(&self, at: Instant) -> u64 {
        at.saturating_duration_since(self.inner.timeline.started()).as_secs()
    }

    /// A count is whole whoever panicked beside it.
    fn counts(&self) -> MutexGuard<'_, Counts> {
        self.inner.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn stage(part: &Part<u64>, lasted: Duration) -> Stage {
    Stage {
        offered_per_second: per_second(part.totals.offered, lasted),
        answered_per_second: per_second(part.completed, lasted),
        duration_seconds: lasted.as_secs_f64(),
        totals: part.totals,
        latency: part.latencies.latency(),
    }
}

/// 0 where no time was measured.
#[expect(clippy::cast_precision_loss, reason = "counts of one run")]
fn per_second(count: u64, time: Duration) -> f64 {
    if time.is_zero() {
        0.0
    } else {
        count as f64 / time.as_secs_f64()
    }
}

#[cfg(test)]
mod tests;
