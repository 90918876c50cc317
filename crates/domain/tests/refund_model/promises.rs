//! What must hold, whatever happened before.

use std::fmt;

use waybill_domain::order::{RefundState, State};

use crate::world::{Age, CHARGE, Made, Origin, Record, Refund, World};

/// A promise about the refunds of one payment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Promise {
    /// The customer does not get back more than was charged.
    NotMoreThanCharged,
    /// What was requested is made once, whichever key it has.
    RequestMadeOnce,
    /// What was requested is made as it was requested.
    MadeAsRequested,
    /// A refunded order is paid back, or news of it is on the way.
    RefundedIsPaidBack,
    /// What is in the ledger was paid, or news of it is on the way.
    LedgerIsTrue,
    /// A refund that has its answer is not sent.
    AnsweredIsNotSent,
    /// Rulebook and schema have a place for all that happens.
    RulesKnowIt,
    /// The model is large enough for all that it lets happen.
    ModelHasRoom,
    /// When nothing more goes wrong the order is settled, without an operator unless a refund failed or its key is lost.
    CanFinish,
}

/// The promise that this world breaks.
pub fn broken(world: &World) -> Option<Promise> {
    let paid_back = world.at_provider(|made| made == Made::Succeeded) + world.unverified();
    let is_news_on_the_way = world.news_event || world.reconcile_requested;
    let rules = [
        (Promise::RulesKnowIt, !world.refused),
        (Promise::ModelHasRoom, !world.is_full),
        (Promise::NotMoreThanCharged, paid_back <= CHARGE),
        (Promise::RequestMadeOnce, is_each_request_made_once(world)),
        (Promise::MadeAsRequested, is_each_made_as_requested(world)),
        (
            Promise::RefundedIsPaidBack,
            world.state != State::Refunded || paid_back == CHARGE || is_news_on_the_way,
        ),
        (
            Promise::LedgerIsTrue,
            world.sum(RefundState::Succeeded) <= paid_back || is_news_on_the_way,
        ),
        (Promise::AnsweredIsNotSent, !world.sent_after_answer),
    ];
    rules.into_iter().find(|(_, holds)| !holds).map(|(promise, _)| promise)
}

/// Together with those that were made in its place.
fn is_each_request_made_once(world: &World) -> bool {
    let is_once = |root: u8| {
        let made = world
            .rows()
            .filter(|(_, refund)| refund.root == root && refund.made.is_alive());
        made.count() <= 1
    };
    !world.made_twice && world.rows().all(|(number, _)| is_once(number))
}

/// An operator may make it smaller.
fn is_each_made_as_requested(world: &World) -> bool {
    let is_as_requested = |refund: &Refund| {
        let requested = world.refund(refund.root).amount_minor;
        let is_smaller = refund.origin == Origin::Again && refund.amount_minor < requested;
        refund.amount_minor == requested || is_smaller
    };
    let mut made = world
        .rows()
        .filter(|(_, refund)| refund.root != 0 && refund.made != Made::No);
    made.all(|(_, refund)| is_as_requested(refund))
}

/// Where an operator, or the end of a key's life, is what leads on: a refund failed, which includes one for which too little
/// is left; or the key of an open one gives no answer, or may not be sent any more.
pub fn needs_a_person(world: &World) -> bool {
    let has_failed = |refund: &Refund| refund.state == RefundState::Failed || refund.made == Made::Failed;
    let is_failed = world.hand == Made::Failed || world.rows().any(|(_, refund)| has_failed(refund));
    let tells_nothing = |number| {
        let refund = world.refund(number);
        refund.age != Age::Fresh || matches!(refund.record, Record::Broke | Record::TooLarge | Record::Refused)
    };
    is_failed || world.open().any(tells_nothing)
}

impl fmt::Display for Promise {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Promise::NotMoreThanCharged => "no more is paid back than was charged",
            Promise::RequestMadeOnce => "a requested refund is made once",
            Promise::MadeAsRequested => "a requested refund is made as it was requested",
            Promise::RefundedIsPaidBack => "a refunded order is paid back",
            Promise::LedgerIsTrue => "what is in the ledger was paid back",
            Promise::AnsweredIsNotSent => "a refund that has its answer is not sent",
            Promise::RulesKnowIt => "rulebook and schema have a place for all that happens",
            Promise::ModelHasRoom => "the model is large enough for all that it lets happen",
            Promise::CanFinish => "the refunds of a payment can always be settled",
        })
    }
}
