//! How `waybill orders` shows what it found: tables for people, JSON for machines.

use std::fmt::Write as _;

use jiff::Timestamp;
use serde_json::{Value, json};
use waybill_domain::tenant::name_of;
use waybill_domain::text::escaped;
use waybill_server::app::{LeaseHolder, LogLine, OrderDetails, UnfinishedOrders};

use crate::table::{Table, amount, table};

/// The orders as a table, each in a row.
pub fn list_table(listed: &UnfinishedOrders) -> Table {
    let mut table = table(&[
        "order",
        "status",
        "age",
        "tries",
        "sent",
        "leased by",
        "due in",
        "needs attention",
    ]);
    for order in &listed.orders {
        let lease = order.lease.as_ref().filter(|lease| lease.until > listed.now);
        table.add_row([
            order.order.to_string(),
            order.status.clone(),
            span(order.since, listed.now),
            order.attempts.to_string(),
            order.sends.to_string(),
            lease.map_or_else(String::new, |lease| held(lease, listed.now)),
            if order.next_run_at > listed.now {
                span(listed.now, order.next_run_at)
            } else {
                "now".to_owned()
            },
            order.needs_attention.clone().unwrap_or_default(),
        ]);
    }
    table
}

/// The last line: how many there are.
pub fn list_verdict(listed: &UnfinishedOrders, only_stuck: bool) -> String {
    let shown = i64::try_from(listed.orders.len()).unwrap_or(i64::MAX);
    let what = if only_stuck { "stuck" } else { "unfinished" };
    let more = match listed.more {
        0 => String::new(),
        more => format!(", of which {more} more than shown"),
    };
    format!("orders: {} {what}{more}", shown.saturating_add(listed.more))
}

/// The orders as one JSON object.
pub fn list_json(listed: &UnfinishedOrders) -> Value {
    let orders: Vec<Value> = (listed.orders.iter())
        .map(|order| {
            json!({
                "order_id": order.order.to_string(),
                "status": order.status,
                "since": order.since.to_string(),
                "attempts": order.attempts,
                "sends": order.sends,
                "needs_attention": order.needs_attention,
                "lease_owner": order.lease.as_ref().map(|lease| &lease.owner),
                "lease_until": order.lease.as_ref().map(|lease| lease.until.to_string()),
                "next_run_at": order.next_run_at.to_string(),
            })
        })
        .collect();
    json!({ "now": listed.now.to_string(), "orders": orders, "more": listed.more })
}

/// One order for a person: where it stands, then what happened, the earliest first.
pub fn details_text(order: &OrderDetails) -> String {
    let mut text = format!("{}\n\n{}", header(order), steps(order));
    if !order.provider_attempts.is_empty() {
        let _ = write!(text, "\n\nasked of the payment provider\n{}", attempts(order));
    }
    if order.payment.is_some() {
        let _ = write!(text, "\n\nconfirmed by it\n{}", payment(order));
    }
    if !order.assignments.is_empty() {
        let _ = write!(text, "\n\ndrivers\n{}", assignments(order));
    }
    if !order.events.is_empty() {
        let _ = write!(text, "\n\nevents of the payment provider\n{}", events(order));
    }
    text
}

