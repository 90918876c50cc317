//! Takes over what the provider has of a payment: refunds by hand, refunds that failed later, disputes.

use waybill_domain::order::State;
use waybill_domain::payment::Operation;

use super::progress::{Progress, delay_of};
use super::recovery::{QUERY_EVERY, deadline, flag};
use crate::egress::payments::{Cause, PaymentClient};
use crate::orders::Context;
use crate::orders::payment_record::{self, Compared};
use crate::storage::StoreError;
use crate::storage::orders::{Deferral, LeasedOrder, REFUND_FAILED, StepOutcome};

/// Takes over what the provider has, and opens a refund of what is still owed. Where a refund failed, what is owed waits for
/// an operator, or for a refund by hand.
pub(super) async fn reconcile(
    context: &Context,
    payments: &PaymentClient,
    order: &LeasedOrder,
) -> Result<Progress, StoreError> {
    context.store.renew(order.lease, None).await?;
    let compared = compare(context, payments, order).await?;
    let result = match &compared {
        Ok(Compared { is_news: true, .. }) => "news",
        Ok(Compared { is_news: false, .. }) => "nothing_new",
        Err(_) => "unanswered",
    };
    context.metrics.orders.step("reconcile", result);
    Ok(match compared {
        Ok(compared) if !compared.is_news => nothing_new(order, compared),
        Ok(compared) => reconciled(compared),
        Err(cause) => Progress::Defer(delay_of(order), unread(cause)),
    })
}

/// Compares the ledger with the provider's record.
pub(super) async fn compare(
    context: &Context,
    payments: &PaymentClient,
    order: &LeasedOrder,
) -> Result<Result<Compared, Cause>, StoreError> {
    payment_record::compare(&context.store, payments, order, None, deadline(context)).await
}

pub(super) fn reconciled(compared: Compared) -> Progress {
    Progress::Commit(StepOutcome::Reconciled(Box::new(compared.found)))
}

/// What failed is not sent again by itself, and what is pending at the provider is waited for.
fn nothing_new(order: &LeasedOrder, compared: Compared) -> Progress {
    let is_waiting = order.order.state == State::Refunding && order.open_refund.is_none();
    let settlement = &compared.found.settlement;
    if is_waiting && settlement.failed_minor > 0 {
        // The number does not matter: none is sent.
        let why = flag(order, Operation::Refund(1), REFUND_FAILED.to_owned());
        return Progress::Defer(QUERY_EVERY, why);
    }
    if is_waiting && settlement.is_pending {
        return Progress::Defer(delay_of(order), Deferral::default());
    }
    reconciled(compared)
}

fn unread(cause: Cause) -> Deferral {
    Deferral {
        step: Some(("refund", format!("the provider's record cannot be read: {cause}"))),
        ..Deferral::default()
    }
}
