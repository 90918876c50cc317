//! What becomes of the fixes of a stream, told to a recorder.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tonic::Code;

use super::recorder::Recorder;
use crate::fleet::{DueFix, Observer};

/// How many fixes are kept before they are told: a recorder is asked for once a message, and not for ever by those that
/// were never sent.
const TOLD_TOGETHER: usize = 4_096;

/// The streams of a run that were not refused for good. When none is left of them and no fix was ever answered, there is
/// nothing to measure, and nothing to wait for.
#[derive(Debug, Clone)]
pub(super) struct Hopes {
    streams: Arc<AtomicUsize>,
    /// Cancelled when there is none left.
    none: CancellationToken,
}

impl Hopes {
    pub(super) fn new(streams: usize, none: &CancellationToken) -> Hopes {
        Hopes {
            streams: Arc::new(AtomicUsize::new(streams)),
            none: none.clone(),
        }
    }

    fn one_less(&self, recorder: &Recorder) {
        let was_the_last = self.streams.fetch_sub(1, Ordering::Relaxed) == 1;
        if was_the_last && recorder.live(Instant::now()).totals.answered == 0 {
            self.none.cancel();
        }
    }
}

/// Tells a recorder. The fixes of a message and of an acknowledgement are told together.
#[derive(Debug)]
pub(super) struct Recorded {
    recorder: Recorder,
    /// Those of all streams, where nothing else is measured.
    hopes: Option<Hopes>,
    offered: Vec<Instant>,
    possible: Vec<Instant>,
    taken_at: Instant,
    sent: Vec<Instant>,
    sent_at: Instant,
    again: Vec<Instant>,
    stored: Vec<Instant>,
    stored_at: Instant,
}

impl Recorded {
    pub(super) fn new(recorder: Recorder) -> Recorded {
        let now = Instant::now();
        Recorded {
            recorder,
            hopes: None,
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

    /// With the hopes of all streams.
    pub(super) fn with(self, hopes: Option<Hopes>) -> Recorded {
        Recorded { hopes, ..self }
    }
}

impl Observer for Recorded {
    fn taken(&mut self, fix: &DueFix, possible_at: Instant, at: Instant) {
        self.offered.push(fix.due);
        self.possible.push(possible_at);
        self.taken_at = at;
    }

    fn missed(&mut self, due: Instant) {
        self.offered.push(due);
        if self.offered.len() >= TOLD_TOGETHER {
            self.hand_on();
        }
    }

    fn sent(&mut self, fix: &DueFix, at: Instant) {
        self.sent.push(fix.due);
        self.sent_at = at;
    }

    fn stored(&mut self, fix: &DueFix, at: Instant) {
        self.stored.push(fix.due);
        self.stored_at = at;
    }

    fn rejected(&mut self, fix: &DueFix, at: Instant) {
        self.recorder.ended(fix.due, at, Code::InvalidArgument);
    }

    fn lost(&mut self, fix: &DueFix, at: Instant, code: Code) {
        self.recorder.ended(fix.due, at, code);
    }

    fn sent_again(&mut self, fix: &DueFix) {
        self.again.push(fix.due);
    }

    fn stream_broken(&mut self) {}

    fn refused_for_good(&mut self) {
        if let Some(hopes) = &self.hopes {
            hopes.one_less(&self.recorder);
        }
    }

    fn hand_on(&mut self) {
        if !self.offered.is_empty() {
            self.recorder.offered_all(self.offered.drain(..));
        }
        if !self.possible.is_empty() {
            self.recorder.late_all(self.possible.drain(..), self.taken_at);
        }
        if !self.sent.is_empty() {
            self.recorder.started_all(self.sent.drain(..), self.sent_at);
        }
        if !self.again.is_empty() {
            self.recorder.repeated_all(self.again.drain(..));
        }
        if !self.stored.is_empty() {
            self.recorder.answered_all(self.stored.drain(..), self.stored_at);
        }
    }
}
