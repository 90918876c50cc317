//! Orders from the first call to their end.
//!
//! [`service`] takes the calls, [`error`] says why one is refused. [`saga`] brings one order to a terminal state. [`payment_record`] compares a payment with the
//! provider's record of it. [`dispatch`] finds drivers. [`in_flight`] is
//! where calls and sagas of this process meet; [`watch`] is for those who follow an order. [`workers`] run beside: the
//! sweeper resumes orders that a dead process left, the driver liveness monitor reassigns, key retention expires old keys.
//!
//! A saga is a task of the process, never of a request: a client that hangs up changes nothing but who gets the answer.

mod charge_admission;
mod dispatch;
mod error;
mod in_flight;
pub mod payment_record;
mod saga;
pub mod service;
pub mod watch;
pub mod workers;

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::Instrument as _;

pub use self::dispatch::Dispatch;

use self::charge_admission::ChargeAdmission;
use self::in_flight::{InFlightOrders, Waiter};
use self::watch::Watchers;
use self::workers::hold_expiry::HoldExpiry;
use crate::egress::payments::PaymentAccounts;
use crate::metrics::Metrics;
use crate::resilience::{Admission, PlaceLimits, Places};
use crate::storage::StoreError;
use crate::storage::orders::{LeasedOrder, OrderStore, ProviderEvent, Recorded};
use crate::telemetry;

/// How orders are worked on. See `[orders]` in `config/waybill.toml`.
#[derive(Debug, Clone)]
pub struct OrderSettings {
    /// How long after its acceptance an order may still be charged and assigned.
    pub settle_within: Duration,
    /// How long the search for a driver lasts.
    pub assignment_window: Duration,
    /// How much time in which drivers could not be looked for does not count for that.
    pub search_outage_max: Duration,
    /// How often a step that waits renews its lease, and sees whether a cancellation was requested: a third of the lease.
    pub renew_lease_every: Duration,
    /// How often the sweeper looks for orders to resume.
    pub sweep_interval: Duration,
    /// How many orders it claims at once.
    pub sweep_batch: usize,
    /// How long a key is kept after its order was settled.
    pub key_retention: Duration,
    /// How often keys are expired.
    pub key_expiry_interval: Duration,
    /// How old a hold may get.
    pub hold_max: Duration,
    /// What is done about one that is older.
    pub hold_expiry: HoldExpiry,
    /// How long the charge of a new order may wait for its place at the payment provider; orders above that are refused.
    pub charge_wait_max: Duration,
    /// How many sagas this process runs at once; calls above that are refused.
    pub in_flight_max: usize,
    /// How many watchers this process serves at once; more are refused.
    pub watchers_max: usize,
    /// Which share of both, for new orders and for watchers, a tenant with a name has at most.
    pub tenant_share: f64,
    /// How long all sends of one step to the payment provider may take. Shorter than the lease.
    pub payment_timeout: Duration,
}

/// Beside the orders that calls begin, a process works on one of so many as go on: that were completed, cancelled or released, or taken over.
const RESUMED_SHARE: usize = 4;

impl OrderSettings {
    /// How many orders that go on this process works on at once, beside those that calls begin.
    fn resumed_max(&self) -> usize {
        self.in_flight_max.div_ceil(RESUMED_SHARE)
    }
}

/// So many calls a second that are refused, because there are too many, look whether they were answered before.
const REPLAYS_MAX: NonZeroU32 = NonZeroU32::new(100).expect("above 0");

/// All that a saga needs.
pub struct Context {
    /// For sagas.
    pub(crate) store: OrderStore,
    /// For calls that do something.
    pub(crate) callers: OrderStore,
    /// For calls that only read.
    pub(crate) reads: OrderStore,
    pub(crate) payments: PaymentAccounts,
    pub(crate) dispatch: Dispatch,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) settings: OrderSettings,
    in_flight: InFlightOrders,
    watchers: Watchers,
    charge_admission: ChargeAdmission,
    /// The transactions of orders that are in progress: new orders are accepted as fast as those end.
    transactions: Admission,
    /// Looks for what an order that is refused was answered before.
    replays: DefaultDirectRateLimiter,
    capacity: Arc<Semaphore>,
    /// Shares the capacity out among the tenants, for new orders.
    new_orders: Places,
    /// For orders that go on, when new ones take all of the capacity: who was paid for, or waits for its money, goes before new ones.
    resumed_capacity: Arc<Semaphore>,
    /// The sweeper's own: what was left by a process that died is not kept waiting by those either.
    sweeper_capacity: Arc<Semaphore>,
    tasks: TaskTracker,
    draining: CancellationToken,
}

impl Context {
    /// A context whose sagas run on `tasks` and return their leases once `draining` is cancelled.
    pub fn new(
        store: OrderStore,
        payments: PaymentAccounts,
        dispatch: Dispatch,
        metrics: Arc<Metrics>,
        settings: OrderSettings,
        tasks: TaskTracker,
        draining: CancellationToken,
    ) -> Arc<Context> {
        let capacity = Arc::new(Semaphore::new(settings.in_flight_max));
        let resumed_capacity = Arc::new(Semaphore::new(settings.resumed_max()));
        let sweeper_capacity = Arc::new(Semaphore::new(settings.sweep_batch));
        let new_orders = Places::new(PlaceLimits {
            all_max: settings.in_flight_max,
            tenant_share: settings.tenant_share,
            caller_max: usize::MAX,
        });
        let watchers = Watchers::new(settings.watchers_max, settings.tenant_share);
        let charge_admission = ChargeAdmission::new(settings.charge_wait_max);
        let transactions = Admission::new(settings.in_flight_max, metrics.orders.transactions());
        Arc::new(Context {
            callers: store.for_callers(),
            reads: store.for_reads(),
            store,
            payments,
            dispatch,
            metrics,
            settings,
            in_flight: InFlightOrders::default(),
            watchers,
            charge_admission,
            transactions,
            replays: RateLimiter::direct(Quota::per_second(REPLAYS_MAX)),
            capacity,
            new_orders,
            resumed_capacity,
            sweeper_capacity,
            tasks,
            draining,
        })
    }

    /// Stores an event of the provider; the first time, the order it is about is due at once. One that says no more than that an order was
    /// charged waits, if a saga of this process has the order, until that is over: mostly it says then what is known.
    pub(crate) async fn record_event(&self, event: &ProviderEvent) -> Result<Recorded, StoreError> {
        if event.says_charged && self.in_flight.take_report(event) {
            return Ok(Recorded::NothingNew);
        }
        self.callers.record_event(event).await
    }

    /// Resumes the saga of an order, where there is capacity: first what is there for such orders alone. Where there is none the sweeper does, once
    /// the lease is over.
    fn resume(self: &Arc<Self>, order: LeasedOrder) {
        let own = Arc::clone(&self.resumed_capacity).try_acquire_owned();
        if let Ok(permit) = own.or_else(|_| Arc::clone(&self.capacity).try_acquire_owned()) {
            self.spawn(order, permit);
        }
    }

    /// Runs the saga of the order in a task of the process, which keeps its permit until then; a waiter for its answer.
    fn spawn(self: &Arc<Self>, order: LeasedOrder, permit: impl Send + 'static) -> Waiter {
        let context = Arc::clone(self);
        let notifier = context.in_flight.begin(&order);
        let waiter = notifier.waiter();
        let span = telemetry::saga_span(order.order.id, order.lease.fence);
        let saga = async move {
            Box::pin(saga::drive(&context, order, &notifier)).await;
            drop(notifier);
            drop(permit);
        };
        self.tasks.spawn(saga.instrument(span));
        waiter
    }
}
