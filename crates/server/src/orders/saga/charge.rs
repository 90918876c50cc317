//! The charge. An outcome that is not known stays unknown until the provider gives a definite answer, to the same key or
//! in its list.

use std::time::Duration;

use jiff::SignedDuration;
use tracing::warn;
use waybill_domain::id::ProviderCustomer;
use waybill_domain::order::FailureReason;
use waybill_domain::payment::{KEY_AGE_MAX, Operation, ProviderKey, Recovery};

use super::line::{self, Wait, unwanted};
use super::progress::{Progress, delay_by_wait, delay_of};
use super::recovery::{
    self, Prior, QUERY_EVERY, count_answer, count_query, deadline, flag, not_executed, prior_attempt, record_send,
    rejected, retry_later, sent_nothing, unknown_outcome,
};
use crate::crash_points::crash_point;
use crate::egress::payments::{Answer, Cause, ChargeRequest, PaymentClient, Receipt};
use crate::orders::Context;
use crate::resilience::Deadline;
use crate::storage::StoreError;
use crate::storage::orders::{Deferral, LeasedOrder, StepOutcome};

/// For how long after its acceptance an order is charged by what was seen then.
const ACCEPTED_LATELY: SignedDuration = SignedDuration::from_millis(500);

/// Charges the total. The key comes from the order, not from chance: a retry after a crash must be the *same* request
/// to the provider, or the customer pays twice.
pub(super) async fn charge(
    context: &Context,
    payments: &PaymentClient,
    order: &LeasedOrder,
) -> Result<Progress, StoreError> {
    let key = ProviderKey::new(&order.payment_key, Operation::Charge);
    let request = ChargeRequest {
        key: key.as_str(),
        order_id: order.order.id.uuid(),
        transfer_group: order.transfer_group.as_deref(),
        amount: order.order.amount,
        payment_method: order.payment_method.as_str(),
        customer: order.provider_customer.as_ref().map(ProviderCustomer::as_str),
        is_held: order.order.payment_mode.holds(),
        place: None,
    };
    let prior = prior_attempt(context, order, Operation::Charge).await?;
    if let Some(reason) = unwanted(context, order, &prior) {
        return Ok(revoke(context, payments, order, &request, &prior, reason).await);
    }
    // Before the line, too: those who wait there keep no place that others need.
    if may_be_refused(order, &prior) && context.dispatch.check().await.is_err() {
        return Ok(no_drivers(order, &prior));
    }
    let (place, prior) = match line::place(context, payments, order, prior).await? {
        Wait::Place(place, prior) => (place, prior),
        Wait::Unwanted(reason, prior) => return Ok(revoke(context, payments, order, &request, &prior, reason).await),
        Wait::Left(cause) => return Ok(not_executed(order, Operation::Charge, cause, &prior)),
        Wait::Draining => return Ok(Progress::Defer(Duration::ZERO, sent_nothing(Operation::Charge, &prior))),
    };
    if may_be_refused(order, &prior) && context.dispatch.check_writes().await.is_err() {
        return Ok(no_drivers(order, &prior));
    }
    let request = ChargeRequest {
        place: Some(&place),
        ..request
    };
    let recovery = prior.recovery();
    if recovery != Recovery::Retry {
        let is_retried = recovery == Recovery::QueryThenRetry;
        if let Some(progress) = query(
            context,
            payments,
            order,
            &request,
            &prior,
            deadline(context),
            is_retried,
        )
        .await
        {
            return Ok(progress);
        }
    }
    record_send(context, order, Operation::Charge, &prior).await?;
    crash_point!("charge_unsent");
    let deadline = deadline(context);
    let answer = payments.charge(&request, deadline).await;
    crash_point!("charge_answered");
    count_answer(context, "charge", &answer);
    let answer = match answer {
        // The same request of the same client was charged for an order that this database has lost.
        Answer::Ambiguous(Cause::KeyReused) => {
            let since = prior.first_sent_at();
            let found = payments.query_charge(&request, since, deadline).await;
            count_query(context, "charge_query", &found);
            found.ok().flatten().unwrap_or(answer)
        }
        answer => answer,
    };
    Ok(after_charge(order, answer, &prior))
}

/// Whether the charge is still to be refused where no driver could be found, as the order then was that is not accepted: it would only be refunded. An order
/// that was accepted a moment ago was asked about then, and what may be charged already goes on in any case.
fn may_be_refused(order: &LeasedOrder, prior: &Prior) -> bool {
    let waits = order.confirmed.database_now().duration_since(order.order.created_at);
    waits >= ACCEPTED_LATELY && prior.is_unexecuted()
}

