//! What becomes of a payment when it is made: paid, held, declined, or none of these because it is not confirmed.

use super::api_error::ApiError;
use super::change::{Change, Execution};
use super::objects::CardOutcome;
use super::request::ChargeRequest;

/// `created`: when, in seconds since the Unix epoch.
pub(super) fn charge(request: ChargeRequest, card: CardOutcome, execution: Execution, created: i64) -> Change {
    let outcome = match (card, execution) {
        (CardOutcome::Paid, Execution::Decline) => CardOutcome::Declined,
        (card, _) => card,
    };
    let intent = request.into_intent(outcome, created);
    match outcome {
        CardOutcome::Paid if intent.is_held() => Change::payment(intent, &["payment_intent.amount_capturable_updated"]),
        CardOutcome::Paid => Change::payment(intent, &["payment_intent.succeeded"]),
        CardOutcome::Unconfirmed => Change::payment(intent, &["payment_intent.created"]),
        CardOutcome::Declined | CardOutcome::InsufficientFunds => Change {
            reply: ApiError::declined(&intent).into(),
            ..Change::payment(intent, &["payment_intent.payment_failed"])
        },
    }
}
