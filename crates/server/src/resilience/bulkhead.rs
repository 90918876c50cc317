//! The bulkhead: at most so many calls in flight to one dependency, and no queue.
//!
//! It sits inside the breaker, and around everything that takes time. Without it a slow dependency holds one task,
//! one socket and one order's lease for each request that arrives; with it the rest is refused at once,
//! and whatever else the process does goes on.

use std::sync::atomic::{AtomicU64, Ordering};
use tokio::sync::{Semaphore, SemaphorePermit};

/// Sheds what is too much.
#[derive(Debug)]
pub struct Bulkhead {
    in_flight_max: usize,
    slots: Semaphore,
    shed: AtomicU64,
}

/// One call in flight, until it is dropped.
#[derive(Debug)]
#[must_use = "the slot is free again as soon as it is dropped"]
pub struct Slot<'a> {
    _permit: SemaphorePermit<'a>,
}

/// So many calls are in flight as may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("as many calls are in flight as are allowed")]
pub struct BulkheadFull;

/// What a bulkhead did so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BulkheadSnapshot {
    /// Calls in flight.
    pub in_flight: usize,
    /// At most so many may be.
    pub in_flight_max: usize,
    /// Calls that found no slot.
    pub shed: u64,
}

impl Bulkhead {
    /// Room for so many calls.
    pub fn new(in_flight_max: usize) -> Self {
        let in_flight_max = in_flight_max.min(Semaphore::MAX_PERMITS);
        Bulkhead {
            in_flight_max,
            slots: Semaphore::new(in_flight_max),
            shed: AtomicU64::new(0),
        }
    }

    /// Takes a slot, or says at once that there is none.
    pub fn try_enter(&self) -> Result<Slot<'_>, BulkheadFull> {
        if let Ok(permit) = self.slots.try_acquire() {
            return Ok(Slot { _permit: permit });
        }
        self.shed.fetch_add(1, Ordering::Relaxed);
        Err(BulkheadFull)
    }

    /// What it did so far.
    pub fn snapshot(&self) -> BulkheadSnapshot {
        BulkheadSnapshot {
            in_flight: self.in_flight_max - self.slots.available_permits(),
            in_flight_max: self.in_flight_max,
            shed: self.shed.load(Ordering::Relaxed),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_one_too_many_is_shed_and_a_freed_slot_is_used_again() {
        let bulkhead = Bulkhead::new(2);
        let first = bulkhead.try_enter().unwrap();
        let _second = bulkhead.try_enter().unwrap();
        assert!(bulkhead.try_enter().is_err());
        assert_eq!(
            bulkhead.snapshot(),
            BulkheadSnapshot {
                in_flight: 2,
                in_flight_max: 2,
                shed: 1
            }
        );
        drop(first);
        let _third = bulkhead.try_enter().unwrap();
        assert_eq!(
            bulkhead.snapshot(),
            BulkheadSnapshot {
                in_flight: 2,
                in_flight_max: 2,
                shed: 1
            }
        );
    }
}
