//! What a recorder has counted: seconds and stages for the report, the last seconds for the screen.

use std::collections::BTreeMap;
use std::time::Duration;

use super::latencies::Latencies;
use super::measured::Totals;
use super::timeline::Moment;

/// A second keeps two digits and a stage three: there are many seconds.
const SECOND_DIGITS: u8 = 2;
const STAGE_DIGITS: u8 = 3;

/// Seconds over which the screen's latencies and rates are taken, and the current one.
pub(super) const RECENT_SECONDS: usize = 3;
const SLOTS: usize = RECENT_SECONDS + 2;

/// Counts and latencies of a time.
#[derive(Debug, Clone)]
pub(super) struct Part<T: hdrhistogram::Counter> {
    pub(super) totals: Totals,
    /// Answered in this time, whenever they were due.
    pub(super) completed: u64,
    pub(super) latencies: Latencies<T>,
}

/// All counts of a recorder.
#[derive(Debug)]
pub(super) struct Counts {
    /// From the first second of the measured part.
    pub(super) seconds: Vec<Part<u32>>,
    pub(super) stages: Vec<Part<u64>>,
    pub(super) errors: BTreeMap<&'static str, u64>,
    pub(super) late: Latencies<u64>,
    /// Of the whole run, the warm-up included.
    pub(super) live: Totals,
    recent: [Recent; SLOTS],
}

/// A second of the screen, by the time of the answers.
#[derive(Debug)]
pub(super) struct Recent {
    second: u64,
    pub(super) offered: u64,
    pub(super) answered: u64,
    pub(super) behind_max: Duration,
    pub(super) latencies: Latencies<u32>,
}

impl<T: hdrhistogram::Counter> Part<T> {
    fn new(digits: u8) -> Part<T> {
        Part {
            totals: Totals::default(),
            completed: 0,
            latencies: Latencies::new(digits),
        }
    }
}

impl Part<u64> {
    pub(super) fn of_stage() -> Part<u64> {
        Part::new(STAGE_DIGITS)
    }
}

impl Default for Counts {
    fn default() -> Counts {
        Counts {
            seconds: Vec::new(),
            stages: Vec::new(),
            errors: BTreeMap::new(),
            late: Latencies::new(STAGE_DIGITS),
            live: Totals::default(),
            recent: std::array::from_fn(|_| Recent::of(0)),
        }
    }
}

impl Counts {
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

    /// So many answers came at `moment`.
    pub(super) fn completed(&mut self, moment: Moment, answers: u64) {
        self.stage(moment).completed += answers;
        if let Some(second) = self.second(moment) {
            second.completed += answers;
        }
    }

    /// All stages together.
    pub(super) fn whole(&self) -> Part<u64> {
        let mut whole = Part::of_stage();
        for stage in &self.stages {
            whole.totals += stage.totals;
            whole.completed += stage.completed;
            whole.latencies.add(&stage.latencies);
        }
        whole
    }

    /// The slot of a second since the start of the run, emptied if it was that of an older one; none when a newer one
    /// has it.
    pub(super) fn recent(&mut self, second: u64) -> Option<&mut Recent> {
        let slot = self.recent.get_mut(usize::try_from(second % SLOTS as u64).ok()?)?;
        if slot.second > second {
            return None;
        }
        if slot.second != second {
            *slot = Recent::of(second);
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
        #[expect(clippy::indexing_slicing, reason = "made long enough just above")]
        &mut self.stages[moment.stage]
    }

    fn second(&mut self, moment: Moment) -> Option<&mut Part<u32>> {
        let second = moment.second?;
        if self.seconds.len() <= second {
            self.seconds.resize_with(second + 1, || Part::new(SECOND_DIGITS));
        }
        self.seconds.get_mut(second)
    }
}

impl Recent {
    fn of(second: u64) -> Recent {
        Recent {
            second,
            offered: 0,
            answered: 0,
            behind_max: Duration::ZERO,
            latencies: Latencies::new(SECOND_DIGITS),
        }
    }

    pub(super) fn record(&mut self, latency: Duration) {
        self.answered += 1;
        self.latencies.record(latency);
    }
}
