//! Orders in Postgres. Each file owns one kind of change, each method one whole transaction:
//!
//! * [`accept`]: the claim of the key and the intent to charge;
//! * [`grouped`]: what orders have in common that come at the same time; the rest goes by itself, as the other files have it;
//! * [`outcome`]: what a step came to; [`advance`]: its commit, under the fence;
//! * [`assign`]: the driver;
//! * [`reassign`]: a driver is unassigned and the search begins again;
//! * [`complete`], [`cancel`], [`refund_request`]: what callers do to orders;
//! * [`release`]: the end of an assignment, within these transactions;
//! * [`lease`]: which worker holds an order, and until when; [`due`]: from when on orders are due;
//! * [`step_log`]: the append-only log of an order;
//! * [`captures`]: what becomes of a hold, within the others' transactions;
//! * [`refunds`]: the refunds of a payment, within the others' transactions;
//! * [`reconciled`]: what a comparison with the provider's record says, likewise;
//! * [`ledger`]: what was asked of the provider and what it confirmed, within the others' transactions;
//! * [`answer`]: the first answer to a key;
//! * [`read`]: orders as callers see them;
//! * [`unfinished`], [`details`]: orders as operators see them; [`retry`]: an operator makes one due;
//! * [`resolve`]: an operator's assertion in place of the provider's answer;
//! * [`refund_again`]: an operator's decision about a refund that failed;
//! * [`retention`]: the expiry of keys and of the provider's events;
//! * [`provider_events`]: the events that the payment provider sent;
//! * [`driver_assignments`]: what a driver serves;
//! * [`duty`]: whether a driver takes orders, and which;
//! * [`erase`]: a pseudonym takes a name's place;
//! * [`driver_liveness`]: who serves an order, and who was seen;
//! * [`shares`]: links by which anyone follows an order;
//! * [`row`]: rows as domain values.

pub(super) mod accept;
pub(super) mod advance;
mod answer;
pub(super) mod assign;
pub(super) mod cancel;
pub(super) mod captures;
pub(super) mod complete;
pub(super) mod details;
pub(super) mod driver_assignments;
pub(super) mod driver_liveness;
pub(super) mod due;
pub(super) mod duty;
pub(super) mod erase;
pub(super) mod free_drivers;
pub(super) mod grouped;
pub(super) mod lease;
pub(super) mod ledger;
mod outcome;
pub(super) mod provider_events;
pub(super) mod read;
pub(super) mod reassign;
pub(super) mod reconciled;
pub(super) mod refund_again;
pub(super) mod refund_request;
pub(super) mod refunds;
pub(super) mod release;
pub(super) mod resolve;
pub(super) mod retention;
pub(super) mod retry;
mod row;
pub(super) mod shares;
pub(super) mod step_log;
pub(super) mod unfinished;

use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use waybill_domain::access::Authority;
use waybill_domain::id::{OrderId, PaymentMethod, ProviderCustomer};
use waybill_domain::order::{OpenRefund, Order, Payment, Step, Work};
use waybill_domain::payment::PaymentKey;
use waybill_domain::payment_account::PaymentAccount;

pub use self::accept::{Accepted, ExistingOrder};
pub use self::answer::StoredAnswer;
pub use self::assign::{Assigned, Candidate};
pub use self::cancel::Cancelled;
pub use self::captures::capture_operation;
pub use self::complete::Completed;
pub use self::details::{
    ConfirmedPayment, DriverAssignment, OrderDetails, PaymentDispute, PaymentEvent, PaymentRefund, ProviderAttempt,
};
pub use self::driver_assignments::{CurrentAssignment, DriverAssignments};
pub use self::driver_liveness::ServingDriver;
pub use self::erase::{ErasedOrders, Obstacle, RenameInAnswer};
pub use self::lease::{Deferral, LeaseHolder, Renewal};
pub use self::ledger::{Attempt, UnknownOutcome};
pub use self::outcome::StepOutcome;
pub use self::provider_events::{Object, ProviderEvent, Recorded};
pub use self::read::ListFilter;
pub use self::reassign::Unassigned;
pub use self::reconciled::{Dispute, REFUND_FAILED, Reconciliation, Standing};
pub use self::refund_again::RefundedAgain;
pub use self::refund_request::{RefundRequested, RequestedRefund};
pub use self::refunds::RefundOrigin;
pub use self::resolve::{Resolution, Resolved};
pub use self::retention::Expirable;
pub use self::retry::Retried;
pub use self::shares::{NewShare, Share, Shared};
pub use self::step_log::LogLine;
pub use self::unfinished::{UnfinishedOrder, UnfinishedOrders};

use self::due::DueBound;
use self::grouped::Groups;
use super::StoreError;
use super::postgres::Postgres;

/// Renders the answer to CreateOrder for a settled order. It is stored in the transaction that settles the order, and
/// given to every later call with the same key. Storage does not look inside. This is the one callback upwards: `grpc`
/// makes it, `app` hands it down.
pub type RenderAnswer = Arc<dyn Fn(&Order) -> StoredAnswer + Send + Sync>;

/// How the orders of this process are stored.
#[derive(Clone)]
pub struct OrderStore {
    postgres: Postgres,
    render: RenderAnswer,
    settings: Arc<OrderStoreSettings>,
    /// Those who come at the same time.
    groups: Arc<Groups>,
    /// From when on orders are due.
    due: Arc<DueBound>,
    /// In whose name it writes: in the lines of the log that it adds.
    requested_by: Option<Arc<str>>,
}

