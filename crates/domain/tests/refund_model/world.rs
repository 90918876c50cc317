//! The world of one charged payment at one moment: the refunds in the ledger, what the provider made and remembers of each,
//! and the workers.
//!
//! A refund of the ledger and its request at the provider have one number, so one row has both. The charge is of three
//! units: enough for parts that fit beside each other and parts that do not.

use waybill_domain::order::{RefundState, State};

/// What was charged, in minor units.
pub const CHARGE: i64 = 3;
/// How many refunds the ledger can have. The worlds stay below it: see [`World::may_go_wrong`].
pub const REFUNDS_MAX: usize = 8;
/// Once the ledger has more refunds than this, nothing more goes wrong and no one asks for more.
const QUIET_ABOVE: usize = 2;
/// How many refunds fail at the provider, of whatever maker.
const FAILURES_MAX: usize = 1;

/// All of it. `Copy`: a move makes a new one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(
    clippy::struct_excessive_bools,
    reason = "each is a column, or something that must never be"
)]
pub struct World {
    /// The status.
    pub state: State,
    /// The payment is to be compared with the provider's record.
    pub reconcile_requested: bool,
    /// This was requested again after the worker read the provider's list.
    pub requested_since: bool,
    /// The refunds, by their numbers from 1.
    pub refunds: [Refund; REFUNDS_MAX],
    /// The refund that a person makes by hand: how much, 0 before it is made.
    pub hand_minor: i64,
    /// What became of that one.
    pub hand: Made,
    /// A webhook is on its way: a refund of the order itself succeeded.
    pub own_event: bool,
    /// A webhook is on its way: a refund failed, or one was made by hand.
    pub news_event: bool,
    /// The worker that has the order.
    pub holder: Task,
    /// The refund of which a worker that slept will write that it succeeded: only in a world without the fence. 0: none.
    pub sleeper: u8,
    /// A refund was made a second time under one number.
    pub made_twice: bool,
    /// A refund was sent that had got its answer.
    pub sent_after_answer: bool,
    /// The rulebook or the schema refused what a worker had to write.
    pub refused: bool,
    /// The ledger of the model has no room for a refund: the bounds of the model are wrong.
    pub is_full: bool,
}

/// A refund: its row in the ledger, its attempt, and what the provider has under its key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
pub struct Refund {
    /// Who decided it; `None`: there is no refund of this number.
    pub origin: Origin,
    /// How much.
    pub amount_minor: i64,
    /// What the ledger says became of it.
    pub state: RefundState,
    /// Whether the ledger has the provider's id of it.
    pub is_identified: bool,
    /// The refund that was asked for in the first place, where this one is in its place; 0: none was.
    pub root: u8,
    /// How old its attempt is.
    pub age: Age,
    /// It was closed though its request may still be executed.
    pub is_in_doubt: bool,
    /// Requests under its key are on their way to the provider, or a worker that sleeps will still send one.
    pub in_flight: bool,
    /// What the provider answers to its key.
    pub record: Record,
    /// Whether the provider made it.
    pub made: Made,
}

/// Who decided a refund.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// There is none.
    None,
    /// A caller.
    Request,
    /// An operator, in place of one that failed.
    Again,
    /// The saga.
    Compensation,
    /// A person at the provider.
    Hand,
    /// The order itself, which did not expect it any more; found under the number in `root`.
    Found,
    /// An operator, past the provider.
    Unverified,
}

/// How old an attempt is, by its first and its last send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Age {
    /// Both are younger than half a day.
    Fresh,
    /// The first is older.
    Old,
    /// Both are older: what was sent has arrived or is lost, and the provider's key may have expired. Here it has.
    Over,
}

/// What the provider answers to a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Record {
    /// It saved nothing: it never saw the key, refused without saving that, or the key expired.
    Unseen,
    /// The refund, as it is now: it was pending at first, and the client reads it.
    Pending,
    /// A refund that succeeded; the same when that has failed since.
    Succeeded,
    /// A refund that failed.
    Failed,
    /// More than what was left.
    TooLarge,
    /// Refused for another reason.
    Refused,
    /// Status 500. Whether the refund was made is not in the answer.
    Broke,
}

