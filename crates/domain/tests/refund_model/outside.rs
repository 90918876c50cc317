//! Callers, customers, people at the provider, operators, webhooks and days. What they commit is
//! `storage/orders/{refund_request,cancel,provider_events,refund_again,resolve}.rs`.

use waybill_domain::order::{Event, RefundState, State};

use crate::flaws::Flaw;
use crate::ledger::{self, fence_off};
use crate::moves::{Move, Next};
use crate::world::{Age, CHARGE, Made, Origin, Purpose, REFUNDS_MAX, Record, Refund, Task, World};

/// The refunds that callers ask for: two fit beside each other, and not two of the larger.
const REQUESTS: [i64; 2] = [1, 2];
/// What a person refunds by hand, once: a part, or all.
const BY_HAND: [i64; 2] = [2, CHARGE];

/// Adds all that may happen in this world without a worker and without the provider.
pub fn outside(world: &World, flaw: Option<Flaw>, next: &mut Next) {
    webhook(world, next);
    if world.may_go_wrong() {
        request(world, flaw, next);
        refund_by_hand(world, next);
    }
    if world.state == State::Succeeded {
        cancel(world, flaw, next);
    }
    half_a_day(world, next);
    refund_again(world, flaw, next);
    pay_elsewhere(world, flaw, next);
}

/// The order's payment is compared then, also if an order that is worked on knows of it a moment later.
fn webhook(world: &World, next: &mut Next) {
    if !world.own_event && !world.news_event {
        return;
    }
    let own = world.own_event && world.rows().any(|(_, refund)| refund.is_unknown());
    let mut after = *world;
    after.own_event = false;
    after.news_event = false;
    if own || world.news_event {
        after.reconcile_requested = true;
        after.requested_since = true;
    }
    next.work(Move::WebhookArrives, after.simplified());
}

/// `RefundOrder`: of a served order, and not more than is left.
fn request(world: &World, flaw: Option<Flaw>, next: &mut Next) {
    for amount in REQUESTS {
        if world.state == State::Succeeded && amount <= CHARGE - world.decided() {
            let mut after = *world;
            fence_off(&mut after, flaw);
            ledger::open(&mut after, Origin::Request, amount, 0);
            next.fault(Move::Requested(amount), after.simplified());
        }
    }
}

fn cancel(world: &World, flaw: Option<Flaw>, next: &mut Next) {
    let mut after = *world;
    fence_off(&mut after, flaw);
    ledger::happen(&mut after, Event::Cancelled);
    ledger::open_compensation(&mut after);
    next.fault(Move::CustomerCancels, after.simplified());
}

/// Not where something was paid past the provider: whoever did that knows what the provider cannot.
fn refund_by_hand(world: &World, next: &mut Next) {
    for amount in BY_HAND {
        if world.hand != Made::No || amount > world.left_at_provider() || world.unverified() > 0 {
            continue;
        }
        for hand in [Made::Pending, Made::Succeeded] {
            let after = World {
                hand,
                hand_minor: amount,
                news_event: world.news_event || hand == Made::Succeeded,
                ..*world
            };
            next.fault(Move::RefundedByHand(amount), after.simplified());
        }
    }
}

/// A worker that has recorded a send sends it, and what is sent arrives or is lost, within half a day. Then the provider's
/// key expires.
fn half_a_day(world: &World, next: &mut Next) {
    let mut old = world.rows().filter(|(_, refund)| refund.age == Age::Old);
    if old.any(|(_, refund)| refund.in_flight) || !world.rows().any(|(_, refund)| grows_older(world, refund)) {
        return;
    }
    let mut after = *world;
    for refund in after.refunds.iter_mut().filter(|refund| grows_older(world, refund)) {
        match refund.age {
            Age::Fresh => refund.age = Age::Old,
            Age::Old => {
                refund.age = Age::Over;
                refund.record = Record::Unseen;
                refund.is_in_doubt = false;
            }
            Age::Over => {}
        }
    }
    let is_over = |number: u8| after.refund(number).age == Age::Over;
    let goes_on = match world.holder {
        Task::Waiting(number) => !is_over(number),
        Task::Listed(Purpose::BeforeRetry, _) => false,
        Task::Idle | Task::Answered(..) | Task::Listed(..) => true,
    };
    if !goes_on {
        after.holder = Task::Idle;
    }
    next.patience(Move::HalfADay, after.simplified());
}

