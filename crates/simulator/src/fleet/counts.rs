//! What becomes of the fixes of a fleet: counted by a recorder, and kept where an audit wants them.

use std::mem;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tonic::Code;

use super::DueFix;
use super::ack_log::Entry;
use crate::recorder::{Recorder, Timeline};

/// How many fixes are kept before they are recorded: the recorder is called once a message, and in time for those that
/// were never sent.
const RECORDED_TOGETHER: usize = 4_096;

/// The counts of one fleet. Clones count for the same one.
#[derive(Debug, Clone)]
pub(crate) struct FleetCounts {
    pub(crate) recorder: Recorder,
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    drivers_seen: AtomicU64,
    broken_streams: AtomicU64,
    refused_streams: AtomicU64,
    unsettled: AtomicU64,
}

impl FleetCounts {
    pub(crate) fn new(timeline: &Timeline) -> FleetCounts {
        FleetCounts {
            recorder: Recorder::new("fix", "fixes", timeline),
            shared: Arc::default(),
        }
    }

    /// Drivers that sent a fix, of a fleet that keeps its log.
    pub(crate) fn drivers_seen(&self) -> u64 {
        self.shared.drivers_seen.load(Ordering::Relaxed)
    }

    /// Streams that broke with fixes on them.
    pub(crate) fn broken_streams(&self) -> u64 {
        self.shared.broken_streams.load(Ordering::Relaxed)
    }

    /// Fixes that were sent and neither acknowledged nor rejected: the stream or the time was over.
    pub(crate) fn unsettled(&self) -> u64 {
        self.shared.unsettled.load(Ordering::Relaxed)
    }
}

/// The counts of one stream. A fix is missed or taken; one that was taken is sent, or the end comes first; one that was
/// sent is stored, rejected or lost. The fixes of a message and of an acknowledgement are recorded together.
#[derive(Debug)]
pub(super) struct StreamCounts {
    fleet: FleetCounts,
    /// What the server acknowledged, and for each driver whether it sent a fix; where they are kept.
    log: Option<(Vec<Entry>, Vec<bool>)>,
    offered: Vec<Instant>,
    possible: Vec<Instant>,
    taken_at: Instant,
    sent: Vec<Instant>,
    sent_at: Instant,
    again: Vec<Instant>,
    stored: Vec<Instant>,
    stored_at: Instant,
}

impl StreamCounts {
    /// `log_drivers`: how many drivers there are, where a log is kept.
    pub(super) fn new(fleet: &FleetCounts, log_drivers: Option<usize>) -> StreamCounts {
        let now = Instant::now();
        StreamCounts {
            fleet: fleet.clone(),
            log: log_drivers.map(|drivers| (Vec::new(), vec![false; drivers])),
            offered: Vec::new(),
            possible: Vec::new(),
            taken_at: now,
            sent: Vec::new(),
            sent_at: now,
            again: Vec::new(),
            stored: Vec::new(),
            stored_at: now,
        }
    }

    /// Every fix that the server acknowledged, where a log is kept.
    pub(super) fn into_log(self) -> Vec<Entry> {
        self.log.map(|(acknowledged, _)| acknowledged).unwrap_or_default()
    }

    /// `fix` was taken at `at`, and could have been at `possible_at`, had nothing but this process delayed it.
    pub(super) fn taken(&mut self, fix: &DueFix, possible_at: Instant, at: Instant) {
        self.offered.push(fix.due);
        self.possible.push(possible_at);
        self.taken_at = at;
    }

    /// A fix was due at `due`, and is never taken.
    pub(super) fn missed(&mut self, due: Instant) {
        self.offered.push(due);
        if self.offered.len() >= RECORDED_TOGETHER {
            self.record();
        }
    }

    /// `fix` goes out for the first time.
    pub(super) fn sent(&mut self, fix: &DueFix, at: Instant) {
        self.sent.push(fix.due);
        self.sent_at = at;
        if let Some((_, seen)) = &mut self.log
            && let Some(seen) = seen.get_mut(fix.driver as usize)
            && !mem::replace(seen, true)
        {
            self.fleet.shared.drivers_seen.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// `fix` goes out once more, on a stream that was opened again.
    pub(super) fn sent_again(&mut self, fix: &DueFix) {
        self.again.push(fix.due);
    }

    /// The server has `fix`.
    pub(super) fn stored(&mut self, fix: &DueFix, at: Instant) {
        self.stored.push(fix.due);
        self.stored_at = at;
        if let Some((acknowledged, _)) = &mut self.log {
            acknowledged.push(Entry {
                driver: fix.driver,
                recorded_at_micros: fix.recorded_at_micros,
            });
        }
    }

    /// The server refused `fix` by name.
    pub(super) fn rejected(&mut self, fix: &DueFix, at: Instant) {
        self.fleet.recorder.ended(fix.due, at, Code::InvalidArgument);
    }

    /// `fix` was sent, and it will never be known what became of it: the stream or the time was over, for which `code`
    /// stands.
    pub(super) fn lost(&mut self, fix: &DueFix, at: Instant, code: Code) {
        self.fleet.recorder.ended(fix.due, at, code);
        self.fleet.shared.unsettled.fetch_add(1, Ordering::Relaxed);
    }

    /// The stream broke with fixes on it.
    pub(super) fn broken(&self) {
        self.fleet.shared.broken_streams.fetch_add(1, Ordering::Relaxed);
    }

    /// The server does not take the stream, and never will. When it takes none of `streams` and no fix was ever answered,
    /// there is nothing to measure, and nothing to wait for: `hopeless` is cancelled.
    pub(super) fn refused_for_good(&self, streams: usize, hopeless: Option<&CancellationToken>) {
        let refused = self.fleet.shared.refused_streams.fetch_add(1, Ordering::Relaxed) + 1;
        if let Some(hopeless) = hopeless
            && refused == streams as u64
            && self.fleet.recorder.totals().answered == 0
        {
            hopeless.cancel();
        }
    }

    /// Records what came together.
    pub(super) fn record(&mut self) {
        let recorder = &self.fleet.recorder;
        if !self.offered.is_empty() {
            recorder.offered(self.offered.drain(..));
        }
        if !self.possible.is_empty() {
            recorder.late(self.possible.drain(..), self.taken_at);
        }
        if !self.sent.is_empty() {
            recorder.started(self.sent.drain(..), self.sent_at);
        }
        if !self.again.is_empty() {
            recorder.repeated(self.again.drain(..));
        }
        if !self.stored.is_empty() {
            recorder.answered(self.stored.drain(..), self.stored_at);
        }
    }
}
