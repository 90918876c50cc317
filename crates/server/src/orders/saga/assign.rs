//! The search for a driver: looks again and again until one is bound or the window is over.

use std::collections::HashSet;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use rand::RngExt as _;
use tokio::time::Instant;
use tracing::warn;
use waybill_domain::duty::Tags;
use waybill_domain::search_window::SearchWindow;

use super::progress::Progress;
use crate::crash_points::crash_point;
use crate::orders::{Context, OrderSettings};
use crate::storage::StoreError;
use crate::storage::orders::{Assigned, Confirmed, Deferral, LeasedOrder, StepOutcome};

/// Binds the nearest free driver, for as long as the window is open.
pub(super) async fn assign(context: &Context, order: &LeasedOrder) -> Result<Progress, StoreError> {
    if is_charged_too_late(order, context.settings.settle_within) {
        return Ok(Progress::Commit(StepOutcome::ChargedTooLate));
    }
    let mut search = Search::begin(order, &context.settings);
    // No driver is unassigned while this worker holds the order: that takes a new fence.
    let unassigned = match order.reassignments {
        0 => HashSet::new(),
        _ => context.store.unassigned_drivers(order.order.id).await?,
    };
    // Whom the search leaves out.
    let mut excluded = unassigned.clone();
    loop {
        let is_old = search.confirmed.age() >= context.settings.renew_lease_every;
        if is_old && search.renew(context, order).await? {
            return Ok(cancel_requested(order));
        }
        let required = &order.order.required_tags;
        let found = context
            .dispatch
            .candidates(
                &order.order.user.tenant(),
                order.order.pickup,
                search.required_of(order),
                &excluded,
                search.asks_who_is_free,
            )
            .await;
        // Positions that cannot be written are old soon, and then no one is found: that is no look either.
        let could = match &found {
            Ok(candidates) => !candidates.is_empty() || context.dispatch.check().await.is_ok(),
            Err(_) => false,
        };
        search.looked(could);
        let (candidates, none_why) = match found {
            Ok(candidates) if required.is_empty() => {
                let who = if search.asks_duty {
                    "no free driver who is on duty"
                } else {
                    "no free driver"
                };
                (candidates, format!("{who} was near"))
            }
            Ok(candidates) => (candidates, format!("no free driver with {required} was near")),
            // No reason to refund before the window ends, and that counts only time in which it could search; but whatever the error is, it ends.
            Err(error) => {
                warn!(order_id = %order.order.id, %error, "search for drivers failed");
                (Vec::new(), "drivers could not be searched".to_owned())
            }
        };
        excluded.clone_from(&unassigned);
        let mut is_news = false;
        if !candidates.is_empty() {
            crash_point!("candidates_read");
            let transaction = context.transactions.go_on();
            match context.store.assign(order, &candidates).await? {
                Assigned::Driver(settled) => {
                    transaction.done();
                    context.metrics.orders.step("assign", "succeeded");
                    return Ok(Progress::Moved(settled));
                }
                Assigned::CancelRequested => return Ok(cancel_requested(order)),
                Assigned::NoneFree { refused } => {
                    is_news = search.narrow(refused);
                    // What is known of who is busy may be older than this answer.
                    excluded.extend(candidates.into_iter().map(|candidate| candidate.driver));
                }
            }
        }
        if is_news && !context.draining.is_cancelled() {
            continue;
        }
        excluded.clone_from(&unassigned);
        // This process's clock may have been set meanwhile: before a refund the database's decides.
        if search.is_over() && search.renew(context, order).await? {
            return Ok(cancel_requested(order));
        }
        if search.is_over() {
            context.metrics.orders.step("assign", "failed");
            return Ok(Progress::Commit(StepOutcome::NoDriver { why: none_why }));
        }
        tokio::select! {
            () = tokio::time::sleep(search.pause()) => {}
            // Another instance goes on with the search.
            () = context.draining.cancelled() => {
                return Ok(Progress::Defer(Duration::ZERO, Deferral::default()));
            }
        }
    }
}

/// Whether the charge was confirmed when it was too late for the order. An order that had a driver was in time.
fn is_charged_too_late(order: &LeasedOrder, settle_within: Duration) -> bool {
    let settle_within = SignedDuration::try_from(settle_within).unwrap_or(SignedDuration::MAX);
    let charged_at = order.order.payment.as_ref().map(|payment| payment.charged_at);
    order.reassignments == 0
        && charged_at.is_some_and(|charged_at| charged_at.duration_since(order.order.created_at) > settle_within)
}

fn cancel_requested(order: &LeasedOrder) -> Progress {
    Progress::Moved(Box::new(LeasedOrder {
        cancel_requested: true,
        ..order.clone()
    }))
}

/// How long a search has lasted, by the database's clock.
struct Search {
    began_at: Timestamp,
    /// What the window counts in: the time of this process.
    origin: Instant,
    window: SearchWindow,
    rounds: u32,
    confirmed: Confirmed,
    /// Whether of those who were proposed once no one was free. Most searches find one who is free at once.
    asks_who_is_free: bool,
    /// Whether someone was proposed who does not take this order: off duty, or without what it requires. Most searches meet no one.
    asks_duty: bool,
}

impl Search {
    fn begin(order: &LeasedOrder, settings: &OrderSettings) -> Search {
        let charged_at = order.order.payment.as_ref().map(|payment| payment.charged_at);
        Search {
            began_at: order.search_from.or(charged_at).unwrap_or(order.order.updated_at),
            origin: Instant::now(),
            window: SearchWindow::new(settings.assignment_window, settings.search_outage_max),
            rounds: 0,
            confirmed: order.confirmed,
            asks_who_is_free: false,
            asks_duty: false,
        }
    }

    /// No one who was proposed was free: from now on only those are who were free a moment ago, and, if someone refused, who take it. Whether
    /// that is new, and the next look is at once; the others come with the pauses of every search.
    fn narrow(&mut self, refused: bool) -> bool {
        let before = (self.asks_who_is_free, self.asks_duty);
        self.asks_who_is_free = true;
        self.asks_duty |= refused;
        before != (self.asks_who_is_free, self.asks_duty)
    }

    /// What those who are proposed must have; `None`: that is left to the assignment.
    fn required_of<'a>(&self, order: &'a LeasedOrder) -> Option<&'a Tags> {
        self.asks_duty.then_some(&order.order.required_tags)
    }

    /// Renews the lease, and with it what is known of the database's clock; whether a cancellation was requested.
    async fn renew(&mut self, context: &Context, order: &LeasedOrder) -> Result<bool, StoreError> {
        let renewal = context.store.renew(order.lease, None).await?;
        self.confirmed = renewal.confirmed;
        Ok(renewal.cancel_requested)
    }

    /// Drivers were looked for, or could not be.
    fn looked(&mut self, could: bool) {
        self.window.looked(could, self.origin.elapsed());
    }

    fn is_over(&self) -> bool {
        let lasted = self.confirmed.database_now().duration_since(self.began_at);
        let lasted = Duration::try_from(lasted).unwrap_or_default();
        self.window.is_over(lasted, self.origin.elapsed())
    }

    /// Until the next round: a quarter of a second at first, a second later, jittered so that the orders that wait for
    /// one driver do not ask in step.
    fn pause(&mut self) -> Duration {
        self.rounds = self.rounds.saturating_add(1);
        let base = Duration::from_millis(250) * self.rounds.min(4);
        base.mul_f64(rand::rng().random_range(0.75..1.25))
    }
}
