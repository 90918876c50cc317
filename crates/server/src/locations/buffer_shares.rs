//! No one caller fills the buffer of fixes for all: while it fills up, because the history is behind, each caller has a share of what is left.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// How large a buffer is: how many entries the stream of one shard has.
#[derive(Debug, Clone, Copy)]
pub struct BufferSize {
    /// As many as there are while the history is written in time, at most.
    pub kept_max: u64,
    /// At so many it is full.
    pub high_water: u64,
    /// What one caller may have of those that come after it began to fill up: above 0, up to 1.
    pub caller_share: f64,
}

/// Who has how much of the buffers of all shards, by what this process took in.
#[derive(Debug)]
pub(super) struct BufferShares {
    fills_up_at: u64,
    caller_max: u64,
    shards: Box<[Buffer]>,
}

#[derive(Debug, Default)]
struct Buffer {
    fills_up: AtomicBool,
    filling: Mutex<Filling>,
}

/// Since a buffer began to fill up.
#[derive(Debug, Default)]
struct Filling {
    taken: HashMap<Box<str>, u64>,
    /// All of that, and what of it was taken since the length was last noted, and may not be in it yet.
    total: u64,
    fresh: u64,
    /// When its length was last known, or asked for.
    known_at: Option<Instant>,
}

/// How long a length is believed that keeps a caller out. Who is kept out learns no other.
const KNOWN_FOR: Duration = Duration::from_secs(1);

impl BufferShares {
    pub(super) fn new(size: BufferSize, shards: usize) -> BufferShares {
        let room = size.high_water.saturating_sub(size.kept_max);
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_precision_loss,
            clippy::cast_sign_loss,
            reason = "a share of a count"
        )]
        let caller_max = ((room - room / 4) as f64 * size.caller_share) as u64;
        BufferShares {
            // Such a small lag passes, and is no one's concern.
            fills_up_at: size.kept_max + room / 4,
            caller_max: caller_max.max(1),
            shards: (0..shards).map(|_| Buffer::default()).collect(),
        }
    }

    /// Whether so many entries more are within the caller's share.
    pub(super) fn take(&self, shard: usize, caller: &str, entries: u64) -> bool {
        let buffer = self
            .shards
            .get(shard)
            .filter(|buffer| buffer.fills_up.load(Ordering::Relaxed));
        let Some(buffer) = buffer else { return true };
        let mut filling = buffer.lock();
        let before = filling.taken.get(caller).copied().unwrap_or(0);
        if before > 0 && before + entries > self.caller_max {
            return false;
        }
        filling.taken.insert(caller.into(), before + entries);
        filling.total += entries;
        filling.fresh += entries;
        true
    }

    /// They were taken, and not stored.
    pub(super) fn give_back(&self, shard: usize, caller: &str, entries: u64) {
        let Some(buffer) = self.shards.get(shard) else { return };
        let mut filling = buffer.lock();
        // Unless all was given back at once meanwhile.
        if let Some(taken) = filling.taken.get_mut(caller) {
            let entries = entries.min(*taken);
            *taken -= entries;
            filling.total = filling.total.saturating_sub(entries);
            filling.fresh = filling.fresh.saturating_sub(entries);
        }
    }

    /// Whether the stream's length is to be asked for, and [noted](BufferShares::note): by one caller at a time.
    pub(super) fn is_unknown(&self, shard: usize, now: Instant) -> bool {
        let Some(buffer) = self.shards.get(shard) else {
            return false;
        };
        let mut filling = buffer.lock();
        let is_unknown = filling.known_at.is_none_or(|at| now.duration_since(at) >= KNOWN_FOR);
        if is_unknown {
            filling.known_at = Some(now);
        }
        is_unknown
    }

    /// The stream of this shard is so long now.
    pub(super) fn note(&self, shard: usize, length: u64) {
        let Some(buffer) = self.shards.get(shard) else { return };
        let fills_up = length >= self.fills_up_at;
        let did = buffer.fills_up.swap(fills_up, Ordering::Relaxed);
        if fills_up {
            buffer.lock().note(length - self.fills_up_at, Instant::now());
        } else if did {
            *buffer.lock() = Filling::default();
        }
    }
}

