//! What is committed: `storage/orders/{refunds,reconciled,advance}.rs`. What is owed and what is new is the word of
//! `Settlement`, and where an event leads that of the rulebook, as it is there.

use waybill_domain::order::{Event, LedgerRefund, ListedRefund, ListedState, Maker, RefundState, Settlement, State};

use crate::flaws::Flaw;
use crate::world::{Age, Answer, CHARGE, Listing, Made, Origin, Refund, Task, World};

/// Compares the ledger with the provider's list, and with what an operator refunded past it: `payment_record::compare`.
pub fn settlement(world: &World, listing: Listing, elsewhere: Option<ListedRefund>, flaw: Option<Flaw>) -> Settlement {
    let ledger: Vec<LedgerRefund> = world.rows().map(|(number, refund)| row(number, refund)).collect();
    let mut listed: Vec<ListedRefund> = Vec::with_capacity(ledger.len() + 2);
    for (number, refund) in world.rows() {
        let made = listing.own[usize::from(number) - 1];
        let maker = Maker::Order(i32::from(number));
        listed.extend(list(id_of(number), maker, refund.amount_minor, made));
    }
    if flaw != Some(Flaw::HandNotCounted) {
        listed.extend(list(HAND.to_owned(), Maker::Person, world.hand_minor, listing.hand));
    }
    listed.extend(elsewhere);
    Settlement::of(CHARGE, &ledger, &listed)
}

/// What an operator refunded past the provider.
pub fn past_the_provider(amount_minor: i64) -> ListedRefund {
    ListedRefund {
        provider_id: UNVERIFIED.to_owned(),
        maker: Maker::Operator,
        amount_minor,
        state: ListedState::Succeeded,
    }
}

/// What a settlement means for the order: `Reconciliation::event`.
pub fn event_of(settlement: &Settlement, state: State) -> Event {
    let Settlement {
        succeeded,
        found,
        failed,
        refunded_minor,
        ..
    } = settlement;
    match state {
        State::Refunding if *refunded_minor >= CHARGE => Event::Refunded,
        State::Refunding if !failed.is_empty() => Event::RefundFailed,
        State::Refunding if !(succeeded.is_empty() && found.is_empty()) => Event::RefundedInPart,
        State::Refunded if *refunded_minor < CHARGE => Event::RefundFailed,
        _ => Event::Reconciled,
    }
}

/// Makes what happened the order's state.
pub fn happen(world: &mut World, event: Event) {
    match world.state.next(event) {
        Ok(state) => world.state = state,
        Err(_) => world.refused = true,
    }
}

/// `StepOutcome::Reconciled`, in one commit.
pub fn reconcile(world: &mut World, settlement: &Settlement, flaw: Option<Flaw>) {
    happen(world, event_of(settlement, world.state));
    // What was requested after the list was read is still to be done.
    world.reconcile_requested &= world.requested_since && flaw != Some(Flaw::LaterNewsDropped);
    record_settlement(world, settlement, flaw);
    let is_by_operator = |made: &ListedRefund| made.maker == Maker::Operator;
    if world.state == State::Refunded || settlement.found.iter().any(is_by_operator) {
        replace_failed(world);
    }
    if world.state == State::Refunding && settlement.failed_minor == 0 {
        open_compensation(world);
    }
}

fn record_settlement(world: &mut World, settlement: &Settlement, flaw: Option<Flaw>) {
    let number = |number: i32| u8::try_from(number).expect("numbers are small");
    // What is not made any more first: the sum of all never exceeds the charge.
    for replaced in &settlement.replaced {
        close_unanswered(world, number(*replaced), RefundState::Replaced);
    }
    for impossible in &settlement.impossible {
        let impossible = number(*impossible);
        let state = match flaw {
            Some(Flaw::ImpossibleMadeSmaller) => RefundState::Replaced,
            _ => RefundState::Failed,
        };
        close_unanswered(world, impossible, state);
    }
    for failed in &settlement.failed {
        close(world, number(*failed), RefundState::Failed);
    }
    for (succeeded, _) in &settlement.succeeded {
        close(world, number(*succeeded), RefundState::Succeeded);
        world.refund_mut(number(*succeeded)).is_identified = true;
    }
    for made in &settlement.found {
        enter_made(world, made);
    }
    if flaw == Some(Flaw::ImpossibleMadeSmaller) {
        for impossible in &settlement.impossible {
            let left = CHARGE - world.decided();
            if left > 0 {
                open(world, Origin::Request, left, number(*impossible));
            }
        }
    }
}

/// `StepOutcome::Refunded`.
pub fn refunded(world: &mut World, number: u8) {
    let sum = world.sum(RefundState::Succeeded) + world.refund(number).amount_minor;
    happen(
        world,
        if sum >= CHARGE {
            Event::Refunded
        } else {
            Event::RefundedInPart
        },
    );
    close(world, number, RefundState::Succeeded);
    world.refund_mut(number).is_identified = true;
    if world.state == State::Refunded {
        replace_failed(world);
    }
}