/// The charge waits until drivers can be found.
fn no_drivers(order: &LeasedOrder, prior: &Prior) -> Progress {
    let why = "not charged: the drivers' positions are not available".to_owned();
    let why = Deferral {
        step: Some((Operation::Charge.as_str(), why)),
        ..sent_nothing(Operation::Charge, prior)
    };
    Progress::Defer(delay_by_wait(order), why)
}

/// Makes certain that the charge is not made any more, or finds that it was: then the order goes on, and is refunded.
async fn revoke(
    context: &Context,
    payments: &PaymentClient,
    order: &LeasedOrder,
    request: &ChargeRequest<'_>,
    prior: &Prior,
    reason: FailureReason,
) -> Progress {
    let revoked = Progress::Commit(StepOutcome::ChargeRevoked { reason });
    let attempt = match prior.attempt {
        Some(attempt) if !attempt.unexecuted => attempt,
        _ => return revoked,
    };
    // An older key may have expired: then its revocation would say nothing of a charge that was made under it.
    let deadline = deadline(context);
    if attempt.age <= KEY_AGE_MAX {
        let answer = payments.revoke_charge(request, deadline).await;
        count_answer(context, "charge_revocation", &answer);
        match answer {
            Answer::Done(()) => return revoked,
            // The charge came first: the list has it.
            Answer::Ambiguous(Cause::KeyReused) => {}
            Answer::NotExecuted(cause) => return not_executed(order, Operation::Charge, cause, prior),
            Answer::InProgress => return Progress::Defer(delay_of(order), Deferral::default()),
            Answer::Rejected(reason) | Answer::Declined(reason) | Answer::Failed { reason, .. } => {
                return rejected(order, Operation::Charge, &reason, prior);
            }
            Answer::Ambiguous(cause) => {
                let (delay, why) = retry_later(cause, prior);
                return Progress::Defer(delay, why);
            }
        }
    }
    let found = query(context, payments, order, request, prior, deadline, false).await;
    found.unwrap_or_else(|| Progress::Defer(delay_of(order), Deferral::default()))
}

/// Queries the provider's list for the charge. `None`: it is to be retried.
async fn query(
    context: &Context,
    payments: &PaymentClient,
    order: &LeasedOrder,
    request: &ChargeRequest<'_>,
    prior: &Prior,
    deadline: Deadline,
    is_retried: bool,
) -> Option<Progress> {
    let attempt = prior.attempt?;
    let found = payments.query_charge(request, attempt.first_sent_at, deadline).await;
    count_query(context, "charge_query", &found);
    match found {
        Ok(Some(answer @ (Answer::Done(_) | Answer::Declined(_)))) => Some(after_charge(order, answer, prior)),
        // It is there, and not as it should be: a retry would only hide that.
        Ok(Some(Answer::Ambiguous(cause))) => {
            let why = format!("found in the provider's list: {cause}");
            Some(Progress::Defer(QUERY_EVERY, flag(order, Operation::Charge, why)))
        }
        found if !is_retried => Some(not_found(order, attempt.age, &found)),
        _ => None,
    }
}

/// What the provider's answer means for the order.
fn after_charge(order: &LeasedOrder, answer: Answer<Receipt>, prior: &Prior) -> Progress {
    match answer {
        Answer::Done(Receipt { provider_id, .. }) => Progress::Commit(StepOutcome::Charged { provider_id }),
        Answer::Declined(reason) | Answer::Failed { reason, .. } => {
            Progress::Commit(StepOutcome::Declined { code: reason.code })
        }
        Answer::Rejected(reason) => rejected(order, Operation::Charge, &reason, prior),
        Answer::NotExecuted(cause) => not_executed(order, Operation::Charge, cause, prior),
        Answer::InProgress => Progress::Defer(delay_of(order), Deferral::default()),
        // Never a failure: the same key is sent again until the answer is definite.
        Answer::Ambiguous(cause) => {
            warn!(order_id = %order.order.id, %cause, "outcome of a charge is unknown");
            let (delay, why) = retry_later(cause, prior);
            Progress::CommitAndDefer(StepOutcome::ChargeUnknown(unknown_outcome(cause)), delay, why)
        }
    }
}

