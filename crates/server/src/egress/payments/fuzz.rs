//! Answers as a provider, or whoever stands between, could give them. An input is the status, a line break, and the body.
//! Nothing is done that the body does not say in so many words: each success is compared with the JSON as it is.

use serde_json::Value;
use waybill_domain::money::Money;
use waybill_domain::payment::Operation;

use super::charges::read_group;
use super::disputes::read_disputes;
use super::holds::{CaptureRequest, judge_end};
use super::lists::{intent, judge_listed, movement, payment_of_charge, refund_object};
use super::verdict::{Expected, Object, Page, Verdict, judge, judge_revocation};
use super::{Answer, DeclineReason, Receipt};
use crate::fuzz::{corpus, fuzz};

/// 12.50 euros: what was asked for.
const UNITS: i64 = 1_250;

fn asked() -> Money {
    Money::new("EUR".parse().unwrap(), UNITS).unwrap()
}

#[test]
fn whatever_the_provider_answers_only_what_it_says_is_done_is_taken_for_done() {
    fuzz(&corpus("provider_answers"), |input| {
        let end = input.iter().position(|byte| *byte == b'\n').unwrap_or(input.len());
        let status = str::from_utf8(&input[..end])
            .ok()
            .and_then(|status| status.parse().ok());
        let (status, body): (u16, _) = (status.unwrap_or(200), input.get(end + 1..).unwrap_or_default());
        check_moves(status, body);
        check_holds(status, body);
        if judge_revocation(status, body, asked()) == Answer::Done(()) {
            assert!((200..300).contains(&status));
            let said: Value = serde_json::from_slice(body).unwrap();
            assert_ne!(said["status"], "succeeded");
            check_amount(&said);
        }
        check_reads(body);
    });
}

fn check_moves(status: u16, body: &[u8]) {
    for (operation, is_held) in [
        (Operation::Charge, false),
        (Operation::Charge, true),
        (Operation::Refund(1), false),
    ] {
        let expected = Expected {
            operation,
            amount: asked(),
            is_held,
        };
        match judge(status, body, &expected) {
            Verdict::Answer(Answer::Done(receipt)) => {
                assert!((200..300).contains(&status), "{status}");
                check_receipt(&receipt, &serde_json::from_slice(body).unwrap(), is_held);
            }
            Verdict::Answer(Answer::Failed { provider_id, reason }) => {
                assert!((200..300).contains(&status), "{status}");
                check_id(&provider_id);
                check_reason(&reason);
            }
            Verdict::Answer(Answer::Declined(reason) | Answer::Rejected(reason)) => check_reason(&reason),
            Verdict::Pending { id } => check_id(&id),
            Verdict::AlreadyRefunded => assert!(!is_held && operation != Operation::Charge),
            Verdict::Answer(Answer::NotExecuted(_) | Answer::InProgress | Answer::Ambiguous(_)) => {}
        }
    }
}

fn check_holds(status: u16, body: &[u8]) {
    for amount in [Some(asked()), None] {
        let request = CaptureRequest {
            key: "waybill-1-capture",
            payment_intent: "pi_1",
            held: asked(),
            amount,
        };
        match judge_end(status, body, &request) {
            Answer::Done(ended) => {
                let said: Value = serde_json::from_slice(body).unwrap();
                let intent = if ended.was_ended {
                    assert_eq!(status, 400);
                    &said["error"]["payment_intent"]
                } else {
                    &said
                };
                if let Some(captured) = ended.captured {
                    assert_eq!(intent["status"], "succeeded");
                    assert_eq!(intent["amount_received"], captured.minor_units());
                    assert!(captured.minor_units() <= UNITS && captured.currency() == asked().currency());
                } else {
                    assert_eq!(intent["status"], "canceled");
                }
                assert!(ended.was_ended || ended.captured == amount, "what was asked for");
            }
            Answer::Failed { reason, .. } => {
                assert!(amount.is_some() && status == 400);
                check_reason(&reason);
            }
            Answer::Declined(reason) | Answer::Rejected(reason) => check_reason(&reason),
            Answer::NotExecuted(_) | Answer::InProgress | Answer::Ambiguous(_) => {}
        }
    }
}

/// Objects and lists, which are read before or after money moves.
fn check_reads(body: &[u8]) {
    let Ok(said) = serde_json::from_slice::<Value>(body) else {
        assert!(serde_json::from_slice::<Object>(body).is_err() && serde_json::from_slice::<Page>(body).is_err());
        assert!(read_disputes(body).is_err());
        return;
    };
    let read = || serde_json::from_slice::<Object>(body).ok();
    if let Some(object) = read() {
        check_object(object, &said);
        let _ = (read().map(refund_object), read().map(payment_of_charge));
    }
    if let Ok(page) = serde_json::from_slice::<Page>(body) {
        let listed = said["data"].as_array().unwrap();
        assert_eq!(page.data.len(), listed.len());
        let pairs = page.data.into_iter().zip(listed);
        pairs.for_each(|(object, said)| check_object(object, said));
    }
    if let Ok(Some(Answer::Done(receipt))) = read_group(body, asked()) {
        let charges = said["data"].as_array().unwrap();
        let made = charges
            .iter()
            .find(|charge| charge["payment_intent"] == receipt.provider_id.as_str());
        let is_whole = |charge: &&Value| charge["status"] == "succeeded" && charge["disputed"] != true;
        check_amount(
            charges
                .iter()
                .filter(is_whole)
                .find(|charge| *charge == made.unwrap())
                .unwrap(),
        );
        check_id(&receipt.provider_id);
    }
    for dispute in read_disputes(body).unwrap_or_default() {
        check_id(&dispute.provider_id);
        check_word(&dispute.status);
        check_word(&dispute.reason);
        assert!(dispute.amount_minor > 0);
    }
}

fn check_object(object: Object, said: &Value) {
    check_id(&object.id);
    let again = || serde_json::from_value::<Object>(said.clone()).unwrap();
    let payment = intent(again());
    assert_eq!(said["status"].as_str().unwrap_or_default(), payment.status);
    let moved = movement(again()).is_some();
    assert_eq!(moved, said["status"] == "succeeded");
    let expected = Expected {
        operation: Operation::Charge,
        amount: asked(),
        is_held: false,
    };
    if let Answer::Done(receipt) = judge_listed(object, &expected) {
        check_receipt(&receipt, said, false);
    }
}

fn check_receipt(receipt: &Receipt, said: &Value, is_held: bool) {
    check_id(&receipt.provider_id);
    assert_eq!(said["id"], receipt.provider_id.as_str());
    assert!(said["status"] == "succeeded" || (is_held && said["status"] == "requires_capture"));
    check_amount(said);
}

fn check_amount(said: &Value) {
    assert_eq!(said["amount"], UNITS);
    assert!(said["currency"].as_str().unwrap().eq_ignore_ascii_case("eur"));
}

/// It goes into columns, lines of the log and the path of later requests.
fn check_id(id: &str) {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_-".contains(&byte);
    assert!((1..=255).contains(&id.len()) && id.bytes().all(is_plain), "{id:?}");
}

fn check_reason(reason: &DeclineReason) {
    check_word(&reason.code);
}

fn check_word(word: &str) {
    let is_plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
    assert!((1..=64).contains(&word.len()) && word.bytes().all(is_plain), "{word:?}");
}