/// What became of a refund at the provider.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Made {
    /// There is none.
    No,
    /// It will still succeed or fail.
    Pending,
    /// The customer has the money.
    Succeeded,
    /// The money is back.
    Failed,
}

/// What a worker is at. Between any two of these it may be paused for as long as you like, or die.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Task {
    /// Nothing that would be lost with it.
    Idle,
    /// It has recorded that it sends this refund, and waits for the answer.
    Waiting(u8),
    /// It has the answer to this refund.
    Answered(u8, Answer),
    /// It has read the provider's list.
    Listed(Purpose, Listing),
}

/// A definite answer of the provider.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// It succeeded.
    Succeeded,
    /// It failed for good.
    Failed,
    /// More than what is left.
    TooLarge,
    /// Refused.
    Refused,
    /// Refused before, and said again.
    RefusedAgain,
}

/// Purpose a worker reads the provider's list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// To reconcile.
    Reconcile,
    /// The key answers with server errors: before it is sent again.
    BeforeRetry,
    /// The refund is old.
    TooOld,
    /// It is so old that no send of it can arrive any more.
    Over,
    /// The refund was refused.
    Refused(Answer),
}

/// The provider's list of the payment's refunds, as it was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Listing {
    /// The order's own, by number.
    pub own: [Made; REFUNDS_MAX],
    /// The one by hand.
    pub hand: Made,
}

/// No refund.
pub const NOTHING_LISTED: Listing = Listing {
    own: [Made::No; REFUNDS_MAX],
    hand: Made::No,
};

impl World {
    /// A served order, of whose payment nothing is refunded.
    pub const BEGINNING: World = World {
        state: State::Succeeded,
        reconcile_requested: false,
        requested_since: false,
        refunds: [Refund::NONE; REFUNDS_MAX],
        hand_minor: 0,
        hand: Made::No,
        own_event: false,
        news_event: false,
        holder: Task::Idle,
        sleeper: 0,
        made_twice: false,
        sent_after_answer: false,
        refused: false,
        is_full: false,
    };

    /// The refunds that there are, with their numbers.
    pub fn rows(&self) -> impl Iterator<Item = (u8, &Refund)> {
        (1..).zip(self.refunds.iter().take_while(|refund| refund.origin != Origin::None))
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.rows().count()
    }

    /// The refund of this number.
    pub fn refund(&self, number: u8) -> &Refund {
        &self.refunds[usize::from(number) - 1]
    }

    /// The same, to change it.
    pub fn refund_mut(&mut self, number: u8) -> &mut Refund {
        &mut self.refunds[usize::from(number) - 1]
    }

    /// The first open refund.
    pub fn first_open(&self) -> Option<u8> {
        self.open().next()
    }

    /// The open refunds.
    pub fn open(&self) -> impl Iterator<Item = u8> {
        let open = |(number, refund): (u8, &Refund)| (refund.state == RefundState::Open).then_some(number);
        self.rows().filter_map(open)
    }

    /// What the ledger has in this state.
    pub fn sum(&self, state: RefundState) -> i64 {
        let rows = self.rows().filter(|(_, refund)| refund.state == state);
        rows.map(|(_, refund)| refund.amount_minor).sum()
    }

    /// What the ledger has as refunded or decided.
    pub fn decided(&self) -> i64 {
        self.sum(RefundState::Open) + self.sum(RefundState::Succeeded)
    }

    /// What an operator paid past the provider.
    pub fn unverified(&self) -> i64 {
        let rows = self.rows().filter(|(_, refund)| refund.origin == Origin::Unverified);
        rows.map(|(_, refund)| refund.amount_minor).sum()
    }

    /// What the provider has in such a state.
    pub fn at_provider(&self, is_such: impl Fn(Made) -> bool) -> i64 {
        let own = self.rows().filter(|(_, refund)| is_such(refund.made));
        let own: i64 = own.map(|(_, refund)| refund.amount_minor).sum();
        own + if is_such(self.hand) { self.hand_minor } else { 0 }
    }

