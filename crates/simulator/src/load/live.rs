//! What a screen shows of a run while it goes on.

use std::sync::OnceLock;
use std::time::Duration;

use tokio::time::Instant;

use crate::recorder::{LiveOperation, Recorder, Timeline};

/// The state of a run, for whoever draws it. Empty until the load begins.
#[derive(Debug, Default)]
pub struct Live {
    run: OnceLock<LiveRun>,
}

#[derive(Debug)]
struct LiveRun {
    timeline: Timeline,
    expected: Option<Duration>,
    recorders: Vec<Recorder>,
}

/// A run at one moment.
#[derive(Debug, Clone, PartialEq)]
pub struct LiveSnapshot {
    /// Since the warm-up began.
    pub elapsed: Duration,
    /// How long warm-up and load take together, where that is known.
    pub expected: Option<Duration>,
    /// Whether nothing is measured yet.
    pub warming_up: bool,
    /// The operations, the most important first.
    pub operations: Vec<LiveOperation>,
}

impl Live {
    /// The run as it is now; none before the load begins.
    pub fn snapshot(&self) -> Option<LiveSnapshot> {
        let run = self.run.get()?;
        let now = Instant::now();
        Some(LiveSnapshot {
            elapsed: now.saturating_duration_since(run.timeline.started()),
            expected: run.expected,
            warming_up: now < run.timeline.measured_from(),
            operations: run.recorders.iter().map(|recorder| recorder.live(now)).collect(),
        })
    }

    /// The load begins.
    pub(super) fn begin(&self, timeline: &Timeline, expected: Option<Duration>, recorders: &[Recorder]) {
        self.run.get_or_init(|| LiveRun {
            timeline: timeline.clone(),
            expected,
            recorders: recorders.to_vec(),
        });
    }
}
