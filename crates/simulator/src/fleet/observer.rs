//! Who hears what becomes of the fixes of a stream.

use std::sync::Arc;

use tokio::time::Instant;
use tonic::Code;

use super::DueFix;
use super::ack_log::Entry;
use crate::stats::Stats;

/// Hears what becomes of the fixes of one stream. Each stream has an observer of its own, so that a fix costs no lock:
/// what others are to see is handed on once a message or an acknowledgement.
///
/// A fix is missed or taken; one that was taken is sent, or the end comes first; one that was sent is stored, rejected
/// or lost.
pub(crate) trait Observer: Send + 'static {
    /// `fix` was taken at `at`, and could have been at `possible_at`, had nothing but this process kept it.
    fn taken(&mut self, fix: &DueFix, possible_at: Instant, at: Instant);

    /// A fix was due at `due`, and is never taken.
    fn missed(&mut self, due: Instant);

    /// `fix` goes out for the first time.
    fn sent(&mut self, fix: &DueFix, at: Instant);

    /// The server has `fix`.
    fn stored(&mut self, fix: &DueFix, at: Instant);

    /// The server refused `fix` by name.
    fn rejected(&mut self, fix: &DueFix, at: Instant);

    /// `fix` was sent, and nobody will learn what became of it: the stream or the time was over, which `code` tells.
    fn lost(&mut self, fix: &DueFix, at: Instant, code: Code);

    /// `fix` goes out once more, on a stream that was opened again.
    fn sent_again(&mut self, fix: &DueFix);

    /// The stream broke with fixes on it.
    fn stream_broken(&mut self);

    /// The server does not take the stream, and never will: it is not opened again.
    fn refused_for_good(&mut self);

    /// Time to tell others what was heard.
    fn hand_on(&mut self);
}

/// Counts in [`Stats`] and keeps what was acknowledged.
#[derive(Debug)]
pub(super) struct Counted {
    stats: Arc<Stats>,
    pub(super) acknowledged: Vec<Entry>,
    /// Fixes that were sent and neither acknowledged nor rejected.
    pub(super) unsettled: u64,
    /// For each driver whether it sent a fix.
    seen: Vec<bool>,
    sent: u64,
    sent_again: u64,
    stored: u64,
    rejected: u64,
}

impl Counted {
    pub(super) fn new(stats: Arc<Stats>, drivers: usize) -> Counted {
        Counted {
            stats,
            acknowledged: Vec::new(),
            unsettled: 0,
            seen: vec![false; drivers],
            sent: 0,
            sent_again: 0,
            stored: 0,
            rejected: 0,
        }
    }
}

impl Observer for Counted {
    fn taken(&mut self, _: &DueFix, _: Instant, _: Instant) {}

    fn missed(&mut self, _: Instant) {}

    fn sent(&mut self, fix: &DueFix, _: Instant) {
        self.sent += 1;
        if let Some(seen) = self.seen.get_mut(fix.driver as usize)
            && !std::mem::replace(seen, true)
        {
            self.stats.driver_seen();
        }
    }

    fn stored(&mut self, fix: &DueFix, _: Instant) {
        self.stored += 1;
        self.acknowledged.push(Entry {
            driver: fix.driver,
            recorded_at_micros: fix.recorded_at_micros,
        });
    }

    fn rejected(&mut self, _: &DueFix, _: Instant) {
        self.rejected += 1;
    }

    fn lost(&mut self, _: &DueFix, _: Instant, _: Code) {
        self.unsettled += 1;
    }

    fn sent_again(&mut self, _: &DueFix) {
        self.sent_again += 1;
    }

    fn stream_broken(&mut self) {
        self.stats.stream_broken();
    }

    fn refused_for_good(&mut self) {}

    fn hand_on(&mut self) {
        let take = |count: &mut u64| std::mem::take(count);
        let (sent, again) = (take(&mut self.sent), take(&mut self.sent_again));
        if sent + again > 0 {
            self.stats.fixes_sent(sent, again);
        }
        let (stored, rejected) = (take(&mut self.stored), take(&mut self.rejected));
        if stored + rejected > 0 {
            self.stats.fixes_settled(stored, rejected);
        }
    }
}