    /// What can still be refunded at the provider.
    pub fn left_at_provider(&self) -> i64 {
        CHARGE - self.at_provider(Made::is_alive)
    }

    /// No worker claims the order any more.
    pub fn is_finished(&self) -> bool {
        self.state != State::Refunding && self.first_open().is_none() && !self.reconcile_requested
    }

    /// Nothing more happens by itself.
    pub fn is_at_rest(&self) -> bool {
        let is_idle = self.holder == Task::Idle && self.sleeper == 0;
        let is_quiet = !self.own_event && !self.news_event && self.rows().all(|(_, refund)| !refund.in_flight);
        self.is_finished() && is_idle && is_quiet && self.at_provider(|made| made == Made::Pending) == 0
    }

    /// Whether something more may go wrong, or be asked for: what it leads to needs room in the ledger.
    pub fn may_go_wrong(&self) -> bool {
        self.count() <= QUIET_ABOVE
    }

    /// Whether another refund may fail.
    pub fn may_fail(&self) -> bool {
        let own = self.rows().filter(|(_, refund)| refund.made == Made::Failed).count();
        self.may_go_wrong() && own + usize::from(self.hand == Made::Failed) < FAILURES_MAX
    }

    /// The provider's list now.
    pub fn listing(&self) -> Listing {
        Listing {
            own: self.refunds.map(|refund| refund.made),
            hand: self.hand,
        }
    }

    /// The same world without what makes no difference: a wait for an answer that will not come, a request that only gets a
    /// saved answer again, a webhook that says nothing new, how old a closed refund is of which nothing is under way.
    pub fn simplified(mut self) -> World {
        self.requested_since &= self.reconcile_requested && matches!(self.holder, Task::Listed(..));
        let is_news = self.refunds.iter().any(Refund::is_unknown);
        self.own_event &= is_news;
        for place in 0..self.count() {
            let number = u8::try_from(place + 1).unwrap_or(0);
            let is_waited_for = self.holder == Task::Waiting(number);
            let is_answered = matches!(self.holder, Task::Answered(one, _) if one == number);
            let refund = &mut self.refunds[place];
            refund.in_flight &= is_waited_for || refund.record == Record::Unseen;
            let is_waited_in_vain = is_waited_for && !refund.in_flight;
            let is_at_work = (is_waited_for && refund.in_flight) || is_answered;
            if refund.state != RefundState::Open && !refund.in_flight && !refund.is_in_doubt && !is_at_work {
                refund.age = Age::Over;
                refund.record = Record::Unseen;
            }
            if is_waited_in_vain {
                self.holder = Task::Idle;
            }
        }
        self
    }
}

impl Refund {
    /// No refund.
    pub const NONE: Refund = Refund {
        origin: Origin::None,
        amount_minor: 0,
        state: RefundState::Replaced,
        is_identified: false,
        root: 0,
        age: Age::Over,
        is_in_doubt: false,
        in_flight: false,
        record: Record::Unseen,
        made: Made::No,
    };

    /// A refund that was decided a moment ago.
    pub fn open(origin: Origin, amount_minor: i64, root: u8) -> Refund {
        Refund {
            origin,
            amount_minor,
            state: RefundState::Open,
            root,
            age: Age::Fresh,
            ..Refund::NONE
        }
    }

    /// Whether the provider's id of it is in the ledger, or it is not at the provider.
    pub fn is_certain(&self) -> bool {
        self.age == Age::Over || (self.state != RefundState::Open && !self.is_in_doubt)
    }

    /// Whether it was made, and the ledger does not say so.
    pub fn is_unknown(&self) -> bool {
        self.made == Made::Succeeded && self.state != RefundState::Succeeded
    }
}

impl Made {
    /// It counts as refunded, so that no other takes its place.
    pub fn is_alive(self) -> bool {
        matches!(self, Made::Pending | Made::Succeeded)
    }
}
