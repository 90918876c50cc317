//! An order: what was requested, its state, and the rulebook of what may happen next.

mod failure_reason;
mod payment_mode;
mod refunds;
mod request;
mod rulebook;

use jiff::Timestamp;

pub use self::failure_reason::FailureReason;
pub use self::payment_mode::PaymentMode;
pub use self::refunds::{
    LedgerRefund, ListedRefund, ListedState, Maker, OpenRefund, RefundRequest, RefundState, Settlement,
};
pub use self::request::{OrderRequest, RequestHash};
pub use self::rulebook::{Event, IllegalTransition, State, Step, Work};

use crate::duty::Tags;
use crate::id::{DriverId, OrderId, UserId};
use crate::money::Money;
use crate::position::Position;

/// An order as it stands at one moment.
#[derive(Debug, Clone, PartialEq)]
pub struct Order {
    /// Its id.
    pub id: OrderId,
    /// The customer.
    pub user: UserId,
    /// What it costs.
    pub amount: Money,
    /// When the customer pays.
    pub payment_mode: PaymentMode,
    /// Where the service begins.
    pub pickup: Position,
    /// Where it ends, if that was given.
    pub drop_off: Option<Position>,
    /// What its driver must be able to do.
    pub required_tags: Tags,
    /// Its state.
    pub state: State,
    /// Why it is compensated; set from the moment that this is decided.
    pub failure_reason: Option<FailureReason>,
    /// When it was accepted.
    pub created_at: Timestamp,
    /// When it last changed.
    pub updated_at: Timestamp,
    /// What the provider confirmed; absent until it did.
    pub payment: Option<Payment>,
    /// The driver who serves or served it.
    pub assignment: Option<Assignment>,
}

/// What the provider confirmed.
#[derive(Debug, Clone, PartialEq)]
pub struct Payment {
    /// When the charge was confirmed, or the hold.
    pub charged_at: Timestamp,
    /// The provider's id of the payment.
    pub provider_charge_id: String,
    /// What is decided to be captured of a hold, in minor units; 0: it is voided.
    pub to_capture_minor: Option<i64>,
    /// What was taken from the customer, in minor units; `None` while the amount is held.
    pub captured_minor: Option<i64>,
    /// What is kept of that as a cancellation fee, in minor units.
    pub kept_minor: i64,
    /// What was refunded, all refunds together; `None` while nothing was.
    pub refund: Option<Refund>,
}

impl Payment {
    /// Whether a hold is to be captured or voided, and the provider has not confirmed it.
    pub fn capture_is_open(&self) -> bool {
        self.to_capture_minor.is_some() && self.captured_minor.is_none()
    }

    /// Whether the amount is held, and nothing is decided about it.
    pub fn is_held(&self) -> bool {
        self.to_capture_minor.is_none() && self.captured_minor.is_none()
    }

    /// Whether the money was taken, or the hold ended in another way: then there is something to compare with the provider.
    pub fn is_captured(&self) -> bool {
        self.captured_minor.is_some()
    }

    /// What the order is to give back of it, in minor units: what was captured, less what is kept.
    pub fn refundable_minor(&self) -> i64 {
        self.captured_minor.unwrap_or(0) - self.kept_minor
    }

    /// What was refunded, in minor units.
    pub fn refunded_minor(&self) -> i64 {
        self.refund.as_ref().map_or(0, |refund| refund.amount.minor_units())
    }
}

/// What was refunded of a payment.
#[derive(Debug, Clone, PartialEq)]
pub struct Refund {
    /// The sum of the confirmed refunds.
    pub amount: Money,
    /// When the last of them was confirmed.
    pub refunded_at: Timestamp,
}

/// The driver of an order.
#[derive(Debug, Clone, PartialEq)]
pub struct Assignment {
    /// The driver.
    pub driver: DriverId,
    /// Since when.
    pub assigned_at: Timestamp,
    /// Until when and why; absent while the driver is bound.
    pub release: Option<Release>,
}

/// The end of an assignment.
#[derive(Debug, Clone, PartialEq)]
pub struct Release {
    /// When.
    pub released_at: Timestamp,
    /// Why.
    pub reason: ReleaseReason,
}

/// Why an assignment ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReleaseReason {
    /// The service was rendered.
    Completed,
    /// The order was cancelled.
    Cancelled,
    /// The driver does not serve it; the order searches for another.
    Declined,
    /// The driver was not seen for too long; the order searches for another.
    Silent,
}

impl ReleaseReason {
    /// Every reason.
    pub const ALL: [ReleaseReason; 4] = [
        ReleaseReason::Completed,
        ReleaseReason::Cancelled,
        ReleaseReason::Declined,
        ReleaseReason::Silent,
    ];

    /// Its name in the database and on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            ReleaseReason::Completed => "completed",
            ReleaseReason::Cancelled => "cancelled",
            ReleaseReason::Declined => "declined",
            ReleaseReason::Silent => "silent",
        }
    }
}
