//! What may happen next in a world: a step of a worker, or something that the service has no say in.

use std::fmt;

use waybill_domain::order::PaymentMode;

use crate::flaws::Flaw;
use crate::outside::outside;
use crate::provider::provider;
use crate::search;
use crate::steps::steps;
use crate::world::{Ended, Hold, Key, Record, World};

/// One thing that happens, in one world.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Move {
    /// A worker with the order does something.
    Worker(Deed),
    /// The worker with the order is paused for so long that others have it.
    FallsAsleep,
    /// A worker that slept commits the answer that it had.
    SleeperCommits,
    /// The provider gets a request to end the hold: how the hold is then, what is saved, and whether the worker gets the
    /// answer.
    Handled(Key, Hold, Record, bool),
    /// The same, and the network will deliver the request once more.
    HandledAndDoubled(Key),
    /// A request to end the hold is lost.
    RequestLost(Key),
    /// The provider gets the request of a refund: whether the refund is made, and whether the worker gets the answer.
    RefundHandled(usize, bool, bool),
    /// The request of a refund is lost.
    RefundLost(usize),
    /// A worker that slept sends a refund that was closed meanwhile, or the network delivers its request once more.
    RefundComesLate(usize),
    /// The provider lets the hold expire, or a person voids it.
    Expires,
    /// A person captures so much at the provider.
    CapturedByHand(i64),
    /// A person refunds so much at the provider.
    RefundedByHand(i64),
    /// A webhook about a refund arrives.
    WebhookArrives,
    /// Half a day goes by.
    HalfADay,
    /// The order is paid and not held, to begin with.
    Charged,
    /// A cancellation, with this fee.
    Cancelled(i64),
    /// The driver is unassigned.
    Unassigned,
    /// The service was rendered, and cost so much.
    Completed(i64),
    /// A caller asks for a refund of so much.
    RefundRequested(i64),
    /// An operator refunds again what failed.
    RefundedAgain,
    /// The hold is older than `orders.hold_max`, and all of it is captured.
    HoldMax,
}

/// What a worker does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "the sentence of each is below")]
pub enum Deed {
    Assigns(PaymentMode),
    FindsNoDriver,
    HonoursCancellation,
    Sends(Key),
    ReadsThePayment,
    Commits(Ended),
    Defers,
    ReadsTheList,
    Compares,
    Refunds(usize),
    CommitsRefund(usize),
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
            Move::Worker(deed) => write!(f, "the worker {deed}"),
            Move::FallsAsleep => write!(f, "the worker is paused until others have the order"),
            Move::SleeperCommits => write!(f, "the worker that slept commits its answer"),
            Move::Handled(key, hold, record, is_answered) => {
                let answer = if is_answered {
                    "answers"
                } else {
                    "no one gets its answer"
                };
                write!(
                    f,
                    "the provider gets the request under {key} (hold: {hold:?}, first key: {record:?}); {answer}"
                )
            }
            Move::HandledAndDoubled(key) => write!(
                f,
                "the request under {key} has no effect, and will be delivered once more"
            ),
            Move::RequestLost(key) => write!(f, "the request under {key} is lost"),
            Move::RefundHandled(number, is_made, is_answered) => {
                let made = if is_made { "makes" } else { "refuses" };
                let answer = if is_answered {
                    "answers"
                } else {
                    "no one gets its answer"
                };
                write!(f, "the provider {made} refund {number}; {answer}")
            }
            Move::RefundLost(number) => write!(f, "the request of refund {number} is lost"),
            Move::RefundComesLate(number) => write!(f, "a worker that slept sends refund {number}"),
            Move::Expires => write!(f, "the hold expires, or a person voids it"),
            Move::CapturedByHand(minor) => write!(f, "a person captures {minor} by hand"),
            Move::RefundedByHand(minor) => write!(f, "a person refunds {minor} by hand"),
            Move::WebhookArrives => write!(f, "a webhook about a refund arrives"),
            Move::HalfADay => write!(f, "half a day goes by"),
            Move::Charged => write!(f, "the amount was charged, and is not held"),
            Move::Cancelled(fee) => write!(f, "the order is cancelled, with a fee of {fee}"),
            Move::Unassigned => write!(f, "the driver is unassigned"),
            Move::Completed(cost) => write!(f, "the order is completed, and cost {cost}"),
            Move::RefundRequested(minor) => write!(f, "a caller asks for a refund of {minor}"),
            Move::RefundedAgain => write!(f, "an operator refunds again what failed"),
            Move::HoldMax => write!(f, "the hold is so old that all of it is to be captured"),
        }
    }
}

impl fmt::Display for Deed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Deed::Assigns(mode) => write!(f, "assigns a driver ({})", mode.as_str()),
            Deed::FindsNoDriver => write!(f, "finds no driver"),
            Deed::HonoursCancellation => write!(f, "acts on the cancellation"),
            Deed::Sends(key) => write!(f, "asks for the end of the hold under {key}"),
            Deed::ReadsThePayment => write!(f, "reads the payment"),
            Deed::Commits(ended) => write!(f, "commits how the hold ended: {ended:?}"),
            Deed::Defers => write!(f, "defers the order, or crashes"),
            Deed::ReadsTheList => write!(f, "reads the provider's list of refunds"),
            Deed::Compares => write!(f, "commits what the list says"),
            Deed::Refunds(number) => write!(f, "sends refund {number}"),
            Deed::CommitsRefund(number) => write!(f, "commits that refund {number} was made"),
        }
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Key::First => "the first key",
            Key::Other => "another key",
        })
    }
}
