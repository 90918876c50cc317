//! The refund: the compensation of a charge, or a part that was requested. It does not get to refuse: it is sent until the
//! provider confirms it, or says that it failed for good.

use tracing::warn;
use waybill_domain::order::OpenRefund;
use waybill_domain::payment::{KEY_AGE_MAX, Operation, ProviderKey, Recovery};

use super::progress::{Progress, delay_of};
use super::reconcile::{compare, reconciled};
use super::recovery::{
    Prior, QUERY_EVERY, count_answer, deadline, flag, not_executed, prior_attempt, record_send, rejected, retry_later,
    unknown_outcome,
};
use crate::crash_points::crash_point;
use crate::egress::payments::{Answer, Cause, PaymentClient, Receipt, RefundRequest};
use crate::orders::Context;
use crate::storage::StoreError;
use crate::storage::orders::{Deferral, LeasedOrder, StepOutcome};

/// The code of a requested refund of which the provider knows nothing a day after it was sent.
const NOT_MADE: &str = "not_made_within_a_day";

/// Sends the open refund.
pub(super) async fn refund(
    context: &Context,
    payments: &PaymentClient,
    order: &LeasedOrder,
) -> Result<Progress, StoreError> {
    let (Some(payment), Some(refund)) = (&order.order.payment, order.open_refund) else {
        return Err(StoreError::Unexpected(format!(
            "order {} is to be refunded, but has no payment or no open refund",
            order.order.id
        )));
    };
    let operation = Operation::Refund(refund.number);
    let key = ProviderKey::new(&order.payment_key, operation);
    let request = RefundRequest {
        key: key.as_str(),
        payment_intent: &payment.provider_charge_id,
        order_id: order.order.id.uuid(),
        number: refund.number,
        amount: refund.amount,
    };
    let prior = prior_attempt(context, order, operation).await?;
    let recovery = prior.recovery();
    if recovery != Recovery::Retry {
        match compare(context, payments, order).await? {
            Ok(compared) if compared.is_news => return Ok(reconciled(compared)),
            // Pending, and known to be: it is not sent again.
            Ok(compared) if compared.found.settlement.is_pending => {
                return Ok(Progress::Defer(delay_of(order), Deferral::default()));
            }
            Ok(_) if recovery == Recovery::Query => return Ok(too_old(order, refund, &prior)),
            Err(cause) if recovery == Recovery::Query => {
                return Ok(Progress::Defer(QUERY_EVERY, unqueried(order, operation, cause)));
            }
            Ok(_) | Err(_) => {}
        }
    }
    record_send(context, order, operation, &prior).await?;
    let answer = payments.refund(&request, deadline(context)).await;
    crash_point!("refund_answered");
    count_answer(context, "refund", &answer);
    if matches!(
        answer,
        Answer::Ambiguous(Cause::RefundedElsewhere) | Answer::Declined(_)
    ) {
        // More was refunded than the ledger knows, so that nothing, or not so much, is left; or the payment is disputed.
        match compare(context, payments, order).await? {
            Ok(mut compared) if compared.is_news => {
                compared.found.unexecuted = is_refusal(&answer, &prior).then_some(operation);
                return Ok(reconciled(compared));
            }
            Ok(compared) => {
                return Ok(after_refusal(
                    order,
                    refund,
                    answer,
                    &prior,
                    compared.found.is_disputed(),
                ));
            }
            Err(_) => {}
        }
    }
    Ok(after_refund(order, refund, answer, &prior))
}

