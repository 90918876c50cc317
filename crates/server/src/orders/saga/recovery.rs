//! What charge and refund share: a request to the provider that may have been sent before, and what may be done about an
//! outcome that is not known.

use std::time::Duration;

use waybill_domain::payment::{Operation, Recovery, SERVER_ERRORS_MAX};

use super::progress::{Progress, delay_after, delay_of};
use crate::egress::payments::{Answer, Cause, DeclineReason};
use crate::orders::Context;
use crate::resilience::Deadline;
use crate::storage::StoreError;
use crate::storage::orders::{Attempt, Deferral, LeasedOrder, UnknownOutcome};

/// A request that may have been sent before, and how to recover its outcome.
#[derive(Debug, Clone, Copy)]
pub(super) struct Prior {
    pub(super) attempt: Attempt,
    pub(super) recovery: Recovery,
}

/// What is known of the request from before. `None` for the worker that recorded the intent a moment ago: nothing was
/// sent. Every other one renews its lease and reads the attempt, in one statement.
///
/// A moment ago by the wall clock: a process may be suspended for a day between any two lines. Then the order may be
/// another worker's, and the provider's key may have expired.
pub(super) async fn prior_attempt(
    context: &Context,
    order: &LeasedOrder,
    operation: Operation,
) -> Result<Option<Prior>, StoreError> {
    if order.unsent && order.confirmed.age() < context.settings.renew_lease_every {
        return Ok(None);
    }
    let renewal = context.store.renew(order.lease, Some(operation)).await?;
    Ok(renewal.attempt.map(|attempt| Prior {
        attempt,
        recovery: Recovery::of(operation, attempt.age, attempt.server_errors),
    }))
}

/// A query of the provider takes its time: nothing is sent for an order that another worker claimed meanwhile.
pub(super) async fn renew_before_sending(context: &Context, order: &LeasedOrder) -> Result<(), StoreError> {
    context.store.renew(order.lease, None).await.map(drop)
}

pub(super) fn deadline(context: &Context) -> Deadline {
    Deadline::after(context.settings.payment_timeout)
}

/// Nothing was sent, or the provider refused to begin.
pub(super) fn not_executed(order: &LeasedOrder, operation: Operation, cause: Cause) -> Progress {
    let delay = match cause {
        // Nothing was tried, so nothing speaks for a longer wait than the breaker's own.
        Cause::BreakerOpen { retry_after } => delay_of(order).min(retry_after),
        _ => delay_of(order),
    };
    let why = Deferral {
        step: Some((operation.as_str(), cause.to_string())),
        needs_attention: None,
    };
    Progress::Defer(delay, why)
}

/// The provider rejects the request for a reason that is ours: once that is mended, the same request is accepted.
pub(super) fn rejected(order: &LeasedOrder, operation: Operation, reason: &DeclineReason) -> Progress {
    let why = format!(
        "the payment provider rejects our request, not this payment: {}",
        reason.code
    );
    Progress::Defer(delay_of(order), flag(order, operation, why))
}

pub(super) fn unknown_outcome(cause: Cause) -> UnknownOutcome {
    UnknownOutcome {
        cause: cause.to_string(),
        server_error: is_server_error(cause),
    }
}

fn is_server_error(cause: Cause) -> bool {
    matches!(cause, Cause::Status(500..=599))
}

/// When to retry an unknown outcome: the later the more often it was sent, since how often its workers died is no fault
/// of the provider. Flags it where the answer may never change.
pub(super) fn retry_later(cause: Cause, prior: Option<Prior>) -> (Duration, Deferral) {
    let (sends, server_errors) = prior.map_or((0, 0), |prior| (prior.attempt.sends, prior.attempt.server_errors));
    let repeats = is_server_error(cause) && server_errors + 1 >= SERVER_ERRORS_MAX;
    let needs_attention = match cause {
        Cause::Mismatch | Cause::KeyReused | Cause::RefundedElsewhere | Cause::Unfinished => Some(cause.to_string()),
        _ if repeats => Some(format!(
            "the payment provider answers with server errors again and again: {cause}"
        )),
        _ => None,
    };
    // The first query of the provider's list comes at once.
    let tries = if repeats && server_errors + 1 == SERVER_ERRORS_MAX {
        1
    } else {
        sends
    };
    let why = Deferral {
        step: None,
        needs_attention,
    };
    (delay_after(tries), why)
}

