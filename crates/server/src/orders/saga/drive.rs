//! One order, from its present state until it is settled or deferred.

use tracing::{Instrument as _, debug, error, info, info_span, warn};

use super::progress::Progress;
use super::step;
use crate::orders::Context;
use crate::orders::in_flight::CompletionNotifier;
use crate::storage::StoreError;
use crate::storage::orders::{LeasedOrder, StepOutcome};

/// Drives one order until no step is pending, or until it has to wait for longer than a lease. Safe to run again after a
/// crash at any line: the next worker sees what was committed, and repeats what was not under the same keys.
pub(in crate::orders) async fn drive(context: &Context, order: LeasedOrder, notifier: &CompletionNotifier) {
    let (id, began_as) = (order.order.id, order.order.state);
    match run_steps(context, order, notifier).await {
        Ok(End::Settled(order)) => {
            info!(order_id = %id, status = %order.order.state, "order settled");
            // A settled order is resumed for a capture or a part that is refunded, and counts once.
            if order.order.state != began_as {
                context.metrics.orders.finished(order.order.state.as_str());
            }
            if let Some(answer) = order.answer {
                notifier.settled(answer);
            }
        }
        Ok(End::Deferred(order)) => debug!(order_id = %id, status = %order.order.state, "order deferred"),
        // Nothing to repair here: the lease runs out, or another worker has claimed the order.
        Err(StoreError::Fenced { fence, .. }) => {
            info!(order_id = %id, fence, "lease lost, another worker has the order");
        }
        Err(error) if error.may_be_retried() => {
            warn!(order_id = %id, %error, "order left to the sweeper");
        }
        Err(error) => error!(order_id = %id, %error, "order left to the sweeper"),
    }
    for event in notifier.unexplained() {
        if let Err(error) = context.callers.record_event(&event).await {
            warn!(order_id = %id, event = event.id, %error, "event of an order that was at work not stored");
        }
    }
}

enum End {
    Settled(LeasedOrder),
    Deferred(LeasedOrder),
}

async fn run_steps(
    context: &Context,
    mut order: LeasedOrder,
    notifier: &CompletionNotifier,
) -> Result<End, StoreError> {
    while let Some(step) = order.pending_step() {
        let span = info_span!("step", step = step.as_str());
        match step::run(context, step, &order).instrument(span).await? {
            Progress::Commit(outcome) => order = advance(context, &order, &outcome).await?,
            Progress::CommitAndDefer(outcome, delay, why) => {
                order = advance(context, &order, &outcome).await?;
                context.store.defer(order.lease, delay, &why).await?;
                return Ok(End::Deferred(order));
            }
            Progress::Defer(delay, why) => {
                context.store.defer(order.lease, delay, &why).await?;
                return Ok(End::Deferred(order));
            }
            Progress::Moved(moved) => order = *moved,
        }
        notifier.moved(&order);
    }
    Ok(End::Settled(order))
}

/// Commits what became of a step. It takes a place of those for transactions: were it not counted, new orders would be accepted faster than the steps of
/// those before them are committed, and all of them would wait here.
async fn advance(context: &Context, order: &LeasedOrder, outcome: &StepOutcome) -> Result<LeasedOrder, StoreError> {
    let transaction = context.transactions.go_on();
    let moved = context.store.advance(order, outcome).await?;
    transaction.done();
    Ok(moved)
}
