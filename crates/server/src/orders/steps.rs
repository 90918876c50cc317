//! The steps of the saga. Each may be run again after a crash: its key comes from the order, its outcome is committed
//! before the next step begins.

use std::time::Duration;

use rand::RngExt as _;
use waybill_domain::order::Step;
use waybill_domain::retry;

use super::{Context, payment, search};
use crate::storage::StoreError;
use crate::storage::orders::{Outcome, Postponement, Work};

/// What a step came to.
pub(super) enum Progress {
    /// The order moved on.
    Made,
    /// Nothing more can be done now.
    Later {
        /// When to try again.
        delay: Duration,
        /// What to write down.
        why: Postponement,
    },
}

/// Runs one step, with no transaction open while it waits for anybody.
pub(super) async fn run(context: &Context, step: Step, work: &mut Work) -> Result<Progress, StoreError> {
    // Boxed: these two are large, and a saga that waits for a driver should not carry their space.
    match step {
        Step::IntendCharge => advance(context, work, Outcome::ChargeIntended).await,
        Step::Charge => Box::pin(payment::charge(context, work)).await,
        Step::Assign => search::assign(context, work).await,
        Step::Refund => Box::pin(payment::refund(context, work)).await,
        Step::HonourCancellation => advance(context, work, Outcome::Cancelled).await,
    }
}

/// Commits what a step found out.
pub(super) async fn advance(context: &Context, work: &mut Work, outcome: Outcome) -> Result<Progress, StoreError> {
    context.store.advance(work, &outcome).await?;
    Ok(Progress::Made)
}

/// Puts the order off by the saga's own schedule, which grows with every time that it was taken up.
pub(super) fn later(work: &Work, why: Postponement) -> Progress {
    later_after(u32::try_from(work.attempts).unwrap_or(1), why)
}

/// Puts the order off by the saga's own schedule, after so many tries.
pub(super) fn later_after(tries: u32, why: Postponement) -> Progress {
    let delay = retry::next_try_after(tries.max(1), rand::rng().random());
    Progress::Later { delay, why }
}
