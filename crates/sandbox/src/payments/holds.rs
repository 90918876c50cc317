//! Holds: money that a card keeps ready for a payment, until it is captured, cancelled, or expired
//! (<https://docs.stripe.com/payments/place-a-hold-on-a-payment-method>).
//!
//! A hold is captured once; what is not captured is released. That is no refund, and is not shown as one: neither
//! `amount_refunded` nor `refunded` of the charge change
//! (<https://docs.stripe.com/changelog/basil/2025-03-31/remove-refund-from-partial-capture-and-payment-cancellation-flow>).

use jiff::Timestamp;
use serde_json::Value;

use super::api_error::ApiError;
use super::change::{Change, Execution};
use super::currencies;
use super::objects::{Cancellation, Capture, PaymentIntent};
use super::request::{CancelRequest, CaptureRequest};

pub(super) fn capture(
    intent: &PaymentIntent,
    request: &CaptureRequest,
    execution: Execution,
) -> Result<Change, ApiError> {
    if !intent.is_held() {
        return Err(not_capturable(intent));
    }
    let amount = request.amount.unwrap_or(intent.amount);
    if amount > intent.amount {
        return Err(ApiError::capture_too_large(intent));
    }
    // A capture below the minimum of a charge is refused: <https://github.com/Automattic/woocommerce-payments/pull/10112>.
    currencies::check_charge(amount, &intent.currency)?;
    if execution == Execution::Decline {
        return Err(ApiError::capture_declined());
    }
    let capture = Capture {
        amount,
        metadata: request.metadata.clone(),
        at: Timestamp::now().as_second(),
    };
    let captured = PaymentIntent {
        capture: Some(capture),
        ..intent.clone()
    };
    let charge = charge_json(&captured);
    Ok(Change::payment(captured, &["payment_intent.succeeded"]).with_charge_event("charge.captured", charge))
}

/// Of a payment that did not succeed, held or not.
pub(super) fn cancel(intent: &PaymentIntent, request: &CancelRequest) -> Result<Change, ApiError> {
    let status = intent.status();
    if !["requires_capture", "requires_payment_method"].contains(&status) {
        let message = format!(
            "You cannot cancel this PaymentIntent because it has a status of {status}. Only a PaymentIntent with one of the \
             following statuses may be canceled: requires_payment_method, requires_capture, requires_confirmation, \
             requires_action, processing."
        );
        return Err(ApiError::unexpected_state(intent, &message));
    }
    let cancelled = cancelled(intent, request.reason.clone());
    Ok(Change::payment(cancelled, &["payment_intent.canceled"]))
}

/// What the card's network does some days after a hold was made.
pub(super) fn expire(intent: &PaymentIntent) -> Result<Change, ApiError> {
    if !intent.is_held() {
        return Err(not_capturable(intent));
    }
    // Called `automatic` by the versions of the API before 2025-03-31.
    let expired = cancelled(intent, Some("expired".to_owned()));
    let charge = charge_json(&expired);
    Ok(Change::payment(expired, &["payment_intent.canceled"]).with_charge_event("charge.expired", charge))
}

fn cancelled(intent: &PaymentIntent, reason: Option<String>) -> PaymentIntent {
    let at = Timestamp::now().as_second();
    PaymentIntent {
        cancellation: Some(Cancellation { reason, at }),
        ..intent.clone()
    }
}

/// The code is the same whatever the status (<https://github.com/stripe/stripe-php/issues/818>).
fn not_capturable(intent: &PaymentIntent) -> ApiError {
    let status = intent.status();
    let message = if status == "succeeded" {
        "This PaymentIntent could not be captured because it has already been captured.".to_owned()
    } else {
        format!(
            "This PaymentIntent could not be captured because it has a status of {status}. Only a PaymentIntent with one \
             of the following statuses may be captured: requires_capture."
        )
    };
    ApiError::unexpected_state(intent, &message)
}

fn charge_json(intent: &PaymentIntent) -> Value {
    intent.charge_json().unwrap_or_default()
}
