//! The provider and the network: which requests arrive, what becomes of them, and what is reported of it later.
//!
//! Never more is refunded than was charged, and a refund that is pending counts (<https://docs.stripe.com/refunds>). One can
//! fail after it succeeded. A key keeps its first answer for a day (<https://docs.stripe.com/api/idempotent_requests>),
//! server errors too; whether a refusal is saved depends on its kind, so both are tried.

use crate::flaws::Flaw;
use crate::moves::{Move, Next};
use crate::world::{Age, Answer, Made, Record, Refund, Task, World};

/// Adds all that provider and network may do in this world.
pub fn provider(world: &World, flaw: Option<Flaw>, next: &mut Next) {
    for (number, refund) in world.rows() {
        if refund.in_flight {
            arrive(world, number, flaw, next);
            let mut lost = *world;
            lost.refund_mut(number).in_flight = false;
            next.fault(Move::RequestLost(number), lost.simplified());
        } else if refund.is_in_doubt
            && refund.age != Age::Over
            && refund.record == Record::Unseen
            && refund.made == Made::No
        {
            let mut late = *world;
            late.refund_mut(number).in_flight = true;
            next.fault(Move::ComesLate(number), late.simplified());
        }
        become_definite(world, number, refund.made, next);
    }
    become_definite(world, 0, world.hand, next);
}

/// What the provider makes of a request, saves and answers; `None`: it answers 500, or that it is not done yet.
type Reaction = (Made, Record, Option<Answer>);

fn arrive(world: &World, number: u8, flaw: Option<Flaw>, next: &mut Next) {
    let refund = world.refund(number);
    for (place, (made, record, answer)) in reactions(world, refund, flaw).into_iter().enumerate() {
        let mut after = *world;
        let is_new = made != Made::No && (refund.record == Record::Unseen || flaw == Some(Flaw::NewKeyEachSend));
        let handled = after.refund_mut(number);
        handled.in_flight = false;
        handled.record = record;
        handled.made = made;
        after.made_twice |= is_new && refund.made.is_alive() && made.is_alive();
        after.own_event |= is_new && made == Made::Succeeded && refund.made == Made::No;
        after.news_event |= is_new && made == Made::Failed && refund.made == Made::No;
        let mut push = |what, world: World| {
            // The first is what a provider does that is well.
            if place == 0 {
                next.work(what, world.simplified());
            } else {
                next.fault(what, world.simplified());
            }
        };
        push(Move::Handled(number, made, record, false), after);
        if let (Some(answer), Task::Waiting(waiting)) = (answer, world.holder)
            && waiting == number
        {
            after.holder = Task::Answered(number, answer);
            push(Move::Handled(number, made, record, true), after);
        }
    }
}

fn reactions(world: &World, refund: &Refund, flaw: Option<Flaw>) -> Vec<Reaction> {
    let Refund { made, record, .. } = *refund;
    match record {
        Record::Unseen => fresh_reactions(world, refund),
        _ if flaw == Some(Flaw::NewKeyEachSend) => fresh_reactions(world, refund),
        Record::Pending => vec![(
            made,
            record,
            match made {
                Made::Succeeded => Some(Answer::Succeeded),
                Made::Failed => Some(Answer::Failed),
                Made::Pending | Made::No => None,
            },
        )],
        Record::Succeeded => vec![(made, record, Some(Answer::Succeeded))],
        Record::Failed => vec![(made, record, Some(Answer::Failed))],
        Record::TooLarge => vec![(made, record, Some(Answer::TooLarge))],
        Record::Refused => vec![(made, record, Some(Answer::RefusedAgain))],
        Record::Broke => vec![(made, record, None)],
    }
}

/// To a key that it has not seen.
fn fresh_reactions(world: &World, refund: &Refund) -> Vec<Reaction> {
    let made = refund.made;
    if refund.amount_minor > world.left_at_provider() {
        let refused = Some(Answer::TooLarge);
        let mut reactions = vec![(made, Record::Unseen, refused)];
        if world.may_go_wrong() {
            reactions.push((made, Record::TooLarge, refused));
        }
        return reactions;
    }
    let mut reactions = vec![(Made::Succeeded, Record::Succeeded, Some(Answer::Succeeded))];
    if world.may_go_wrong() {
        reactions.push((Made::Pending, Record::Pending, None));
        reactions.push((made, Record::Refused, Some(Answer::Refused)));
        reactions.push((Made::Succeeded, Record::Broke, None));
        reactions.push((made, Record::Broke, None));
    }
    if world.may_fail() {
        reactions.push((Made::Failed, Record::Failed, Some(Answer::Failed)));
    }
    reactions
}

/// A refund that was pending succeeds; one that was pending or succeeded fails.
fn become_definite(world: &World, number: u8, made: Made, next: &mut Next) {
    let with = |made: Made| {
        let mut after = *world;
        match number {
            0 => after.hand = made,
            number => after.refund_mut(number).made = made,
        }
        after
    };
    if made == Made::Pending {
        let mut settled = with(Made::Succeeded);
        // What a person made carries no order: it is news.
        settled.news_event |= number == 0;
        settled.own_event |= number != 0;
        next.work(Move::Settles(number), settled.simplified());
    }
    if made.is_alive() && world.may_fail() {
        let mut failed = with(Made::Failed);
        failed.news_event = true;
        next.fault(Move::Fails(number), failed.simplified());
    }
}
