//! What charge, capture and refund share: a request to the provider that may have been sent before, and what may be done
//! about an outcome that is not known.

use std::time::Duration;

use jiff::Timestamp;
use tracing::warn;
use waybill_domain::payment::{Operation, Recovery, SERVER_ERRORS_MAX};

use super::progress::{Progress, delay_after, delay_by_wait, delay_of};
use crate::egress::payments::{Answer, Cause, DeclineReason};
use crate::orders::Context;
use crate::resilience::Deadline;
use crate::storage::StoreError;
use crate::storage::orders::{Attempt, Deferral, LeasedOrder, UnknownOutcome};

/// How often the provider is queried about what is too old to be retried, or waits for an operator. A webhook or an operator
/// makes the order due sooner.
pub(super) const QUERY_EVERY: Duration = Duration::from_mins(15);

/// What is known of a request to the provider when its step begins.
#[derive(Debug, Clone, Copy)]
pub(super) struct Prior {
    /// What was sent before; `None` for the worker that recorded the intent a moment ago: nothing was.
    pub(super) attempt: Option<Attempt>,
    /// Whether a cancellation was requested.
    pub(super) cancel_requested: bool,
    /// The database's clock.
    pub(super) now: Timestamp,
}

impl Prior {
    /// How to recover the outcome of what was sent.
    pub(super) fn recovery(&self) -> Recovery {
        self.attempt.map_or(Recovery::Retry, |attempt| {
            Recovery::of(attempt.age, attempt.server_errors)
        })
    }

    /// When the request may first have been sent.
    pub(super) fn first_sent_at(&self) -> Timestamp {
        self.attempt.map_or(self.now, |attempt| attempt.first_sent_at)
    }

    /// Whether it is certain that nothing was executed so far.
    pub(super) fn is_unexecuted(&self) -> bool {
        self.attempt.is_none_or(|attempt| attempt.unexecuted)
    }
}

/// What is known of the request from before. Every worker but the one that recorded the intent a moment ago renews its
/// lease and reads the attempt, in one statement.
///
/// A moment ago by the wall clock: a process may be suspended for a day between any two lines. Then the order may be
/// another worker's, and the provider's key may have expired.
pub(super) async fn prior_attempt(
    context: &Context,
    order: &LeasedOrder,
    operation: Operation,
) -> Result<Prior, StoreError> {
    if order.unsent && order.confirmed.age() < context.settings.renew_lease_every {
        return Ok(Prior {
            attempt: None,
            cancel_requested: order.cancel_requested,
            now: order.confirmed.database_now(),
        });
    }
    let renewal = context.store.renew(order.lease, Some(operation)).await?;
    Ok(Prior {
        attempt: renewal.attempt,
        cancel_requested: renewal.cancel_requested,
        now: renewal.confirmed.database,
    })
}

/// Before the request is sent: the record that it is. The worker that recorded the intent a moment ago has done so.
pub(super) async fn record_send(
    context: &Context,
    order: &LeasedOrder,
    operation: Operation,
    prior: &Prior,
) -> Result<(), StoreError> {
    match prior.attempt {
        Some(_) => context.store.record_send(order.lease, operation).await,
        None => Ok(()),
    }
}

pub(super) fn deadline(context: &Context) -> Deadline {
    Deadline::after(context.settings.payment_timeout)
}

/// Nothing was sent, or the provider refused to begin. No try that is counted: the delay grows with the time that the
/// order waits.
pub(super) fn not_executed(order: &LeasedOrder, operation: Operation, cause: Cause, prior: &Prior) -> Progress {
    let delay = delay_by_wait(order);
    let delay = match cause {
        // Nothing was tried, so nothing speaks for a longer wait than the breaker's own.
        Cause::BreakerOpen { retry_after } => delay.min(retry_after),
        _ => delay,
    };
    let why = Deferral {
        step: Some((operation.as_str(), cause.to_string())),
        ..sent_nothing(operation, prior)
    };
    Progress::Defer(delay, why)
}

/// This try sent nothing.
pub(super) fn sent_nothing(operation: Operation, prior: &Prior) -> Deferral {
    Deferral {
        sent_nothing: true,
        unexecuted: prior.is_unexecuted().then_some(operation),
        ..Deferral::default()
    }
}

