//! From an HTTP answer to a verdict: one pure function, because a wrong line in it charges a customer twice.
//!
//! The shape of objects and errors, and which status means what, is Stripe's API reference ("Errors", "Idempotent
//! requests", "The `PaymentIntent` object", "The `Refund` object"). One rule is above all lines: an answer is definite only
//! if the provider states it about *this* request, in a body that we can read. All else is ambiguous.

use super::answer::{Answer, Cause, DeclineReason, Receipt};
use super::provider_id;
use crate::json::ObjectOnly;
use serde::Deserialize;
use std::collections::HashMap;
use uuid::Uuid;
use waybill_domain::money::Money;
use waybill_domain::payment::Operation;

/// The provider does not know the payment method or the customer: a mistake of the customer's, or our secret is that of
/// another account, which knows none.
pub(super) const UNKNOWN_METHOD: &str = "payment_method_unknown";

/// The metadata of a refund that say which of the order's it is, from the second on. Also what a request under a key is
/// must not change from one version of Waybill to the next: the first never had it.
pub(super) const REFUND_NUMBER: &str = "refund_number";

/// What was asked for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Expected {
    pub operation: Operation,
    pub amount: Money,
    /// Of a charge: whether the amount is held and captured later.
    pub is_held: bool,
}

/// What an HTTP answer means, or what has to be read first.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Answer(Answer<Receipt>),
    /// The object with this id is ours and pending. The provider replays its first answer to a key for ever, so only a
    /// read of the object shows what became of it.
    Pending {
        id: String,
    },
    /// Nothing is left to refund, or less than was asked for: ours was done, or another one.
    AlreadyRefunded,
}

/// A payment or a refund, with the fields that both have.
#[derive(Debug, Deserialize)]
pub(super) struct Object {
    #[serde(deserialize_with = "provider_id::read")]
    pub id: String,
    /// Stripe declares it nullable for refunds.
    pub status: Option<String>,
    /// In the provider's unit of the currency, which is not always that of ISO 4217: see [`Object::amount`].
    #[serde(rename = "amount")]
    units: i64,
    /// What was taken, in the provider's unit; a payment has it, a refund has not.
    #[serde(default)]
    amount_received: Option<i64>,
    /// In lower case.
    currency: String,
    #[serde(default)]
    pub metadata: Option<HashMap<String, String>>,
    /// Of a refund: the payment that it gives back.
    #[serde(default, deserialize_with = "provider_id::read_if_any")]
    pub payment_intent: Option<String>,
    #[serde(flatten)]
    _others: ObjectOnly,
}

/// A page of a list.
#[derive(Debug, Deserialize)]
pub(super) struct Page {
    pub data: Vec<Object>,
    pub has_more: bool,
    #[serde(flatten)]
    _others: ObjectOnly,
}

#[derive(Debug, Deserialize)]
struct ErrorBody {
    error: ErrorDetail,
    #[serde(flatten)]
    _others: ObjectOnly,
}

#[derive(Debug, Deserialize)]
struct ErrorDetail {
    #[serde(rename = "type")]
    kind: String,
    code: Option<String>,
    decline_code: Option<String>,
    param: Option<String>,
    #[serde(default)]
    message: String,
    #[serde(flatten)]
    _others: ObjectOnly,
}

/// Judges an answer to a request that moves money.
pub(super) fn judge(status: u16, body: &[u8], expected: &Expected) -> Verdict {
    Verdict::Answer(match status {
        200..=299 => return judge_object(body, expected),
        401 | 403 => Answer::NotExecuted(Cause::Unauthorized),
        409 => Answer::InProgress,
        429 => Answer::NotExecuted(Cause::Throttled),
        400..=499 => return judge_error(status, body, expected.operation),
        _ => Answer::Ambiguous(Cause::Status(status)),
    })
}

