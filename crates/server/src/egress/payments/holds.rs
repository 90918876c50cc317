//! The end of a hold: a capture of all of it or of a part, or a void (<https://docs.stripe.com/payments/place-a-hold-on-a-payment-method>).
//! A payment leaves `requires_capture` once: what it became, by whomever, is the answer.

use serde::Deserialize;
use waybill_domain::money::{Currency, Money};

use super::answer::{Answer, Cause, DeclineReason};
use super::verdict::{Expected, Verdict, decline, judge};
use super::wire::{Fault, Outgoing};
use super::{PAYMENTS_PATH, PaymentClient};
use crate::json::ObjectOnly;
use crate::resilience::Deadline;
use waybill_domain::payment::Operation;

/// A capture, or a void.
#[derive(Debug, Clone, Copy)]
pub struct CaptureRequest<'a> {
    /// The idempotency key, at most 255 visible characters.
    pub key: &'a str,
    /// The provider's id of the payment (`pi_...`).
    pub payment_intent: &'a str,
    /// What is held.
    pub held: Money,
    /// How much of it is captured; the rest is voided. `None`: all of it is.
    pub amount: Option<Money>,
}

/// What became of a hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ended {
    /// What was captured; `None`: nothing.
    pub captured: Option<Money>,
    /// Whether it had ended before this request: by an earlier one, or by others.
    pub was_ended: bool,
}

/// A payment, with what says how its hold ended.
#[derive(Debug, Deserialize)]
struct Intent {
    status: String,
    /// In the provider's unit.
    amount_received: i64,
    currency: String,
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
    code: Option<String>,
    payment_intent: Option<Intent>,
    #[serde(flatten)]
    _others: ObjectOnly,
}

impl PaymentClient {
    /// Captures a hold or voids it. `Done`: what became of it, also if that is not what was asked for. `Failed`: it is gone, so
    /// that nothing can be captured.
    pub async fn end_hold(&self, request: &CaptureRequest<'_>, deadline: Deadline) -> Answer<Ended> {
        let (action, form) = match request.amount {
            Some(amount) => match amount.provider_units() {
                Some(units) => ("capture", vec![("amount_to_capture", units.to_string())]),
                None => return Answer::NotExecuted(Cause::NotPayable),
            },
            None => ("cancel", vec![]),
        };
        let path = format!("{PAYMENTS_PATH}/{}/{action}", request.payment_intent);
        let outgoing = match Outgoing::post(&path, request.key, form) {
            Ok(outgoing) => outgoing,
            Err(cause) => return Answer::NotExecuted(cause),
        };
        let exchange = self.stack.call(&outgoing, None, self.stack.bounded(deadline)).await;
        let answer = match exchange.result {
            Ok(reply) => match judge_end(reply.status, &reply.body, request) {
                Answer::Declined(reason) => Answer::Declined(DeclineReason {
                    is_replay: reply.is_replay,
                    ..reason
                }),
                Answer::Done(ended) if reply.is_replay => Answer::Done(Ended {
                    was_ended: true,
                    ..ended
                }),
                answer => answer,
            },
            Err(Fault::NotExecuted(cause)) => Answer::NotExecuted(cause),
            Err(Fault::Ambiguous(cause)) => Answer::Ambiguous(cause),
        };
        match (answer, exchange.in_doubt) {
            // The second attempt was not executed, but the first may have been.
            (Answer::NotExecuted(_) | Answer::Rejected(_), Some(cause)) => Answer::Ambiguous(cause),
            (answer, _) => answer,
        }
    }
}

impl PaymentClient {
    /// Reads what became of a hold. `None`: it is there, or the payment cannot be read.
    pub async fn query_hold(&self, request: &CaptureRequest<'_>, deadline: Deadline) -> Option<Answer<Ended>> {
        let outgoing = Outgoing::get(PAYMENTS_PATH, request.payment_intent).ok()?;
        let body = self.read(&outgoing, None, self.stack.bounded(deadline)).await.ok()?;
        let intent: Intent = serde_json::from_slice(&body).ok()?;
        Some(ended(&intent, request, true)).filter(|answer| matches!(answer, Answer::Done(_) | Answer::Failed { .. }))
    }
}

/// Judges an answer to a capture or a void.
pub(super) fn judge_end(status: u16, body: &[u8], request: &CaptureRequest<'_>) -> Answer<Ended> {
    if (200..=299).contains(&status) {
        return match serde_json::from_slice::<Intent>(body) {
            Ok(intent) => as_asked(ended(&intent, request, false), request),
            Err(_) => Answer::Ambiguous(Cause::Unreadable),
        };
    }
    if status == 400
        && let Ok(ErrorBody { error, .. }) = serde_json::from_slice(body)
        && error.code.as_deref() == Some("payment_intent_unexpected_state")
        && let Some(intent) = error.payment_intent
    {
        return ended(&intent, request, true);
    }
    // All other answers mean what they mean of any request about a payment.
    let expected = Expected {
        operation: Operation::Capture,
        amount: request.held,
        is_held: true,
    };
    match judge(status, body, &expected) {
        Verdict::Answer(Answer::Declined(reason)) => Answer::Declined(reason),
        Verdict::Answer(Answer::Rejected(reason)) => Answer::Rejected(reason),
        Verdict::Answer(Answer::NotExecuted(cause)) => Answer::NotExecuted(cause),
        Verdict::Answer(Answer::InProgress) => Answer::InProgress,
        Verdict::Answer(Answer::Ambiguous(cause)) => Answer::Ambiguous(cause),
        Verdict::Answer(Answer::Done(_) | Answer::Failed { .. })
        | Verdict::Pending { .. }
        | Verdict::AlreadyRefunded => Answer::Ambiguous(Cause::Unreadable),
    }
}

