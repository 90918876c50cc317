//! The steps that move money: the charge and the refund. An outcome that is not known stays so until the provider says
//! something definite, by its answer to the same key or in its list.

use std::time::Duration;

use jiff::Timestamp;
use tracing::warn;
use waybill_domain::payment::{Operation, ProviderKey, Resend, SERVER_ERRORS_MAX};

use super::Context;
use super::steps::{Progress, advance, later, later_after};
use crate::crash_points::crash_point;
use crate::egress::payments::{Answer, ChargeRequest, Receipt, RefundRequest, Why};
use crate::resilience::Deadline;
use crate::storage::StoreError;
use crate::storage::orders::{Attempt, Doubt, Outcome, Postponement, Work};

/// How often an order is looked at whose charge can only be looked for: a list of hours is no small thing to ask for. A
/// webhook or a person has it looked at sooner.
const LOOK_EVERY: Duration = Duration::from_mins(15);

/// Charges the total. The key comes from the order, not from chance: a retry after a crash must be the *same* request
/// to the provider, or the customer pays twice.
pub(super) async fn charge(context: &Context, work: &mut Work) -> Result<Progress, StoreError> {
    let key = ProviderKey::new(work.order.id, Operation::Charge);
    let payment_method = work.payment_method.clone();
    let request = ChargeRequest {
        key: key.as_str(),
        order_id: work.order.id.uuid(),
        amount_minor: work.order.amount.minor_units(),
        currency: work.order.amount.currency().code(),
        payment_method: payment_method.as_str(),
    };
    let before = before(context, work, Operation::Charge).await?;
    if let Some((attempt, resend @ (Resend::Look | Resend::LookThenSend))) = before {
        let found = context
            .payments
            .look_for_charge(&request, attempt.first_sent_at, deadline(context))
            .await;
        count_look(context, "charge_look", &found);
        match found {
            Ok(Some(answer @ (Answer::Done(_) | Answer::Declined(_)))) => {
                return charged(context, work, answer, tried(before)).await;
            }
            // It is there, and not as it should be: sent again it would only hide that.
            Ok(Some(Answer::Ambiguous(why))) => {
                let why = format!("looked for at the provider: {why}");
                return Ok(Progress::Later {
                    delay: LOOK_EVERY,
                    why: flagged(work, Operation::Charge, why),
                });
            }
            _ if resend == Resend::Look => return Ok(looked_in_vain(work, attempt, &found)),
            // The look took its time: nothing is sent for an order that went to another worker meanwhile.
            _ => drop(context.store.renew(work.lease).await?),
        }
    }
    crash_point!("charge_unsent");
    let answer = context.payments.charge(&request, deadline(context)).await;
    crash_point!("charge_answered");
    count(context, "charge", &answer);
    charged(context, work, answer, tried(before)).await
}

async fn charged(
    context: &Context,
    work: &mut Work,
    answer: Answer<Receipt>,
    tried: Tried,
) -> Result<Progress, StoreError> {
    match answer {
        Answer::Done(Receipt { provider_id, .. }) => advance(context, work, Outcome::Charged { provider_id }).await,
        Answer::Declined(reason) => advance(context, work, Outcome::Declined { code: reason.code }).await,
        Answer::NotExecuted(why) => Ok(not_executed(work, Operation::Charge, why)),
        Answer::InProgress => Ok(later(work, Postponement::default())),
        // Doubt stays doubt: never a failure. The same key is sent again until the answer is definite.
        Answer::Ambiguous(why) => {
            warn!(order = %work.order.id, %why, "the outcome of a charge is not known");
            let doubt = doubt(why);
            advance(context, work, Outcome::ChargeUnknown { doubt }).await?;
            Ok(doubtful(why, tried))
        }
    }
}

/// Gives the money back. A refund does not get to refuse: it is sent until the provider confirms it.
pub(super) async fn refund(context: &Context, work: &mut Work) -> Result<Progress, StoreError> {
    let Some(payment) = work.order.payment.clone() else {
        return Err(StoreError::Unexpected(format!(
            "order {} is to be refunded, but has no payment",
            work.order.id
        )));
    };
    let key = ProviderKey::new(work.order.id, Operation::Refund);
    let request = RefundRequest {
        key: key.as_str(),
        payment_intent: &payment.provider_charge_id,
        order_id: work.order.id.uuid(),
        amount_minor: work.order.amount.minor_units(),
        currency: work.order.amount.currency().code(),
    };
    let before = before(context, work, Operation::Refund).await?;
    if let Some((_, Resend::Look | Resend::LookThenSend)) = before {
        let found = context.payments.look_for_refund(&request, deadline(context)).await;
        count_look(context, "refund_look", &found);
        if let Ok(Some(answer @ Answer::Done(_))) = found {
            return refunded(context, work, answer, tried(before)).await;
        }
        context.store.renew(work.lease).await?;
    }
    let answer = context.payments.refund(&request, deadline(context)).await;
    crash_point!("refund_answered");
    count(context, "refund", &answer);
    refunded(context, work, answer, tried(before)).await
}

async fn refunded(
    context: &Context,
    work: &mut Work,
    answer: Answer<Receipt>,
    tried: Tried,
) -> Result<Progress, StoreError> {
    match answer {
        Answer::Done(Receipt { provider_id, .. }) => advance(context, work, Outcome::Refunded { provider_id }).await,
        Answer::Declined(reason) => {
            let why = format!("the provider refuses the refund: {}", reason.code);
            Ok(later(work, flagged(work, Operation::Refund, why)))
        }
        Answer::NotExecuted(why) => Ok(not_executed(work, Operation::Refund, why)),
        Answer::InProgress => Ok(later(work, Postponement::default())),
        Answer::Ambiguous(why) => {
            warn!(order = %work.order.id, %why, "the outcome of a refund is not known");
            let doubt = doubt(why);
            advance(context, work, Outcome::RefundUnknown { doubt }).await?;
            Ok(doubtful(why, tried))
        }
    }
}