impl Filling {
    /// There are so many entries since it began to fill up. Of what was taken as many are there at most: the rest is in the history by now.
    fn note(&mut self, entries: u64, now: Instant) {
        self.known_at = Some(now);
        let left = entries + std::mem::take(&mut self.fresh);
        // Not for each few: that would go through all callers each time.
        if self.total > left + left / 16 {
            let scaled = |taken: u64| u128::from(taken) * u128::from(left) / u128::from(self.total);
            self.taken.retain(|_, taken| {
                *taken = u64::try_from(scaled(*taken)).unwrap_or(u64::MAX);
                *taken > 0
            });
            self.total = left;
        }
    }
}

impl Buffer {
    /// It is never left half changed.
    fn lock(&self) -> MutexGuard<'_, Filling> {
        self.filling.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_has_a_share_only_while_the_buffer_fills_up() {
        let size = BufferSize {
            kept_max: 100,
            high_water: 500,
            caller_share: 0.5,
        };
        let shares = BufferShares::new(size, 2);
        shares.note(0, 199);
        assert!((0..10).all(|_| shares.take(0, "a", 100)), "it does not fill up");
        shares.note(0, 200);
        // A half of the 300 that are left.
        assert!(shares.take(0, "a", 100) && shares.take(0, "a", 50));
        assert!(!shares.take(0, "a", 1));
        assert!(shares.take(0, "b", 150) && shares.take(1, "a", 1_000));
        assert!(!shares.is_unknown(0, Instant::now()), "it was noted just now");
        shares.note(0, 199);
        shares.note(0, 200);
        assert!(shares.take(0, "a", 150), "it was written meanwhile");
    }

    /// Who is kept out stores nothing, and learns by that of no room.
    #[test]
    fn one_of_those_who_are_kept_out_asks_each_second() {
        let size = BufferSize {
            kept_max: 100,
            high_water: 500,
            caller_share: 0.5,
        };
        let shares = BufferShares::new(size, 1);
        shares.note(0, 300);
        assert!(shares.take(0, "a", 150) && !shares.take(0, "a", 1));
        let later = Instant::now() + KNOWN_FOR;
        assert_eq!(
            [shares.is_unknown(0, later), shares.is_unknown(0, later)],
            [true, false]
        );
    }

    /// Else one message that is larger than the share would never be stored.
    #[test]
    fn the_first_message_is_taken_whatever_its_size() {
        let size = BufferSize {
            kept_max: 100,
            high_water: 110,
            caller_share: 0.5,
        };
        let shares = BufferShares::new(size, 1);
        shares.note(0, 105);
        assert!(shares.take(0, "a", 500));
        assert!(!shares.take(0, "a", 1));
    }

    const ALL_OF_IT: BufferSize = BufferSize {
        kept_max: 100,
        high_water: 1_000,
        caller_share: 1.0,
    };

    /// Else the only caller, with all of the room for itself, would be refused while the buffer empties.
    #[test]
    fn what_is_in_the_history_by_now_is_no_part_of_a_share() {
        let shares = BufferShares::new(ALL_OF_IT, 1);
        shares.note(0, 325);
        for length in [925, 925, 925] {
            assert!(shares.take(0, "a", 600));
            shares.note(0, length);
            assert!(!shares.take(0, "a", 600), "it is as good as full");
            shares.note(0, 400);
        }
        assert!(shares.take(0, "b", 10));
        assert!(!shares.take(0, "a", 700));
    }

    #[test]
    fn what_was_not_stored_is_no_part_of_a_share() {
        let shares = BufferShares::new(ALL_OF_IT, 1);
        shares.note(0, 1_000);
        for _ in 0..10 {
            assert!(shares.take(0, "a", 600));
            shares.give_back(0, "a", 600);
        }
    }
}