/// Judges an answer to a request that takes the key of a charge and moves no money.
pub(super) fn judge_revocation(status: u16, body: &[u8], amount: Money) -> Answer<()> {
    let expected = Expected {
        operation: Operation::Charge,
        amount,
        is_held: false,
    };
    if (200..=299).contains(&status) {
        let unconfirmed = serde_json::from_slice::<Object>(body).is_ok_and(|object| {
            let waits = ["requires_payment_method", "requires_confirmation", "canceled"];
            object.amount() == Some(amount) && waits.contains(&object.status())
        });
        return if unconfirmed {
            Answer::Done(())
        } else {
            Answer::Ambiguous(Cause::Unreadable)
        };
    }
    match judge(status, body, &expected) {
        // No payment was asked for: whatever is declined, it is not the charge.
        Verdict::Answer(Answer::Declined(reason) | Answer::Rejected(reason) | Answer::Failed { reason, .. }) => {
            Answer::Rejected(reason)
        }
        Verdict::Answer(Answer::NotExecuted(cause)) => Answer::NotExecuted(cause),
        Verdict::Answer(Answer::InProgress) => Answer::InProgress,
        Verdict::Answer(Answer::Ambiguous(cause)) => Answer::Ambiguous(cause),
        Verdict::Answer(Answer::Done(_)) | Verdict::Pending { .. } | Verdict::AlreadyRefunded => {
            Answer::Ambiguous(Cause::Unreadable)
        }
    }
}

impl Object {
    /// The provider's name of its state; empty if it has none.
    pub fn status(&self) -> &str {
        self.status.as_deref().unwrap_or_default()
    }

    /// The order that it was made for.
    pub fn order_id(&self) -> Option<Uuid> {
        self.metadata.as_ref()?.get("order_id")?.parse().ok()
    }

    /// Which of the order's refunds it is. The first one carries no number.
    pub fn refund_number(&self) -> Option<i32> {
        self.order_id()?;
        match self.metadata.as_ref()?.get(REFUND_NUMBER) {
            Some(number) => number.parse().ok(),
            None => Some(1),
        }
    }

    /// What it moves, where Waybill has such an amount.
    pub fn amount(&self) -> Option<Money> {
        let currency = self.currency().parse().ok()?;
        Money::from_provider(currency, self.units)
    }

    /// The same in minor units of ISO 4217. An amount that cannot be converted (no payment of Waybill's has one) stays as
    /// the provider wrote it.
    pub fn amount_minor(&self) -> i64 {
        self.amount().map_or(self.units, |amount| amount.minor_units())
    }

    /// What was taken from the customer or given back, in minor units: of a hold, what was captured.
    pub fn moved_minor(&self) -> i64 {
        let received = self.amount_received.and_then(|units| {
            let currency = self.currency().parse().ok()?;
            Money::from_provider(currency, units)
        });
        received.map_or_else(|| self.amount_minor(), |amount| amount.minor_units())
    }

    /// ISO 4217 code, upper case.
    pub fn currency(&self) -> String {
        self.currency.to_ascii_uppercase()
    }
}

fn judge_object(body: &[u8], expected: &Expected) -> Verdict {
    match serde_json::from_slice::<Object>(body) {
        Ok(object) => judge_state(object, expected),
        Err(_) => Verdict::Answer(Answer::Ambiguous(Cause::Unreadable)),
    }
}

/// Judges an object by its own state.
pub(super) fn judge_state(object: Object, expected: &Expected) -> Verdict {
    if object.amount() != Some(expected.amount) {
        return Verdict::Answer(Answer::Ambiguous(Cause::Mismatch));
    }
    Verdict::Answer(match (expected.operation, object.status()) {
        (_, "succeeded") => Answer::Done(Receipt {
            provider_id: object.id,
            amount: expected.amount,
        }),
        (Operation::Charge, "requires_capture") if expected.is_held => Answer::Done(Receipt {
            provider_id: object.id,
            amount: expected.amount,
        }),
        (Operation::Charge, "processing") | (Operation::Refund(_), "pending" | "requires_action") => {
            return Verdict::Pending { id: object.id };
        }
        // Final: no one can confirm it any more.
        (Operation::Charge, "canceled") => Answer::Declined(decline("payment_canceled")),
        // Final for this refund, and a replay of its key repeats it. The money is back in our own balance, and an operator
        // must find another way to the customer.
        (Operation::Refund(_), "failed" | "canceled") => Answer::Failed {
            reason: decline(&format!("refund_{}", object.status())),
            provider_id: object.id,
        },
        _ => Answer::Ambiguous(Cause::Unfinished),
    })
}

