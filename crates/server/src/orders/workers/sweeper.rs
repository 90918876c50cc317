//! Resumes the orders that no worker holds: their owner died, stalled past its lease, or deferred them until now. Every
//! instance sweeps; the database gives each order to one of them.

use std::sync::Arc;
use std::time::Duration;

use rand::RngExt as _;
use tokio::time::Instant;
use tracing::{debug, warn};

use crate::crash_points::crash_point;
use crate::orders::Context;

/// How often the unfinished orders are counted, for the metrics.
const COUNT_EVERY: Duration = Duration::from_secs(5);

/// Sweeps until the service drains.
pub async fn run(context: Arc<Context>) {
    let mut counted_at = None;
    loop {
        // Jittered, so that the instances do not sweep in step.
        let pause = context
            .settings
            .sweep_interval
            .mul_f64(rand::rng().random_range(0.8..1.2));
        tokio::select! {
            () = context.draining.cancelled() => return,
            () = tokio::time::sleep(pause) => {}
        }
        while sweep(&context).await {}
        if counted_at.is_none_or(|at: Instant| at.elapsed() >= COUNT_EVERY) {
            counted_at = Some(Instant::now());
            // A failure to count is not logged: the sweep before has logged the same trouble.
            if let Ok((unfinished, needs_attention)) = context.store.count_unfinished().await {
                context.metrics.orders.unfinished(unfinished, needs_attention);
            }
        }
    }
}

/// Claims one batch; whether there may be more.
async fn sweep(context: &Arc<Context>) -> bool {
    // Only as many as can be worked on at once: a lease that waits for its worker runs out.
    let mut permits = Vec::with_capacity(context.settings.sweep_batch);
    // Half of what is there for orders that go on is left to those that free something: what is taken over may search for minutes.
    let resumed = context.settings.resumed_max().div_ceil(2);
    for (capacity, left) in [
        (&context.sweeper_capacity, 0),
        (&context.capacity, 0),
        (&context.resumed_capacity, resumed),
    ] {
        while permits.len() < context.settings.sweep_batch
            && capacity.available_permits() > left
            && let Ok(permit) = Arc::clone(capacity).try_acquire_owned()
        {
            permits.push(permit);
        }
    }
    let limit = i64::try_from(permits.len()).unwrap_or(i64::MAX);
    if limit == 0 || context.draining.is_cancelled() {
        return false;
    }
    let due = match context.store.claim_due(limit).await {
        Ok(due) => due,
        Err(error) => {
            warn!(%error, "orders cannot be claimed");
            return false;
        }
    };
    crash_point!("order_claimed", if !due.is_empty());
    context.metrics.orders.swept(due.len() as u64);
    let full = due.len() == permits.len();
    for (order, permit) in due.into_iter().zip(permits) {
        debug!(order_id = %order.order.id, status = %order.order.state, fence = order.lease.fence, "order claimed");
        context.spawn(order, permit);
    }
    full
}
