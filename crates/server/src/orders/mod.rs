//! Orders from the first call to their end.
//!
//! [`service`] takes the calls. [`drive`] brings one order to rest: it asks the rulebook what is next, runs that step
//! with no transaction open, and commits what came of it under the fence. [`steps`] are those steps, [`payment`] and
//! [`search`] the long ones; [`dispatch`] finds drivers, and [`patrol`] notices those who fell silent. [`running`] is how
//! calls and workers of this process meet; [`watch`] is for those who follow an order; [`sweeper`] takes up what a dead
//! process left; [`reaper`] forgets old idempotency keys; [`desk`] is for people: what is stuck, and what they know of it.
//!
//! [`webhooks`] hears the payment provider, and only ever makes an order be looked at sooner.
//!
//! A saga is a task of the process, never of a request: a client that hangs up changes nothing but who hears.

mod busy;
pub mod desk;
mod dispatch;
mod drive;
pub mod patrol;
mod payment;
pub mod reaper;
mod running;
mod search;
pub mod service;
mod steps;
pub mod sweeper;
pub mod watch;
pub mod webhooks;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub use self::dispatch::Dispatch;

use self::running::{Running, Settling};
use self::watch::Watchers;
use crate::egress::payments::PaymentClient;
use crate::metrics::Metrics;
use crate::storage::orders::{OrderStore, Work};

/// How orders are worked on. See `[orders]` in `config/waybill.toml`.
#[derive(Debug, Clone)]
pub struct Settings {
    /// How long a driver is looked for.
    pub assignment_window: Duration,
    /// How often a step that waits keeps its lease, and sees whether the order was cancelled: a third of the lease.
    pub keep_lease_every: Duration,
    /// How often the sweeper looks for orders that nobody works on.
    pub sweep_interval: Duration,
    /// How many orders it takes at once.
    pub sweep_batch: usize,
    /// How long a key is kept after its order came to rest.
    pub keys_kept: Duration,
    /// How often the reaper looks for keys that are older.
    pub forget_interval: Duration,
    /// How many sagas this process runs at once; calls above that are refused.
    pub in_flight_max: usize,
    /// How many watchers this process serves at once; more are refused.
    pub watchers_max: usize,
    /// How long all sends of one step to the payment provider may take. Shorter than the lease.
    pub payment_timeout: Duration,
}

/// All that a saga needs.
pub struct Context {
    /// For sagas.
    pub(crate) store: OrderStore,
    /// For calls.
    pub(crate) callers: OrderStore,
    pub(crate) payments: Arc<PaymentClient>,
    pub(crate) dispatch: Dispatch,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) settings: Settings,
    running: Running,
    watchers: Watchers,
    capacity: Arc<Semaphore>,
    /// The sweeper's own, for when calls take all of the capacity: paid orders go before new ones.
    sweeper_capacity: Arc<Semaphore>,
    tasks: TaskTracker,
    draining: CancellationToken,
}

impl Context {
    /// A context whose sagas run on `tasks` and give their orders back once `draining` is cancelled.
    pub fn new(
        store: OrderStore,
        payments: Arc<PaymentClient>,
        dispatch: Dispatch,
        metrics: Arc<Metrics>,
        settings: Settings,
        tasks: TaskTracker,
        draining: CancellationToken,
    ) -> Arc<Context> {
        let capacity = Arc::new(Semaphore::new(settings.in_flight_max));
        let sweeper_capacity = Arc::new(Semaphore::new(settings.sweep_batch));
        let running = Running::default();
        let watchers = Watchers::new(settings.watchers_max);
        Arc::new(Context {
            callers: store.for_callers(),
            store,
            payments,
            dispatch,
            metrics,
            settings,
            running,
            watchers,
            capacity,
            sweeper_capacity,
            tasks,
            draining,
        })
    }

    /// Works on an order that is decided already, where there is a place for it. Where there is none the sweeper takes it
    /// up once its lease is over.
    fn take_up(self: &Arc<Self>, work: Work) {
        if let Ok(permit) = Arc::clone(&self.capacity).try_acquire_owned() {
            self.spawn(work, permit);
        }
    }

    /// Works on the order in a task of the process; where that task tells that it is settled.
    fn spawn(self: &Arc<Self>, work: Work, permit: OwnedSemaphorePermit) -> Settling {
        let context = Arc::clone(self);
        let announced = context.running.begin(work.order.id);
        let settling = announced.settling();
        self.tasks.spawn(async move {
            Box::pin(drive::drive(&context, work, &announced)).await;
            drop(announced);
            drop(permit);
        });
        settling
    }
}
