//! Disputes: the customer's bank takes a payment back, all of it or a part, and returns it if the dispute is won
//! (<https://docs.stripe.com/disputes/how-disputes-work>). Here a payment has at most one.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::api_error::ApiError;
use super::change::Change;
use super::journal::Effect;
use super::listing::Objects;
use super::objects::{Closing, Dispute, PaymentIntent, new_id};
use super::reply::Reply;
use super::request::Page;

/// What a cardholder may say (<https://docs.stripe.com/api/disputes/object#dispute_object-reason>).
const REASONS: [&str; 15] = [
    "bank_cannot_process",
    "check_returned",
    "credit_not_processed",
    "customer_initiated",
    "debit_not_authorized",
    "duplicate",
    "fraudulent",
    "general",
    "incorrect_account_details",
    "insufficient_funds",
    "noncompliant",
    "product_not_received",
    "product_unacceptable",
    "subscription_canceled",
    "unrecognized",
];

/// `amount`: all that was not refunded, if not given. What was refunded in full is not disputed any more.
pub(super) fn open(intent: &PaymentIntent, amount: Option<i64>, reason: &str) -> Result<Dispute, ApiError> {
    if !REASONS.contains(&reason) {
        let message = format!("It must be one of {}.", REASONS.join(", "));
        return Err(ApiError::parameter("parameter_invalid", "reason", &message));
    }
    if intent.disputed {
        let message = format!("The payment {} is disputed already.", intent.id);
        return Err(ApiError::request(&message));
    }
    let left = intent.amount_received() - intent.amount_refunded;
    let amount = amount.unwrap_or(left);
    if !(1..=left).contains(&amount) {
        let message = format!("It must be 1 to {left}, what was captured and not refunded.");
        return Err(ApiError::parameter("parameter_invalid", "amount", &message));
    }
    Ok(Dispute {
        id: new_id("du"),
        intent_id: intent.id.clone(),
        charge_id: intent.charge_id.clone(),
        amount,
        currency: intent.currency.clone(),
        reason: reason.to_owned(),
        created: Timestamp::now().as_second(),
        closed: None,
    })
}

pub(super) fn opened(dispute: Dispute) -> Change {
    let events = ["charge.dispute.created", "charge.dispute.funds_withdrawn"];
    change(dispute, &events)
}

pub(super) fn close(dispute: &Dispute, won: bool) -> Result<Change, ApiError> {
    if dispute.closed.is_some() {
        return Err(ApiError::request("This dispute is already closed"));
    }
    let closing = Closing {
        won,
        at: Timestamp::now().as_second(),
    };
    let closed = Dispute {
        closed: Some(closing),
        ..dispute.clone()
    };
    Ok(if won {
        change(closed, &["charge.dispute.funds_reinstated", "charge.dispute.closed"])
    } else {
        change(closed, &["charge.dispute.closed"])
    })
}

/// The newest first (<https://docs.stripe.com/api/disputes/list>). `charge`: only those of this charge.
pub(super) fn list(disputes: &Objects<Dispute>, page: &Page, charge: Option<&str>) -> Result<Reply, ApiError> {
    let end = match &page.starting_after {
        None => disputes.len(),
        Some(id) => disputes.get_index_of(id).ok_or_else(|| {
            let message = format!("No such dispute: '{id}'");
            ApiError::parameter("resource_missing", "starting_after", &message)
        })?,
    };
    let is_wanted = |dispute: &&Dispute| {
        page.has_time(dispute.created)
            && page.payment_intent.as_ref().is_none_or(|id| *id == dispute.intent_id)
            && charge.is_none_or(|id| id == dispute.charge_id)
    };
    let mut wanted = disputes.values().map(Box::as_ref).take(end).rev().filter(is_wanted);
    let data: Vec<Value> = wanted.by_ref().take(page.limit).map(Dispute::to_json).collect();
    let has_more = wanted.next().is_some();
    Ok(Reply::ok(
        &json!({ "object": "list", "url": "/v1/disputes", "has_more": has_more, "data": data }),
    ))
}

fn change(dispute: Dispute, events: &[&'static str]) -> Change {
    let json = dispute.to_json();
    Change {
        reply: Reply::ok(&json),
        events: events.iter().map(|kind| (*kind, json.clone())).collect(),
        effect: Effect::Dispute(dispute),
    }
}
