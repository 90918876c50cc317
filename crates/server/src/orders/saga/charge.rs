//! The charge. An outcome that is not known stays unknown until the provider gives a definite answer, to the same key or
//! in its list.

use std::time::Duration;

use tracing::warn;
use waybill_domain::payment::{Operation, ProviderKey, Recovery};

use super::progress::{Progress, delay_of};
use super::recovery::{
    Prior, count_answer, count_query, deadline, flag, not_executed, prior_attempt, rejected, renew_before_sending,
    retry_later, unknown_outcome,
};
use crate::crash_points::crash_point;
use crate::egress::payments::{Answer, Cause, ChargeRequest, Receipt};
use crate::orders::Context;
use crate::storage::StoreError;
use crate::storage::orders::{Deferral, LeasedOrder, StepOutcome};

/// How often the provider is queried about a charge that is too old to be retried: to page through a list of hours is
/// expensive. A webhook or an operator makes the order due sooner.
const QUERY_EVERY: Duration = Duration::from_mins(15);

/// Charges the total. The key comes from the order, not from chance: a retry after a crash must be the *same* request
/// to the provider, or the customer pays twice.
pub(super) async fn charge(context: &Context, order: &LeasedOrder) -> Result<Progress, StoreError> {
    let key = ProviderKey::new(order.order.id, Operation::Charge);
    let request = ChargeRequest {
        key: key.as_str(),
        order_id: order.order.id.uuid(),
        amount: order.order.amount,
        payment_method: order.payment_method.as_str(),
    };
    let prior = prior_attempt(context, order, Operation::Charge).await?;
    if let Some(Prior {
        attempt,
        recovery: recovery @ (Recovery::Query | Recovery::QueryThenRetry),
    }) = prior
    {
        let found = context
            .payments
            .query_charge(&request, attempt.first_sent_at, deadline(context))
            .await;
        count_query(context, "charge_query", &found);
        match (found, recovery) {
            (Ok(Some(answer @ (Answer::Done(_) | Answer::Declined(_)))), _) => {
                return Ok(after_charge(order, answer, prior));
            }
            // It is there, and not as it should be: a retry would only hide that.
            (Ok(Some(Answer::Ambiguous(cause))), _) => {
                let why = format!("found in the provider's list: {cause}");
                return Ok(Progress::Defer(QUERY_EVERY, flag(order, Operation::Charge, why)));
            }
            (found, Recovery::Query) => return Ok(not_found(order, attempt.age, &found)),
            _ => renew_before_sending(context, order).await?,
        }
    }
    crash_point!("charge_unsent");
    let answer = context.payments.charge(&request, deadline(context)).await;
    crash_point!("charge_answered");
    count_answer(context, "charge", &answer);
    Ok(after_charge(order, answer, prior))
}

/// What the provider's answer means for the order.
fn after_charge(order: &LeasedOrder, answer: Answer<Receipt>, prior: Option<Prior>) -> Progress {
    match answer {
        Answer::Done(Receipt { provider_id, .. }) => Progress::Commit(StepOutcome::Charged { provider_id }),
        Answer::Declined(reason) => Progress::Commit(StepOutcome::Declined { code: reason.code }),
        Answer::Rejected(reason) => rejected(order, Operation::Charge, &reason),
        Answer::NotExecuted(cause) => not_executed(order, Operation::Charge, cause),
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
    let why = format!(
        "the charge was first sent {hours} h ago, the provider's key may have expired, and {there}: it is not retried"
    );
    Progress::Defer(QUERY_EVERY, flag(order, Operation::Charge, why))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::egress::payments::DeclineReason;
    use crate::orders::saga::recovery::tests::{charging, sent};

    fn receipt() -> Receipt {
        Receipt {
            provider_id: "pi_1".to_owned(),
            amount: charging().order.amount,
        }
    }

    #[test]
    fn a_definite_answer_is_committed_as_it_is() {
        let done = after_charge(&charging(), Answer::Done(receipt()), None);
        let Progress::Commit(StepOutcome::Charged { provider_id }) = done else {
            panic!("{done:?}");
        };
        assert_eq!(provider_id, "pi_1");

        let reason = DeclineReason {
            code: "lost_card".to_owned(),
            message: "The payment was declined.",
        };
        let declined = after_charge(&charging(), Answer::Declined(reason), None);
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
        };
        let progress = after_charge(&charging(), Answer::Rejected(reason), None);
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
            let progress = after_charge(&charging(), Answer::Ambiguous(cause), None);
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
            let progress = after_charge(&charging(), answer, None);
            assert!(matches!(progress, Progress::Defer(..)), "{progress:?}");
        }
    }

    #[test]
    fn the_third_server_error_asks_for_an_operator_and_for_an_early_query() {
        let prior = Some(sent(7, 2));
        let progress = after_charge(&charging(), Answer::Ambiguous(Cause::Status(500)), prior);
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
