//! The wait of a charge for its place at the payment provider. It comes before the request is recorded and before its time
//! begins: an order that waits keeps its lease and its turn, and is neither deferred nor overtaken by younger ones.

use std::pin::pin;

use jiff::SignedDuration;
use waybill_domain::order::FailureReason;
use waybill_domain::payment::Operation;

use super::recovery::Prior;
use crate::egress::payments::{Cause, PaymentClient, Place};
use crate::orders::Context;
use crate::storage::StoreError;
use crate::storage::orders::LeasedOrder;

/// A wait of this part of the time between two renewals needs no renewal.
const SHORT_WAIT: u32 = 5;

/// What the wait came to.
#[derive(Debug)]
pub(super) enum Wait {
    /// The charge has its place.
    Place(Place, Prior),
    /// The charge is not wanted any more.
    Unwanted(FailureReason, Prior),
    /// There is no place, and this worker does not wait for one.
    Left(Cause),
    /// This process ends; another goes on with the order.
    Draining,
}

/// Waits until it is this order's turn. Meanwhile the lease is renewed, and a cancellation is seen.
pub(super) async fn place(
    context: &Context,
    payments: &PaymentClient,
    order: &LeasedOrder,
    mut prior: Prior,
) -> Result<Wait, StoreError> {
    let renew_every = context.settings.renew_lease_every;
    let mut confirmed = order.confirmed;
    let mut place = pin!(payments.charge_place(order.order.created_at));
    loop {
        let place = tokio::select! {
            biased;
            place = &mut place => Some(place),
            () = context.draining.cancelled() => return Ok(Wait::Draining),
            () = tokio::time::sleep(renew_every) => None,
        };
        if place.is_none() || confirmed.age() >= renew_every / SHORT_WAIT {
            let renewal = context.store.renew(order.lease, Some(Operation::Charge)).await?;
            confirmed = renewal.confirmed;
            prior = Prior {
                // What was never sent is not sent yet: no other worker had the order in between.
                attempt: prior.attempt.and(renewal.attempt),
                cancel_requested: renewal.cancel_requested,
                now: confirmed.database,
            };
            if let Some(reason) = unwanted(context, order, &prior) {
                return Ok(Wait::Unwanted(reason, prior));
            }
        }
        match place {
            Some(Ok(place)) => return Ok(Wait::Place(place, prior)),
            Some(Err(cause)) => return Ok(Wait::Left(cause)),
            None => {}
        }
    }
}

/// Why the order is not to be charged any more, if it is not.
pub(super) fn unwanted(context: &Context, order: &LeasedOrder, prior: &Prior) -> Option<FailureReason> {
    let waits = prior.now.duration_since(order.order.created_at);
    let settle_within = SignedDuration::try_from(context.settings.settle_within).unwrap_or(SignedDuration::MAX);
    if prior.cancel_requested {
        Some(FailureReason::Cancelled)
    } else if waits > settle_within {
        Some(FailureReason::PaymentTimedOut)
    } else {
        None
    }
}