/// Whether this row grows older with half a day: once nothing more goes wrong only what waits for that, since the worker is
/// at what is fresh at once.
fn grows_older(world: &World, refund: &Refund) -> bool {
    let waits =
        refund.age == Age::Old || refund.is_in_doubt || matches!(refund.record, Record::Broke | Record::TooLarge);
    refund.age != Age::Over && (world.may_go_wrong() || waits)
}

/// `Store::refund_again`: each refund that failed gets another key, and is at most what is left. Not while one of them may
/// still be made.
fn refund_again(world: &World, flaw: Option<Flaw>, next: &mut Next) {
    let mut after = *world;
    let settlement = ledger::settlement(world, world.listing(), None, flaw);
    after.requested_since = false;
    ledger::reconcile(&mut after, &settlement, flaw);
    fence_off(&mut after, flaw);
    let failed: Vec<(u8, Refund)> = after
        .rows()
        .filter(|(_, refund)| refund.state == RefundState::Failed)
        .map(|(number, refund)| (number, *refund))
        .collect();
    let may_still_be_made = settlement.is_pending || failed.iter().any(|(_, refund)| !refund.is_certain());
    if failed.is_empty() || (may_still_be_made && flaw != Some(Flaw::AgainWhileSent)) {
        return;
    }
    ledger::replace_failed(&mut after);
    for (number, refund) in failed {
        let root = if refund.root == 0 { number } else { refund.root };
        let amount_minor = refund.amount_minor.min(CHARGE - after.decided());
        if amount_minor > 0 {
            ledger::open(&mut after, Origin::Again, amount_minor, root);
        }
    }
    after.reconcile_requested = true;
    next.patience(Move::RefundedAgain, after.simplified());
}

/// `Assertion::RefundedElsewhere`, once: what is owed is paid in the moment in which the provider is looked at.
fn pay_elsewhere(world: &World, flaw: Option<Flaw>, next: &mut Next) {
    let has_failed = world.rows().any(|(_, refund)| refund.state == RefundState::Failed);
    let is_expected = world.state == State::Refunding || (world.state == State::Succeeded && has_failed);
    let is_first = world.rows().all(|(_, refund)| refund.origin != Origin::Unverified);
    if !is_expected || !is_first || world.count() == REFUNDS_MAX {
        return;
    }
    let may_arrive = |refund: &Refund| match flaw {
        Some(Flaw::PaidWhileSent) => false,
        _ => refund.in_flight || !refund.is_certain(),
    };
    let is_held = world.holder != Task::Idle;
    let known = ledger::settlement(world, world.listing(), None, flaw);
    let is_pending = known.is_pending && flaw != Some(Flaw::PaidWhilePending);
    if world.rows().any(|(_, refund)| may_arrive(refund)) || is_held || is_pending {
        return;
    }
    let refunded = match flaw {
        Some(Flaw::PaidUnlooked) => world.sum(RefundState::Succeeded),
        _ => known.refunded_minor,
    };
    let left = CHARGE - refunded;
    let owed = match world.state {
        State::Refunding => left,
        _ => known.failed_minor.min(left),
    };
    if owed <= 0 {
        return;
    }
    let mut after = *world;
    let elsewhere = Some(ledger::past_the_provider(owed));
    let settlement = match flaw {
        Some(Flaw::PaidUnlooked) => ledger::settlement(world, crate::world::NOTHING_LISTED, elsewhere, flaw),
        _ => ledger::settlement(world, world.listing(), elsewhere, flaw),
    };
    after.requested_since = false;
    ledger::reconcile(&mut after, &settlement, flaw);
    fence_off(&mut after, flaw);
    next.patience(Move::PaidElsewhere(owed), after.simplified());
}
