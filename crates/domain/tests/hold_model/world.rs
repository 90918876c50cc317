//! The world of one order and its hold at one moment: what the ledger has, what the provider has, and the workers.
//!
//! The hold is of three units: enough for a final amount or a fee, for a capture by hand beside it, and for a part that is
//! refunded.

use jiff::Timestamp;
use waybill_domain::order::{Payment, PaymentMode, RefundState, State, Work};

use crate::flaws::Flaw;

/// What is held, in minor units.
pub const HOLD: i64 = 3;
/// How many refunds the ledger can have. The worlds stay below it: see [`World::is_full`].
pub const REFUNDS_MAX: usize = 7;
/// Once the ledger has more refunds than this, no one asks for more.
const QUIET_ABOVE: usize = 2;

/// All of it. `Copy`: a move makes a new one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(
    clippy::struct_excessive_bools,
    reason = "each is a column, or something that must never be"
)]
pub struct World {
    /// The status.
    pub state: State,
    /// When the customer pays. Of a hold it matters from the first assignment on, and is chosen there.
    pub mode: Option<PaymentMode>,
    /// The service was rendered.
    pub is_completed: bool,
    /// A cancellation was requested while a driver was looked for.
    pub cancel_requested: bool,
    /// The payment is to be compared with the provider's record.
    pub reconcile_requested: bool,
    /// The worker with the order read it before one of these was requested.
    pub is_unaware: bool,
    /// The comparison was requested again after the worker read the provider's list.
    pub requested_since: bool,
    /// What is decided to be captured; 0: the hold is voided.
    pub to_capture: Option<i64>,
    /// What the ledger has as captured; 0: the hold is gone.
    pub captured: Option<i64>,
    /// What the ledger has as kept of that.
    pub kept: i64,
    /// What the order is to cost by the last word of those outside. In no table: what came of it is compared with this.
    pub price: i64,
    /// An operator should look: the customer has paid less than was decided.
    pub is_flagged: bool,
    /// The refunds, by their numbers from 1.
    pub refunds: [Refund; REFUNDS_MAX],
    /// The worker that has the order.
    pub holder: Task,
    /// What a worker that slept will write: only in a world without the fence.
    pub sleeper: Option<Ended>,
    /// What a request under the first key that is on its way asks for; 0: a void.
    pub first: Option<i64>,
    /// The same under any other key: each send has another.
    pub other: Option<i64>,
    /// The first send is older than half a day.
    pub is_old: bool,
    /// A key was answered with a server error.
    pub saw_errors: bool,
    /// What the provider answers to the first key.
    pub record: Record,
    /// The hold at the provider.
    pub hold: Hold,
    /// What a person at the provider refunded, 0: nothing.
    pub hand_minor: i64,
    /// That was before Waybill knew that a person had captured.
    pub is_hand_first: bool,
    /// A webhook about it is on its way.
    pub news_event: bool,
    /// A webhook is on its way: a refund of the order itself succeeded.
    pub own_event: bool,
    /// A hold that was gone was charged anew.
    pub charged_anew: bool,
    /// The provider captured a second time, or what was voided.
    pub ended_twice: bool,
    /// A request of ours captured more than was decided.
    pub captured_too_much: bool,
    /// What was decided was decided again.
    pub decided_twice: bool,
    /// The rulebook or the schema refused what was to be written.
    pub refused: bool,
    /// The ledger of the model has no room for a refund: the bounds of the model are wrong.
    pub is_full: bool,
}

/// The hold, as the provider has it. It ends once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hold {
    /// It can be captured.
    Held,
    /// It ended.
    Ended(Ended),
}

/// How a hold ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// So much was captured, and the rest released.
    Captured(i64),
    /// Voided, or expired.
    Gone,
}

/// What the provider answers to the first key. Another key is sent once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Record {
    /// It saved nothing.
    Unseen,
    /// How the hold ended, also if the request was refused since it had.
    Ended,
    /// A refusal.
    Refused,
    /// Status 500. Whether the hold ended is not in the answer.
    Broke,
}