/// `StepOutcome::RefundFailed`; `is_made`: the provider made it, and has an id of it.
pub fn failed(world: &mut World, number: u8, is_made: bool) {
    happen(world, Event::RefundFailed);
    close(world, number, RefundState::Failed);
    world.refund_mut(number).is_identified |= is_made;
}

/// `StepOutcome::RefundReplaced`.
pub fn replaced(world: &mut World, number: u8) {
    happen(world, Event::RefundUnknown);
    close(world, number, RefundState::Replaced);
    open_compensation(world);
}

/// Opens a refund of all that is left, if anything is.
pub fn open_compensation(world: &mut World) {
    let left = CHARGE - world.decided();
    if left > 0 {
        open(world, Origin::Compensation, left, 0);
    }
}

/// Opens a refund, with the attempt that will be sent.
pub fn open(world: &mut World, origin: Origin, amount_minor: i64, root: u8) {
    let own = u8::try_from(world.count() + 1).expect("numbers are small");
    let root = if root == 0 { own } else { root };
    enter(world, Refund::open(origin, amount_minor, root));
}

/// What failed was paid in another way.
pub fn replace_failed(world: &mut World) {
    for refund in &mut world.refunds {
        if refund.state == RefundState::Failed {
            refund.state = RefundState::Replaced;
        }
    }
}

/// Takes the order away from whoever has it: the next fence. What the old worker was at is lost, since its writes are refused.
pub fn fence_off(world: &mut World, flaw: Option<Flaw>) {
    if let (Task::Answered(number, Answer::Succeeded), Some(Flaw::WritesWithoutFence)) = (world.holder, flaw) {
        world.sleeper = number;
    }
    world.holder = Task::Idle;
}

const HAND: &str = "re_hand";
const UNVERIFIED: &str = "unverified:transfer";

fn id_of(number: u8) -> String {
    format!("re_{number}")
}

fn row(number: u8, refund: &Refund) -> LedgerRefund {
    LedgerRefund {
        number: i32::from(number),
        amount_minor: refund.amount_minor,
        state: refund.state,
        is_requested: refund.origin != Origin::Compensation,
        provider_id: match refund.origin {
            Origin::Hand => Some(HAND.to_owned()),
            Origin::Unverified => Some(UNVERIFIED.to_owned()),
            Origin::Found => Some(id_of(refund.root)),
            _ => refund.is_identified.then(|| id_of(number)),
        },
    }
}

fn list(provider_id: String, maker: Maker, amount_minor: i64, made: Made) -> Option<ListedRefund> {
    let state = match made {
        Made::No => return None,
        Made::Pending => ListedState::Pending,
        Made::Succeeded => ListedState::Succeeded,
        Made::Failed => ListedState::Failed,
    };
    Some(ListedRefund {
        provider_id,
        maker,
        amount_minor,
        state,
    })
}

/// `refunds::close`, with the transitions that the trigger `refunds_guard` allows.
fn close(world: &mut World, number: u8, state: RefundState) {
    let refund = world.refund_mut(number);
    let is_legal = match (refund.state, state) {
        (RefundState::Open, _) => true,
        (from, to) if from == to => true,
        (RefundState::Succeeded, RefundState::Failed) | (RefundState::Failed, RefundState::Replaced) => true,
        _ => false,
    };
    refund.state = state;
    world.refused |= !is_legal;
}

/// Closes a refund whose request may still be executed, while its key lives.
fn close_unanswered(world: &mut World, number: u8, state: RefundState) {
    close(world, number, state);
    let refund = world.refund_mut(number);
    refund.is_in_doubt = refund.age != Age::Over;
}

/// `refunds::enter_made`: unless it is known by now.
fn enter_made(world: &mut World, made: &ListedRefund) {
    let (origin, root) = match made.maker {
        Maker::Person | Maker::Bank => (Origin::Hand, 0),
        Maker::Operator => (Origin::Unverified, 0),
        Maker::Order(number) => (Origin::Found, u8::try_from(number).expect("numbers are small")),
    };
    let is_known = world
        .rows()
        .any(|(_, refund)| refund.origin == origin && refund.root == root);
    if !is_known {
        let made = Refund {
            state: RefundState::Succeeded,
            is_identified: true,
            age: Age::Over,
            ..Refund::open(origin, made.amount_minor, root)
        };
        enter(world, made);
    }
}

/// Adds a row. The trigger sees to it that no more is decided than was charged.
fn enter(world: &mut World, refund: Refund) {
    let place = world.count();
    match world.refunds.get_mut(place) {
        Some(row) => *row = refund,
        None => world.is_full = true,
    }
    world.refused |= world.decided() > CHARGE;
}
