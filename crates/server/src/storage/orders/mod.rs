//! Orders in Postgres. Each file owns one kind of change, each method one whole transaction:
//!
//! * [`accept`]: T0 and T1 of the saga, the claim of the key and the intent to charge;
//! * [`advance`]: T2, T4 and T5, one event each, under the fence;
//! * [`answer`]: what was answered first to a key;
//! * [`assign`]: T3, the driver;
//! * [`release`]: what comes after success: completion and cancellation;
//! * [`lose`]: a driver who does not serve the order after all;
//! * [`money`]: what was asked of the provider and what it confirmed, within the others' transactions;
//! * [`events`]: what the payment provider told;
//! * [`lease`]: who works on an order, and until when;
//! * [`forget`]: what is forgotten after its time;
//! * [`read`]: the orders as callers see them;
//! * [`desk`]: the orders as operators see them, and the retry;
//! * [`resolve`]: an operator's word in place of the provider's answer.

pub(super) mod accept;
pub(super) mod advance;
mod answer;
pub(super) mod assign;
pub(super) mod desk;
pub(super) mod events;
pub(super) mod forget;
pub(super) mod lease;
pub(super) mod lose;
pub(super) mod money;
pub(super) mod read;
pub(super) mod release;
pub(super) mod resolve;
mod row;

use std::sync::Arc;

use jiff::Timestamp;
use waybill_domain::id::{OrderId, PaymentMethod};
use waybill_domain::order::Order;

pub use self::accept::{Accepted, Earlier};
pub use self::advance::{Doubt, Outcome};
pub use self::answer::StoredAnswer;
pub use self::assign::{Assigned, Candidate};
pub use self::desk::{
    ConfirmedPayment, DriverAssignment, LeaseHolder, LogLine, OrderFile, PaymentEvent, ProviderAttempt, Retried,
    UnfinishedOrder, UnfinishedOrders,
};
pub use self::events::Recorded;
pub use self::forget::Forgettable;
pub use self::lease::{Postponement, Renewal};
pub use self::lose::{Bound, Lost};
pub use self::money::Attempt;
pub use self::read::{ListFilter, StepRecord};
pub use self::release::{Cancelled, Completed};
pub use self::resolve::{Resolution, Resolved};

use super::postgres::Postgres;

/// Renders the answer to CreateOrder for a settled order. It is stored in the transaction that settles the order, and
/// given to every later call with the same key. Storage does not look inside.
pub type RenderAnswer = Arc<dyn Fn(&Order) -> StoredAnswer + Send + Sync>;

/// How the orders of this process are stored.
#[derive(Clone)]
pub struct OrderStore {
    postgres: Postgres,
    render: RenderAnswer,
    settings: Arc<Settings>,
}

/// Who this process is to the leases.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The instance's name: in every step that it logs, and on its leases.
    pub instance: String,
    /// How long a lease lasts, in seconds, by the database's clock. Longer than any one step takes.
    pub lease_secs: f64,
}

/// The right to change an order until another worker takes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lease {
    /// Of which order.
    pub order: OrderId,
    /// Named by every write; a worker with an older one writes nothing.
    pub fence: i64,
}

/// An order in the hands of a worker.
#[derive(Debug, Clone)]
pub struct Work {
    /// The order as it was last read or written.
    pub order: Order,
    /// The right to change it.
    pub lease: Lease,
    /// What the charge is taken from.
    pub payment_method: PaymentMethod,
    /// Whether somebody asked to cancel the order.
    pub cancel_requested: bool,
    /// How often a worker took the order up, this time included.
    pub attempts: i32,
    /// Why a person should look at it, if one should.
    pub needs_attention: Option<String>,
    /// How many drivers the order has lost.
    pub reassignments: i32,
    /// Since when another driver is looked for, once one was lost; the first search begins with the charge.
    pub search_from: Option<Timestamp>,
    /// What the call that made the order is answered, once this worker brought it to rest.
    pub answer: Option<StoredAnswer>,
}

impl OrderStore {
    /// A store on `postgres`.
    pub fn new(postgres: Postgres, render: RenderAnswer, settings: Settings) -> OrderStore {
        OrderStore {
            postgres,
            render,
            settings: Arc::new(settings),
        }
    }

    /// The same store for calls from outside: they never take the connections that sagas under way need.
    #[must_use]
    pub fn for_callers(&self) -> OrderStore {
        OrderStore {
            postgres: self.postgres.for_callers(),
            ..self.clone()
        }
    }
}
