//! Customers, drivers, the worker that ends old holds, webhooks and days. What they commit is
//! `storage/orders/{complete,cancel,reassign,captures,provider_events}.rs`.
//!
//! Where `orders.hold_expiry` says so, a hold that is too old is released: that is a cancellation without a fee.

use waybill_domain::order::{Event, PaymentMode, RefundState, State};

use crate::flaws::Flaw;
use crate::ledger::{self, fence_off};
use crate::moves::{Move, Next};
use crate::world::{Ended, HOLD, Hold, Origin, Refund, Task, World};

/// The refunds that callers ask for.
const REQUESTS: [i64; 2] = [1, 2];
/// What a cancellation costs, once a driver is assigned.
const FEES: [i64; 2] = [0, 1];
/// What a service costs: a part of what is held, or all that is left.
const FINAL_AMOUNTS: [Option<i64>; 3] = [None, Some(1), Some(2)];

/// Adds all that may happen in this world without a worker and without the provider.
pub fn outside(world: &World, flaw: Option<Flaw>, next: &mut Next) {
    if *world == World::BEGINNING {
        // What is not held has its fees and final amounts too: they are refunded, or kept.
        let charged = World {
            mode: Some(PaymentMode::ChargeFirst),
            captured: Some(HOLD),
            hold: Hold::Ended(Ended::Captured(HOLD)),
            price: HOLD,
            ..*world
        };
        next.fault(Move::Charged, charged);
    }
    webhook(world, flaw, next);
    half_a_day(world, next);
    refund_again(world, flaw, next);
    if world.state == State::Succeeded && world.captured.is_some() && world.may_be_asked() {
        request(world, flaw, next);
    }
    match world.state {
        State::Charged if !world.cancel_requested => {
            let after = World {
                cancel_requested: true,
                is_unaware: true,
                ..*world
            };
            next.fault(Move::Cancelled(0), after.simplified());
        }
        State::Succeeded if !world.is_completed => {
            for fee in FEES {
                cancel(world, fee, flaw, next);
            }
            for amount in FINAL_AMOUNTS {
                complete(world, amount, flaw, next);
            }
            unassign(world, flaw, next);
            hold_max(world, flaw, next);
        }
        _ => {}
    }
}

/// `REQUEST_RECONCILE`. The order's own success is news too: a comparison that read the list before closes what was made.
fn webhook(world: &World, flaw: Option<Flaw>, next: &mut Next) {
    if !world.news_event && !world.own_event {
        return;
    }
    let mut after = World {
        news_event: false,
        own_event: false,
        ..*world
    };
    if world.news_event || world.is_finished(flaw) || flaw != Some(Flaw::OwnNewsDropped) {
        (after.reconcile_requested, after.requested_since, after.is_unaware) = (true, true, true);
    }
    next.work(Move::WebhookArrives, after.simplified());
}

/// A key gets old, and what was sent has arrived or is lost.
fn half_a_day(world: &World, next: &mut Next) {
    let mut after = *world;
    after.is_old |= world.payment().capture_is_open() && world.holder == Task::Idle;
    for refund in &mut after.refunds {
        refund.is_over |= refund.may_come_late() && !refund.in_flight;
    }
    if after != *world {
        next.patience(Move::HalfADay, after.simplified());
    }
}

/// `RefundOrder`: of what was captured, and not more than is left.
fn request(world: &World, flaw: Option<Flaw>, next: &mut Next) {
    for amount in REQUESTS {
        if amount <= world.left() {
            let mut after = *world;
            fence_off(&mut after, flaw);
            ledger::open(&mut after, Origin::Request, amount);
            after.price = after.price.min(after.left());
            // What a caller asks for is made as it was asked for, whatever a person refunded.
            after.is_hand_first = false;
            next.fault(Move::RefundRequested(amount), after.simplified());
        }
    }
}

/// `Store::refund_again`, which compares first: what failed gets another number, and is at most what is left. Not while it
/// may still be made, nor while another driver is looked for: the rulebook knows no comparison there.
fn refund_again(world: &World, flaw: Option<Flaw>, next: &mut Next) {
    let is_searching = world.state == State::Charged && flaw != Some(Flaw::AgainWhileSearching);
    if world.sum(RefundState::Failed) == 0 || is_searching {
        return;
    }
    let mut after = *world;
    after.requested_since = false;
    ledger::reconcile(&mut after, &ledger::settlement(world, world.listing()));
    fence_off(&mut after, flaw);
    let failed: Vec<Refund> = after
        .refunds
        .into_iter()
        .filter(|refund| refund.state == RefundState::Failed)
        .collect();
    if failed.is_empty() || failed.iter().any(|refund| refund.in_flight || refund.may_come_late()) {
        return;
    }
    ledger::replace_failed(&mut after);
    for refund in failed {
        let amount = refund.amount_minor.min(after.left() - after.kept);
        if amount > 0 {
            ledger::open(&mut after, Origin::Again, amount);
        }
    }
    after.reconcile_requested = true;
    next.patience(Move::RefundedAgain, after.simplified());
}

/// `Store::cancel`, of an order with a driver.
fn cancel(world: &World, fee: i64, flaw: Option<Flaw>, next: &mut Next) {
    if fee > world.left() {
        return;
    }
    let mut after = *world;
    fence_off(&mut after, flaw);
    ledger::happen(&mut after, Event::Cancelled);
    ledger::compensate(&mut after, fee, flaw);
    next.fault(Move::Cancelled(fee), after.simplified());
}

/// `Store::complete`: what it cost is captured of a hold; of what was paid, the rest is refunded.
fn complete(world: &World, amount: Option<i64>, flaw: Option<Flaw>, next: &mut Next) {
    let left = world.left();
    let cost = amount.unwrap_or(left);
    let mut after = World {
        is_completed: true,
        ..*world
    };
    // Where nothing is left, a final amount changes nothing.
    if left > 0 {
        let is_capturing = world.payment().capture_is_open();
        if cost > left {
            return;
        }
        if ledger::is_undecided(world, flaw) {
            fence_off(&mut after, flaw);
            ledger::decide(&mut after, cost, 0);
        } else if cost < left && is_capturing {
            return;
        } else if cost < left {
            fence_off(&mut after, flaw);
            ledger::open(&mut after, Origin::Request, left - cost);
        }
        after.price = cost;
    }
    next.fault(Move::Completed(cost), after.simplified());
}

/// `Store::unassign_driver`: the payment stays as it is, also a capture that is on its way.
fn unassign(world: &World, flaw: Option<Flaw>, next: &mut Next) {
    let mut after = *world;
    fence_off(&mut after, flaw);
    ledger::happen(&mut after, Event::DriverUnassigned);
    next.fault(Move::Unassigned, after.simplified());
}

/// `Store::capture_hold`.
fn hold_max(world: &World, flaw: Option<Flaw>, next: &mut Next) {
    if ledger::is_undecided(world, flaw) {
        let mut after = *world;
        fence_off(&mut after, flaw);
        ledger::decide(&mut after, HOLD, 0);
        after.price = HOLD;
        next.fault(Move::HoldMax, after.simplified());
    }
}
