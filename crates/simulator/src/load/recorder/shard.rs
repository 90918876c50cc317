//! What one shard of a recorder has counted: seconds and stages for the report, the last seconds for the screen.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::load::latencies::Latencies;
use crate::load::report::Totals;
use crate::load::timeline::Moment;

/// A second keeps two digits and a stage three: there are many seconds.
const SECOND_DIGITS: u8 = 2;
const STAGE_DIGITS: u8 = 3;

/// Seconds over which the screen's latencies and rates are taken, and the current one.
pub(super) const RECENT_SECONDS: usize = 3;
const SLOTS: usize = RECENT_SECONDS + 2;

/// Seconds that a shard keeps to itself at least. A call is scheduled, made and answered in one or two of them.
const SECONDS_KEPT: usize = 3;

/// Seconds that are told one by one. A longer run is still counted and measured in whole and by stage.
const SECONDS_MAX: usize = 100_000;

/// Counts and latencies of a time.
#[derive(Debug, Clone)]
pub(super) struct Part<T: hdrhistogram::Counter> {
    pub(super) totals: Totals,
    /// Answered in this time, whenever they were meant.
    pub(super) completed: u64,
    pub(super) latencies: Latencies<T>,
}

/// A part of a recorder, touched by few threads.
#[derive(Debug, Default)]
pub(super) struct Shard {
    /// The last seconds that were touched, the newest last. Older ones are handed over: each as large as a few KB, they
    /// would fill the memory of a long run if every thread kept its own.
    seconds: Vec<(usize, Part<u32>)>,
    pub(super) stages: Vec<Part<u64>>,
    pub(super) errors: BTreeMap<&'static str, u64>,
    pub(super) late: Option<Latencies<u64>>,
    /// Of the whole run, the warm-up included.
    pub(super) live: Totals,
    recent: [Recent; SLOTS],
}

/// A second of the screen, by the time of the answers.
#[derive(Debug, Default)]
pub(super) struct Recent {
    pub(super) second: u64,
    pub(super) offered: u64,
    pub(super) answered: u64,
    pub(super) errors: u64,
    pub(super) behind_max: Duration,
    pub(super) latencies: Option<Latencies<u32>>,
}

impl<T: hdrhistogram::Counter> Part<T> {
    fn new(digits: u8) -> Part<T> {
        Part {
            totals: Totals::default(),
            completed: 0,
            latencies: Latencies::new(digits),
        }
    }

    pub(super) fn add(&mut self, other: &Part<T>) {
        self.totals += other.totals;
        self.completed += other.completed;
        self.latencies.add(&other.latencies);
    }
}

impl Part<u32> {
    pub(super) fn of_second() -> Part<u32> {
        Part::new(SECOND_DIGITS)
    }
}

impl Part<u64> {
    pub(super) fn of_stage() -> Part<u64> {
        Part::new(STAGE_DIGITS)
    }
}

impl Shard {
    /// Counts in the live totals, and at `moment` where the call is a measured one.
    pub(super) fn count(&mut self, moment: Option<Moment>, count: impl Fn(&mut Totals)) {
        count(&mut self.live);
        let Some(moment) = moment else { return };
        count(&mut self.stage(moment).totals);
        if let Some(second) = self.second(moment) {
            count(&mut second.totals);
        }
    }

    pub(super) fn latency(&mut self, moment: Option<Moment>, latency: Duration) {
        let Some(moment) = moment else { return };
        self.stage(moment).latencies.record(latency);
        if let Some(second) = self.second(moment) {
            second.latencies.record(latency);
        }
    }

    /// Hands over all seconds but the last few to `whole`, in order from the first second.
    pub(super) fn hand_over_older(&mut self, whole: &mut Vec<Part<u32>>) {
        let older = self.seconds.len().saturating_sub(SECONDS_KEPT);
        self.hand_over(older, whole);
    }

    /// Hands over all seconds.
    pub(super) fn hand_over_all(&mut self, whole: &mut Vec<Part<u32>>) {
        self.hand_over(self.seconds.len(), whole);
    }

    /// Whether so many seconds are here that the older ones should be handed over.
    pub(super) fn is_full(&self) -> bool {
        self.seconds.len() > 2 * SECONDS_KEPT
    }

    #[cfg(test)]
    pub(super) fn seconds_kept(&self) -> usize {
        self.seconds.len()
    }

    fn hand_over(&mut self, count: usize, whole: &mut Vec<Part<u32>>) {
        for (second, part) in self.seconds.drain(..count) {
            if whole.len() <= second {
                whole.resize_with(second + 1, Part::of_second);
            }
            if let Some(whole) = whole.get_mut(second) {
                whole.add(&part);
            }
        }
    }

    /// So many answers came at `moment`.
    pub(super) fn completed(&mut self, moment: Moment, answers: u64) {
        self.stage(moment).completed += answers;
        if let Some(second) = self.second(moment) {
            second.completed += answers;
        }
    }

    pub(super) fn late(&mut self, late: Duration) {
        self.late
            .get_or_insert_with(|| Latencies::new(STAGE_DIGITS))
            .record(late);
    }

    /// The slot of a second since the start of the run, emptied if it was that of an older one; none when a newer one
    /// has it.
    pub(super) fn recent(&mut self, second: u64) -> Option<&mut Recent> {
        let slot = self.recent.get_mut(usize::try_from(second % SLOTS as u64).ok()?)?;
        if slot.second > second {
            return None;
        }
        if slot.second != second {
            slot.second = second;
            slot.offered = 0;
            slot.answered = 0;
            slot.errors = 0;
            slot.behind_max = Duration::ZERO;
            if let Some(latencies) = &mut slot.latencies {
                latencies.clear();
            }
        }
        Some(slot)
    }

    /// The whole seconds before `second`, which is not over yet.
    pub(super) fn recent_before(&self, second: u64) -> impl Iterator<Item = &Recent> {
        let within = move |slot: &&Recent| slot.second < second && slot.second + RECENT_SECONDS as u64 >= second;
        self.recent.iter().filter(within)
    }

    fn stage(&mut self, moment: Moment) -> &mut Part<u64> {
        if self.stages.len() <= moment.stage {
            self.stages.resize_with(moment.stage + 1, Part::of_stage);
        }
        // It was made long enough just now.
        #[expect(clippy::indexing_slicing, reason = "made long enough just above")]
        &mut self.stages[moment.stage]
    }

    fn second(&mut self, moment: Moment) -> Option<&mut Part<u32>> {
        if moment.second >= SECONDS_MAX {
            return None;
        }
        // From the newest: nearly always it is that one.
        let known = self.seconds.iter().rposition(|(second, _)| *second == moment.second);
        let place = known.unwrap_or_else(|| {
            let place = self.seconds.partition_point(|(second, _)| *second < moment.second);
            self.seconds.insert(place, (moment.second, Part::of_second()));
            place
        });
        self.seconds.get_mut(place).map(|(_, part)| part)
    }
}

impl Recent {
    pub(super) fn record(&mut self, latency: Duration) {
        self.answered += 1;
        self.latencies
            .get_or_insert_with(|| Latencies::new(SECOND_DIGITS))
            .record(latency);
    }
}