/// A 4xx decides only if the body is the provider's own: a proxy on the way answers 4xx too.
fn judge_error(status: u16, body: &[u8], operation: Operation) -> Verdict {
    let Ok(ErrorBody { error, .. }) = serde_json::from_slice::<ErrorBody>(body) else {
        return Verdict::Answer(Answer::Ambiguous(Cause::Status(status)));
    };
    let code = error.code.as_deref();
    Verdict::Answer(match (status, error.kind.as_str()) {
        (_, "idempotency_error") => Answer::Ambiguous(Cause::KeyReused),
        // Nothing is left to refund, or not so much (<https://docs.stripe.com/error-codes>).
        _ if matches!(operation, Operation::Refund(_))
            && (matches!(code, Some("charge_already_refunded" | "amount_too_large"))
                || error.param.as_deref() == Some("amount")) =>
        {
            return Verdict::AlreadyRefunded;
        }
        // The issuer's reason is finer than Stripe's code, which is `card_declined` for most.
        (402, _) | (_, "card_error") => {
            Answer::Declined(decline(error.decline_code.as_deref().or(code).unwrap_or_default()))
        }
        // A refund is asked for again in either case, and flagged.
        (400, "invalid_request_error") if code.is_none() && is_about_the_method(&error.message) => {
            Answer::Declined(decline("payment_method_unusable"))
        }
        (400, "invalid_request_error")
            if code == Some("resource_missing")
                && matches!(error.param.as_deref(), Some("payment_method" | "customer")) =>
        {
            Answer::Rejected(decline(UNKNOWN_METHOD))
        }
        (400, "invalid_request_error")
            if !matches!(operation, Operation::Refund(_)) && !code.is_some_and(is_about_the_payment) =>
        {
            Answer::Rejected(decline(code.unwrap_or("invalid_request")))
        }
        (400, "invalid_request_error") => Answer::Declined(decline(code.unwrap_or("invalid_request"))),
        _ => Answer::Ambiguous(Cause::Status(status)),
    })
}

/// Whether a 400 with this code is about this payment and its means, so that no other request under the key can succeed
/// (<https://docs.stripe.com/error-codes>). All others are about the request or the account: a kind of payment method that
/// is not activated, a parameter that this version of the API does not know. An amount is too small for the currency in which the
/// account settles, which only the provider knows: it is the customer's, who could stop all payments otherwise.
fn is_about_the_payment(code: &str) -> bool {
    matches!(
        code,
        "amount_too_large"
            | "amount_too_small"
            | "card_declined"
            | "expired_card"
            | "incorrect_cvc"
            | "incorrect_number"
            | "invalid_cvc"
            | "invalid_expiry_month"
            | "invalid_expiry_year"
            | "invalid_number"
            | "payment_intent_authentication_failure"
            | "payment_intent_incompatible_payment_method"
            | "payment_intent_payment_attempt_failed"
            | "payment_method_billing_details_address_missing"
            | "payment_method_currency_mismatch"
            | "payment_method_customer_decline"
            | "payment_method_provider_decline"
            | "payment_method_unexpected_state"
    )
}

/// Whether a 400 without a code is about the payment method: one that was used before without a customer, that is attached
/// to another customer, or that is used without its own. Stripe's answers to these have no code, only texts, as reported in
/// <https://github.com/Automattic/woocommerce-payments/issues/323> and <https://github.com/getlago/lago-api/pull/3826>. Should
/// they change, the order is deferred and flagged as for any other request that is rejected.
fn is_about_the_method(message: &str) -> bool {
    let beginnings = [
        "The provided PaymentMethod ",
        "This PaymentMethod ",
        "The PaymentMethod ",
        "The customer does not have a payment method ",
    ];
    beginnings.iter().any(|beginning| message.starts_with(beginning))
}

/// The code as far as it is one, with a sentence that is fit for the customer.
pub(super) fn decline(code: &str) -> DeclineReason {
    let is_code = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    let code = match code {
        "" => "unspecified",
        code if code.len() <= 64 && code.chars().all(is_code) => code,
        _ => "unrecognized",
    };
    // What a customer may learn of a decline: Stripe, "Decline codes". Of a lost, stolen or suspected card, nothing.
    let message = match code {
        "insufficient_funds" => "The account of this payment method has not enough funds.",
        "expired_card" => "The card has expired.",
        "incorrect_cvc" | "invalid_cvc" => "The security code of the card is wrong.",
        "incorrect_number" | "invalid_number" => "The number of the card is wrong.",
        "authentication_required" => "The bank asks the customer to confirm this payment.",
        "card_not_supported" | "currency_not_supported" => "The card does not support this payment.",
        "refund_failed" | "refund_canceled" => "The refund could not be completed.",
        _ => "The payment was declined.",
    };
    DeclineReason {
        code: code.to_owned(),
        message,
        is_replay: false,
    }
}

#[cfg(test)]
mod tests;
