//! Ends holds before they expire by themselves: a hold lasts some days, and what was not captured by then is lost. Every
//! instance looks; the order's lock decides.

use std::sync::Arc;
use std::time::Duration;

use rand::RngExt as _;
use tracing::warn;
use waybill_domain::access::Scope;
use waybill_domain::id::OrderId;

use crate::orders::Context;
use crate::storage::StoreError;
use crate::storage::orders::Cancelled;

/// How many sweeps of the sweeper lie between two looks at the holds.
const SWEEPS: u32 = 5;

/// What is done about a hold that is about to expire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HoldExpiry {
    /// All of it is captured; what the service costs less is refunded when it is completed.
    Capture,
    /// The order is cancelled, and the hold is released.
    Release,
}

/// Looks for holds until the service drains.
pub async fn run(context: Arc<Context>) {
    loop {
        let pause: Duration = context.settings.sweep_interval * SWEEPS;
        tokio::select! {
            () = context.draining.cancelled() => return,
            () = tokio::time::sleep(pause.mul_f64(rand::rng().random_range(0.8..1.2))) => {}
        }
        let expiring = match context.store.expiring_holds(context.settings.hold_max).await {
            Ok(orders) => orders,
            Err(error) => {
                warn!(%error, "holds that are about to expire cannot be looked for");
                continue;
            }
        };
        for order in expiring {
            if let Err(error) = end(&context, order).await {
                warn!(order_id = %order, %error, "hold is about to expire and cannot be ended");
            }
        }
    }
}

async fn end(context: &Arc<Context>, order: OrderId) -> Result<(), StoreError> {
    let next = match context.settings.hold_expiry {
        HoldExpiry::Capture => context.store.capture_hold(order).await?,
        HoldExpiry::Release => match context.store.cancel(&Scope::Everything, order, None).await? {
            Cancelled::Refunding(next) => Some(next),
            _ => None,
        },
    };
    if let Some(next) = next {
        warn!(order_id = %order, "hold is about to expire and is ended");
        context.metrics.orders.step("hold", "expiring");
        context.resume(*next);
    }
    Ok(())
}