/// What is known of the request from before, and how it goes on. `None` for the first worker, who wrote it down just now.
///
/// Just now by the clock, not by the code: a process may sleep for a day between any two lines. What it then has in hand
/// may be another's, and a key that was new when it fell asleep is forgotten. Clocks that differ cost a look, no more.
async fn before(context: &Context, work: &Work, operation: Operation) -> Result<Option<(Attempt, Resend)>, StoreError> {
    let since = Timestamp::now().duration_since(work.order.updated_at);
    if since.unsigned_abs() < context.settings.keep_lease_every {
        if work.attempts <= 1 {
            return Ok(None);
        }
    } else {
        // Nothing is sent for an order that went to another worker, or that a person has settled.
        context.store.renew(work.lease).await?;
    }
    let attempt = context.store.attempt(work.order.id, operation).await?;
    Ok(attempt.map(|attempt| (attempt, Resend::of(operation, attempt.age, attempt.server_errors))))
}

/// What was tried of this request before.
#[derive(Debug, Clone, Copy, Default)]
struct Tried {
    sends: u32,
    server_errors: u32,
}

fn tried(before: Option<(Attempt, Resend)>) -> Tried {
    before.map_or_else(Tried::default, |(attempt, _)| Tried {
        sends: attempt.sends,
        server_errors: attempt.server_errors,
    })
}

fn deadline(context: &Context) -> Deadline {
    Deadline::after(context.settings.payment_timeout)
}

fn not_executed(work: &Work, operation: Operation, why: Why) -> Progress {
    let progress = later(
        work,
        Postponement {
            step: Some((operation.as_str(), why.to_string())),
            needs_attention: None,
        },
    );
    match (why, progress) {
        // Nothing was tried, so nothing speaks for a longer wait than the breaker's own.
        (Why::BreakerOpen { retry_after }, Progress::Later { delay, why }) => Progress::Later {
            delay: delay.min(retry_after),
            why,
        },
        (_, progress) => progress,
    }
}

fn doubt(why: Why) -> Doubt {
    Doubt {
        why: why.to_string(),
        server_error: is_server_error(why),
    }
}

fn is_server_error(why: Why) -> bool {
    matches!(why, Why::Status(500..=599))
}

/// Tried again later, and the later the more often it was sent: how often its workers died is no fault of the provider.
/// A person looks, too, where the answer may stay what it is.
fn doubtful(why: Why, tried: Tried) -> Progress {
    let repeats = is_server_error(why) && tried.server_errors + 1 >= SERVER_ERRORS_MAX;
    let needs_attention = match why {
        Why::Mismatch | Why::KeyReused | Why::RefundedElsewhere | Why::Unfinished => Some(why.to_string()),
        _ if repeats => Some(format!(
            "the payment provider answers with server errors again and again: {why}"
        )),
        _ => None,
    };
    // The look at the provider's list comes at once.
    let count = if repeats && tried.server_errors + 1 == SERVER_ERRORS_MAX {
        1
    } else {
        tried.sends
    };
    later_after(
        count,
        Postponement {
            step: None,
            needs_attention,
        },
    )
}

/// The charge is too old to be sent again, and the provider's list does not have it as made or refused.
fn looked_in_vain<T>(work: &Work, attempt: Attempt, found: &Result<Option<Answer<T>>, Why>) -> Progress {
    let hours = attempt.age.as_secs() / 3_600;
    let there = match found {
        Ok(None) => "its list does not have it".to_owned(),
        Ok(Some(Answer::InProgress)) => "its list has it under way".to_owned(),
        Err(why) => format!("its list does not tell: {why}"),
        Ok(Some(_)) => "its list does not tell".to_owned(),
    };
    let why = format!(
        "the charge was first sent {hours} h ago, the provider may have forgotten its key, and {there}: \
         it is not sent again"
    );
    Progress::Later {
        delay: LOOK_EVERY,
        why: flagged(work, Operation::Charge, why),
    }
}

/// A person should look. Said in the log once, and not at each try.
fn flagged(work: &Work, operation: Operation, why: String) -> Postponement {
    let is_new = work.needs_attention.as_ref() != Some(&why);
    Postponement {
        step: is_new.then(|| (operation.as_str(), why.clone())),
        needs_attention: Some(why),
    }
}

fn count<T>(context: &Context, step: &'static str, answer: &Answer<T>) {
    let outcome = match answer {
        Answer::Done(_) => "succeeded",
        Answer::Declined(_) => "declined",
        Answer::NotExecuted(_) => "not_executed",
        Answer::InProgress => "in_progress",
        Answer::Ambiguous(_) => "unknown",
    };
    context.metrics.dependencies.provider_answered(outcome);
    context.metrics.orders.step(step, outcome);
}

/// Looks are counted as steps of their own: they are no sends.
fn count_look<T>(context: &Context, step: &'static str, found: &Result<Option<Answer<T>>, Why>) {
    let outcome = match found {
        Ok(Some(Answer::Done(_))) => "found",
        Ok(Some(Answer::Declined(_))) => "declined",
        Ok(Some(_)) => "undecided",
        Ok(None) => "not_found",
        Err(_) => "unanswered",
    };
    context.metrics.orders.step(step, outcome);
}