/// An operator should look. Logged once, and not at each try.
pub(super) fn flag(order: &LeasedOrder, operation: Operation, why: String) -> Deferral {
    let is_new = order.needs_attention.as_ref() != Some(&why);
    Deferral {
        step: is_new.then(|| (operation.as_str(), why.clone())),
        needs_attention: Some(why),
    }
}

pub(super) fn count_answer<T>(context: &Context, step: &'static str, answer: &Answer<T>) {
    let outcome = match answer {
        Answer::Done(_) => "succeeded",
        Answer::Declined(_) => "declined",
        Answer::Rejected(_) => "rejected",
        Answer::NotExecuted(_) => "not_executed",
        Answer::InProgress => "in_progress",
        Answer::Ambiguous(_) => "unknown",
    };
    context.metrics.dependencies.provider_answered(outcome);
    context.metrics.orders.step(step, outcome);
}

/// Queries are counted as steps of their own: they send no payment.
pub(super) fn count_query<T>(context: &Context, step: &'static str, found: &Result<Option<Answer<T>>, Cause>) {
    let outcome = match found {
        Ok(Some(Answer::Done(_))) => "found",
        Ok(Some(Answer::Declined(_))) => "declined",
        Ok(Some(_)) => "undecided",
        Ok(None) => "not_found",
        Err(_) => "unanswered",
    };
    context.metrics.orders.step(step, outcome);
}

#[cfg(test)]
pub(super) mod tests {
    use jiff::Timestamp;
    use uuid::Uuid;
    use waybill_domain::id::OrderId;
    use waybill_domain::money::Money;
    use waybill_domain::order::{Order, State};
    use waybill_domain::position::Position;

    use super::*;
    use crate::storage::orders::{Confirmed, Lease};

    /// An order whose charge may be sent.
    pub(in crate::orders::saga) fn charging() -> LeasedOrder {
        let id = OrderId::new(Uuid::from_u128(1));
        let now = Timestamp::UNIX_EPOCH;
        LeasedOrder {
            order: Order {
                id,
                user: "anna".parse().unwrap(),
                amount: Money::new("EUR".parse().unwrap(), 1999).unwrap(),
                pickup: Position::new(52.52, 13.405).unwrap(),
                drop_off: None,
                state: State::Charging,
                failure_reason: None,
                created_at: now,
                updated_at: now,
                payment: None,
                assignment: None,
            },
            lease: Lease { order: id, fence: 1 },
            confirmed: Confirmed::new(now, now),
            unsent: true,
            payment_method: "pm_card_visa".parse().unwrap(),
            cancel_requested: false,
            attempts: 1,
            needs_attention: None,
            reassignments: 0,
            search_from: None,
            answer: None,
        }
    }

    /// A request that was sent so often, and answered with so many server errors.
    pub(in crate::orders::saga) fn sent(sends: u32, server_errors: u32) -> Prior {
        Prior {
            attempt: Attempt {
                first_sent_at: Timestamp::UNIX_EPOCH,
                age: Duration::from_mins(1),
                sends,
                server_errors,
            },
            recovery: Recovery::of(Operation::Charge, Duration::from_mins(1), server_errors),
        }
    }

    #[test]
    fn the_retry_comes_later_the_more_often_the_request_was_sent() {
        let delay = |sends| retry_later(Cause::TimedOut, Some(sent(sends, 0))).0;
        assert!(delay(1) <= Duration::from_secs(1));
        assert!(delay(6) >= Duration::from_secs(24));
    }

    #[test]
    fn a_breaker_that_closes_sooner_than_the_schedule_is_waited_for_no_longer() {
        let order = LeasedOrder {
            attempts: 6,
            ..charging()
        };
        let retry_after = Duration::from_secs(2);
        let progress = not_executed(&order, Operation::Charge, Cause::BreakerOpen { retry_after });
        assert!(
            matches!(progress, Progress::Defer(delay, _) if delay == retry_after),
            "{progress:?}"
        );
    }

    #[test]
    fn a_reason_is_logged_once_and_kept_as_a_flag() {
        let first = flag(&charging(), Operation::Refund, "disputed".to_owned());
        assert_eq!(first.step, Some(("refund", "disputed".to_owned())));
        let flagged = LeasedOrder {
            needs_attention: first.needs_attention,
            ..charging()
        };
        let again = flag(&flagged, Operation::Refund, "disputed".to_owned());
        assert_eq!((again.step, again.needs_attention), (None, Some("disputed".to_owned())));
    }
}
