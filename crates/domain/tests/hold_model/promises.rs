//! What must hold, whatever happened before.

use std::fmt;

use waybill_domain::order::{RefundState, State};

use crate::flaws::Flaw;
use crate::world::{Ended, Hold, Record, World};

/// A promise about the hold of one order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Promise {
    /// The hold ends once: captured or voided. The provider sees to that.
    EndsOnce,
    /// Waybill captures no more than was decided.
    NotMoreThanDecided,
    /// What is decided about a hold stays.
    DecidedOnce,
    /// What is gone is not charged anew.
    GoneIsNotCharged,
    /// An order that is not served keeps at most its fee.
    KeepsItsFee,
    /// A served order has paid its price, or is flagged.
    ServedHasPaid,
    /// Waybill refunds no more than what is owed.
    RefundsWhatIsOwed,
    /// What the ledger has is what the provider has, or news of it is on the way.
    LedgerIsTrue,
    /// Rulebook and schema have a place for all that happens.
    RulesKnowIt,
    /// The model is large enough for all that it lets happen.
    ModelHasRoom,
    /// When nothing more goes wrong the order is settled, without a wait unless a refusal is saved under the key.
    CanFinish,
}

/// The promise that this world breaks.
pub fn broken(world: &World, flaw: Option<Flaw>) -> Option<Promise> {
    let is_reported = !world.news_event && !world.own_event;
    let is_settled = world.is_finished(flaw) && is_reported && !world.reconcile_requested;
    let rules = [
        (Promise::RulesKnowIt, !world.refused),
        (Promise::ModelHasRoom, !world.is_full),
        (Promise::EndsOnce, !world.ended_twice),
        (Promise::NotMoreThanDecided, !world.captured_too_much),
        (Promise::DecidedOnce, !world.decided_twice),
        (Promise::GoneIsNotCharged, !world.charged_anew),
        (
            Promise::KeepsItsFee,
            !is_settled || world.state != State::Refunded || world.paid() <= world.price,
        ),
        (Promise::ServedHasPaid, !is_settled || has_paid(world)),
        (Promise::RefundsWhatIsOwed, refunds_what_is_owed(world)),
        (Promise::LedgerIsTrue, is_ledger_true(world, is_settled)),
    ];
    rules.into_iter().find(|(_, holds)| !holds).map(|(promise, _)| promise)
}

/// From the moment in which it is known what was captured. Less only if a person gave it back.
fn has_paid(world: &World) -> bool {
    let is_less_by_hand = world.hand_minor > 0 && world.paid() < world.price;
    let is_flagged = world.is_flagged || world.sum(RefundState::Failed) > 0;
    let is_served = world.state == State::Succeeded && world.captured.is_some();
    !is_served || world.paid() == world.price || is_less_by_hand || is_flagged
}

/// A refund by hand that was made after Waybill knew of the capture may cross with ours.
fn refunds_what_is_owed(world: &World) -> bool {
    let is_crossed = world.hand_minor > 0 && !world.is_hand_first;
    world.refunded_by_us() == 0 || is_crossed || world.paid() >= world.price
}

fn is_ledger_true(world: &World, is_settled: bool) -> bool {
    let is_captured_true = match (world.captured, world.hold) {
        (None, _) => true,
        (Some(minor), Hold::Ended(Ended::Captured(captured))) => minor == captured,
        (Some(minor), Hold::Ended(Ended::Gone)) => minor == 0,
        (Some(_), Hold::Held) => false,
    };
    // While the ledger has it as held, nothing was compared.
    let is_compared = is_settled && world.captured.is_some();
    let refunded = world.refunded_by_us() + world.hand_minor;
    is_captured_true && (!is_compared || world.sum(RefundState::Succeeded) == refunded)
}

/// Where the age of the key is what leads on: it repeats a refusal, and is sent until it is half a day old. And where an
/// operator is: too little is left for a requested refund, which was noticed or will be.
pub fn needs_a_person(world: &World) -> bool {
    let open = world
        .rows()
        .filter(|(_, refund)| refund.state == RefundState::Open && !refund.is_made);
    let open: i64 = open.map(|(_, refund)| refund.amount_minor).sum();
    let is_too_much = open > (world.paid() - world.kept).max(0);
    let is_failed = world.sum(RefundState::Failed) > 0;
    is_failed || is_too_much || world.payment().capture_is_open() && world.record == Record::Refused && !world.is_old
}

impl fmt::Display for Promise {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Promise::EndsOnce => "a hold is captured once or voided",
            Promise::NotMoreThanDecided => "no more is captured than was decided",
            Promise::DecidedOnce => "what is decided about a hold stays",
            Promise::GoneIsNotCharged => "a hold that is gone is not charged anew",
            Promise::KeepsItsFee => "an order that is not served keeps at most its fee",
            Promise::ServedHasPaid => "a served order has paid its price, or is flagged",
            Promise::RefundsWhatIsOwed => "no more is refunded than what is owed",
            Promise::LedgerIsTrue => "the ledger has what the provider has",
            Promise::RulesKnowIt => "rulebook and schema have a place for all that happens",
            Promise::ModelHasRoom => "the model is large enough for all that it lets happen",
            Promise::CanFinish => "an order with a hold can always be settled",
        })
    }
}
