//! What is committed: `storage/orders/{captures,outcome,advance,reconciled,refunds}.rs`. What is held and what is to be
//! given back is the word of `Payment`, what is new that of `Settlement`, and where an event leads that of the rulebook.

use waybill_domain::order::{Event, LedgerRefund, ListedRefund, ListedState, Maker, RefundState, Settlement, State};

use crate::flaws::Flaw;
use crate::world::{Ended, Listing, Origin, REFUNDS_MAX, Record, Refund, Task, World};

/// Makes what happened the order's state.
pub fn happen(world: &mut World, event: Event) {
    match world.state.next(event) {
        Ok(state) => world.state = state,
        Err(_) => world.refused = true,
    }
    if matches!(world.state, State::Refunding | State::Refunded) {
        // What an operator should look at is what a served order has not paid.
        (world.is_flagged, world.cancel_requested) = (false, false);
    }
}

/// Takes the order away from whoever has it: the next fence. What the old worker was at is lost, since its writes are
/// refused.
pub fn fence_off(world: &mut World, flaw: Option<Flaw>) {
    if let (Task::Answered(ended), Some(Flaw::WritesWithoutFence)) = (world.holder, flaw) {
        world.sleeper = Some(ended);
    }
    (world.holder, world.is_unaware) = (Task::Idle, false);
}

/// Whether it can be decided what becomes of the hold.
pub fn is_undecided(world: &World, flaw: Option<Flaw>) -> bool {
    match flaw {
        Some(Flaw::DecidedAgain) => world.captured.is_none(),
        _ => world.payment().is_held(),
    }
}

/// `OrderStore::decide_capture`: so much of the hold is captured, and so much of that is kept.
pub fn decide(world: &mut World, to_capture: i64, kept: i64) {
    world.decided_twice |= world.to_capture.is_some();
    (world.to_capture, world.kept) = (Some(to_capture), kept);
    (world.is_old, world.saw_errors, world.record) = (false, false, Record::Unseen);
}

/// `OrderStore::compensate`: all is given back but the fee.
pub fn compensate(world: &mut World, fee: i64, flaw: Option<Flaw>) {
    world.price = fee;
    if is_undecided(world, flaw) {
        return decide(world, fee, fee);
    }
    if fee > 0 && flaw != Some(Flaw::FeeRefunded) {
        world.kept = fee;
    }
    open_compensation(world);
}

/// `StepOutcome::Captured` and `CaptureFailed`, in one commit.
pub fn ended(world: &mut World, ended: Ended, flaw: Option<Flaw>) {
    let decided = world.to_capture.unwrap_or(0);
    let captured = match ended {
        Ended::Captured(_) if decided == 0 && flaw == Some(Flaw::VoidDoneAnyway) => 0,
        ended => ended.captured_minor(),
    };
    let is_failed = captured == 0 && decided > 0;
    let event = match world.state {
        State::Refunding if captured <= world.kept => Event::Refunded,
        _ if is_failed => Event::CaptureFailed,
        _ => Event::Captured,
    };
    // The trigger `payments_guard`.
    world.refused |= world.captured.is_some_and(|before| before != captured);
    world.captured = Some(captured);
    world.kept = world.kept.min(captured);
    happen(world, event);
    world.charged_anew |= is_failed && flaw == Some(Flaw::GoneChargedAnew);
    let is_by_hand = captured > decided;
    world.is_hand_first &= is_by_hand;
    match world.state {
        // A person captured: what that person refunded is looked at first.
        State::Refunding if is_by_hand && flaw != Some(Flaw::FeeUnlooked) => {}
        State::Refunding => open_compensation(world),
        _ if is_by_hand && flaw == Some(Flaw::ExcessUnlooked) => open_excess(world),
        _ if is_by_hand => world.reconcile_requested |= flaw != Some(Flaw::ExcessKept),
        _ => world.is_flagged |= captured < decided && (captured == 0 || flaw != Some(Flaw::ShortUnflagged)),
    }
}

/// `StepOutcome::Refunded`: what failed before was paid in another way once all is.
pub fn refunded(world: &mut World, number: usize) {
    let sum = world.sum(RefundState::Succeeded) + world.refunds[number - 1].amount_minor;
    happen(
        world,
        if sum >= world.payment().refundable_minor() {
            Event::Refunded
        } else {
            Event::RefundedInPart
        },
    );
    world.refunds[number - 1].state = RefundState::Succeeded;
    if world.state == State::Refunded {
        replace_failed(world);
    }
}

/// `payment_record::compare`.
pub fn settlement(world: &World, listing: Listing) -> Settlement {
    let ledger: Vec<LedgerRefund> = world.rows().map(|(number, refund)| row(number, refund)).collect();
    let made = world.rows().filter(|(number, _)| listing.own[number - 1]);
    let own = made.map(|(number, refund)| listed(id_of(number), Maker::Order(as_i32(number)), refund.amount_minor));
    let by_hand = (listing.hand_minor > 0).then(|| listed(HAND.to_owned(), Maker::Person, listing.hand_minor));
    let listed: Vec<ListedRefund> = own.chain(by_hand).collect();
    Settlement::of(world.payment().refundable_minor(), &ledger, &listed)
}

