//! One order, from where it stands to its rest.

use tracing::{debug, error, info, warn};

use super::Context;
use super::running::Announcer;
use super::steps::{self, Progress};
use crate::storage::StoreError;
use crate::storage::orders::Work;

/// Drives one order until nothing is pending, or until it has to wait for longer than a lease. Safe to run again after
/// a crash at any line: the next worker sees what was committed, and repeats what was not under the same keys.
pub(super) async fn drive(context: &Context, mut work: Work, announcer: &Announcer) {
    let order = work.order.id;
    match drive_to_rest(context, &mut work, announcer).await {
        Ok(Rest::Settled) => {
            info!(%order, status = %work.order.state, "order settled");
            context.metrics.orders.finished(work.order.state.as_str());
            if let Some(answer) = work.answer {
                announcer.settled(answer);
            }
        }
        Ok(Rest::Postponed) => debug!(%order, status = %work.order.state, "order postponed"),
        // Nothing to mend here: the lease runs out, or another worker has it already.
        Err(StoreError::Fenced { fence, .. }) => info!(%order, fence, "lease lost, another worker has the order"),
        Err(error @ (StoreError::Unavailable { .. } | StoreError::Busy { .. })) => {
            warn!(%order, %error, "order left to the sweeper");
        }
        Err(error @ StoreError::Unexpected(_)) => error!(%order, %error, "order left to the sweeper"),
    }
}

enum Rest {
    Settled,
    Postponed,
}

async fn drive_to_rest(context: &Context, work: &mut Work, announcer: &Announcer) -> Result<Rest, StoreError> {
    while let Some(step) = work.order.state.pending_step(work.cancel_requested) {
        match steps::run(context, step, work).await? {
            Progress::Made => announcer.moved(),
            Progress::Later { delay, why } => {
                context.store.postpone(work.lease, delay, &why).await?;
                return Ok(Rest::Postponed);
            }
        }
    }
    Ok(Rest::Settled)
}
