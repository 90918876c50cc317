//! From when on unfinished orders are due, as far as this process knows: what looks for them begins there.
//!
//! An order that is finished leaves a dead entry in the index of what is due. While any transaction runs that may still see it (a dump, an
//! audit), the entry stays, and a look from the beginning passes all of them, each time. So the lower bound is remembered: none is due before it.
//!
//! It loses no order. A due time is never set before the beginning of the transaction that sets it, and looks begin [`MARGIN`] before the
//! bound: longer than a transaction lasts. Whatever has set one earlier all the same (a person, a clock that was set back) is found by the look
//! from the beginning, which is made every [`WHOLE_LOOK_EVERY`].

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use jiff::Timestamp;

use super::OrderStore;
use crate::storage::StoreError;

/// How often all of the index is looked at. Twice the time in which a saga's search for a driver ends.
const WHOLE_LOOK_EVERY: Duration = Duration::from_secs(20);

/// Whether an unfinished order is due at or after the lower bound in this parameter; null: all of them are.
macro_rules! due_from {
    ($bound:literal) => {
        concat!(
            "finished_at is null and next_run_at >= least(coalesce(",
            $bound,
            "::timestamptz, '-infinity'), now()) - interval '30 seconds'"
        )
    };
}

pub(super) use due_from;

statements! {
    /// The earliest time at which an unfinished order is due, or now, if none is due yet.
    EARLIEST_DUE = concat!(
        "select now() as now,
                (select next_run_at from order_sagas
                  where ", due_from!("$1"), " and next_run_at <= now()
                  order by next_run_at limit 1) as earliest");
}

/// The lower bound.
#[derive(Debug, Default)]
pub(super) struct DueBound(Mutex<Known>);

#[derive(Debug, Default, Clone, Copy)]
struct Known {
    bound: Option<Timestamp>,
    whole_look_at: Option<Instant>,
}

impl DueBound {
    /// No unfinished order is due before this; `None`: it is not known.
    pub(super) fn get(&self) -> Option<Timestamp> {
        self.lock().bound
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl OrderStore {
    /// Whether an order is due, or may be: its lease may be over. Moves the lower bound on.
    pub(super) async fn is_any_due(&self) -> Result<bool, StoreError> {
        let known = *self.due.lock();
        let is_whole = known.whole_look_at.is_none_or(|at| at.elapsed() >= WHOLE_LOOK_EVERY);
        let looked_at = Instant::now();
        let from = known.bound.filter(|_| !is_whole);
        let Some(row) = self.postgres.query_opt(EARLIEST_DUE, &[&from]).await? else {
            return Ok(false);
        };
        let earliest: Option<Timestamp> = row.try_get("earliest")?;
        let now: Timestamp = row.try_get("now")?;
        let mut known = self.due.lock();
        known.bound = Some(earliest.unwrap_or(now));
        if is_whole {
            known.whole_look_at = Some(looked_at);
        }
        Ok(earliest.is_some())
    }
}