/// One order as one JSON object.
pub fn details_json(order: &OrderDetails) -> Value {
    let at = |time: Option<Timestamp>| time.map(|time| time.to_string());
    json!({
        "order_id": order.order.to_string(),
        "user_id": order.user,
        "idempotency_key": order.idempotency_key,
        "payment_account": order.payment_account,
        "required_tags": order.required_tags,
        "amount_minor": order.amount_minor,
        "currency": order.currency,
        "status": order.status,
        "failure_reason": order.failure_reason,
        "created_at": order.created_at.to_string(),
        "updated_at": order.updated_at.to_string(),
        "finished_at": at(order.finished_at),
        "cancel_requested_at": at(order.cancel_requested_at),
        "fence": order.fence,
        "attempts": order.attempts,
        "reassignments": order.reassignments,
        "lease_owner": order.lease.as_ref().map(|lease| &lease.owner),
        "lease_until": at(order.lease.as_ref().map(|lease| lease.until)),
        "next_run_at": order.next_run_at.to_string(),
        "needs_attention": order.needs_attention,
        "steps": order.steps.iter().map(|line| json!({
            "at": line.created_at.to_string(),
            "step": line.step,
            "status": line.status,
            "detail": line.detail,
            "fence": line.fence,
            "actor": line.actor,
            "requested_by": line.requested_by,
            "round": line.round,
        })).collect::<Vec<_>>(),
        "payment_attempts": order.provider_attempts.iter().map(|attempt| json!({
            "operation": attempt.operation,
            "number": attempt.number,
            "state": attempt.state,
            "provider_key": attempt.provider_key,
            "sends": attempt.sends,
            "first_sent_at": at(attempt.first_sent_at),
            "last_sent_at": at(attempt.last_sent_at),
            "provider_id": attempt.provider_id,
            "last_error": attempt.last_error,
            "server_errors": attempt.server_errors,
        })).collect::<Vec<_>>(),
        "payment": order.payment.as_ref().map(|payment| json!({
            "amount_minor": payment.amount_minor,
            "currency": payment.currency,
            "charged_at": payment.charged_at.to_string(),
            "captured_amount_minor": payment.captured_amount_minor,
            "to_capture_minor": payment.to_capture_minor,
            "kept_amount_minor": payment.kept_amount_minor,
            "provider_charge_id": payment.provider_charge_id,
            "refund_amount_minor": payment.refund_amount_minor,
            "refunded_at": at(payment.refunded_at),
        })),
        "refunds": order.refunds.iter().map(|refund| json!({
            "number": refund.number,
            "amount_minor": refund.amount_minor,
            "currency": refund.currency,
            "origin": refund.origin,
            "state": refund.state,
            "provider_id": refund.provider_id,
            "reason": refund.reason,
            "failure": refund.failure,
            "created_at": refund.created_at.to_string(),
            "settled_at": at(refund.settled_at),
        })).collect::<Vec<_>>(),
        "disputes": order.disputes.iter().map(|dispute| json!({
            "provider_id": dispute.provider_id,
            "amount_minor": dispute.amount_minor,
            "currency": dispute.currency,
            "reason": dispute.reason,
            "status": dispute.status,
            "is_open": dispute.is_open,
            "opened_at": dispute.opened_at.to_string(),
            "changed_at": dispute.changed_at.to_string(),
        })).collect::<Vec<_>>(),
        "assignments": order.assignments.iter().map(|assignment| json!({
            "driver_id": assignment.driver,
            "assigned_at": assignment.assigned_at.to_string(),
            "released_at": at(assignment.released_at),
            "release_reason": assignment.release_reason,
        })).collect::<Vec<_>>(),
        "payment_events": order.events.iter().map(|event| json!({
            "event_id": name_of(&event.event),
            "type": event.kind,
            "received_at": event.received_at.to_string(),
        })).collect::<Vec<_>>(),
    })
}

fn header(order: &OrderDetails) -> String {
    let lease = order.lease.as_ref().filter(|lease| lease.until > order.now);
    let mut lines = vec![
        ("order", order.order.to_string()),
        ("status", order.status.clone()),
        ("amount", amount(order.amount_minor, &order.currency)),
        ("user", order.user.clone()),
        (
            "key",
            order.idempotency_key.clone().unwrap_or_else(|| "expired".to_owned()),
        ),
        ("created", time(order.created_at)),
        ("fence, tries", format!("{}, {}", order.fence, order.attempts)),
    ];
    let optional = [
        ("account", order.payment_account.clone()),
        (
            "requires",
            (!order.required_tags.is_empty()).then(|| order.required_tags.join(", ")),
        ),
        ("failure reason", order.failure_reason.clone()),
        ("cancellation", order.cancel_requested_at.map(time)),
        ("settled since", order.finished_at.map(time)),
        ("leased by", lease.map(|lease| held(lease, order.now))),
        ("due", order.finished_at.is_none().then(|| time(order.next_run_at))),
        ("needs attention", order.needs_attention.clone()),
    ];
    lines.extend(optional.into_iter().filter_map(|(name, value)| Some((name, value?))));
    let lines: Vec<String> = lines
        .into_iter()
        .map(|(name, value)| format!("{name:<16}{}", escaped(&value)))
        .collect();
    lines.join("\n")
}

/// Who wrote the line, and for whom; of an operator's line both are one.
fn by(line: &LogLine) -> String {
    match &line.requested_by {
        Some(name) if *name != line.actor => format!("{} for {name}", line.actor),
        _ => line.actor.clone(),
    }
}

fn steps(order: &OrderDetails) -> Table {
    let mut table = table(&["at", "step", "", "detail", "fence", "by", "round"]);
    for line in &order.steps {
        table.add_row([
            time(line.created_at),
            line.step.clone(),
            line.status.clone(),
            line.detail.clone(),
            line.fence.to_string(),
            by(line),
            line.round.to_string(),
        ]);
    }
    table
}

