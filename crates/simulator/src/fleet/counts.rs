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
/// sent is stored, rejected or lost. The fixes of a message and of an acknowledgement are counted together.
#[derive(Debug)]
pub(super) struct StreamCounts {
    fleet: FleetCounts,
    /// What the server acknowledged, and for each driver whether it sent a fix; where they are kept.
    log: Option<(Vec<Entry>, Vec<bool>)>,
}

impl StreamCounts {
    /// `log_drivers`: how many drivers there are, where a log is kept.
    pub(super) fn new(fleet: &FleetCounts, log_drivers: Option<usize>) -> StreamCounts {
        StreamCounts {
            fleet: fleet.clone(),
            log: log_drivers.map(|drivers| (Vec::new(), vec![false; drivers])),
        }
    }

    /// Every fix that the server acknowledged, where a log is kept.
    pub(super) fn into_log(self) -> Vec<Entry> {
        self.log.map(|(acknowledged, _)| acknowledged).unwrap_or_default()
    }

    /// Fixes were taken at `at`: when each was due, and when it could have been taken, had nothing but this process
    /// delayed it.
    pub(super) fn taken(&self, fixes: &[(Instant, Instant)], at: Instant) {
        self.fleet.recorder.offered(fixes.iter().map(|(due, _)| *due));
        self.fleet
            .recorder
            .late(fixes.iter().map(|(_, possible_at)| *possible_at), at);
    }

    /// Fixes were due at `dues`, and are never taken.
    pub(super) fn missed(&self, dues: Vec<Instant>) {
        self.fleet.recorder.offered(dues);
    }

    /// `fixes` go out for the first time.
    pub(super) fn sent(&mut self, fixes: &[&DueFix], at: Instant) {
        self.fleet.recorder.started(fixes.iter().map(|fix| fix.due), at);
        let Some((_, seen)) = &mut self.log else { return };
        for fix in fixes {
            if let Some(seen) = seen.get_mut(fix.driver as usize)
                && !mem::replace(seen, true)
            {
                self.fleet.shared.drivers_seen.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    /// `fixes` go out once more, on a stream that was opened again.
    pub(super) fn sent_again(&self, fixes: &[&DueFix]) {
        self.fleet.recorder.repeated(fixes.iter().map(|fix| fix.due));
    }

    /// The server has `fixes`.
    pub(super) fn stored(&mut self, fixes: &[DueFix], at: Instant) {
        self.fleet.recorder.answered(fixes.iter().map(|fix| fix.due), at);
        if let Some((acknowledged, _)) = &mut self.log {
            acknowledged.extend(fixes.iter().map(|fix| Entry {
                driver: fix.driver,
                recorded_at_micros: fix.recorded_at_micros,
            }));
        }
    }

    /// The server refused `fix` by name.
    pub(super) fn rejected(&self, fix: &DueFix) {
        self.fleet.recorder.ended(fix.due, Code::InvalidArgument);
    }

    /// `fix` was sent, and it will never be known what became of it: the stream or the time was over, for which `code`
    /// stands.
    pub(super) fn lost(&self, fix: &DueFix, code: Code) {
        self.fleet.recorder.ended(fix.due, code);
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
}
