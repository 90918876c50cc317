//! The search for a driver: looks again and again until one is bound or the window is over.

use std::collections::HashSet;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use rand::RngExt as _;
use tokio::time::Instant;
use tracing::warn;

use super::Context;
use super::steps::{Progress, advance};
use crate::crash_points::crash_point;
use crate::storage::StoreError;
use crate::storage::orders::{Assigned, Outcome, Postponement, Work};

/// Binds the nearest free driver, for as long as the window is open.
pub(super) async fn assign(context: &Context, work: &mut Work) -> Result<Progress, StoreError> {
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
            crash_point!("candidates_read");
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
        // The first worker comes from the commit of the charge, which kept the lease and asked for a cancellation: to
        // do so again would be a fourth commit of every order.
        let kept = (work.attempts <= 1).then(|| (Instant::now(), work.order.updated_at.duration_since(began_at)));
        Search {
            began_at,
            window,
            rounds: 0,
            kept,
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
