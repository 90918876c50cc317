//! The world of one order at one moment: its row in the database, the payment provider, the network between, and the
//! workers with what each of them still believes.
//!
//! Everything in it is finite, without counting anything down: workers crash, requests get lost and leases run out as
//! often as they like. Only how much is in flight at once has a bound.

use waybill_domain::order::State;

/// Instances of the service, or tasks of one: the one that has the order, and two that still believe it.
pub const WORKERS: usize = 3;
/// How many charges, and how many refunds, are on their way to the provider at once: as many as there are workers.
pub const IN_FLIGHT_MAX: u8 = 3;

/// The same of revocations: whatever the first did, a second does nothing more.
pub const REVOKES_MAX: u8 = 1;

/// All of it. `Copy`: a move makes a new one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct World {
    /// `order_sagas`, `payments` and `order_assignments`, as committed.
    pub row: Row,
    /// What the provider did and remembers.
    pub provider: Provider,
    /// Requests whose sender waits no more; the provider may still get them, at any later time.
    pub late: InFlight,
    /// Who works on the order, or believes it.
    pub workers: [Worker; WORKERS],
    /// The rulebook refused an event that had happened.
    pub refused: bool,
}

/// What is committed of the order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(clippy::struct_excessive_bools, reason = "each is a column")]
pub struct Row {
    /// The status.
    pub state: State,
    /// A cancellation was requested and acknowledged.
    pub cancel_requested: bool,
    /// The charge is in the ledger.
    pub paid: bool,
    /// The refund is in the ledger.
    pub refunded: bool,
    /// It is certain that no charge has been executed: each that was sent was refused before.
    pub unexecuted: bool,
    /// The driver of the order.
    pub driver: Driver,
    /// No worker claims it again; only in a world with a flaw.
    pub given_up: bool,
}

/// The driver of the order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Driver {
    /// There is none: not yet, or no more.
    None,
    /// Bound to the order.
    Bound,
    /// Free again: the service was rendered.
    Done,
}

/// The payment provider.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Provider {
    /// What it answers to the key of the charge.
    pub charge: Record,
    /// How often it took the money; 2 stands for more.
    pub charges: u8,
    /// How often it gave the money back; 2 stands for more.
    pub refunds: u8,
    /// How old the key of the charge is.
    pub key: KeyAge,
}

/// What a provider remembers of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Record {
    /// It never saw the key, or the key expired.
    Unseen,
    /// Charged; said again whenever the key comes again.
    Charged,
    /// Declined; likewise.
    Declined,
    /// It broke down, and says so whenever the key comes again. Whether money moved is not in the answer.
    Broke,
    /// A request that moves no money has the key: a charge under it is refused as another request.
    Revoked,
}

/// The age of the key, as far as it matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyAge {
    /// It may be sent.
    Fresh,
    /// Older than `KEY_AGE_MAX` of the service: not sent any more, though the provider still knows it.
    Old,
    /// It has expired at the provider: a request under it would be a new one.
    Expired,
}

/// Requests on their way that no worker waits for. How many of each kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InFlight {
    /// Charges.
    pub charges: u8,
    /// Refunds.
    pub refunds: u8,
    /// Revocations.
    pub revokes: u8,
}

/// A worker: what it does, and what it knows of the order since it last looked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Worker {
    /// What it is at.
    pub task: Task,
    /// Its fence is the row's. Fences only grow, so a fence that is not the row's never will be again; which number it
    /// is does not matter.
    pub holds: bool,
    /// The state that it saw last.
    pub seen: State,
    /// Whether it saw a request to cancel.
    pub cancel_seen: bool,
    /// It is certain that nothing was executed before the charge that it sends, or has sent.
    pub unexecuted: bool,
}

/// What a worker is at. Between any two of these it may be paused for as long as you like, or die.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Task {
    /// It has no order.
    Idle,
    /// It holds the order.
    Working,
    /// It has recorded that it sends the charge, and has not sent it.
    Ready,
    /// It has asked the provider.
    Waiting(Request, Wire),
}

/// What is asked of the provider.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Request {
    /// Take the money.
    Charge,
    /// Give it back.
    Refund,
    /// Take the key of the charge for a request that moves no money.
    Revoke,
    /// Is there a charge of this order in your list?
    LookUp,
}

/// How far a request is that a worker waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wire {
    /// On its way to the provider.
    Asked,
    /// Its answer is on its way back.
    Answered(Answer),
    /// It, or its answer, is lost.
    Silent,
}

