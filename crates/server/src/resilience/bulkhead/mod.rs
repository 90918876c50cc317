//! The bulkhead: at most so many calls in flight to one dependency, and no queue.
//!
//! It sits inside the breaker, and around everything that takes time. Without it, each request that arrives for a slow
//! dependency holds a task, a socket and an order's lease. With it, the calls that are too many are refused at once, and the
//! rest of the process goes on.

use crate::metrics::BulkheadMetrics;
use tokio::sync::{Semaphore, SemaphorePermit};

/// Sheds the calls that are too many.
#[derive(Debug)]
pub struct Bulkhead {
    slots: Semaphore,
    metrics: BulkheadMetrics,
}

/// One call in flight, until it is dropped.
#[derive(Debug)]
#[must_use = "the slot is free again as soon as it is dropped"]
pub struct Slot<'a> {
    metrics: &'a BulkheadMetrics,
    _permit: SemaphorePermit<'a>,
}

/// As many calls are in flight as are allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("as many calls are in flight as are allowed")]
pub struct BulkheadFull;

impl Bulkhead {
    /// Room for so many calls.
    pub fn new(in_flight_max: usize, metrics: BulkheadMetrics) -> Self {
        Bulkhead {
            slots: Semaphore::new(in_flight_max.min(Semaphore::MAX_PERMITS)),
            metrics,
        }
    }

    /// Takes a slot, or refuses at once if there is none.
    pub fn try_enter(&self) -> Result<Slot<'_>, BulkheadFull> {
        let Ok(permit) = self.slots.try_acquire() else {
            self.metrics.shed.inc();
            return Err(BulkheadFull);
        };
        self.metrics.in_flight.inc();
        Ok(Slot {
            metrics: &self.metrics,
            _permit: permit,
        })
    }
}

impl Drop for Slot<'_> {
    fn drop(&mut self) {
        self.metrics.in_flight.dec();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_one_too_many_is_shed_and_a_freed_slot_is_used_again() {
        let metrics = BulkheadMetrics::default();
        let bulkhead = Bulkhead::new(2, metrics.clone());
        let first = bulkhead.try_enter().unwrap();
        let _second = bulkhead.try_enter().unwrap();
        assert!(bulkhead.try_enter().is_err());
        assert_eq!((metrics.in_flight.get(), metrics.shed.get()), (2, 1));
        drop(first);
        let _third = bulkhead.try_enter().unwrap();
        assert_eq!((metrics.in_flight.get(), metrics.shed.get()), (2, 1));
    }
}