/// A refund: its row in the ledger, and whether the provider made it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refund {
    /// Who decided it.
    pub origin: Origin,
    /// How much.
    pub amount_minor: i64,
    /// What the ledger says became of it.
    pub state: RefundState,
    /// A request of it is on its way to the provider, or a worker that sleeps will still send one.
    pub in_flight: bool,
    /// None will arrive any more that is not on its way: half a day went by since it was closed.
    pub is_over: bool,
    /// Whether the provider made it.
    pub is_made: bool,
}

/// Who decided a refund.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// There is no refund of this number.
    None,
    /// A caller, a completion, or a capture by hand of more than was decided.
    Request,
    /// An operator, in place of one that failed.
    Again,
    /// The saga.
    Compensation,
    /// A person at the provider.
    Hand,
    /// The order itself, which did not expect it any more: the refund of this number.
    Found(usize),
}

/// By which key a request to end the hold is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Key {
    /// That of the decision.
    First,
    /// One that was not sent before.
    Other,
}

/// What a worker is at. Between any two of these it may be paused for as long as you like, or die.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Task {
    /// Nothing that would be lost with it.
    Idle,
    /// It has recorded that it sends, and waits for the answer.
    Waiting(Key),
    /// It knows how the hold ended.
    Answered(Ended),
    /// It has recorded that it sends this refund, and waits for the answer.
    Refunding(usize),
    /// It has the answer that this refund was made.
    Refunded(usize),
    /// It has the answer that too little is left for the refund.
    TooLarge,
    /// It has read the provider's list.
    Listed(Purpose, Listing),
}

/// For what a worker reads the provider's list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// To reconcile.
    Reconcile,
    /// Too little is left for the refund.
    TooLarge,
}

/// The provider's list of the payment's refunds, as it was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Listing {
    /// Which of the order's own were made, by number.
    pub own: [bool; REFUNDS_MAX],
    /// What was refunded by hand.
    pub hand_minor: i64,
}

impl World {
    /// An order whose amount is held, and for which a driver is looked for.
    pub const BEGINNING: World = World {
        state: State::Charged,
        mode: None,
        is_completed: false,
        cancel_requested: false,
        reconcile_requested: false,
        is_unaware: false,
        requested_since: false,
        to_capture: None,
        captured: None,
        kept: 0,
        price: 0,
        is_flagged: false,
        refunds: [Refund::NONE; REFUNDS_MAX],
        holder: Task::Idle,
        sleeper: None,
        first: None,
        other: None,
        is_old: false,
        saw_errors: false,
        record: Record::Unseen,
        hold: Hold::Held,
        hand_minor: 0,
        is_hand_first: false,
        news_event: false,
        own_event: false,
        charged_anew: false,
        ended_twice: false,
        captured_too_much: false,
        decided_twice: false,
        refused: false,
        is_full: false,
    };

    /// The payment, of which the service's own rules say whether it is held, and what is to be given back.
    pub fn payment(&self) -> Payment {
        Payment {
            charged_at: Timestamp::UNIX_EPOCH,
            provider_charge_id: String::new(),
            to_capture_minor: self.to_capture,
            captured_minor: self.captured,
            kept_minor: self.kept,
            refund: None,
        }
    }

    /// What is to be done beside what the status says. Nothing is compared before it is known what was captured: the ledger
    /// has no place yet for a refund.
    pub fn work(&self, flaw: Option<Flaw>) -> Work {
        let payment = self.payment();
        let is_dropped = flaw == Some(Flaw::CaptureDropped) && self.state == State::Refunding;
        let may_be_compared = self.captured.is_some() || flaw == Some(Flaw::ComparedWhileHeld);
        Work {
            cancel_requested: self.cancel_requested,
            capture_open: payment.capture_is_open() && !is_dropped,
            refund_open: self.first_open().is_some(),
            reconcile_requested: self.reconcile_requested && may_be_compared,
        }
    }

    /// The refunds that there are, with their numbers.
    pub fn rows(&self) -> impl Iterator<Item = (usize, &Refund)> {
        (1..).zip(self.refunds.iter().take_while(|refund| refund.origin != Origin::None))
    }

