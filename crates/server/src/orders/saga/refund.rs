//! The refund: the compensation of a charge. It does not get to refuse: it is sent until the provider confirms it.

use tracing::warn;
use waybill_domain::payment::{Operation, ProviderKey, Recovery};

use super::progress::{Progress, delay_of};
use super::recovery::{
    Prior, count_answer, count_query, deadline, flag, not_executed, prior_attempt, record_send, rejected, retry_later,
    unknown_outcome,
};
use crate::crash_points::crash_point;
use crate::egress::payments::{Answer, Receipt, RefundRequest};
use crate::orders::Context;
use crate::storage::StoreError;
use crate::storage::orders::{Deferral, LeasedOrder, StepOutcome};

/// Refunds all that was charged.
pub(super) async fn refund(context: &Context, order: &LeasedOrder) -> Result<Progress, StoreError> {
    let Some(payment) = &order.order.payment else {
        return Err(StoreError::Unexpected(format!(
            "order {} is to be refunded, but has no payment",
            order.order.id
        )));
    };
    let key = ProviderKey::new(&order.payment_key, Operation::Refund);
    let request = RefundRequest {
        key: key.as_str(),
        payment_intent: &payment.provider_charge_id,
        order_id: order.order.id.uuid(),
        amount: order.order.amount,
    };
    let prior = prior_attempt(context, order, Operation::Refund).await?;
    if prior.recovery(Operation::Refund) != Recovery::Retry {
        let found = context.payments.query_refund(&request, deadline(context)).await;
        count_query(context, "refund_query", &found);
        if let Ok(Some(answer @ Answer::Done(_))) = found {
            return Ok(after_refund(order, answer, &prior));
        }
    }
    record_send(context, order, Operation::Refund, &prior).await?;
    let answer = context.payments.refund(&request, deadline(context)).await;
    crash_point!("refund_answered");
    count_answer(context, "refund", &answer);
    Ok(after_refund(order, answer, &prior))
}

/// What the provider's answer means for the order.
fn after_refund(order: &LeasedOrder, answer: Answer<Receipt>, prior: &Prior) -> Progress {
    match answer {
        Answer::Done(Receipt { provider_id, .. }) => Progress::Commit(StepOutcome::Refunded { provider_id }),
        Answer::Declined(reason) => {
            let why = format!("the provider refuses the refund: {}", reason.code);
            Progress::Defer(delay_of(order), flag(order, Operation::Refund, why))
        }
        Answer::Rejected(reason) => rejected(order, Operation::Refund, &reason, prior),
        Answer::NotExecuted(cause) => not_executed(order, Operation::Refund, cause, prior),
        Answer::InProgress => Progress::Defer(delay_of(order), Deferral::default()),
        Answer::Ambiguous(cause) => {
            warn!(order_id = %order.order.id, %cause, "outcome of a refund is unknown");
            let (delay, why) = retry_later(cause, prior);
            Progress::CommitAndDefer(StepOutcome::RefundUnknown(unknown_outcome(cause)), delay, why)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::egress::payments::DeclineReason;
    use crate::orders::saga::recovery::tests::{charging, unsent};

    /// M8: a refund once decided is retried until the provider confirms it.
    #[test]
    fn a_refused_refund_is_deferred_and_flagged_and_never_given_up() {
        let reason = DeclineReason {
            code: "charge_disputed".to_owned(),
            message: "The payment was declined.",
        };
        let progress = after_refund(&charging(), Answer::Declined(reason), &unsent());
        let Progress::Defer(_, why) = progress else {
            panic!("{progress:?}");
        };
        assert!(why.needs_attention.is_some_and(|why| why.contains("charge_disputed")));
    }
}
