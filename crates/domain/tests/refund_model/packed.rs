//! A world as a few numbers, so that a set of a million worlds is small and quick.

use crate::world::{Purpose, REFUNDS_MAX, Refund, Task, World};

impl World {
    /// The world as numbers, for a set of many.
    pub fn packed(&self) -> (u64, u64, u64, u64) {
        let mut rows = [0_u64; 3];
        for (place, refund) in self.refunds.iter().enumerate() {
            let row = &mut rows[place / 3];
            *row = *row << 21 | refund.packed();
        }
        let mut number = 0;
        let mut push = |value: u64, values: u64| number = number * values + value;
        push(self.state as u64, 7);
        push(self.hand_minor.unsigned_abs(), 4);
        push(self.hand as u64, 4);
        for flag in [
            self.reconcile_requested,
            self.requested_since,
            self.own_event,
            self.news_event,
            self.made_twice,
            self.sent_after_answer,
            self.refused,
            self.is_full,
        ] {
            push(u64::from(flag), 2);
        }
        push(self.holder.packed(), TASKS);
        push(u64::from(self.sleeper), 10);
        (rows[0], rows[1], rows[2], number)
    }
}

/// How many listings there are, and how many tasks.
const LISTINGS: u64 = 1 << (2 * (REFUNDS_MAX + 1));
const TASKS: u64 = 80 * LISTINGS;

impl Task {
    fn packed(self) -> u64 {
        let (task, listing) = match self {
            Task::Idle => (0, None),
            Task::Waiting(number) => (9 + u64::from(number), None),
            Task::Answered(number, answer) => (18 + u64::from(number) + 9 * (answer as u64), None),
            Task::Listed(Purpose::Reconcile, listing) => (64, Some(listing)),
            Task::Listed(Purpose::BeforeRetry, listing) => (65, Some(listing)),
            Task::Listed(Purpose::TooOld, listing) => (66, Some(listing)),
            Task::Listed(Purpose::Over, listing) => (67, Some(listing)),
            Task::Listed(Purpose::Refused(answer), listing) => (68 + answer as u64, Some(listing)),
        };
        let listing = listing.map_or(0, |listing| {
            let own = listing.own.into_iter().fold(0, |sum, made| sum * 4 + made as u64);
            own * 4 + listing.hand as u64
        });
        listing * (TASKS / LISTINGS) + task
    }
}

impl Refund {
    fn packed(&self) -> u64 {
        let mut number = 0;
        let mut push = |value: u64, values: u64| number = number * values + value;
        push(self.origin as u64, 7);
        push(self.amount_minor.unsigned_abs(), 4);
        push(self.state as u64, 4);
        push(u64::from(self.is_identified), 2);
        push(u64::from(self.root), 10);
        push(self.age as u64, 3);
        push(u64::from(self.is_in_doubt), 2);
        push(u64::from(self.in_flight), 2);
        push(self.record as u64, 7);
        push(self.made as u64, 4);
        number
    }
}