/// What the refusal of a refund means for the order, of which the provider has nothing that the ledger has not.
fn after_refusal(
    order: &LeasedOrder,
    refund: OpenRefund,
    answer: Answer<Receipt>,
    prior: &Prior,
    is_disputed: bool,
) -> Progress {
    let operation = Operation::Refund(refund.number);
    let unexecuted = is_refusal(&answer, prior);
    match answer {
        Answer::Declined(reason) if is_disputed => {
            let why = format!(
                "the provider refuses the refund of a payment that is disputed: {}",
                reason.code
            );
            Progress::Defer(QUERY_EVERY, refused(order, operation, why, unexecuted))
        }
        // Only another key gets another answer.
        Answer::Declined(reason) if reason.is_replay && !refund.is_requested => {
            let why = format!("the provider repeats its refusal: {}", reason.code);
            Progress::Commit(StepOutcome::RefundReplaced { refund, why })
        }
        Answer::Declined(reason) if reason.is_replay => Progress::Commit(StepOutcome::RefundFailed {
            refund,
            provider_id: None,
            code: reason.code,
        }),
        answer => after_refund(order, refund, answer, prior),
    }
}

/// What the provider's answer means for the order.
fn after_refund(order: &LeasedOrder, refund: OpenRefund, answer: Answer<Receipt>, prior: &Prior) -> Progress {
    let operation = Operation::Refund(refund.number);
    let unexecuted = is_refusal(&answer, prior);
    match answer {
        Answer::Done(Receipt { provider_id, .. }) => Progress::Commit(StepOutcome::Refunded { refund, provider_id }),
        Answer::Failed { provider_id, reason } => {
            warn!(order_id = %order.order.id, code = %reason.code, "refund failed for good");
            Progress::Commit(StepOutcome::RefundFailed {
                refund,
                provider_id: Some(provider_id),
                code: reason.code,
            })
        }
        Answer::Declined(reason) => {
            let why = format!("the provider refuses the refund: {}", reason.code);
            // The first may be a moment's; one that was refused again waits for an operator.
            let delay = if refund.number == 1 {
                delay_of(order)
            } else {
                QUERY_EVERY
            };
            Progress::Defer(delay, refused(order, operation, why, unexecuted))
        }
        Answer::Rejected(reason) => rejected(order, operation, &reason, prior),
        Answer::NotExecuted(cause) => not_executed(order, operation, cause, prior),
        Answer::InProgress => Progress::Defer(delay_of(order), Deferral::default()),
        Answer::Ambiguous(cause) => {
            warn!(order_id = %order.order.id, %cause, "outcome of a refund is unknown");
            let (delay, why) = retry_later(cause, prior);
            Progress::CommitAndDefer(StepOutcome::RefundUnknown(unknown_outcome(cause)), delay, why)
        }
    }
}

/// The flag of a refund that the provider refuses.
fn refused(order: &LeasedOrder, operation: Operation, why: String, is_unexecuted: bool) -> Deferral {
    Deferral {
        unexecuted: is_unexecuted.then_some(operation),
        ..flag(order, operation, why)
    }
}

/// Whether the provider refuses the refund, and nothing that was sent for it is or will be made: a refusal that it repeats is
/// saved under the key.
fn is_refusal(answer: &Answer<Receipt>, prior: &Prior) -> bool {
    match answer {
        Answer::Declined(reason) => reason.is_replay || prior.is_unexecuted(),
        Answer::Ambiguous(Cause::RefundedElsewhere) => prior.is_unexecuted(),
        _ => false,
    }
}

/// The refund is so old that its key may have expired, and the provider does not have it. Half a day after it was last sent
/// it cannot arrive any more, and what is owed gets another key. What was requested is for an operator to decide.
fn too_old(order: &LeasedOrder, refund: OpenRefund, prior: &Prior) -> Progress {
    let operation = Operation::Refund(refund.number);
    let is_over = prior.attempt.is_some_and(|attempt| attempt.last_sent_age > KEY_AGE_MAX);
    let why = "the refund is so old that its key may have expired, and the provider does not have it".to_owned();
    if !is_over {
        return Progress::Defer(QUERY_EVERY, flag(order, operation, why));
    }
    Progress::Commit(if refund.is_requested {
        StepOutcome::RefundFailed {
            refund,
            provider_id: None,
            code: NOT_MADE.to_owned(),
        }
    } else {
        StepOutcome::RefundReplaced { refund, why }
    })
}

