//! What may happen next in a world: a step of a worker, or something that the service has no say in.

use std::fmt;

use waybill_domain::order::Event;

use crate::flaws::Flaw;
use crate::outside::outside;
use crate::search;
use crate::steps::steps;
use crate::world::{Answer, Request, WORKERS, World};

/// One thing that happens, in one world.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Move {
    /// A worker does something.
    Worker(usize, Deed),
    /// The provider gets the request of a worker that waits; what it answers, if that comes through.
    Handled(usize, Request, Option<Answer>),
    /// The provider gets a request that no worker waits for.
    HandledLate(Request, Outcome),
    /// The provider breaks down over the request of a worker, after the money moved or before.
    Breaks(usize, Outcome),
    /// A worker's charge is refused before it is executed: no connection, a rate limit, a wrong secret.
    Refused(usize),
    /// A worker's request does not arrive.
    RequestLost(usize, Request),
    /// A request that no worker waits for never arrives.
    LateLost(Request),
    /// An answer to a worker does not arrive.
    AnswerLost(usize, Request),
    /// The network delivers a request once more.
    Doubled(Request),
    /// The customer cancels.
    CustomerCancels,
    /// The driver completes the service.
    DriverCompletes,
    /// The driver declines, or falls silent.
    DriverIsLost,
    /// Half a day goes by, and the key is old.
    KeyGrowsOld,
    /// Another half goes by, and the provider's key expires.
    KeyExpires,
    /// An operator has checked the provider's list, and asserts the outcome of the charge.
    PersonDecides(Event),
}

/// What a worker does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "the sentence of each is below")]
pub enum Deed {
    Claims,
    RecordsSend,
    Sends(Request),
    SendsAgain(Request),
    GivesUpWaiting(Request),
    Commits(Event),
    Defers,
    LearnsOfCancel,
    IsFencedOff,
    Rests,
    Crashes,
}

/// What a request did at the provider.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Money moved.
    Moved,
    /// The key was declined.
    Declined,
    /// Nothing moved, or nothing more than had moved before.
    Nothing,
}

/// All that may happen next in one world.
pub type Next = search::Next<Move, World>;

/// Adds all that may happen next in this world.
pub fn add_moves(world: &World, flaw: Option<Flaw>, next: &mut Next) {
    for who in 0..WORKERS {
        steps(world, who, flaw, next);
    }
    outside(world, flaw, next);
}

impl fmt::Display for Move {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Move::Worker(who, deed) => write!(f, "worker {who} {deed}"),
            Move::Handled(who, request, Some(answer)) => {
                write!(
                    f,
                    "the provider gets the {request} of worker {who} and answers {answer:?}"
                )
            }
            Move::Handled(who, request, None) => {
                write!(f, "the provider gets the {request} of worker {who} and answers 500")
            }
            Move::HandledLate(request, outcome) => {
                write!(f, "the provider gets a late {request}: {outcome}")
            }
            Move::Breaks(who, outcome) => {
                write!(f, "the provider breaks down over the charge of worker {who}: {outcome}")
            }
            Move::Refused(who) => write!(f, "the charge of worker {who} is refused and not executed"),
            Move::RequestLost(who, request) => write!(f, "the {request} of worker {who} is lost"),
            Move::LateLost(request) => write!(f, "a late {request} is lost"),
            Move::AnswerLost(who, request) => write!(f, "the answer to the {request} of worker {who} is lost"),
            Move::Doubled(request) => write!(f, "a {request} is on its way twice"),
            Move::CustomerCancels => write!(f, "the customer cancels"),
            Move::DriverCompletes => write!(f, "the driver completes the service"),
            Move::DriverIsLost => write!(f, "the driver is lost"),
            Move::KeyGrowsOld => write!(f, "half a day goes by"),
            Move::KeyExpires => write!(f, "the provider's key expires"),
            Move::PersonDecides(event) => write!(f, "a person looks it up at the provider: {event:?}"),
        }
    }
}

impl fmt::Display for Deed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Deed::Claims => write!(f, "takes the order up"),
            Deed::RecordsSend => write!(f, "records that it sends the charge"),
            Deed::Sends(request) => write!(f, "sends the {request}"),
            Deed::SendsAgain(request) => write!(f, "sends the {request} again"),
            Deed::GivesUpWaiting(request) => write!(f, "waits no longer for the answer to the {request}"),
            Deed::Commits(event) => write!(f, "commits {event:?}"),
            Deed::Defers => write!(f, "defers the order, whose charge was not executed"),
            Deed::LearnsOfCancel => write!(f, "learns of the cancellation"),
            Deed::IsFencedOff => write!(f, "is fenced off"),
            Deed::Rests => write!(f, "sees the order settled"),
            Deed::Crashes => write!(f, "crashes"),
        }
    }
}

impl fmt::Display for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Request::Charge => "charge",
            Request::Refund => "refund",
            Request::Revoke => "revocation",
            Request::LookUp => "look-up",
        })
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Outcome::Moved => "money moves",
            Outcome::Declined => "declined",
            Outcome::Nothing => "nothing moves",
        })
    }
}