/// The charge is too old to be retried, and the provider's list has it neither as made nor as refused.
fn not_found<T>(order: &LeasedOrder, age: Duration, found: &Result<Option<Answer<T>>, Cause>) -> Progress {
    let hours = age.as_secs() / 3_600;
    let there = match found {
        Ok(None) => "its list does not have it".to_owned(),
        Ok(Some(Answer::InProgress)) => "its list has it in progress".to_owned(),
        Err(cause) => format!("its list gives no answer: {cause}"),
        Ok(Some(_)) => "its list gives no answer".to_owned(),
    };
    let (delay, why) = if age > KEY_AGE_MAX {
        let why = format!(
            "the charge was first sent {hours} h ago, the provider's key may have expired, and {there}: it is not retried"
        );
        (QUERY_EVERY, why)
    } else {
        let why = format!("the charge is not wanted any more, its key was used at the provider, and {there}");
        (delay_of(order), why)
    };
    Progress::Defer(delay, flag(order, Operation::Charge, why))
}

/// The account is not in the configuration. What was never executed, and is not wanted any more, needs no one to be asked.
pub(super) async fn without_account(context: &Context, order: &LeasedOrder) -> Result<Progress, StoreError> {
    let prior = prior_attempt(context, order, Operation::Charge).await?;
    Ok(match unwanted(context, order, &prior) {
        Some(reason) if prior.is_unexecuted() => Progress::Commit(StepOutcome::ChargeRevoked { reason }),
        _ => recovery::without_account(Operation::Charge.as_str(), order),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::egress::payments::DeclineReason;
    use crate::orders::saga::recovery::tests::{charging, sent, unsent};

    fn receipt() -> Receipt {
        Receipt {
            provider_id: "pi_1".to_owned(),
            amount: charging().order.amount,
        }
    }

    #[test]
    fn a_definite_answer_is_committed_as_it_is() {
        let done = after_charge(&charging(), Answer::Done(receipt()), &unsent());
        let Progress::Commit(StepOutcome::Charged { provider_id }) = done else {
            panic!("{done:?}");
        };
        assert_eq!(provider_id, "pi_1");

        let reason = DeclineReason {
            code: "lost_card".to_owned(),
            message: "The payment was declined.",
            is_replay: false,
        };
        let declined = after_charge(&charging(), Answer::Declined(reason), &unsent());
        assert!(
            matches!(&declined, Progress::Commit(StepOutcome::Declined { code }) if code == "lost_card"),
            "{declined:?}"
        );
    }

    #[test]
    fn a_rejection_is_no_decline() {
        let reason = DeclineReason {
            code: "parameter_unknown".to_owned(),
            message: "The payment was declined.",
            is_replay: false,
        };
        let progress = after_charge(&charging(), Answer::Rejected(reason), &unsent());
        let Progress::Defer(_, why) = progress else {
            panic!("{progress:?}");
        };
        assert!(why.needs_attention.is_some_and(|why| why.contains("parameter_unknown")));
    }

    #[test]
    fn an_unknown_outcome_is_committed_as_unknown_and_tried_again() {
        for cause in [
            Cause::TimedOut,
            Cause::ConnectionLost,
            Cause::Status(500),
            Cause::Unreadable,
        ] {
            let progress = after_charge(&charging(), Answer::Ambiguous(cause), &unsent());
            let Progress::CommitAndDefer(StepOutcome::ChargeUnknown(unknown), delay, why) = progress else {
                panic!("{cause}: {progress:?}");
            };
            assert_eq!(unknown.server_error, matches!(cause, Cause::Status(_)), "{cause}");
            assert!(
                delay <= Duration::from_secs(1) && why.needs_attention.is_none(),
                "{cause}"
            );
        }
    }

    #[test]
    fn what_was_not_executed_commits_nothing() {
        for answer in [Answer::NotExecuted(Cause::NoConnection), Answer::InProgress] {
            let progress = after_charge(&charging(), answer, &unsent());
            assert!(matches!(progress, Progress::Defer(..)), "{progress:?}");
        }
    }

    #[test]
    fn the_third_server_error_asks_for_an_operator_and_for_an_early_query() {
        let progress = after_charge(&charging(), Answer::Ambiguous(Cause::Status(500)), &sent(7, 2));
        let Progress::CommitAndDefer(_, delay, why) = progress else {
            panic!("{progress:?}");
        };
        assert!(why.needs_attention.is_some());
        assert!(
            delay <= Duration::from_secs(1),
            "seven sends would wait for longer: {delay:?}"
        );
    }

    #[test]
    fn an_old_charge_that_the_list_does_not_have_is_not_retried() {
        let found: Result<Option<Answer<Receipt>>, Cause> = Ok(None);
        let progress = not_found(&charging(), Duration::from_hours(13), &found);
        let Progress::Defer(QUERY_EVERY, why) = progress else {
            panic!("{progress:?}");
        };
        let why = why.needs_attention.expect("an operator should look");
        assert!(why.contains("13 h ago") && why.contains("not retried"), "{why}");
    }
}