/// The provider's record, which has to be read before anything is sent, cannot be read.
fn unqueried(order: &LeasedOrder, operation: Operation, cause: Cause) -> Deferral {
    let why = format!("the refund may have been made, and the provider's record cannot be read: {cause}");
    flag(order, operation, why)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::egress::payments::DeclineReason;
    use crate::orders::saga::recovery::tests::{charging, sent, unsent};
    use crate::storage::orders::Attempt;

    fn open(is_requested: bool) -> OpenRefund {
        OpenRefund {
            number: 1,
            amount: charging().order.amount,
            is_requested,
        }
    }

    fn reason(code: &str) -> DeclineReason {
        DeclineReason {
            code: code.to_owned(),
            message: "The payment was declined.",
            is_replay: false,
        }
    }

    /// The provider saves a refusal under the key, and repeats it when its cause is gone.
    #[test]
    fn a_refusal_that_is_repeated_gets_another_key_once_no_dispute_stands_against_it() {
        let refused = |is_replay| {
            Answer::Declined(DeclineReason {
                is_replay,
                ..reason("charge_disputed")
            })
        };
        let after = |is_replay, is_disputed, is_requested| {
            after_refusal(
                &charging(),
                open(is_requested),
                refused(is_replay),
                &unsent(),
                is_disputed,
            )
        };
        assert!(matches!(after(true, true, false), Progress::Defer(QUERY_EVERY, _)));
        assert!(matches!(after(false, false, false), Progress::Defer(..)));
        let replaced = after(true, false, false);
        assert!(
            matches!(replaced, Progress::Commit(StepOutcome::RefundReplaced { .. })),
            "{replaced:?}"
        );
        let requested = after(true, false, true);
        assert!(
            matches!(requested, Progress::Commit(StepOutcome::RefundFailed { .. })),
            "{requested:?}"
        );
    }

    /// M8: a refund once decided is retried until the provider confirms it.
    #[test]
    fn a_refused_refund_is_deferred_and_flagged_and_never_given_up() {
        let answer = Answer::Declined(reason("charge_disputed"));
        let progress = after_refund(&charging(), open(false), answer, &unsent());
        let Progress::Defer(_, why) = progress else {
            panic!("{progress:?}");
        };
        assert!(why.needs_attention.is_some_and(|why| why.contains("charge_disputed")));
    }

    #[test]
    fn a_refund_that_failed_at_the_provider_is_recorded_as_failed_and_not_sent_again() {
        let answer = Answer::Failed {
            provider_id: "re_1".to_owned(),
            reason: reason("refund_failed"),
        };
        let progress = after_refund(&charging(), open(false), answer, &unsent());
        assert!(
            matches!(&progress, Progress::Commit(StepOutcome::RefundFailed { provider_id: Some(id), .. }) if id == "re_1"),
            "{progress:?}"
        );
    }

    #[test]
    fn a_key_that_may_have_expired_is_replaced_half_a_day_after_it_was_last_sent_and_not_before() {
        let prior = |last_sent_age| Prior {
            attempt: sent(3, 0).attempt.map(|attempt| Attempt {
                age: KEY_AGE_MAX * 2,
                last_sent_age,
                ..attempt
            }),
            ..unsent()
        };
        let early = too_old(&charging(), open(false), &prior(KEY_AGE_MAX));
        assert!(matches!(early, Progress::Defer(QUERY_EVERY, _)), "{early:?}");
        let over = prior(KEY_AGE_MAX + Duration::from_secs(1));
        let owed = too_old(&charging(), open(false), &over);
        assert!(
            matches!(owed, Progress::Commit(StepOutcome::RefundReplaced { .. })),
            "{owed:?}"
        );
        let requested = too_old(&charging(), open(true), &over);
        assert!(
            matches!(
                requested,
                Progress::Commit(StepOutcome::RefundFailed { provider_id: None, .. })
            ),
            "{requested:?}"
        );
    }
}