/// What a store of orders writes on the leases that it takes.
#[derive(Debug, Clone)]
pub struct OrderStoreSettings {
    /// The instance's name: in every step that it logs, and on its leases.
    pub instance: String,
    /// How long a lease lasts, in seconds, by the database's clock. Longer than any one step takes.
    pub lease_secs: f64,
}

/// The right to change an order until another worker claims it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lease {
    /// Of which order.
    pub order: OrderId,
    /// Named by every write; a worker with an older one writes nothing.
    pub fence: i64,
}

/// When the database last confirmed a lease: by its clock, and by ours just before it was asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Confirmed {
    /// The database's clock.
    pub database: Timestamp,
    /// This process's clock. Not a monotonic one: those stand still while a machine is suspended.
    pub local: Timestamp,
}

/// An order with the lease that its worker holds.
#[derive(Debug, Clone)]
pub struct LeasedOrder {
    /// The order as it was last read or written.
    pub order: Order,
    /// The right to change it.
    pub lease: Lease,
    /// When the lease was last confirmed.
    pub confirmed: Confirmed,
    /// Whether this worker itself recorded the intent to move money and has sent nothing since. Then nothing was ever
    /// sent under that key.
    pub unsent: bool,
    /// The account at the provider that it is paid into.
    pub payment_account: PaymentAccount,
    /// What its payment is known by there.
    pub payment_key: PaymentKey,
    /// By what the provider finds the charge; `None` for an order of an earlier version, whose charge does not carry it.
    pub transfer_group: Option<String>,
    /// What the charge is taken from.
    pub payment_method: PaymentMethod,
    /// The provider's customer to whom that is attached, if it is.
    pub provider_customer: Option<ProviderCustomer>,
    /// Whether a cancellation was requested.
    pub cancel_requested: bool,
    /// How often a worker claimed the order, this time included.
    pub attempts: i32,
    /// Why an operator should look at it, if one should.
    pub needs_attention: Option<String>,
    /// How many drivers were unassigned from the order.
    pub reassignments: i32,
    /// When the search for another driver began, once one was unassigned. The first search begins with the charge.
    pub search_from: Option<Timestamp>,
    /// When a comparison of the payment with the provider's record was last requested, if none has answered that.
    pub reconcile_requested_at: Option<Timestamp>,
    /// The first refund that is decided and not confirmed.
    pub open_refund: Option<OpenRefund>,
    /// The answer to the call that made the order, once this worker settled it.
    pub answer: Option<StoredAnswer>,
}

impl LeasedOrder {
    /// What is to be done for it beside what its state says.
    pub fn work(&self) -> Work {
        Work {
            cancel_requested: self.cancel_requested,
            capture_open: self.order.payment.as_ref().is_some_and(Payment::capture_is_open),
            refund_open: self.open_refund.is_some(),
            // To the ledger nothing can be refunded of what is only held: the comparison waits for its end.
            reconcile_requested: self.reconcile_requested_at.is_some()
                && self.order.payment.as_ref().is_some_and(Payment::is_captured),
        }
    }

    /// Whether no worker moved it on since it was read as `seen`, nor claimed it.
    pub(super) fn is_as(&self, seen: &LeasedOrder) -> bool {
        self.lease == seen.lease && self.order.updated_at == seen.order.updated_at
    }

    /// The step to run now; `None`: the order is settled, and nothing is to be done for it.
    pub fn pending_step(&self) -> Option<Step> {
        self.order.state.pending_step(self.work())
    }
}

impl Lease {
    /// The error of a write that this lease no longer allows.
    pub(super) fn lost(self) -> StoreError {
        StoreError::Fenced {
            order: self.order,
            fence: self.fence,
        }
    }
}

impl Confirmed {
    /// Confirmed by a transaction of time `database`, which was begun at `local`.
    pub fn new(database: Timestamp, local: Timestamp) -> Confirmed {
        Confirmed { database, local }
    }

    /// How long ago that was. A clock that was set back counts as a long time, too.
    pub fn age(&self) -> Duration {
        Timestamp::now().duration_since(self.local).unsigned_abs()
    }

    /// The database's clock now, as far as it can be known without asking.
    pub fn database_now(&self) -> Timestamp {
        let since = Timestamp::now().duration_since(self.local).max(SignedDuration::ZERO);
        self.database.saturating_add(since).unwrap_or(self.database)
    }
}

impl OrderStore {
    /// A store on `postgres`.
    pub fn new(postgres: Postgres, render: RenderAnswer, settings: OrderStoreSettings) -> OrderStore {
        OrderStore {
            postgres,
            render,
            settings: Arc::new(settings),
            groups: Arc::default(),
            due: Arc::default(),
            requested_by: None,
        }
    }

    /// The same store in the callers' partition of the pool: it never takes the connections that sagas need.
    #[must_use]
    pub fn for_callers(&self) -> OrderStore {
        OrderStore {
            postgres: self.postgres.for_callers(),
            ..self.clone()
        }
    }

    /// The same store in the partition of the pool for calls that only read.
    #[must_use]
    pub fn for_reads(&self) -> OrderStore {
        OrderStore {
            postgres: self.postgres.for_reads(),
            ..self.clone()
        }
    }

    /// The same store, whose lines of the log have the name of who asked for what it does.
    #[must_use]
    pub fn in_name_of(&self, by: &Authority) -> OrderStore {
        OrderStore {
            requested_by: by.name.clone(),
            ..self.clone()
        }
    }
}
