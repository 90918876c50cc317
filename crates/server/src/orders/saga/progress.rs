//! What a step returns, for [`drive`](super::drive) to commit.

use std::time::Duration;

use rand::RngExt as _;
use waybill_domain::retry;

use crate::storage::orders::{Deferral, LeasedOrder, StepOutcome};

/// What a step came to.
#[derive(Debug)]
pub(super) enum Progress {
    /// Commit this outcome and go on.
    Commit(StepOutcome),
    /// Commit this outcome, then return the lease and try again after the delay.
    CommitAndDefer(StepOutcome, Duration, Deferral),
    /// Return the lease and try again after the delay.
    Defer(Duration, Deferral),
    /// The step moved the order by a transaction of its own, or learned that a cancellation was requested: the order as
    /// it is now. Only the assignment does: its decision is its transaction.
    Moved(Box<LeasedOrder>),
}

/// The delay by the saga's own schedule, which grows with every claim of the order.
pub(super) fn delay_of(order: &LeasedOrder) -> Duration {
    delay_after(u32::try_from(order.attempts).unwrap_or(1))
}

/// The delay by the saga's own schedule, after so many tries.
pub(super) fn delay_after(tries: u32) -> Duration {
    retry::next_try_after(tries.max(1), rand::rng().random())
}
