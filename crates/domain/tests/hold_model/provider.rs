//! The provider and the network: which requests arrive, what becomes of them, and what happens to a hold by itself.
//!
//! A payment with `capture_method=manual` leaves `requires_capture` once: it is captured, at most what is held, and the rest
//! is released; or it is cancelled, by a request or by its age
//! (<https://docs.stripe.com/payments/place-a-hold-on-a-payment-method>). A request that comes later is refused, whatever
//! its key, and the refusal says how the hold ended. A key keeps its first answer
//! (<https://docs.stripe.com/api/idempotent_requests>), server errors too; whether a refusal is saved depends on its kind,
//! so both are tried.

use crate::flaws::Flaw;
use crate::moves::{Move, Next};
use crate::world::{Ended, HOLD, Hold, Key, Record, Task, World};

/// What a person captures by hand.
const BY_HAND: [i64; 3] = [1, 2, HOLD];
/// What a person refunds by hand, once.
const REFUNDED_BY_HAND: [i64; 3] = [1, 2, HOLD];

/// Adds all that provider, network and people at the provider may do in this world.
pub fn provider(world: &World, flaw: Option<Flaw>, next: &mut Next) {
    for (key, asked) in [(Key::First, world.first), (Key::Other, world.other)] {
        if let Some(amount) = asked {
            arrive(world, key, amount, flaw, next);
            next.fault(Move::RequestLost(key), without(world, key).simplified());
        }
    }
    for (number, refund) in world.rows() {
        if refund.in_flight {
            arrive_refund(world, number, next);
            let mut lost = *world;
            lost.refunds[number - 1].in_flight = false;
            next.fault(Move::RefundLost(number), lost.simplified());
        } else if refund.may_come_late() {
            let mut late = *world;
            late.refunds[number - 1].in_flight = true;
            next.fault(Move::RefundComesLate(number), late.simplified());
        }
    }
    if world.hold == Hold::Held {
        let ended = |ended| World {
            hold: Hold::Ended(ended),
            ..*world
        };
        next.fault(Move::Expires, ended(Ended::Gone).simplified());
        for amount in BY_HAND {
            next.fault(
                Move::CapturedByHand(amount),
                ended(Ended::Captured(amount)).simplified(),
            );
        }
    }
    for amount in REFUNDED_BY_HAND {
        if world.hand_minor == 0 && amount <= world.paid() {
            let after = World {
                hand_minor: amount,
                is_hand_first: world.captured.is_none(),
                news_event: true,
                ..*world
            };
            next.fault(Move::RefundedByHand(amount), after.simplified());
        }
    }
}

/// The world in which no request under this key is on its way.
fn without(world: &World, key: Key) -> World {
    let mut after = *world;
    match key {
        Key::First => after.first = None,
        Key::Other => after.other = None,
    }
    after
}

/// A refund is made once under its key, and not for more than what is left.
fn arrive_refund(world: &World, number: usize, next: &mut Next) {
    let mut after = *world;
    let refund = &mut after.refunds[number - 1];
    let is_new = !refund.is_made && refund.amount_minor <= world.paid();
    refund.in_flight = false;
    refund.is_made |= is_new;
    let is_made = refund.is_made;
    after.own_event |= is_new;
    next.work(Move::RefundHandled(number, is_made, false), after.simplified());
    if world.holder == Task::Refunding(number) {
        after.holder = if is_made {
            Task::Refunded(number)
        } else {
            Task::TooLarge
        };
        next.work(Move::RefundHandled(number, is_made, true), after.simplified());
    }
}

/// What becomes of the hold, what is saved under the key, and whether the answer says how the hold ended.
type Reaction = (Hold, Record, bool);

fn arrive(world: &World, key: Key, amount: i64, flaw: Option<Flaw>, next: &mut Next) {
    let record = match key {
        Key::First => world.record,
        Key::Other => Record::Unseen,
    };
    for (place, (hold, saved, is_definite)) in reactions(world.hold, record, amount, flaw).into_iter().enumerate() {
        let mut after = without(world, key);
        after.hold = hold;
        after.saw_errors |= saved == Record::Broke;
        if key == Key::First {
            after.record = saved;
        }
        let is_new = record == Record::Unseen && is_definite;
        after.ended_twice |= flaw == Some(Flaw::EndedByEachKey) && is_new && world.hold != Hold::Held;
        let is_more =
            |ended| matches!(ended, Ended::Captured(minor) if world.to_capture.is_none_or(|most| minor > most));
        after.captured_too_much |= world.hold == Hold::Held && matches!(hold, Hold::Ended(ended) if is_more(ended));
        let mut push = |what, world: World| {
            // The first is what a provider does that is well.
            if place == 0 {
                next.work(what, world.simplified());
            } else {
                next.fault(what, world.simplified());
            }
        };
        let handled = |is_answered| Move::Handled(key, hold, after.record, is_answered);
        push(handled(false), after);
        if let (true, Hold::Ended(ended)) = (is_definite && world.holder == Task::Waiting(key), hold) {
            let answered = World {
                holder: Task::Answered(ended),
                ..after
            };
            push(handled(true), answered);
        }
        if hold == Hold::Held {
            let doubled = World {
                first: world.first,
                other: world.other,
                ..after
            };
            next.fault(Move::HandledAndDoubled(key), doubled.simplified());
        }
    }
}

fn reactions(hold: Hold, record: Record, amount: i64, flaw: Option<Flaw>) -> Vec<Reaction> {
    match record {
        Record::Ended => return vec![(hold, record, true)],
        Record::Refused | Record::Broke => return vec![(hold, record, false)],
        Record::Unseen => {}
    }
    let ended = match (hold, amount) {
        (Hold::Ended(ended), _) if flaw != Some(Flaw::EndedByEachKey) => Hold::Ended(ended),
        (_, 0) => Hold::Ended(Ended::Gone),
        (_, amount) => Hold::Ended(Ended::Captured(amount)),
    };
    vec![
        (ended, Record::Ended, true),
        (ended, Record::Broke, false),
        (hold, Record::Broke, false),
        (hold, Record::Refused, false),
        // A refusal that is not saved, or an answer of something before the provider.
        (hold, Record::Unseen, false),
    ]
}
