//! The end of a hold: what was decided of it is captured, or it is voided. A payment is captured at most once, whatever the
//! key: the provider refuses a second capture by the payment's state.

use tracing::warn;
use waybill_domain::money::Money;
use waybill_domain::order::Payment;
use waybill_domain::payment::{Operation, ProviderKey, Recovery};

use super::progress::{Progress, delay_of};
use super::recovery::{
    Prior, QUERY_EVERY, count_answer, deadline, flag, not_executed, prior_attempt, record_send, rejected, retry_later,
    unknown_outcome,
};
use crate::crash_points::crash_point;
use crate::egress::payments::{Answer, CaptureRequest, DeclineReason, Ended, PaymentClient};
use crate::orders::Context;
use crate::storage::StoreError;
use crate::storage::orders::{Deferral, LeasedOrder, StepOutcome, capture_operation};

/// Captures or voids the hold, as is decided.
pub(super) async fn capture(
    context: &Context,
    payments: &PaymentClient,
    order: &LeasedOrder,
) -> Result<Progress, StoreError> {
    let Some(payment) = order.order.payment.as_ref().filter(|payment| payment.capture_is_open()) else {
        return Err(StoreError::Unexpected(format!(
            "order {} is to be captured, and has no open hold",
            order.order.id
        )));
    };
    let operation = capture_operation(payment);
    let prior = prior_attempt(context, order, operation).await?;
    // No two requests of one operation have it.
    let send = prior.attempt.map_or(1, |attempt| attempt.sends + 1);
    let mut key = ProviderKey::new(&order.payment_key, operation).to_string();
    let is_retried = prior.recovery() == Recovery::Retry;
    if !is_retried {
        // The key repeats a saved server error, or may have expired. Another key is as safe, since the payment's own state
        // lets the hold end once.
        key = format!("{key}-{send}");
    }
    let request = CaptureRequest {
        key: &key,
        payment_intent: &payment.provider_charge_id,
        held: order.order.amount,
        amount: amount(order, payment),
    };
    if !is_retried && let Some(answer) = payments.query_hold(&request, deadline(context)).await {
        return Ok(after_capture(order, operation, answer, &prior));
    }
    record_send(context, order, operation, &prior).await?;
    let deadline = deadline(context);
    let mut answer = payments.end_hold(&request, deadline).await;
    if let Answer::Declined(DeclineReason { is_replay: true, .. }) = answer {
        // The provider repeats the refusal that it saved under the key, also once its reason is gone.
        let key = format!("{key}-{send}");
        answer = payments
            .end_hold(&CaptureRequest { key: &key, ..request }, deadline)
            .await;
    }
    crash_point!("capture_answered");
    count_answer(context, operation.as_str(), &answer);
    Ok(after_capture(order, operation, answer, &prior))
}

/// How much is to be captured; `None`: the hold is voided.
fn amount(order: &LeasedOrder, payment: &Payment) -> Option<Money> {
    let minor_units = payment.to_capture_minor?;
    Money::new(order.order.amount.currency(), minor_units).ok()
}

/// What the provider's answer means for the order.
fn after_capture(order: &LeasedOrder, operation: Operation, answer: Answer<Ended>, prior: &Prior) -> Progress {
    match answer {
        Answer::Done(Ended { captured, was_ended }) => Progress::Commit(StepOutcome::Captured {
            operation,
            captured_minor: captured.map_or(0, |amount| amount.minor_units()),
            was_ended,
        }),
        Answer::Failed { reason, .. } => {
            warn!(order_id = %order.order.id, code = %reason.code, "hold cannot be captured any more");
            Progress::Commit(StepOutcome::CaptureFailed { code: reason.code })
        }
        Answer::Declined(reason) => {
            let why = format!("the provider refuses the {}: {}", operation.as_str(), reason.code);
            // The first may be a moment's; one that was refused again waits for an operator.
            let is_first = prior.attempt.is_none_or(|attempt| attempt.sends <= 1);
            let delay = if is_first { delay_of(order) } else { QUERY_EVERY };
            Progress::Defer(delay, flag(order, operation, why))
        }
        Answer::Rejected(reason) => rejected(order, operation, &reason, prior),
        Answer::NotExecuted(cause) => not_executed(order, operation, cause, prior),
        Answer::InProgress => Progress::Defer(delay_of(order), Deferral::default()),
        Answer::Ambiguous(cause) => {
            warn!(order_id = %order.order.id, %cause, operation = operation.as_str(), "outcome of a capture is unknown");
            let (delay, why) = retry_later(cause, prior);
            let unknown = unknown_outcome(cause);
            Progress::CommitAndDefer(StepOutcome::CaptureUnknown(operation, unknown), delay, why)
        }
    }
}
