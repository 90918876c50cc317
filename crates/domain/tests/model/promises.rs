//! What must hold, whatever happened before.

use std::fmt;

use waybill_domain::order::State;

use crate::world::{Driver, KeyAge, Record, World};

/// A promise about one order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Promise {
    /// The provider takes the money at most once.
    ChargedOnce,
    /// The provider gives it back at most once.
    RefundedOnce,
    /// A failed order was not charged, and whatever is still on its way will not charge it.
    FailedIsFree,
    /// A refunded order is refunded, in the ledger and at the provider.
    RefundedIsPaidBack,
    /// No order has a driver, or had its service, and its money back.
    ServedOrRefunded,
    /// An accepted cancellation wins: the order does not succeed after it.
    CancelWins,
    /// What is paid is not to be charged again.
    PaidIsNotChargedAgain,
    /// A charged order is paid, in the ledger and at the provider; a succeeded one has a driver too.
    ChargedIsPaid,
    /// The rulebook has a place for all that happens.
    RulebookKnowsIt,
    /// When nothing more goes wrong the order is settled, without an operator unless the provider does not know either.
    CanFinish,
}

/// The promise that this world breaks.
pub fn broken(world: &World) -> Option<Promise> {
    let World { row, provider, .. } = world;
    let rules = [
        (Promise::RulebookKnowsIt, !world.refused),
        (Promise::ChargedOnce, provider.charges <= 1),
        (Promise::RefundedOnce, provider.refunds <= 1),
        (
            Promise::ServedOrRefunded,
            row.driver == Driver::None || provider.refunds == 0,
        ),
        (
            Promise::CancelWins,
            !row.cancel_requested || row.state != State::Succeeded,
        ),
        by_state(world),
    ];
    rules.into_iter().find(|(_, holds)| !holds).map(|(promise, _)| promise)
}

/// What the state says of the money and the driver.
fn by_state(world: &World) -> (Promise, bool) {
    let World { row, provider, .. } = world;
    let is_paid = row.paid && provider.charges == 1;
    match row.state {
        State::Started | State::Charging => (Promise::PaidIsNotChargedAgain, !row.paid),
        State::Charged | State::Refunding => (Promise::ChargedIsPaid, is_paid),
        State::Succeeded => (Promise::ChargedIsPaid, is_paid && row.driver != Driver::None),
        State::Failed => (Promise::FailedIsFree, !row.paid && provider.charges == 0),
        State::Refunded => {
            let is_paid_back = row.refunded && provider.refunds == 1;
            (Promise::RefundedIsPaidBack, is_paid_back && row.driver == Driver::None)
        }
    }
}

/// The one place where an order waits for an operator: the provider's list has no charge, and its key gives no answer or
/// may not be sent any more.
pub fn needs_a_person(world: &World) -> bool {
    let provider = &world.provider;
    let key_tells_nothing = provider.charge == Record::Broke || provider.key != KeyAge::Fresh;
    world.row.state == State::Charging && provider.charges == 0 && key_tells_nothing
}

impl fmt::Display for Promise {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Promise::ChargedOnce => "the provider charges at most once",
            Promise::RefundedOnce => "the provider refunds at most once",
            Promise::FailedIsFree => "a failed order is never charged",
            Promise::RefundedIsPaidBack => "a refunded order is paid back and has no driver",
            Promise::ServedOrRefunded => "no order is both served and refunded",
            Promise::CancelWins => "an accepted cancellation wins",
            Promise::PaidIsNotChargedAgain => "a paid order is not charged again",
            Promise::ChargedIsPaid => "a charged order is paid, and a succeeded one has a driver too",
            Promise::RulebookKnowsIt => "the rulebook has a place for all that happens",
            Promise::CanFinish => "an order can always be settled",
        })
    }
}
