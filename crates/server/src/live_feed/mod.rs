//! The live feed: who watches a fleet sees each driver come, move, be taken and go.
//!
//! [`follow`] keeps what a process knows of a [`fleet`] up to date while someone watches it: it reads the stream of fixes, as the history
//! writer does. [`watch`] looks into that for one watcher, as often as that likes; [`by_order`] knows whom to
//! look at where that is whoever serves an order, and [`cursor`] where it goes on after a broken stream. No one is sent anything that it does not read: a
//! thousand watchers cost a look each, and one that stops reading costs nothing.

mod by_order;
mod cursor;
mod fleet;
mod follow;
mod watch;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use waybill_domain::fix::Freshness;
use waybill_domain::id::{DriverId, OrderId};
use waybill_domain::live::Area;
use waybill_domain::tenant::Tenant;

pub use self::watch::{FleetNews, WatchError, Watched};

use self::by_order::OrderReads;
use self::fleet::Fleet;
use self::follow::Follower;
use crate::metrics::Metrics;
use crate::resilience::{PlaceLimits, Places};
use crate::storage::live::LiveStore;
use crate::storage::orders::OrderStore;

/// Watches of one customer.
const WATCHES_OF_ONE_MAX: usize = 50;
/// Which drivers are watched.
#[derive(Debug, Clone, PartialEq)]
pub enum WatchedDrivers {
    /// All in an area.
    Area(Area),
    /// Some.
    Drivers(Vec<DriverId>),
    /// Whoever serves this order.
    Order(OrderId),
}

/// How many may watch. See `[locations]` and `[limits]` in `config/waybill.toml`.
#[derive(Debug, Clone, Copy)]
pub struct LiveFeedSettings {
    /// At once, at this server.
    pub watchers_max: usize,
    /// Which share of them a tenant with a name has at most.
    pub tenant_share: f64,
    /// How many drivers an area may have for them to be sent: beyond that, how many there are.
    pub area_max: usize,
    /// Which fixes say where a driver is.
    pub freshness: Freshness,
}

/// The live feed of a process. Clones share it.
#[derive(Clone)]
pub struct LiveFeed {
    shared: Arc<Shared>,
}

struct Shared {
    live: LiveStore,
    orders: OrderStore,
    settings: LiveFeedSettings,
    places: Places,
    metrics: Arc<Metrics>,
    tasks: TaskTracker,
    draining: CancellationToken,
    /// For those who follow orders.
    order_reads: OrderReads,
    /// The fleets that are followed.
    fleets: Mutex<HashMap<Tenant, Arc<Fleet>>>,
}

impl LiveFeed {
    /// Over these stores. Streams end when `draining` is cancelled.
    pub fn new(
        live: LiveStore,
        orders: OrderStore,
        settings: LiveFeedSettings,
        metrics: Arc<Metrics>,
        tasks: TaskTracker,
        draining: CancellationToken,
    ) -> LiveFeed {
        let limits = PlaceLimits {
            all_max: settings.watchers_max,
            tenant_share: settings.tenant_share,
            caller_max: WATCHES_OF_ONE_MAX,
        };
        LiveFeed {
            shared: Arc::new(Shared {
                live,
                orders,
                settings,
                places: Places::new(limits),
                metrics,
                tasks,
                draining,
                order_reads: OrderReads::default(),
                fleets: Mutex::default(),
            }),
        }
    }

    /// The fleet of this tenant, which is followed from now on if it was not.
    fn fleet(&self, tenant: &Tenant) -> Arc<Fleet> {
        let shared = &self.shared;
        let mut fleets = shared.fleets.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(fleet) = fleets.get(tenant).filter(|fleet| !fleet.is_over()) {
            return Arc::clone(fleet);
        }
        let fleet = Arc::new(Fleet::default());
        let follower = Follower::new(
            shared.live.clone(),
            shared.orders.clone(),
            tenant.clone(),
            shared.settings.freshness,
            Arc::clone(&fleet),
        );
        shared.tasks.spawn(follower.run(shared.draining.clone()));
        fleets.insert(tenant.clone(), Arc::clone(&fleet));
        fleet
    }
}
