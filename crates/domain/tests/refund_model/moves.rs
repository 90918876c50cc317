//! What may happen next in a world: a step of a worker, or something that the service has no say in.

use std::fmt;

use crate::flaws::Flaw;
use crate::outside::outside;
use crate::provider::provider;
use crate::search;
use crate::steps::steps;
use crate::world::{Made, Record, World};

/// One thing that happens, in one world.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Move {
    /// A worker with the order does something.
    Worker(Deed),
    /// The worker with the order is paused for so long that others have it.
    FallsAsleep,
    /// A worker that slept commits the answer to this refund.
    SleeperCommits(u8),
    /// The provider gets the request of a refund: what it makes of it, what it saves, and whether the worker gets the answer.
    Handled(u8, Made, Record, bool),
    /// The request of a refund is lost.
    RequestLost(u8),
    /// A worker that slept sends a refund that was closed meanwhile, or the network delivers its request once more.
    ComesLate(u8),
    /// The bank takes a refund that was pending (0: the one by hand).
    Settles(u8),
    /// A refund fails.
    Fails(u8),
    /// A webhook arrives.
    WebhookArrives,
    /// A caller asks for a refund of so much.
    Requested(i64),
    /// The customer cancels.
    CustomerCancels,
    /// A person refunds so much at the provider.
    RefundedByHand(i64),
    /// Half a day goes by.
    HalfADay,
    /// An operator refunds again what failed.
    RefundedAgain,
    /// An operator pays so much past the provider.
    PaidElsewhere(i64),
}

/// What a worker does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "the sentence of each is below")]
pub enum Deed {
    Sends(u8),
    ReadsTheList,
    Commits,
    Defers,
}

/// All that may happen next in one world.
pub type Next = search::Next<Move, World>;

/// Adds all that may happen next in this world.
pub fn add_moves(world: &World, flaw: Option<Flaw>, next: &mut Next) {
    steps(world, flaw, next);
    provider(world, flaw, next);
    outside(world, flaw, next);
}

impl fmt::Display for Move {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Move::Worker(Deed::Sends(number)) => write!(f, "the worker sends refund {number}"),
            Move::Worker(Deed::ReadsTheList) => write!(f, "the worker reads the provider's list"),
            Move::Worker(Deed::Commits) => write!(f, "the worker commits what it learned"),
            Move::Worker(Deed::Defers) => write!(f, "the worker defers the order, or crashes"),
            Move::FallsAsleep => write!(f, "the worker is paused until others have the order"),
            Move::SleeperCommits(number) => write!(f, "the worker that slept commits the answer to refund {number}"),
            Move::Handled(number, made, record, is_answered) => {
                let answer = if is_answered {
                    "answers"
                } else {
                    "no one gets its answer"
                };
                write!(
                    f,
                    "the provider gets refund {number} (made: {made:?}, saved: {record:?}); {answer}"
                )
            }
            Move::RequestLost(number) => write!(f, "the request of refund {number} is lost"),
            Move::ComesLate(number) => write!(f, "a worker that slept sends refund {number}"),
            Move::Settles(0) => write!(f, "the refund by hand succeeds"),
            Move::Settles(number) => write!(f, "refund {number}, which was pending, succeeds"),
            Move::Fails(0) => write!(f, "the refund by hand fails"),
            Move::Fails(number) => write!(f, "refund {number} fails at the provider"),
            Move::WebhookArrives => write!(f, "a webhook of the provider arrives"),
            Move::Requested(amount) => write!(f, "a caller asks for a refund of {amount}"),
            Move::CustomerCancels => write!(f, "the customer cancels"),
            Move::RefundedByHand(amount) => write!(f, "a person refunds {amount} by hand"),
            Move::HalfADay => write!(f, "half a day goes by"),
            Move::RefundedAgain => write!(f, "an operator refunds again what failed"),
            Move::PaidElsewhere(amount) => write!(f, "an operator pays {amount} past the provider"),
        }
    }
}
