//! The unacknowledged fixes of one stream, numbered for life: what to send, what to send again, what is done.

use std::collections::{BTreeSet, VecDeque};

use super::DueFix;

/// A bounded queue of fixes that leave it once they are acknowledged or rejected. Sequences start at 1, so that an
/// acknowledged sequence of 0 means none.
#[derive(Debug)]
pub(super) struct Window {
    fixes: VecDeque<DueFix>,
    capacity: usize,
    /// The sequence of the oldest fix in `fixes`.
    oldest: u64,
    /// The sequence to send next on the present stream.
    next: u64,
    /// One above the highest sequence that was ever sent.
    sent_below: u64,
    /// Rejected and not yet covered by an acknowledgement.
    rejected: BTreeSet<u64>,
}

/// Fixes for one message.
#[derive(Debug)]
pub(super) struct Batch<'a> {
    pub(super) first_sequence: u64,
    pub(super) fixes: Vec<&'a DueFix>,
    /// How many of them, the first, go out again.
    pub(super) again: usize,
}

impl Window {
    pub(super) fn new(capacity: usize) -> Window {
        let (oldest, next, sent_below) = (1, 1, 1);
        Window {
            fixes: VecDeque::new(),
            capacity,
            oldest,
            next,
            sent_below,
            rejected: BTreeSet::new(),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.fixes.is_empty()
    }

    pub(super) fn has_room(&self) -> bool {
        self.fixes.len() < self.capacity
    }

    /// Whether a fix waits to go out on the present stream.
    pub(super) fn has_unsent(&self) -> bool {
        self.next < self.end()
    }

    /// Fixes that were sent at least once and are still here.
    pub(super) fn unsettled(&self) -> u64 {
        self.sent_below.saturating_sub(self.oldest)
    }

    /// Takes one more fix, for which there must be room.
    pub(super) fn push(&mut self, fix: DueFix) {
        debug_assert!(self.has_room(), "a fix is taken only when there is room for it");
        self.fixes.push_back(fix);
    }

    /// A new stream begins: all that is here goes out on it.
    pub(super) fn begin_stream(&mut self) {
        self.next = self.oldest;
        self.rejected.clear();
    }

    /// The next fixes to send, up to `fixes_max`, from now on taken as sent.
    pub(super) fn batch(&mut self, fixes_max: usize) -> Batch<'_> {
        let first_sequence = self.next;
        self.next = self.end().min(first_sequence + fixes_max as u64);
        let again = self.sent_below.clamp(first_sequence, self.next) - first_sequence;
        self.sent_below = self.sent_below.max(self.next);
        // No more than there are fixes in memory.
        let within = |count: u64| usize::try_from(count).unwrap_or(usize::MAX);
        let fixes = self.fixes.iter().skip(within(first_sequence - self.oldest));
        Batch {
            first_sequence,
            fixes: fixes.take(within(self.next - first_sequence)).collect(),
            again: within(again),
        }
    }

    /// Lets go of all fixes up to `acknowledged`, calling `each` with whether the server stored it. What was never sent
    /// on this stream cannot be acknowledged, whatever the server answers.
    pub(super) fn settle(
        &mut self,
        acknowledged: u64,
        rejected: impl Iterator<Item = u64>,
        mut each: impl FnMut(DueFix, bool),
    ) {
        self.rejected.extend(rejected);
        while self.oldest <= acknowledged && self.oldest < self.next {
            let Some(fix) = self.fixes.pop_front() else { return };
            each(fix, !self.rejected.remove(&self.oldest));
            self.oldest += 1;
        }
    }

    /// Lets go of all fixes that were ever sent.
    pub(super) fn lose_sent(&mut self, mut each: impl FnMut(DueFix)) {
        while self.oldest < self.sent_below {
            let Some(fix) = self.fixes.pop_front() else { return };
            each(fix);
            self.oldest += 1;
        }
        self.next = self.next.max(self.oldest);
    }

    /// Lets go of all.
    pub(super) fn clear(&mut self) {
        self.oldest = self.end();
        self.next = self.oldest;
        self.fixes.clear();
    }

    /// One above the sequence of the newest fix.
    fn end(&self) -> u64 {
        self.oldest + self.fixes.len() as u64
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::*;

    fn window_of(fixes: u32) -> Window {
        let mut window = Window::new(fixes as usize);
        for driver in 0..fixes {
            window.push(DueFix {
                due: Instant::now(),
                driver,
                lat_deg: 0.0,
                lon_deg: 0.0,
                recorded_at_micros: 0,
            });
        }
        window
    }

    /// First sequence, drivers, how many for the first time, how many again.
    fn send(window: &mut Window, fixes_max: usize) -> (u64, Vec<u32>, usize, usize) {
        let batch = window.batch(fixes_max);
        (
            batch.first_sequence,
            batch.fixes.iter().map(|fix| fix.driver).collect(),
            batch.fixes.len() - batch.again,
            batch.again,
        )
    }

    fn settle(window: &mut Window, acknowledged: u64, rejected: &[u64]) -> Vec<(u32, bool)> {
        let mut settled = Vec::new();
        window.settle(acknowledged, rejected.iter().copied(), |fix, stored| {
            settled.push((fix.driver, stored));
        });
        settled
    }

    #[test]
    fn a_full_window_has_room_again_after_an_acknowledgement() {
        let mut window = window_of(3);
        assert!(!window.has_room());
        send(&mut window, 10);
        assert_eq!(settle(&mut window, 1, &[]), [(0, true)]);
        assert!(window.has_room());
    }

    #[test]
    fn a_new_stream_sends_exactly_what_was_not_acknowledged() {
        let mut window = window_of(5);
        assert_eq!(send(&mut window, 3), (1, vec![0, 1, 2], 3, 0));
        assert_eq!(settle(&mut window, 2, &[]).len(), 2);

        window.begin_stream();
        assert_eq!(send(&mut window, 2), (3, vec![2, 3], 1, 1));
        assert_eq!(send(&mut window, 2), (5, vec![4], 1, 0));
        assert!(!window.has_unsent());
        assert_eq!(window.unsettled(), 3);
    }

    #[test]
    fn a_rejected_fix_leaves_as_rejected_even_if_named_before_its_acknowledgement() {
        let mut window = window_of(4);
        send(&mut window, 4);
        assert_eq!(settle(&mut window, 1, &[1, 3]), [(0, false)]);
        assert_eq!(settle(&mut window, 4, &[]), [(1, true), (2, false), (3, true)]);
        assert!(window.is_empty());
    }

    #[test]
    fn an_acknowledgement_of_what_was_not_sent_settles_nothing() {
        let mut window = window_of(2);
        assert_eq!(settle(&mut window, 99, &[]), []);
        send(&mut window, 1);
        assert_eq!(settle(&mut window, 99, &[]), [(0, true)]);
        assert_eq!(settle(&mut window, 0, &[]), []);
    }
}
