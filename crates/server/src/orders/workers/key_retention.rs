//! Expires idempotency keys after their retention time, and the payment provider's events and the links of that age. Every instance
//! does; the database gives each row to one of them.

use std::sync::Arc;

use rand::RngExt as _;
use tracing::{info, warn};

use crate::orders::Context;
use crate::storage::orders::Expirable;

/// Rows a statement: short enough not to be felt by calls, and far within a statement's time.
const BATCH: u32 = 500;

/// Expires keys until the service drains.
pub async fn run(context: Arc<Context>) {
    loop {
        // Jittered, so that the instances do not run in step.
        let pause = context
            .settings
            .key_expiry_interval
            .mul_f64(rand::rng().random_range(0.8..1.2));
        tokio::select! {
            () = context.draining.cancelled() => return,
            () = tokio::time::sleep(pause) => {}
        }
        let keys = expire(&context, Expirable::IdempotencyKeys).await;
        let events = expire(&context, Expirable::PaymentEvents).await;
        let links = expire(&context, Expirable::Links).await;
        context.metrics.orders.expired(keys, events, links);
        if keys + events + links > 0 {
            info!(
                keys,
                events, links, "old idempotency keys, payment events and links expired"
            );
        }
    }
}

/// Batch after batch, until one is not full; how many rows in all.
async fn expire(context: &Context, what: Expirable) -> u64 {
    // In the callers' partition of the pool: what is old already can wait, a saga cannot.
    let (store, retention) = (&context.callers, context.settings.key_retention);
    let mut expired = 0;
    while !context.draining.is_cancelled() {
        match store.expire(what, retention, i64::from(BATCH)).await {
            Ok(rows) => {
                expired += rows;
                if rows < u64::from(BATCH) {
                    break;
                }
            }
            Err(error) => {
                warn!(%error, ?what, "what is old cannot be expired");
                break;
            }
        }
    }
    expired
}