    /// The number of the first open refund.
    pub fn first_open(&self) -> Option<usize> {
        let mut rows = self.rows();
        rows.find_map(|(number, refund)| (refund.state == RefundState::Open).then_some(number))
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

    /// What is left by the ledger: `READ_LEFT`.
    pub fn left(&self) -> i64 {
        self.captured.or(self.to_capture).unwrap_or(HOLD) - self.decided()
    }

    /// What Waybill refunded.
    pub fn refunded_by_us(&self) -> i64 {
        let made = self.rows().filter(|(_, refund)| refund.is_made);
        made.map(|(_, refund)| refund.amount_minor).sum()
    }

    /// What the customer has paid in the end, as the provider has it.
    pub fn paid(&self) -> i64 {
        let captured = match self.hold {
            Hold::Ended(Ended::Captured(minor)) => minor,
            Hold::Ended(Ended::Gone) | Hold::Held => 0,
        };
        captured - self.refunded_by_us() - self.hand_minor
    }

    /// No worker claims the order any more.
    pub fn is_finished(&self, flaw: Option<Flaw>) -> bool {
        self.state.pending_step(self.work(flaw)).is_none()
    }

    /// Nothing more happens by itself.
    pub fn is_at_rest(&self, flaw: Option<Flaw>) -> bool {
        let is_idle = self.holder == Task::Idle && self.sleeper.is_none();
        let is_quiet = !self.news_event && !self.own_event && !self.rows().any(|(_, refund)| refund.in_flight);
        self.is_finished(flaw) && is_idle && is_quiet && self.first.or(self.other).is_none()
    }

    /// Whether someone may ask for another refund: what it leads to needs room in the ledger.
    pub fn may_be_asked(&self) -> bool {
        self.rows().count() <= QUIET_ABOVE
    }

    /// The provider's list now.
    pub fn listing(&self) -> Listing {
        Listing {
            own: self.refunds.map(|refund| refund.is_made),
            hand_minor: self.hand_minor,
        }
    }

    /// The same world without what makes no difference: a wait for an answer that will not come, a request that only meets
    /// a hold that ended, how often a decision was sent once it is known what came of it.
    pub fn simplified(mut self) -> World {
        if self.captured.is_some() {
            (self.is_old, self.saw_errors, self.record) = (false, false, Record::Unseen);
        }
        if self.hold != Hold::Held {
            self.first = self.first.filter(|_| self.holder == Task::Waiting(Key::First));
            self.other = self.other.filter(|_| self.holder == Task::Waiting(Key::Other));
        }
        let is_waited_in_vain = match self.holder {
            Task::Waiting(Key::First) => self.first.is_none(),
            Task::Waiting(Key::Other) => self.other.is_none(),
            Task::Refunding(number) => !self.refunds[number - 1].in_flight,
            _ => false,
        };
        self.is_unaware &= self.holder == Task::Idle && !self.is_finished(None);
        self.requested_since &= self.reconcile_requested && matches!(self.holder, Task::Listed(..));
        let is_news = self.refunds.iter().any(Refund::is_unknown);
        self.own_event &= is_news;
        for (place, refund) in self.refunds.iter_mut().enumerate() {
            let is_waited_for = self.holder == Task::Refunding(place + 1);
            refund.in_flight &= is_waited_for || !refund.is_made;
            refund.is_over |= !refund.may_come_late();
        }
        if is_waited_in_vain {
            self.holder = Task::Idle;
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
        in_flight: false,
        is_over: true,
        is_made: false,
    };

    /// Whether it was closed unmade, and a request of it may still arrive.
    pub fn may_come_late(&self) -> bool {
        let is_closed = matches!(self.state, RefundState::Replaced | RefundState::Failed);
        is_closed && !self.is_made && !self.is_over
    }

    /// Whether it was made, and the ledger does not say so.
    pub fn is_unknown(&self) -> bool {
        self.is_made && self.state != RefundState::Succeeded
    }
}

impl Ended {
    /// What was captured.
    pub fn captured_minor(self) -> i64 {
        match self {
            Ended::Captured(minor) => minor,
            Ended::Gone => 0,
        }
    }
}
