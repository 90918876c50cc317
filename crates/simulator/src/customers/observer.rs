//! Who hears what becomes of orders.

use std::fmt::Debug;

use tokio::time::Instant;
use tonic::Status;

use super::Outcome;
use crate::stats::Stats;

/// Hears what becomes of orders and of the completions of their rides. An order is scheduled, then begun unless the run
/// is over before, then settled or given up.
pub(crate) trait Observer: Debug + Send + Sync + 'static {
    /// An order was meant to be placed at `due`, and the time has come.
    fn scheduled(&self, due: Instant);

    /// That order waits, for too many are in flight.
    fn delayed(&self, due: Instant);

    /// That order is placed at `at`; `waited` if room was waited for after it was due, for it or for one before it.
    fn placed(&self, due: Instant, at: Instant, waited: bool);

    /// That order ended at `at`; the error is the last one, after which it was given up.
    fn settled(&self, due: Instant, at: Instant, answer: Result<&Outcome, &Status>);

    /// A ride was over at `due`, and is completed from `at` on.
    fn completing(&self, due: Instant, at: Instant);

    /// That completion ended at `at`.
    fn completed(&self, due: Instant, at: Instant, answer: Result<(), &Status>);

    /// The order that was due at `due` is placed once more, since the call failed.
    fn placed_again(&self, due: Instant);

    /// The same of the completion of a ride that was over at `due`.
    fn completing_again(&self, due: Instant);
}

impl Observer for Stats {
    fn scheduled(&self, _: Instant) {}

    fn delayed(&self, _: Instant) {
        self.order_delayed();
    }

    fn placed(&self, _: Instant, _: Instant, _: bool) {
        self.order_placed();
    }

    fn settled(&self, due: Instant, at: Instant, answer: Result<&Outcome, &Status>) {
        self.order_settled(answer.unwrap_or(&Outcome::GaveUp), at.saturating_duration_since(due));
    }

    fn completing(&self, _: Instant, _: Instant) {}

    fn completed(&self, _: Instant, _: Instant, answer: Result<(), &Status>) {
        if answer.is_ok() {
            self.ride_completed();
        }
    }

    fn placed_again(&self, _: Instant) {
        self.call_repeated();
    }

    fn completing_again(&self, _: Instant) {
        self.call_repeated();
    }
}