/// `StepOutcome::Reconciled`, in one commit.
pub fn reconcile(world: &mut World, settlement: &Settlement) {
    let refundable = world.payment().refundable_minor();
    happen(world, event_of(settlement, world.state, refundable));
    // What was requested after the list was read is still to be done.
    world.reconcile_requested &= world.requested_since;
    for number in &settlement.replaced {
        close(world, *number, RefundState::Replaced);
    }
    for number in &settlement.impossible {
        close(world, *number, RefundState::Failed);
    }
    for (number, _) in &settlement.succeeded {
        close(world, *number, RefundState::Succeeded);
    }
    for made in &settlement.found {
        let origin = match made.maker {
            Maker::Order(number) => Origin::Found(place_of(number) + 1),
            Maker::Person | Maker::Bank | Maker::Operator => Origin::Hand,
        };
        enter(world, origin, made.amount_minor, RefundState::Succeeded);
    }
    if settlement.failed_minor > 0 {
        return;
    }
    replace_failed(world);
    match world.state {
        State::Refunding => open_compensation(world),
        State::Succeeded => open_excess(world),
        _ => {}
    }
}

/// What failed was paid in another way.
pub fn replace_failed(world: &mut World) {
    for refund in &mut world.refunds {
        if refund.state == RefundState::Failed {
            refund.state = RefundState::Replaced;
        }
    }
}

/// Opens a refund of this amount.
pub fn open(world: &mut World, origin: Origin, amount_minor: i64) {
    enter(world, origin, amount_minor, RefundState::Open);
}

/// Opens a refund of all that is left of what is to be given back, if anything is.
fn open_compensation(world: &mut World) {
    let left = world.payment().refundable_minor() - world.decided();
    if left > 0 {
        open(world, Origin::Compensation, left);
    }
}

/// What was captured of a served order's hold beyond the decision, and was not refunded.
fn open_excess(world: &mut World) {
    let (Some(captured), Some(decided)) = (world.captured, world.to_capture) else {
        return;
    };
    let excess = captured - decided - world.decided();
    if excess > 0 {
        open(world, Origin::Request, excess);
    }
}

/// What a settlement means for the order: `Reconciliation::event`.
fn event_of(settlement: &Settlement, state: State, refundable: i64) -> Event {
    let Settlement {
        succeeded,
        found,
        failed,
        refunded_minor,
        ..
    } = settlement;
    match state {
        State::Refunding if *refunded_minor >= refundable => Event::Refunded,
        State::Refunding if !failed.is_empty() => Event::RefundFailed,
        State::Refunding if !(succeeded.is_empty() && found.is_empty()) => Event::RefundedInPart,
        State::Refunded if *refunded_minor < refundable => Event::RefundFailed,
        _ => Event::Reconciled,
    }
}

const HAND: &str = "re_hand";

fn id_of(number: usize) -> String {
    format!("re_{number}")
}

fn as_i32(number: usize) -> i32 {
    i32::try_from(number).expect("numbers are small")
}

fn place_of(number: i32) -> usize {
    usize::try_from(number - 1).expect("numbers are from 1")
}

fn row(number: usize, refund: &Refund) -> LedgerRefund {
    LedgerRefund {
        number: as_i32(number),
        amount_minor: refund.amount_minor,
        state: refund.state,
        is_requested: refund.origin != Origin::Compensation,
        provider_id: match (refund.origin, refund.state) {
            (Origin::Hand, _) => Some(HAND.to_owned()),
            (Origin::Found(number), _) => Some(id_of(number)),
            (_, RefundState::Succeeded) => Some(id_of(number)),
            _ => None,
        },
    }
}

fn listed(provider_id: String, maker: Maker, amount_minor: i64) -> ListedRefund {
    ListedRefund {
        provider_id,
        maker,
        amount_minor,
        state: ListedState::Succeeded,
    }
}

fn close(world: &mut World, number: i32, state: RefundState) {
    let refund = &mut world.refunds[place_of(number)];
    refund.state = state;
    refund.is_over = false;
}

/// Adds a row. The trigger `refunds_guard` sees to it that no more is decided than was captured.
fn enter(world: &mut World, origin: Origin, amount_minor: i64, state: RefundState) {
    let place = world.rows().count();
    if place == REFUNDS_MAX {
        world.is_full = true;
        return;
    }
    world.refunds[place] = Refund {
        origin,
        amount_minor,
        state,
        ..Refund::NONE
    };
    world.refused |= world.decided() > world.captured.unwrap_or(0);
}