/// An answer of the provider that decides something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// Done: now, or under the same key before. To a look: there is a charge.
    Done,
    /// Declined.
    Declined,
    /// To a look: there is no charge, at this moment.
    NotFound,
    /// The key was used for another request.
    KeyUsed,
    /// It was not executed: no connection, or the provider refused to begin.
    NotExecuted,
}

impl World {
    /// An order that was just accepted, and no worker has claimed it yet.
    pub const BEGINNING: World = World {
        row: Row {
            state: State::Started,
            cancel_requested: false,
            paid: false,
            refunded: false,
            unexecuted: false,
            driver: Driver::None,
            given_up: false,
        },
        provider: Provider {
            charge: Record::Unseen,
            charges: 0,
            refunds: 0,
            key: KeyAge::Fresh,
        },
        late: InFlight {
            charges: 0,
            refunds: 0,
            revokes: 0,
        },
        workers: [Worker::IDLE; WORKERS],
        refused: false,
    };

    /// Whether another one of these may be sent.
    pub fn has_room(&self, request: Request) -> bool {
        let max = if request == Request::Revoke {
            REVOKES_MAX
        } else {
            IN_FLIGHT_MAX
        };
        self.in_flight(request) < max
    }

    /// How many of these are on their way to the provider, waited for or late.
    pub fn in_flight(&self, request: Request) -> u8 {
        let mut number = match request {
            Request::Charge => self.late.charges,
            Request::Refund => self.late.refunds,
            Request::Revoke => self.late.revokes,
            Request::LookUp => 0,
        };
        for worker in &self.workers {
            number += u8::from(worker.task == Task::Waiting(request, Wire::Asked));
        }
        number
    }

    /// The order is settled, no worker holds it, and nothing that moves money is on its way. Which states are settled
    /// is said here and not asked of the rulebook: it could call an order settled that still owes a refund.
    pub fn is_at_rest(&self) -> bool {
        matches!(self.row.state, State::Succeeded | State::Failed | State::Refunded)
            && self.workers.iter().all(|worker| worker.task == Task::Idle)
            && self.in_flight(Request::Charge) == 0
            && self.in_flight(Request::Refund) == 0
            && self.in_flight(Request::Revoke) == 0
    }

    /// The same world as one number, for a set of many. Worlds that differ only in which worker is which are one.
    pub fn packed(&self) -> u64 {
        let row = &self.row;
        let provider = &self.provider;
        let mut workers = self.workers.map(Worker::packed);
        workers.sort_unstable();

        let mut number = 0;
        let mut push = |value: u64, values: u64| number = number * values + value;
        push(row.state as u64, 7);
        push(u64::from(row.cancel_requested), 2);
        push(u64::from(row.paid), 2);
        push(u64::from(row.refunded), 2);
        push(u64::from(row.unexecuted), 2);
        push(row.driver as u64, 3);
        push(u64::from(row.given_up), 2);
        push(provider.charge as u64, 5);
        push(u64::from(provider.charges), 3);
        push(u64::from(provider.refunds), 3);
        push(provider.key as u64, 3);
        push(u64::from(self.late.charges), u64::from(IN_FLIGHT_MAX) + 1);
        push(u64::from(self.late.refunds), u64::from(IN_FLIGHT_MAX) + 1);
        push(u64::from(self.late.revokes), u64::from(REVOKES_MAX) + 1);
        push(u64::from(self.refused), 2);
        for worker in workers {
            push(worker, Worker::PACKED_MAX);
        }
        number
    }
}

impl Worker {
    /// One without an order.
    pub const IDLE: Worker = Worker {
        task: Task::Idle,
        holds: false,
        seen: State::Started,
        cancel_seen: false,
        unexecuted: false,
    };

    /// One more than the greatest packed worker.
    const PACKED_MAX: u64 = 34 * 2 * 7 * 2 * 2;

    fn packed(self) -> u64 {
        let task = match self.task {
            Task::Idle => 0,
            Task::Working => 1,
            Task::Ready => 33,
            Task::Waiting(request, Wire::Asked) => 2 + request as u64 * 7,
            Task::Waiting(request, Wire::Silent) => 3 + request as u64 * 7,
            Task::Waiting(request, Wire::Answered(answer)) => 4 + request as u64 * 7 + answer as u64,
        };
        let seen = (task * 2 + u64::from(self.holds)) * 7 + self.seen as u64;
        (seen * 2 + u64::from(self.cancel_seen)) * 2 + u64::from(self.unexecuted)
    }
}
