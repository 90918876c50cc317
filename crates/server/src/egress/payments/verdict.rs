//! From an HTTP answer to a verdict: one pure function, because a wrong line in it charges somebody twice.
//!
//! The shape of objects and errors, and which status means what, is Stripe's API reference ("Errors", "Idempotent
//! requests", "The `PaymentIntent` object", "The `Refund` object"). The rule above all lines: definite is what the
//! provider states about *this* request in a body that we can read; whatever is left is ambiguous.

use super::answer::{Answer, DeclineReason, Receipt, Why};
use serde::Deserialize;
use std::collections::HashMap;
use uuid::Uuid;

/// What was asked for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Expected<'a> {
    pub operation: Operation,
    pub amount_minor: i64,
    pub currency: &'a str,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Operation {
    Charge,
    Refund,
}

/// What an HTTP answer means, and what is to be looked up before it means anything.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Answer(Answer<Receipt>),
    /// The object with this id is ours and on its way. The provider replays its first answer to a key for ever, so
    /// only a look at the object tells what became of it.
    OnItsWay {
        id: String,
    },
    /// There is nothing left to refund: either ours was done, or somebody else's.
    AlreadyRefunded,
}

/// A payment or a refund, with the fields that both have.
#[derive(Debug, Deserialize)]
pub(super) struct Object {
    pub id: String,
    /// Stripe declares it nullable for refunds.
    pub status: Option<String>,
    pub amount: i64,
    pub currency: String,
    #[serde(default)]
    pub metadata: Option<HashMap<String, String>>,
    /// Of a refund: the payment that it gives back.
    #[serde(default)]
    pub payment_intent: Option<String>,
}

/// A page of a list.
#[derive(Debug, Deserialize)]
pub(super) struct Page {
    pub data: Vec<Object>,
    pub has_more: bool,
}

#[derive(Debug, Deserialize)]
struct Refusal {
    error: RefusalDetail,
}

#[derive(Debug, Deserialize)]
struct RefusalDetail {
    #[serde(rename = "type")]
    kind: String,
    code: Option<String>,
    decline_code: Option<String>,
}

/// Judges an answer to a request that moves money.
pub(super) fn judge(status: u16, body: &[u8], expected: &Expected<'_>) -> Verdict {
    Verdict::Answer(match status {
        200..=299 => return judge_object(body, expected),
        401 | 403 => Answer::NotExecuted(Why::Unauthorized),
        409 => Answer::InProgress,
        429 => Answer::NotExecuted(Why::Throttled),
        400..=499 => return judge_refusal(status, body, expected.operation),
        _ => Answer::Ambiguous(Why::Status(status)),
    })
}

impl Object {
    /// The provider's word for its state; empty if it says none.
    pub fn status(&self) -> &str {
        self.status.as_deref().unwrap_or_default()
    }

    /// The order that it was made for.
    pub fn order_id(&self) -> Option<Uuid> {
        self.metadata.as_ref()?.get("order_id")?.parse().ok()
    }

    /// Whether it is about this amount of this currency.
    pub fn is_about(&self, expected: &Expected<'_>) -> bool {
        self.amount == expected.amount_minor && self.currency.eq_ignore_ascii_case(expected.currency)
    }

    pub fn into_receipt(self) -> Receipt {
        Receipt {
            provider_id: self.id,
            amount_minor: self.amount,
            currency: self.currency.to_ascii_uppercase(),
        }
    }
}

fn judge_object(body: &[u8], expected: &Expected<'_>) -> Verdict {
    let object = match serde_json::from_slice::<Object>(body) {
        Ok(object) if !object.id.is_empty() => object,
        _ => return Verdict::Answer(Answer::Ambiguous(Why::Unreadable)),
    };
    judge_state(object, expected)
}

/// Judges an object by what it says of itself.
pub(super) fn judge_state(object: Object, expected: &Expected<'_>) -> Verdict {
    if !object.is_about(expected) {
        return Verdict::Answer(Answer::Ambiguous(Why::Mismatch));
    }
    Verdict::Answer(match (expected.operation, object.status()) {
        (_, "succeeded") => Answer::Done(object.into_receipt()),
        (Operation::Charge, "processing") | (Operation::Refund, "pending" | "requires_action") => {
            return Verdict::OnItsWay { id: object.id };
        }
        // Final: nobody can confirm it any more.
        (Operation::Charge, "canceled") => Answer::Declined(decline("payment_canceled")),
        // Final for this refund, and a replay of its key says it again: the money is back in our own balance, and a
        // person must find another way to the customer. It is not "done", and not to be sent again by itself.
        (Operation::Refund, "failed") => Answer::Declined(decline("refund_failed")),
        (Operation::Refund, "canceled") => Answer::Declined(decline("refund_canceled")),
        _ => Answer::Ambiguous(Why::Unfinished),
    })
}

/// A 4xx decides only if the body is the provider's own: a proxy on the way answers 4xx too.
fn judge_refusal(status: u16, body: &[u8], operation: Operation) -> Verdict {
    let Ok(Refusal { error }) = serde_json::from_slice::<Refusal>(body) else {
        return Verdict::Answer(Answer::Ambiguous(Why::Status(status)));
    };
    let code = error.code.as_deref();
    Verdict::Answer(match (status, error.kind.as_str()) {
        (_, "idempotency_error") => Answer::Ambiguous(Why::KeyReused),
        _ if operation == Operation::Refund && code == Some("charge_already_refunded") => {
            return Verdict::AlreadyRefunded;
        }
        // The issuer's reason is finer than Stripe's code, which is `card_declined` for most.
        (402, _) | (_, "card_error") => {
            Answer::Declined(decline(error.decline_code.as_deref().or(code).unwrap_or_default()))
        }
        (400, "invalid_request_error") => Answer::Declined(decline(code.unwrap_or("invalid_request"))),
        _ => Answer::Ambiguous(Why::Status(status)),
    })
}

/// The code as far as it is one, with a sentence that is fit for the customer.
pub(super) fn decline(code: &str) -> DeclineReason {
    let is_code = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    let code = match code {
        "" => "unspecified",
        code if code.len() <= 64 && code.chars().all(is_code) => code,
        _ => "unrecognized",
    };
    // What may be said of a decline: Stripe, "Decline codes". Of a lost, stolen or suspected card, nothing.
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
    }
}

#[cfg(test)]
mod tests;
