//! Forgets idempotency keys whose time is over, and the payment provider's events of that age. Every instance does; the
//! database gives each row to one of them.

use std::sync::Arc;

use rand::RngExt as _;
use tracing::{info, warn};

use super::Context;
use crate::storage::orders::Forgettable;

/// Rows a statement: short enough not to be felt by calls, and far within a statement's time.
const BATCH: u32 = 500;

/// Forgets until the service drains.
pub async fn run(context: Arc<Context>) {
    loop {
        // Jittered, so that the instances do not come in step.
        let pause = context
            .settings
            .forget_interval
            .mul_f64(rand::rng().random_range(0.8..1.2));
        tokio::select! {
            () = context.draining.cancelled() => return,
            () = tokio::time::sleep(pause) => {}
        }
        let keys = forget(&context, Forgettable::Keys).await;
        let events = forget(&context, Forgettable::PaymentEvents).await;
        context.metrics.orders.forgot(keys, events);
        if keys + events > 0 {
            info!(keys, events, "old keys forgotten");
        }
    }
}

/// Batch after batch, until one is not full; how many rows they were in all.
async fn forget(context: &Context, what: Forgettable) -> u64 {
    // In the lane of the calls: what is old already can wait, a saga cannot.
    let (store, kept) = (&context.callers, context.settings.keys_kept);
    let mut forgotten = 0;
    while !context.draining.is_cancelled() {
        match store.forget(what, kept, i64::from(BATCH)).await {
            Ok(rows) => {
                forgotten += rows;
                if rows < u64::from(BATCH) {
                    break;
                }
            }
            Err(error) => {
                warn!(%error, "cannot forget old keys");
                break;
            }
        }
    }
    forgotten
}
