//! A world as a few numbers, so that a set of a million worlds is small and quick.

use crate::world::{Ended, Hold, Key, Origin, Purpose, REFUNDS_MAX, Refund, Task, World};

impl World {
    /// The world as numbers, for a set of many.
    pub fn packed(&self) -> (u64, u64, u64, u64) {
        let rows = |refunds: &[Refund]| refunds.iter().fold(0, |sum, refund| sum << 11 | refund.packed());
        let (early, late) = self.refunds.split_at(REFUNDS_MAX / 2);
        let mut number = 0;
        let mut push = |value: u64, values: u64| number = number * values + value;
        push(self.state as u64, 7);
        push(self.mode.map_or(0, |mode| mode as u64 + 1), 4);
        push(self.record as u64, 4);
        push(option(self.sleeper.map(Ended::captured_minor)), 5);
        let hold = match self.hold {
            Hold::Held => None,
            Hold::Ended(ended) => Some(ended.captured_minor()),
        };
        for amount in [self.to_capture, self.captured, self.first, self.other, hold] {
            push(option(amount), 5);
        }
        for amount in [self.kept, self.price, self.hand_minor] {
            push(amount.unsigned_abs(), 4);
        }
        for flag in [
            self.is_completed,
            self.cancel_requested,
            self.reconcile_requested,
            self.is_unaware,
            self.requested_since,
            self.is_flagged,
            self.is_old,
            self.saw_errors,
            self.is_hand_first,
            self.news_event,
            self.own_event,
            self.charged_anew,
            self.ended_twice,
            self.captured_too_much,
            self.decided_twice,
            self.refused,
            self.is_full,
        ] {
            push(u64::from(flag), 2);
        }
        (rows(early), rows(late), number, self.holder.packed())
    }
}

fn option(amount: Option<i64>) -> u64 {
    amount.map_or(0, |minor| minor.unsigned_abs() + 1)
}

impl Task {
    fn packed(self) -> u64 {
        match self {
            Task::Idle => 0,
            Task::Waiting(Key::First) => 1,
            Task::Waiting(Key::Other) => 2,
            Task::Answered(ended) => 3 + ended.captured_minor().unsigned_abs(),
            Task::TooLarge => 7,
            Task::Refunding(number) => 8 + number as u64,
            Task::Refunded(number) => 8 + (REFUNDS_MAX + number) as u64,
            Task::Listed(purpose, listing) => {
                let own = listing.own.iter().fold(1, |sum, made| sum << 1 | u64::from(*made));
                let hand = own << 2 | listing.hand_minor.unsigned_abs();
                (hand << 1 | u64::from(purpose == Purpose::TooLarge)) << 8
            }
        }
    }
}

impl Refund {
    fn packed(&self) -> u64 {
        let origin = match self.origin {
            Origin::None => 0,
            Origin::Request => 1,
            Origin::Again => 2,
            Origin::Compensation => 3,
            Origin::Hand => 4,
            Origin::Found(number) => 4 + number as u64,
        };
        let number = (origin * 4 + self.amount_minor.unsigned_abs()) * 4 + self.state as u64;
        number << 3 | u64::from(self.is_over) << 2 | u64::from(self.in_flight) << 1 | u64::from(self.is_made)
    }
}
