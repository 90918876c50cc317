//! The steps of the saga. Each may be run again after a crash: its key comes from the order, its outcome is committed
//! before the next step begins.

use std::collections::HashSet;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use rand::RngExt as _;
use tokio::time::Instant;
use tracing::warn;
use waybill_domain::order::Step;
use waybill_domain::payment::{Operation, ProviderKey};
use waybill_domain::retry;

use super::Context;
use crate::egress::payments::{Answer, ChargeRequest, RefundRequest};
use crate::resilience::Deadline;
use crate::storage::StoreError;
use crate::storage::orders::{Assigned, Outcome, Postponement, Work};

/// How old a request to the provider may be when it is sent again. Stripe keeps a key for at least 24 h; sent again
/// after that, the same key is a new request, and the customer pays twice.
const KEY_AGE_MAX: Duration = Duration::from_hours(12);

/// What a step came to.
pub(super) enum Progress {
    /// The order moved on.
    Made,
    /// Nothing more can be done now.
    Later {
        /// When to try again.
        delay: Duration,
        /// What to write down.
        why: Postponement,
    },
}

/// Runs one step, with no transaction open while it waits for anybody.
pub(super) async fn run(context: &Context, step: Step, work: &mut Work) -> Result<Progress, StoreError> {
    match step {
        Step::IntendCharge => advance(context, work, Outcome::ChargeIntended).await,
        Step::Charge => charge(context, work).await,
        Step::Assign => assign(context, work).await,
        Step::Refund => refund(context, work).await,
        Step::HonourCancellation => advance(context, work, Outcome::Cancelled).await,
    }
}

/// Charges the total. The key comes from the order, not from chance: a retry after a crash must be the *same* request
/// to the provider, or the customer pays twice.
async fn charge(context: &Context, work: &mut Work) -> Result<Progress, StoreError> {
    if let Some(too_old) = key_is_too_old(context, work).await? {
        return Ok(too_old);
    }
    let key = ProviderKey::new(work.order.id, Operation::Charge);
    let request = ChargeRequest {
        key: key.as_str(),
        order_id: work.order.id.uuid(),
        amount_minor: work.order.amount.minor_units(),
        currency: work.order.amount.currency().code(),
        payment_method: work.payment_method.as_str(),
    };
    let answer = context
        .payments
        .charge(&request, Deadline::after(context.settings.payment_timeout))
        .await;
    count(context, "charge", &answer);
    match answer {
        Answer::Done(receipt) => {
            advance(
                context,
                work,
                Outcome::Charged {
                    provider_id: receipt.provider_id,
                },
            )
            .await
        }
        Answer::Declined(reason) => advance(context, work, Outcome::Declined { code: reason.code }).await,
        Answer::NotExecuted(why) => Ok(later(work, Some(("charge", why.to_string())))),
        Answer::InProgress => Ok(later(work, None)),
        // Doubt stays doubt: never a failure. The same key is sent again until the answer is definite.
        Answer::Ambiguous(why) => {
            let why = why.to_string();
            warn!(order = %work.order.id, why, "the outcome of a charge is not known");
            advance(context, work, Outcome::ChargeUnknown { why }).await?;
            Ok(later(work, None))
        }
    }
}

