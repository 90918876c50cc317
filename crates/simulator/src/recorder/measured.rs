//! What was counted and measured of one operation, for a report. As JSON its field names are an interface.

use std::collections::BTreeMap;
use std::ops::AddAssign;

use serde::Serialize;

/// One kind of call. `offered` = `started` + those never made; `started` = `answered` + `refused` + `failed`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Operation {
    /// The call, such as `CreateOrder`, or `fix`.
    pub name: String,
    /// What is counted: `orders`, `fixes`, `searches`.
    pub unit: &'static str,
    /// Over the measured time.
    pub totals: Totals,
    /// What was answered a second in the measured time, by the time of the answers: those that came after it are not
    /// in it, and those to calls of the warm-up are. A server that falls behind answers less than it is offered.
    pub answered_per_second: f64,
    /// Of the answered ones.
    pub latency: Latency,
    /// Of the answered ones: how many took longer than the bucket before and up to this one. No empty buckets.
    pub histogram: Vec<Bucket>,
    /// What did not succeed, by gRPC code in capitals, such as `RESOURCE_EXHAUSTED`.
    pub errors: BTreeMap<String, u64>,
    /// Each second that was measured, by the intended start times.
    pub seconds: Vec<Second>,
    /// Each stage of a staircase; a single one for a constant rate; none for a closed loop or a recorded city.
    pub stages: Vec<Stage>,
}

/// How many there were.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Totals {
    /// Scheduled.
    pub offered: u64,
    /// Really made.
    pub started: u64,
    /// Answered with success.
    pub answered: u64,
    /// Refused by a limit (`RESOURCE_EXHAUSTED`).
    pub refused: u64,
    /// Ended with another error, or without an answer.
    pub failed: u64,
    /// Made once more because it had failed, where that was asked for; a fix: sent once more on a stream that was opened
    /// again. A call may be in it many times, and is started once. Of calls: an order as a whole is never repeated.
    pub repeated: u64,
}

impl AddAssign for Totals {
    fn add_assign(&mut self, other: Totals) {
        self.offered += other.offered;
        self.started += other.started;
        self.answered += other.answered;
        self.refused += other.refused;
        self.failed += other.failed;
        self.repeated += other.repeated;
    }
}

/// A distribution of latencies, in milliseconds. All 0 when there were none.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Latency {
    /// The shortest.
    pub min_ms: f64,
    /// The mean.
    pub mean_ms: f64,
    /// Half were as fast.
    pub p50_ms: f64,
    /// 90 of 100 were as fast.
    pub p90_ms: f64,
    /// 99 of 100 were as fast.
    pub p99_ms: f64,
    /// 999 of 1000 were as fast.
    pub p999_ms: f64,
    /// The longest.
    pub max_ms: f64,
}

/// One bar of a histogram.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Bucket {
    /// The longest latency in it, in milliseconds.
    pub up_to_ms: f64,
    /// How many are in it.
    pub count: u64,
}

/// One second.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Second {
    /// Its number, from the end of the warm-up.
    pub second: u64,
    /// How many there were whose intended start was in this second.
    #[serde(flatten)]
    pub totals: Totals,
    /// Answered with success within this second, whenever they were due: what the server did in it.
    pub completed: u64,
    /// How long they took.
    #[serde(flatten)]
    pub latency: Latency,
}

impl Operation {
    /// The share, from 0 to 1, of what was offered that has no latency, since it was never answered with success; where
    /// it is more than the share above a p99. That quantile is then one of better days: a server that answers nothing
    /// more is slow in no latency. `None` where there is little of it, or no latency at all.
    #[expect(clippy::cast_precision_loss, reason = "shown with a few digits")]
    pub fn left_out(&self) -> Option<f64> {
        let Totals { offered, answered, .. } = self.totals;
        let unanswered = offered.saturating_sub(answered);
        (answered > 0 && unanswered > offered / 100).then(|| unanswered as f64 / offered as f64)
    }
}

/// A time of constant rate.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Stage {
    /// What was scheduled a second.
    pub offered_per_second: f64,
    /// What was answered a second in the time of this stage, whenever it was scheduled.
    pub answered_per_second: f64,
    /// How long it was.
    pub duration_seconds: f64,
    /// How many there were.
    #[serde(flatten)]
    pub totals: Totals,
    /// How long they took.
    #[serde(flatten)]
    pub latency: Latency,
}
