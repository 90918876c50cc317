//! The steps of the saga. Each may be run again after a crash: its key comes from the order, and its outcome is committed
//! before the next step begins.

use waybill_domain::order::Step;

use super::progress::Progress;
use super::recovery::without_account;
use super::{assign, capture, charge, reconcile, refund};
use crate::orders::Context;
use crate::storage::StoreError;
use crate::storage::orders::{LeasedOrder, StepOutcome};

/// Runs one step, with no transaction open while it waits for another service.
pub(super) async fn run(context: &Context, step: Step, order: &LeasedOrder) -> Result<Progress, StoreError> {
    // Boxed: each is large, and a saga that searches for a driver should not carry the space of the others.
    match step {
        Step::IntendCharge => Ok(Progress::Commit(StepOutcome::ChargeIntended)),
        Step::Assign => Box::pin(assign::assign(context, order)).await,
        Step::HonourCancellation => Ok(Progress::Commit(StepOutcome::Cancelled)),
        Step::Charge | Step::Capture | Step::Refund | Step::Reconcile => {
            let Ok(payments) = context.payments.client(&order.payment_account) else {
                return match step {
                    Step::Charge => charge::without_account(context, order).await,
                    _ => Ok(without_account(step.as_str(), order)),
                };
            };
            match step {
                Step::Charge => Box::pin(charge::charge(context, payments, order)).await,
                Step::Capture => Box::pin(capture::capture(context, payments, order)).await,
                Step::Refund => Box::pin(refund::refund(context, payments, order)).await,
                _ => Box::pin(reconcile::reconcile(context, payments, order)).await,
            }
        }
    }
}