/// Gives the money back. A refund does not get to refuse: it is sent until the provider confirms it.
async fn refund(context: &Context, work: &mut Work) -> Result<Progress, StoreError> {
    let Some(payment) = &work.order.payment else {
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
    let answer = context
        .payments
        .refund(&request, Deadline::after(context.settings.payment_timeout))
        .await;
    count(context, "refund", &answer);
    match answer {
        Answer::Done(receipt) => {
            advance(
                context,
                work,
                Outcome::Refunded {
                    provider_id: receipt.provider_id,
                },
            )
            .await
        }
        Answer::Declined(reason) => {
            let mut progress = later(work, Some(("refund", reason.code.clone())));
            if let Progress::Later { why, .. } = &mut progress {
                why.needs_attention = Some(format!("the provider refuses the refund: {}", reason.code));
            }
            Ok(progress)
        }
        Answer::NotExecuted(why) => Ok(later(work, Some(("refund", why.to_string())))),
        Answer::InProgress => Ok(later(work, None)),
        Answer::Ambiguous(why) => {
            let why = why.to_string();
            warn!(order = %work.order.id, why, "the outcome of a refund is not known");
            advance(context, work, Outcome::RefundUnknown { why }).await?;
            Ok(later(work, None))
        }
    }
}

/// Why the charge must not be sent again: the provider may have forgotten its key, and a person looks it up there. A
/// refund has no such age: what is refunded in full cannot be refunded again.
async fn key_is_too_old(context: &Context, work: &Work) -> Result<Option<Progress>, StoreError> {
    // The first worker has just written it down.
    if work.attempts <= 1 {
        return Ok(None);
    }
    match context.store.attempt_age(work.order.id, Operation::Charge).await? {
        Some(age) if age > KEY_AGE_MAX => {
            let hours = age.as_secs() / 3_600;
            let attention = format!(
                "the charge was first sent {hours} h ago, and the provider may have forgotten its key: look it up there"
            );
            let mut progress = later(work, None);
            if let Progress::Later { why, .. } = &mut progress {
                why.needs_attention = Some(attention);
            }
            Ok(Some(progress))
        }
        _ => Ok(None),
    }
}

/// Binds the nearest free driver, for as long as the window is open.
async fn assign(context: &Context, work: &mut Work) -> Result<Progress, StoreError> {
    let mut search = Search::begin(work, context.settings.assignment_window);
    // Nobody else is lost to the order while it is in this worker's hands: that takes a new fence.
    let lost = match work.reassignments {
        0 => HashSet::new(),
        _ => context.store.lost_drivers(work.order.id).await?,
    };
    loop {
        search.keep_lease(context, work).await?;
        if work.cancel_requested {
            return Ok(Progress::Made);
        }
        let (candidates, none_why) = match context.dispatch.candidates(work.order.pickup, &lost).await {
            Ok(candidates) => (candidates, "no free driver is near"),
            // No reason to give the money back before the window ends; and whatever the error is, it does end.
            Err(error) => {
                warn!(order = %work.order.id, %error, "drivers cannot be looked for");
                (Vec::new(), "drivers could not be looked for")
            }
        };
        if !candidates.is_empty() {
            match context.store.assign(work, &candidates).await? {
                Assigned::Yes => {
                    context.metrics.orders.step("assign", "succeeded");
                    return Ok(Progress::Made);
                }
                Assigned::CancelRequested => {
                    work.cancel_requested = true;
                    return Ok(Progress::Made);
                }
                Assigned::NoneFree => {}
            }
        }
        if search.is_over() {
            context.metrics.orders.step("assign", "failed");
            return advance(
                context,
                work,
                Outcome::NoDriver {
                    why: none_why.to_owned(),
                },
            )
            .await;
        }
        tokio::select! {
            () = tokio::time::sleep(search.pause()) => {}
            // Somebody else goes on with the search.
            () = context.draining.cancelled() => {
                return Ok(Progress::Later { delay: Duration::ZERO, why: Postponement::default() });
            }
        }
    }
}

/// How long a search has lasted, by the database's clock: read now and then, with our own monotonic clock in between.
struct Search {
    began_at: Timestamp,
    window: SignedDuration,
    rounds: u32,
    /// When the lease was last kept, and how long the search had lasted then.
    kept: Option<(Instant, SignedDuration)>,
}

impl Search {
    fn begin(work: &Work, window: Duration) -> Search {
        let charged_at = work.order.payment.as_ref().map(|payment| payment.charged_at);
        let began_at = work.search_from.or(charged_at).unwrap_or(work.order.updated_at);
        let window = SignedDuration::try_from(window).unwrap_or(SignedDuration::MAX);
        Search {
            began_at,
            window,
            rounds: 0,
            kept: None,
        }
    }

    async fn keep_lease(&mut self, context: &Context, work: &mut Work) -> Result<(), StoreError> {
        if self
            .kept
            .is_some_and(|(at, _)| at.elapsed() < context.settings.keep_lease_every)
        {
            return Ok(());
        }
        let before = Instant::now();
        let renewal = context.store.renew(work.lease).await?;
        work.cancel_requested = renewal.cancel_requested;
        self.kept = Some((before, renewal.now.duration_since(self.began_at)));
        Ok(())
    }

    fn is_over(&self) -> bool {
        let lasted = |(at, age): (Instant, SignedDuration)| {
            age.saturating_add(SignedDuration::try_from(at.elapsed()).unwrap_or(SignedDuration::MAX))
        };
        self.kept.is_some_and(|kept| lasted(kept) >= self.window)
    }

    /// Until the next look: a quarter of a second at first, a second later, jittered so that the orders that wait for
    /// one driver do not ask in step.
    fn pause(&mut self) -> Duration {
        self.rounds = self.rounds.saturating_add(1);
        let base = Duration::from_millis(250) * self.rounds.min(4);
        base.mul_f64(rand::rng().random_range(0.75..1.25))
    }
}

async fn advance(context: &Context, work: &mut Work, outcome: Outcome) -> Result<Progress, StoreError> {
    context.store.advance(work, &outcome).await?;
    Ok(Progress::Made)
}

/// Puts the order off by the saga's own schedule, which grows with every time that it was taken up.
fn later(work: &Work, step: Option<(&'static str, String)>) -> Progress {
    let tries = u32::try_from(work.attempts).unwrap_or(1).max(1);
    let delay = retry::next_try_after(tries, rand::rng().random());
    Progress::Later {
        delay,
        why: Postponement {
            step,
            needs_attention: None,
        },
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