fn attempts(order: &OrderDetails) -> Table {
    let mut table = table(&[
        "",
        "state",
        "key",
        "sent",
        "first",
        "last",
        "provider's id",
        "last error",
        "5xx",
    ]);
    for attempt in &order.provider_attempts {
        let operation = match attempt.number {
            1 => attempt.operation.clone(),
            number => format!("{} {number}", attempt.operation),
        };
        table.add_row([
            operation,
            attempt.state.clone(),
            attempt.provider_key.clone(),
            attempt.sends.to_string(),
            attempt.first_sent_at.map(time).unwrap_or_default(),
            attempt.last_sent_at.map(time).unwrap_or_default(),
            attempt.provider_id.clone().unwrap_or_default(),
            attempt.last_error.clone().unwrap_or_default(),
            attempt.server_errors.to_string(),
        ]);
    }
    table
}

fn payment(order: &OrderDetails) -> Table {
    let mut table = table(&["", "amount", "", "at", "provider's id", "because"]);
    if let Some(payment) = &order.payment {
        table.add_row([
            "charge".to_owned(),
            amount(payment.amount_minor, &payment.currency),
            // What was captured of a hold is in a row of its own.
            match (payment.captured_amount_minor, payment.to_capture_minor) {
                (Some(_), None) => "succeeded".to_owned(),
                _ => "held".to_owned(),
            },
            time(payment.charged_at),
            payment.provider_charge_id.clone(),
            String::new(),
        ]);
        if let Some(decided) = payment.to_capture_minor {
            let state = match payment.captured_amount_minor {
                None => "open",
                Some(0) if decided > 0 => "failed",
                Some(_) => "succeeded",
            };
            table.add_row([
                if decided == 0 { "void" } else { "capture" }.to_owned(),
                amount(payment.captured_amount_minor.unwrap_or(decided), &payment.currency),
                state.to_owned(),
                String::new(),
                String::new(),
                String::new(),
            ]);
        }
    }
    for refund in &order.refunds {
        let because = match (&refund.failure, refund.reason.as_str()) {
            (Some(failure), _) => format!("{}: {failure}", refund.origin),
            (None, "") => refund.origin.clone(),
            (None, reason) => format!("{}: {reason}", refund.origin),
        };
        table.add_row([
            format!("refund {}", refund.number),
            amount(refund.amount_minor, &refund.currency),
            refund.state.clone(),
            time(refund.settled_at.unwrap_or(refund.created_at)),
            refund.provider_id.clone().unwrap_or_default(),
            because,
        ]);
    }
    for dispute in &order.disputes {
        table.add_row([
            "dispute".to_owned(),
            amount(dispute.amount_minor, &dispute.currency),
            dispute.status.clone(),
            time(dispute.changed_at),
            dispute.provider_id.clone(),
            dispute.reason.clone(),
        ]);
    }
    table
}

fn assignments(order: &OrderDetails) -> Table {
    let mut table = table(&["driver", "from", "until", "because"]);
    for assignment in &order.assignments {
        table.add_row([
            assignment.driver.clone(),
            time(assignment.assigned_at),
            assignment.released_at.map(time).unwrap_or_default(),
            assignment.release_reason.clone().unwrap_or_default(),
        ]);
    }
    table
}

fn events(order: &OrderDetails) -> Table {
    let mut table = table(&["event", "type", "received"]);
    for event in &order.events {
        table.add_row([
            name_of(&event.event).to_owned(),
            event.kind.clone(),
            time(event.received_at),
        ]);
    }
    table
}

fn held(lease: &LeaseHolder, now: Timestamp) -> String {
    format!("{} for {}", lease.owner, span(now, lease.until))
}

/// To the millisecond: steps of one order are often so close.
fn time(at: Timestamp) -> String {
    format!("{at:.3}")
}

/// The time between, in its two largest units.
fn span(from: Timestamp, to: Timestamp) -> String {
    let secs = to.duration_since(from).as_secs().max(0);
    match secs {
        0..60 => format!("{secs} s"),
        60..3_600 => format!("{} min {} s", secs / 60, secs % 60),
        3_600..86_400 => format!("{} h {} min", secs / 3_600, secs % 3_600 / 60),
        _ => format!("{} d {} h", secs / 86_400, secs % 86_400 / 3_600),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_have_two_units() {
        let from = Timestamp::UNIX_EPOCH;
        for (secs, shown) in [
            (-5, "0 s"),
            (59, "59 s"),
            (61, "1 min 1 s"),
            (7_260, "2 h 1 min"),
            (90_000, "1 d 1 h"),
        ] {
            assert_eq!(span(from, Timestamp::from_second(secs).unwrap()), shown);
        }
    }
}
