//! Refunds: never more than was captured and not refunded yet (<https://docs.stripe.com/refunds>). One can be pending at
//! first, and can fail even after it succeeded. While it is pending it counts as refunded, so that no other takes its place.

use jiff::Timestamp;

use super::api_error::ApiError;
use super::change::{Change, Execution};
use super::currencies;
use super::journal::Effect;
use super::objects::{Dispute, PaymentIntent, Refund, RefundState};
use super::reply::Reply;
use super::request::RefundRequest;

/// Why a refund fails (<https://docs.stripe.com/api/refunds/object#refund_object-failure_reason>).
const FAILURE_REASONS: [&str; 7] = [
    "charge_for_pending_refund_disputed",
    "declined",
    "expired_or_canceled_card",
    "insufficient_funds",
    "lost_or_stolen_card",
    "merchant_request",
    "unknown",
];

pub(super) fn refund(
    intent: &PaymentIntent,
    dispute: Option<&Dispute>,
    request: &RefundRequest,
    execution: Execution,
    created: i64,
) -> Result<Change, ApiError> {
    let left = intent.amount_received() - intent.amount_refunded;
    check_refundable(intent, dispute, left)?;
    let amount = request.amount.unwrap_or(left);
    currencies::check_amount(amount, &intent.currency)?;
    if amount > left {
        return Err(ApiError::refund_too_large(amount, left));
    }
    let state = match execution {
        Execution::Pending => RefundState::Pending,
        _ => RefundState::Succeeded,
    };
    Ok(change(
        request.to_refund(intent, amount, state, created),
        &["refund.created"],
    ))
}

/// The bank takes a refund that was pending.
pub(super) fn settle(refund: &Refund) -> Result<Change, ApiError> {
    if refund.state != RefundState::Pending {
        return Err(not_possible(refund, "settled"));
    }
    let settled = Refund {
        state: RefundState::Succeeded,
        ..refund.clone()
    };
    // The first is for all refunds, the second for those of some payment methods, cards among them
    // (<https://docs.stripe.com/api/refunds>).
    Ok(change(settled, &["refund.updated", "charge.refund.updated"]))
}

/// The bank gives a refund back, pending or not, and the money is ours again
/// (<https://docs.stripe.com/refunds#failed-refunds>). The charge is as if the refund had not been made. That is our
/// reading: Stripe does not write when `amount_refunded` changes.
pub(super) fn fail(refund: &Refund, reason: &str) -> Result<Change, ApiError> {
    if !FAILURE_REASONS.contains(&reason) {
        let message = format!("It must be one of {}.", FAILURE_REASONS.join(", "));
        return Err(ApiError::parameter("parameter_invalid", "reason", &message));
    }
    if matches!(refund.state, RefundState::Failed { .. }) {
        return Err(not_possible(refund, "failed"));
    }
    let failed = Refund {
        state: RefundState::Failed {
            reason: reason.to_owned(),
            at: Timestamp::now().as_second(),
        },
        ..refund.clone()
    };
    Ok(change(
        failed,
        &["refund.updated", "charge.refund.updated", "refund.failed"],
    ))
}

fn change(refund: Refund, events: &[&'static str]) -> Change {
    let json = refund.to_json();
    Change {
        reply: Reply::ok(&json),
        events: events.iter().map(|kind| (*kind, json.clone())).collect(),
        effect: Effect::Refund(refund),
    }
}

fn not_possible(refund: &Refund, what: &str) -> ApiError {
    let message = format!(
        "The refund {} has a status of {} and cannot be {what}.",
        refund.id,
        refund.status()
    );
    ApiError::request(&message)
}

fn check_refundable(intent: &PaymentIntent, dispute: Option<&Dispute>, left: i64) -> Result<(), ApiError> {
    let id = &intent.id;
    if !intent.is_authorised() {
        let message = format!("This PaymentIntent ({id}) does not have a successful charge to refund.");
        return Err(ApiError::state(&message));
    }
    // Held, or released: <https://github.com/woocommerce/woocommerce-gateway-stripe/issues/1081>.
    if intent.amount_received() == 0 {
        let message = format!(
            "This uncaptured Charge was created by a PaymentIntent ({id}). You must cancel the PaymentIntent to reverse the \
             authorization instead of refunding the Charge directly."
        );
        return Err(ApiError::state(&message));
    }
    if dispute.is_some_and(|dispute| !dispute.allows_refund()) {
        return Err(ApiError::disputed(&intent.charge_id));
    }
    if left == 0 {
        return Err(ApiError::already_refunded(&intent.charge_id));
    }
    Ok(())
}
