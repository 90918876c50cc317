//! Counts the calls of one operation while they are made, from as many tasks as there are, and tells what they came to.
//!
//! A record is made by the thread's own shard, so that threads do not wait for each other; a shard's lock is held for
//! the time of an addition. Once in a few seconds a shard hands its older seconds over to one place for all. The intended time of a call decides to which second and stage it belongs, and whether it is
//! left out with the warm-up; only the screen's counters have all.

mod shard;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;
use tonic::Code;
use waybill_proto::code_name;

use self::shard::{Part, RECENT_SECONDS, Shard};
use super::latencies::Latencies;
use super::report::{Operation, Second, Stage, Totals};
use super::timeline::{Moment, Timeline};

/// More than a machine's runtime threads at most times; two that share one only wait for an addition.
const SHARDS: usize = 16;

/// Counts the calls of one operation. Clones count for the same one.
#[derive(Debug, Clone)]
pub struct Recorder {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    name: String,
    unit: &'static str,
    timeline: Timeline,
    shards: [Mutex<Shard>; SHARDS],
    /// The seconds that shards have handed over, from the first. Locked last.
    seconds: Mutex<Vec<Part<u32>>>,
}

/// An operation at one moment of its run, for a screen. The warm-up is in it.
#[derive(Debug, Clone, PartialEq)]
pub struct LiveOperation {
    /// The call.
    pub name: String,
    /// What is counted.
    pub unit: &'static str,
    /// How many there were so far.
    pub totals: Totals,
    /// Made and not ended yet.
    pub in_flight: u64,
    /// Scheduled a second, over the last seconds.
    pub offered_per_second: f64,
    /// Answered a second, over the last seconds.
    pub answered_per_second: f64,
    /// Refused or failed a second, over the last seconds.
    pub errors_per_second: f64,
    /// Half of the answers of the last seconds came as fast, in milliseconds.
    pub p50_ms: f64,
    /// 99 of 100 answers of the last seconds came as fast, in milliseconds.
    pub p99_ms: f64,
    /// How long after the time that was meant the latest call of the last seconds was made.
    pub behind_max: Duration,
}

impl Recorder {
    /// Counts `name`, such as `CreateOrder`, in `unit`, such as `orders`.
    pub fn new(name: impl Into<String>, unit: &'static str, timeline: &Timeline) -> Recorder {
        let inner = Inner {
            name: name.into(),
            unit,
            timeline: timeline.clone(),
            shards: std::array::from_fn(|_| Mutex::default()),
            seconds: Mutex::default(),
        };
        Recorder { inner: Arc::new(inner) }
    }

    /// So many calls were scheduled for `due`.
    pub fn offered(&self, due: Instant, calls: u64) {
        let (moment, second) = (self.moment(due), self.second(due));
        let mut shard = self.shard();
        shard.count(moment, |totals| totals.offered += calls);
        if let Some(recent) = shard.recent(second) {
            recent.offered += calls;
        }
    }

    /// Each of the calls meant for `dues` was made once more, since it had failed.
    pub fn repeated_all(&self, dues: impl IntoIterator<Item = Instant>) {
        let mut shard = self.shard();
        for due in dues {
            shard.count(self.moment(due), |totals| totals.repeated += 1);
        }
    }

    /// A call was scheduled for each of `dues`.
    pub fn offered_all(&self, dues: impl IntoIterator<Item = Instant>) {
        let mut shard = self.shard();
        for due in dues {
            shard.count(self.moment(due), |totals| totals.offered += 1);
            if let Some(recent) = shard.recent(self.second(due)) {
                recent.offered += 1;
            }
        }
    }

    /// The call meant for `due` was made at `at`.
    pub fn started(&self, due: Instant, at: Instant) {
        self.started_all([due], at);
    }

    /// The calls meant for `dues` were made at `at`, in one message or one after the other.
    pub fn started_all(&self, dues: impl IntoIterator<Item = Instant>, at: Instant) {
        let second = self.second(at);
        let mut shard = self.shard();
        for due in dues {
            shard.count(self.moment(due), |totals| totals.started += 1);
            if let Some(recent) = shard.recent(second) {
                recent.behind_max = recent.behind_max.max(at.saturating_duration_since(due));
            }
        }
    }

    /// The call meant for `due` was answered with success at `at`. Its latency counts from `due`.
    pub fn answered(&self, due: Instant, at: Instant) {
        self.answered_all([due], at);
    }

    /// The calls meant for `dues` were answered together at `at`.
    pub fn answered_all(&self, dues: impl IntoIterator<Item = Instant>, at: Instant) {
        let second = self.second(at);
        let completed_in = self.moment(at).filter(|_| !self.inner.timeline.has_ended(at));
        let mut completed = 0;
        let mut shard = self.shard();
        for due in dues {
            let (moment, latency) = (self.moment(due), at.saturating_duration_since(due));
            shard.count(moment, |totals| totals.answered += 1);
            shard.latency(moment, latency);
            if let Some(recent) = shard.recent(second) {
                recent.record(latency);
            }
            completed += 1;
        }
        if let Some(moment) = completed_in {
            shard.completed(moment, completed);
        }
    }

    /// The call meant for `due` ended at `at` with an error: refused by a limit, or failed.
    pub fn ended(&self, due: Instant, at: Instant, code: Code) {
        if code == Code::ResourceExhausted {
            self.count_error(due, at, code_name(code), |totals| totals.refused += 1);
        } else {
            self.failed(due, at, code_name(code));
        }
    }

    /// The call meant for `due` failed at `at` for a reason that is not a gRPC code, such as the status of an order.
    pub fn failed(&self, due: Instant, at: Instant, why: &'static str) {
        self.count_error(due, at, why, |totals| totals.failed += 1);
    }