/// The provider rejects the request for a reason that is ours: once that is corrected, the same request is accepted.
pub(super) fn rejected(order: &LeasedOrder, operation: Operation, reason: &DeclineReason, prior: &Prior) -> Progress {
    let why = format!(
        "the payment provider rejects our request, not this payment: {}",
        reason.code
    );
    warn!(order_id = %order.order.id, code = %reason.code, "payment provider rejects our request");
    let why = Deferral {
        unexecuted: prior.is_unexecuted().then_some(operation),
        ..flag(order, operation, why)
    };
    Progress::Defer(delay_of(order), why)
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
pub(super) fn retry_later(cause: Cause, prior: &Prior) -> (Duration, Deferral) {
    let (sends, server_errors) = prior
        .attempt
        .map_or((0, 0), |attempt| (attempt.sends, attempt.server_errors));
    let repeats = is_server_error(cause) && server_errors + 1 >= SERVER_ERRORS_MAX;
    let needs_attention = match cause {
        Cause::Mismatch | Cause::KeyReused | Cause::RefundedElsewhere | Cause::Disputed | Cause::Unfinished => {
            Some(cause.to_string())
        }
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
        needs_attention,
        ..Deferral::default()
    };
    (delay_after(tries), why)
}

/// An operator should look. Logged once, and not at each try.
pub(super) fn flag(order: &LeasedOrder, operation: Operation, why: String) -> Deferral {
    flag_step(order, operation.as_str(), why)
}

/// The same, of a step that is no request to the provider.
pub(super) fn flag_step(order: &LeasedOrder, step: &'static str, why: String) -> Deferral {
    let is_new = order.needs_attention.as_ref() != Some(&why);
    Deferral {
        step: is_new.then(|| (step, why.clone())),
        needs_attention: Some(why),
        ..Deferral::default()
    }
}

/// The order was paid into an account that the configuration does not have any more: nothing can be asked of it there.
pub(super) fn without_account(step: &'static str, order: &LeasedOrder) -> Progress {
    let why = format!(
        "the configuration has no [{}], the account that the order is paid into",
        order.payment_account
    );
    let why = Deferral {
        sent_nothing: true,
        ..flag_step(order, step, why)
    };
    Progress::Defer(delay_by_wait(order), why)
}

pub(super) fn count_answer<T>(context: &Context, step: &'static str, answer: &Answer<T>) {
    let outcome = match answer {
        Answer::Done(_) => "succeeded",
        Answer::Declined(_) => "declined",
        Answer::Failed { .. } => "failed",
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
    use uuid::Uuid;
    use waybill_domain::duty::Tags;
    use waybill_domain::id::OrderId;
    use waybill_domain::money::Money;
    use waybill_domain::order::{Order, PaymentMode, State};
    use waybill_domain::payment::PaymentKey;
    use waybill_domain::payment_account::PaymentAccount;
    use waybill_domain::position::Position;

    use super::*;
    use crate::storage::orders::{Confirmed, Lease};

    /// An order whose charge may be sent.
    pub(in crate::orders) fn charging() -> LeasedOrder {
        let id = OrderId::new(Uuid::from_u128(1));
        let now = Timestamp::UNIX_EPOCH;
        LeasedOrder {
            order: Order {
                id,
                user: "anna".parse().unwrap(),
                amount: Money::new("EUR".parse().unwrap(), 1999).unwrap(),
                payment_mode: PaymentMode::ChargeFirst,
                pickup: Position::new(52.52, 13.405).unwrap(),
                drop_off: None,
                required_tags: Tags::default(),
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
            payment_account: PaymentAccount::default(),
            payment_key: PaymentKey::of_order(id),
            transfer_group: None,
            payment_method: "pm_card_visa".parse().unwrap(),
            provider_customer: None,
            cancel_requested: false,
            attempts: 1,
            needs_attention: None,
            reassignments: 0,
            search_from: None,
            reconcile_requested_at: None,
            open_refund: None,
            answer: None,
        }
    }

    /// A request that was sent so often, and answered with so many server errors.
    pub(in crate::orders::saga) fn sent(sends: u32, server_errors: u32) -> Prior {
        Prior {
            attempt: Some(Attempt {
                first_sent_at: Timestamp::UNIX_EPOCH,
                age: Duration::from_mins(1),
                last_sent_age: Duration::from_mins(1),
                sends,
                unexecuted: false,
                server_errors,
            }),
            ..unsent()
        }
    }

    /// A request whose intent was recorded a moment ago.
    pub(in crate::orders::saga) fn unsent() -> Prior {
        Prior {
            attempt: None,
            cancel_requested: false,
            now: Timestamp::UNIX_EPOCH,
        }
    }

    #[test]
    fn the_retry_comes_later_the_more_often_the_request_was_sent() {
        let delay = |sends| retry_later(Cause::TimedOut, &sent(sends, 0)).0;
        assert!(delay(1) <= Duration::from_secs(1));
        assert!(delay(6) >= Duration::from_secs(24));
    }

    #[test]
    fn a_breaker_that_closes_sooner_than_the_schedule_is_waited_for_no_longer() {
        let waits_long = Confirmed::new(Timestamp::from_second(3600).unwrap(), Timestamp::now());
        let order = LeasedOrder {
            confirmed: waits_long,
            ..charging()
        };
        let retry_after = Duration::from_secs(2);
        let progress = not_executed(&order, Operation::Charge, Cause::BreakerOpen { retry_after }, &unsent());
        assert!(
            matches!(progress, Progress::Defer(delay, _) if delay == retry_after),
            "{progress:?}"
        );
    }

    #[test]
    fn a_try_that_sends_nothing_is_not_counted_and_ends_no_doubt() {
        let deferral = |prior| match not_executed(&charging(), Operation::Charge, Cause::NoConnection, &prior) {
            Progress::Defer(_, why) => why,
            other => panic!("{other:?}"),
        };
        let first = deferral(unsent());
        assert_eq!((first.sent_nothing, first.unexecuted), (true, Some(Operation::Charge)));
        // One before it may have been executed.
        let second = deferral(sent(1, 0));
        assert_eq!((second.sent_nothing, second.unexecuted), (true, None));
    }

    #[test]
    fn a_reason_is_logged_once_and_kept_as_a_flag() {
        let first = flag(&charging(), Operation::Refund(1), "disputed".to_owned());
        assert_eq!(first.step, Some(("refund", "disputed".to_owned())));
        let flagged = LeasedOrder {
            needs_attention: first.needs_attention,
            ..charging()
        };
        let again = flag(&flagged, Operation::Refund(1), "disputed".to_owned());
        assert_eq!((again.step, again.needs_attention), (None, Some("disputed".to_owned())));
    }
}