/// A request that succeeds does what it asks for.
fn as_asked(answer: Answer<Ended>, request: &CaptureRequest<'_>) -> Answer<Ended> {
    match answer {
        Answer::Done(Ended { captured, .. }) if captured != request.amount => Answer::Ambiguous(Cause::Mismatch),
        Answer::Failed { .. } => Answer::Ambiguous(Cause::Mismatch),
        answer => answer,
    }
}

/// How the hold ended, by the payment's own state.
fn ended(intent: &Intent, request: &CaptureRequest<'_>, was_ended: bool) -> Answer<Ended> {
    match intent.status.as_str() {
        "succeeded" => {
            let currency = intent.currency.to_ascii_uppercase().parse::<Currency>();
            let captured = currency
                .ok()
                .and_then(|currency| Money::from_provider(currency, intent.amount_received));
            let is_plausible = |captured: &Money| {
                captured.currency() == request.held.currency() && captured.minor_units() <= request.held.minor_units()
            };
            match captured.filter(is_plausible) {
                Some(captured) => Answer::Done(Ended {
                    captured: Some(captured),
                    was_ended,
                }),
                None => Answer::Ambiguous(Cause::Mismatch),
            }
        }
        "canceled" if request.amount.is_none() => Answer::Done(Ended {
            captured: None,
            was_ended,
        }),
        "canceled" => Answer::Failed {
            provider_id: request.payment_intent.to_owned(),
            reason: decline("hold_canceled"),
        },
        "processing" => Answer::InProgress,
        _ => Answer::Ambiguous(Cause::Unfinished),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn usd(minor_units: i64) -> Money {
        Money::new("USD".parse().unwrap(), minor_units).unwrap()
    }

    fn request(amount: Option<i64>) -> CaptureRequest<'static> {
        CaptureRequest {
            key: "waybill-1-capture",
            payment_intent: "pi_1",
            held: usd(1_999),
            amount: amount.map(usd),
        }
    }

    fn intent(status: &str, received: i64) -> String {
        format!(r#"{{"id":"pi_1","status":"{status}","amount":1999,"amount_received":{received},"currency":"usd"}}"#)
    }

    fn unexpected(status: &str, received: i64) -> String {
        let intent = intent(status, received);
        format!(
            r#"{{"error":{{"type":"invalid_request_error","code":"payment_intent_unexpected_state","payment_intent":{intent}}}}}"#
        )
    }

    #[test]
    fn what_became_of_the_payment_is_the_answer() {
        let done = |captured: Option<i64>, was_ended| {
            Answer::Done(Ended {
                captured: captured.map(usd),
                was_ended,
            })
        };
        let capture = request(Some(1_500));
        assert_eq!(
            judge_end(200, intent("succeeded", 1_500).as_bytes(), &capture),
            done(Some(1_500), false)
        );
        // A person captured it before, and all of it.
        assert_eq!(
            judge_end(400, unexpected("succeeded", 1_999).as_bytes(), &capture),
            done(Some(1_999), true)
        );
        let gone = judge_end(400, unexpected("canceled", 0).as_bytes(), &capture);
        assert!(matches!(gone, Answer::Failed { .. }), "{gone:?}");
        let void = request(None);
        for (status, body) in [(200, intent("canceled", 0)), (400, unexpected("canceled", 0))] {
            let expected = done(None, status == 400);
            assert_eq!(judge_end(status, body.as_bytes(), &void), expected, "{body}");
        }
        assert_eq!(
            judge_end(400, unexpected("succeeded", 700).as_bytes(), &void),
            done(Some(700), true)
        );
    }

    #[test]
    fn what_is_not_plausible_decides_nothing() {
        let capture = request(Some(1_500));
        for (status, body) in [
            (200, intent("succeeded", 2_000)),
            (200, intent("succeeded", 0)),
            // Our own request captures what it asks for.
            (200, intent("succeeded", 1_501)),
            (200, intent("canceled", 0)),
            (200, intent("succeeded", 1_500).replace("usd", "eur")),
            (200, intent("requires_capture", 0)),
            (200, "<html>".to_owned()),
            (
                400,
                r#"{"error":{"code":"payment_intent_unexpected_state","type":"invalid_request_error"}}"#.to_owned(),
            ),
            (500, String::new()),
        ] {
            let answer = judge_end(status, body.as_bytes(), &capture);
            assert!(
                !matches!(answer, Answer::Done(_) | Answer::Failed { .. }),
                "{body}: {answer:?}"
            );
        }
    }
}