    /// A call meant for `due` was made at `at` while nothing but this process kept it. Reported for the whole run.
    pub fn late(&self, due: Instant, at: Instant) {
        if self.moment(due).is_some() {
            self.shard().late(at.saturating_duration_since(due));
        }
    }

    /// Calls that could have been made at `dues` were made at `at`, while nothing but this process kept them.
    pub fn late_all(&self, dues: impl IntoIterator<Item = Instant>, at: Instant) {
        let mut shard = self.shard();
        for due in dues {
            if self.moment(due).is_some() {
                shard.late(at.saturating_duration_since(due));
            }
        }
    }

    /// What the operation came to, when so much was measured.
    pub fn operation(&self, measured: Duration) -> Operation {
        let sum = self.sum();
        let timeline = &self.inner.timeline;
        let mut whole = Part::of_stage();
        sum.stages.iter().for_each(|stage| whole.add(stage));
        let seconds = lock(&self.inner.seconds);
        let seconds = (0..).zip(seconds.iter()).map(|(second, part)| Second {
            second,
            totals: part.totals,
            completed: part.completed,
            latency: part.latencies.latency(),
        });
        let ended = timeline.warm_up() + measured;
        let none = Part::of_stage();
        let stages = timeline.stages().iter().enumerate().filter_map(|(number, span)| {
            let part = sum.stages.get(number).unwrap_or(&none);
            let lasted = span.until.min(ended).checked_sub(span.from)?;
            (!lasted.is_zero()).then(|| stage(part, lasted))
        });
        Operation {
            name: self.inner.name.clone(),
            unit: self.inner.unit,
            totals: whole.totals,
            answered_per_second: per_second(whole.completed, measured),
            latency: whole.latencies.latency(),
            histogram: whole.latencies.buckets(),
            errors: sum
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
    pub fn live(&self, now: Instant) -> LiveOperation {
        let second = self.second(now);
        let mut totals = Totals::default();
        let mut latencies = Latencies::<u32>::new(2);
        let (mut offered, mut answered, mut errors, mut behind_max) = (0, 0, 0, Duration::ZERO);
        for shard in &self.inner.shards {
            let shard = lock(shard);
            totals += shard.live;
            for recent in shard.recent_before(second) {
                offered += recent.offered;
                answered += recent.answered;
                errors += recent.errors;
                behind_max = behind_max.max(recent.behind_max);
                recent.latencies.iter().for_each(|recent| latencies.add(recent));
            }
        }
        let seconds = second.clamp(1, RECENT_SECONDS as u64) as f64;
        LiveOperation {
            name: self.inner.name.clone(),
            unit: self.inner.unit,
            totals,
            // Shards are read one after the other: an end may be seen whose start was not.
            in_flight: totals
                .started
                .saturating_sub(totals.answered + totals.refused + totals.failed),
            offered_per_second: offered as f64 / seconds,
            answered_per_second: answered as f64 / seconds,
            errors_per_second: errors as f64 / seconds,
            p50_ms: latencies.quantile_ms(0.50),
            p99_ms: latencies.quantile_ms(0.99),
            behind_max,
        }
    }

    /// The lateness that was this process's own.
    pub(super) fn lateness(&self) -> Latencies<u64> {
        self.sum().late.unwrap_or_else(|| Latencies::new(3))
    }

    /// All but the seconds, which are all in one place after it.
    fn sum(&self) -> Sum {
        let mut sum = Sum::default();
        for shard in &self.inner.shards {
            let mut shard = lock(shard);
            shard.hand_over_all(&mut lock(&self.inner.seconds));
            merge(&mut sum.stages, &shard.stages);
            for (name, count) in &shard.errors {
                *sum.errors.entry(name).or_default() += count;
            }
            if let Some(late) = &shard.late {
                sum.late.get_or_insert_with(|| Latencies::new(3)).add(late);
            }
        }
        sum
    }

    fn count_error(&self, due: Instant, at: Instant, name: &'static str, count: impl Fn(&mut Totals)) {
        let (moment, second) = (self.moment(due), self.second(at));
        let mut shard = self.shard();
        shard.count(moment, count);
        if let Some(recent) = shard.recent(second) {
            recent.errors += 1;
        }
        if moment.is_some() {
            *shard.errors.entry(name).or_default() += 1;
        }
    }

    fn moment(&self, due: Instant) -> Option<Moment> {
        self.inner.timeline.moment(due)
    }

    fn second(&self, at: Instant) -> u64 {
        at.saturating_duration_since(self.inner.timeline.started()).as_secs()
    }

    /// The shard of this thread.
    fn shard(&self) -> MutexGuard<'_, Shard> {
        static THREADS: AtomicUsize = AtomicUsize::new(0);
        std::thread_local! {
            static SHARD: usize = THREADS.fetch_add(1, Ordering::Relaxed) % SHARDS;
        }
        let number = SHARD.with(|number| *number);
        #[expect(clippy::indexing_slicing, reason = "a remainder of the length")]
        let mut shard = lock(&self.inner.shards[number]);
        if shard.is_full() {
            shard.hand_over_older(&mut lock(&self.inner.seconds));
        }
        shard
    }
}

/// All shards together.
#[derive(Default)]
struct Sum {
    stages: Vec<Part<u64>>,
    errors: BTreeMap<&'static str, u64>,
    late: Option<Latencies<u64>>,
}

fn merge(sum: &mut Vec<Part<u64>>, parts: &[Part<u64>]) {
    if sum.len() < parts.len() {
        sum.resize_with(parts.len(), Part::of_stage);
    }
    sum.iter_mut().zip(parts).for_each(|(sum, part)| sum.add(part));
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

/// A count is whole whoever panicked beside it.
fn lock<T>(counts: &Mutex<T>) -> MutexGuard<'_, T> {
    counts.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
