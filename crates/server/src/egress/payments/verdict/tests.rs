//! The classification by table: status, body, what it means.

use super::*;
use proptest::prelude::*;

fn expected(operation: Operation) -> Expected {
    let amount = Money::new("EUR".parse().unwrap(), 1250).unwrap();
    Expected {
        operation,
        amount,
        is_held: false,
    }
}

/// What is expected of a line of the table; `Declined` and the ambiguous ones by code.
#[derive(Debug, PartialEq, Eq)]
enum Meaning {
    Done,
    Declined(String),
    Rejected(String),
    NotExecuted(&'static str),
    InProgress,
    Ambiguous(&'static str),
    Pending,
    AlreadyRefunded,
    Failed(String),
}

use Meaning::{AlreadyRefunded, Ambiguous, Done, InProgress, NotExecuted, Pending};

fn declined(code: &str) -> Meaning {
    Meaning::Declined(code.to_owned())
}

fn failed(code: &str) -> Meaning {
    Meaning::Failed(code.to_owned())
}

fn rejected(code: &str) -> Meaning {
    Meaning::Rejected(code.to_owned())
}

fn meaning(status: u16, body: &str, expected: &Expected) -> Meaning {
    match judge(status, body.as_bytes(), expected) {
        Verdict::Pending { .. } => Pending,
        Verdict::AlreadyRefunded => AlreadyRefunded,
        Verdict::Answer(Answer::Done(_)) => Done,
        Verdict::Answer(Answer::Declined(reason)) => Meaning::Declined(reason.code),
        Verdict::Answer(Answer::Failed { reason, .. }) => Meaning::Failed(reason.code),
        Verdict::Answer(Answer::Rejected(reason)) => Meaning::Rejected(reason.code),
        Verdict::Answer(Answer::NotExecuted(cause)) => NotExecuted(cause.code()),
        Verdict::Answer(Answer::InProgress) => InProgress,
        Verdict::Answer(Answer::Ambiguous(cause)) => Ambiguous(cause.code()),
    }
}

fn object(status: &str) -> String {
    format!(r#"{{"id":"pi_1","status":"{status}","amount":1250,"currency":"eur","metadata":{{}},"livemode":false}}"#)
}

fn error(kind: &str, rest: &str) -> String {
    format!(r#"{{"error":{{"type":"{kind}","message":"Your card ending in 4242 was declined."{rest}}}}}"#)
}

#[test]
fn every_answer_to_a_charge_means_what_the_table_says() {
    #[rustfmt::skip]
    let table = [
        (200, object("succeeded"), Done),
        (201, object("succeeded"), Done),
        (200, object("processing"), Pending),
        (200, object("requires_action"), Ambiguous("unfinished")),
        (200, object("requires_capture"), Ambiguous("unfinished")),
        (200, object("requires_payment_method"), Ambiguous("unfinished")),
        (200, object("canceled"), declined("payment_canceled")),
        (200, object("failed"), Ambiguous("unfinished")),
        (200, object("Succeeded"), Ambiguous("unfinished")),
        (200, object("succeeded").replace("1250", "1251"), Ambiguous("mismatch")),
        (200, object("succeeded").replace("1250", "1250.0"), Ambiguous("unreadable")),
        (200, object("succeeded").replace("eur", "usd"), Ambiguous("mismatch")),
        (200, object("succeeded").replace("pi_1", ""), Ambiguous("unreadable")),
        (200, object("succeeded").replace(r#""id":"pi_1","#, ""), Ambiguous("unreadable")),
        (200, object("succeeded").replace("{}", "null"), Done),
        (200, String::new(), Ambiguous("unreadable")),
        (200, "<html>Welcome to nginx!</html>".into(), Ambiguous("unreadable")),
        (204, String::new(), Ambiguous("unreadable")),
        (302, object("succeeded"), Ambiguous("status")),
        (402, error("card_error", r#","code":"card_declined""#), declined("card_declined")),
        (402, error("card_error", r#","code":"card_declined","decline_code":"lost_card""#), declined("lost_card")),
        (402, error("card_error", ""), declined("unspecified")),
        (402, error("card_error", r#","code":"Ask <b>us</b>""#), declined("unrecognized")),
        (402, "<html>Payment required</html>".into(), Ambiguous("status")),
        (400, error("card_error", r#","code":"expired_card""#), declined("expired_card")),
        (400, error("invalid_request_error", r#","code":"payment_method_unexpected_state""#), declined("payment_method_unexpected_state")),
        (400, error("invalid_request_error", r#","code":"payment_intent_incompatible_payment_method""#), declined("payment_intent_incompatible_payment_method")),
        (400, error("invalid_request_error", r#","code":"amount_too_small""#), declined("amount_too_small")),
        (400, error("invalid_request_error", r#","code":"resource_missing","param":"payment_method""#), rejected("payment_method_unknown")),
        (400, error("invalid_request_error", r#","code":"resource_missing","param":"customer""#), rejected("payment_method_unknown")),
        (400, error("invalid_request_error", r#","code":"resource_missing","param":"on_behalf_of""#), rejected("resource_missing")),
        (400, error("invalid_request_error", r#","code":"parameter_unknown""#), rejected("parameter_unknown")),
        (400, error("invalid_request_error", r#","code":"a code of tomorrow""#), rejected("unrecognized")),
        (400, error("invalid_request_error", ""), rejected("invalid_request")),
        (400, error("idempotency_error", ""), Ambiguous("key_reused")),
        (402, error("idempotency_error", ""), Ambiguous("key_reused")),
        (400, error("api_error", ""), Ambiguous("status")),
        (400, "Bad Request".into(), Ambiguous("status")),
        (404, error("invalid_request_error", ""), Ambiguous("status")),
        (408, String::new(), Ambiguous("status")),
        (401, error("invalid_request_error", ""), NotExecuted("unauthorized")),
        (403, String::new(), NotExecuted("unauthorized")),
        (409, error("invalid_request_error", r#","code":"idempotency_key_in_use""#), InProgress),
        (429, error("invalid_request_error", r#","code":"rate_limit""#), NotExecuted("throttled")),
        (429, String::new(), NotExecuted("throttled")),
        (500, error("api_error", ""), Ambiguous("status")),
        (500, object("succeeded"), Ambiguous("status")),
        (503, String::new(), Ambiguous("status")),
        (504, error("card_error", ""), Ambiguous("status")),
    ];
    for (status, body, means) in table {
        assert_eq!(
            meaning(status, &body, &expected(Operation::Charge)),
            means,
            "{status} {body}"
        );
    }
}

/// A hold is made where one was asked for, and is unfinished where the money was to be taken.
#[test]
fn a_hold_is_done_only_where_it_was_asked_for() {
    let body = object("requires_capture");
    assert_eq!(
        meaning(200, &body, &expected(Operation::Charge)),
        Ambiguous("unfinished")
    );
    let held = Expected {
        is_held: true,
        ..expected(Operation::Charge)
    };
    assert_eq!(meaning(200, &body, &held), Done);
}

#[test]
fn every_answer_to_a_refund_means_what_the_table_says() {
    #[rustfmt::skip]
    let table = [
        (200, object("succeeded"), Done),
        (200, object("pending"), Pending),
        (200, object("requires_action"), Pending),
        (200, object("failed"), failed("refund_failed")),
        (200, object("canceled"), failed("refund_canceled")),
        (200, object("failed").replace("1250", "1"), Ambiguous("mismatch")),
        (200, object("succeeded").replace("1250", "1"), Ambiguous("mismatch")),
        (200, object("succeeded").replace(r#""succeeded""#, "null"), Ambiguous("unfinished")),
        (200, object("processing"), Ambiguous("unfinished")),
        (400, error("invalid_request_error", r#","code":"charge_already_refunded""#), AlreadyRefunded),
        (400, error("invalid_request_error", r#","code":"amount_too_large","param":"amount""#), AlreadyRefunded),
        (400, error("invalid_request_error", r#","param":"amount""#), AlreadyRefunded),
        (400, error("idempotency_error", r#","code":"charge_already_refunded""#), Ambiguous("key_reused")),
        (400, error("invalid_request_error", r#","code":"charge_disputed""#), declined("charge_disputed")),
        (409, String::new(), InProgress),
        (500, String::new(), Ambiguous("status")),
    ];
    for (status, body, means) in table {
        assert_eq!(
            meaning(status, &body, &expected(Operation::Refund(1))),
            means,
            "{status} {body}"
        );
    }
}

#[test]
fn a_receipt_carries_the_providers_id_and_the_amount() {
    let receipt = Receipt {
        provider_id: "pi_1".into(),
        amount: expected(Operation::Charge).amount,
    };
    assert_eq!(
        judge(200, object("succeeded").as_bytes(), &expected(Operation::Charge)),
        Verdict::Answer(Answer::Done(receipt))
    );
}

/// 5000 ariary: 500,000 minor units of ISO 4217, and 5000 units of the provider.
#[test]
fn an_amount_is_compared_in_the_unit_of_the_provider() {
    let ariary = Expected {
        is_held: false,
        operation: Operation::Charge,
        amount: Money::new("MGA".parse().unwrap(), 500_000).unwrap(),
    };
    let body = |units| format!(r#"{{"id":"pi_1","status":"succeeded","amount":{units},"currency":"mga"}}"#);
    assert_eq!(meaning(200, &body(5000), &ariary), Done);
    for another in [500_000, 50, -5000, 0, i64::MAX, i64::MIN] {
        assert_eq!(
            meaning(200, &body(another), &ariary),
            Ambiguous("mismatch"),
            "{another}"
        );
    }
}

#[test]
fn a_charge_is_not_a_refund_that_was_made_already() {
    let body = error("invalid_request_error", r#","code":"charge_already_refunded""#);
    assert_eq!(
        meaning(400, &body, &expected(Operation::Charge)),
        rejected("charge_already_refunded")
    );
}

#[test]
fn no_text_of_the_provider_is_in_a_decline() {
    for code in ["lost_card", "stolen_card", "fraudulent", "do_not_honor"] {
        let body = error("card_error", &format!(r#","decline_code":"{code}""#));
        let Verdict::Answer(Answer::Declined(reason)) = judge(402, body.as_bytes(), &expected(Operation::Charge))
        else {
            panic!("{code} is a decline");
        };
        assert_eq!(reason.message, "The payment was declined.");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn random_bytes_are_never_a_success_nor_a_decline(status in 0_u16..1000, body: Vec<u8>) {
        let verdict = judge(status, &body, &expected(Operation::Charge));
        let is_definite = matches!(verdict, Verdict::Answer(Answer::Done(_) | Answer::Declined(_)));
        prop_assert!(!is_definite, "{:?}", verdict);
    }
}
