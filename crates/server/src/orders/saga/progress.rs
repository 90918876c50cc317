//! What a step returns, for [`drive`](super::drive) to commit.

use std::time::Duration;

use rand::RngExt as _;
use waybill_domain::retry;

use crate::storage::orders::{Deferral, LeasedOrder, StepOutcome};

/// The least and the most that an order waits whose tries send nothing.
const WAIT_MIN: Duration = Duration::from_secs(1);
const WAIT_MAX: Duration = Duration::from_secs(30);

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

/// The delay of an order whose tries send nothing: a quarter of the time for which it waits, from one second to half a
/// minute.
pub(super) fn delay_by_wait(order: &LeasedOrder) -> Duration {
    let waits = order.confirmed.database_now().duration_since(order.order.updated_at);
    let waits = waits.unsigned_abs().clamp(WAIT_MIN * 4, WAIT_MAX * 4);
    (waits / 4).mul_f64(rand::rng().random_range(0.8..1.0))
}

/// The delay by the saga's own schedule, after so many tries.
pub(super) fn delay_after(tries: u32) -> Duration {
    retry::next_try_after(tries.max(1), rand::rng().random())
}
