//! What the apps of drivers see and say: what a driver serves ([`watch`]), and whether it takes orders.
//!
//! An app learns of an assignment because its server looks: [`roster`] asks the database every half second how often each driver that
//! is followed here was assigned or released, all of them in one statement. So it does not matter which server assigned, completed or
//! cancelled.

mod roster;
mod watch;

use std::sync::Arc;

use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use waybill_domain::duty::{Duty, Tags};
use waybill_domain::id::DriverId;

pub use self::watch::{AssignmentNews, Followed, WatchError};

use self::roster::Roster;
use crate::metrics::Metrics;
use crate::resilience::{PlaceLimits, Places};
use crate::storage::StoreError;
use crate::storage::orders::OrderStore;

/// Watches of one driver: its app, and the one that it forgot at home.
const WATCHES_OF_ONE_MAX: usize = 10;
/// Reads of what a driver serves at a time.
const READS_MAX: usize = 2;

/// How many may follow drivers. See `[orders]` and `[limits]` in `config/waybill.toml`.
#[derive(Debug, Clone, Copy)]
pub struct DriversSettings {
    /// At once, at this server.
    pub watchers_max: usize,
    /// Which share of them a tenant with a name has at most.
    pub tenant_share: f64,
}

/// Drivers and their apps. Clones share it.
#[derive(Clone)]
pub struct Drivers {
    shared: Arc<Shared>,
}

struct Shared {
    orders: OrderStore,
    roster: Roster,
    places: Places,
    /// The turns of those who begin, and of those who read again: neither waits behind the other.
    first: Semaphore,
    again: Semaphore,
    metrics: Arc<Metrics>,
    tasks: TaskTracker,
    draining: CancellationToken,
}

impl Drivers {
    /// Over this store. Streams end when `draining` is cancelled.
    pub fn new(
        orders: OrderStore,
        settings: DriversSettings,
        metrics: Arc<Metrics>,
        tasks: TaskTracker,
        draining: CancellationToken,
    ) -> Drivers {
        let limits = PlaceLimits {
            all_max: settings.watchers_max,
            tenant_share: settings.tenant_share,
            caller_max: WATCHES_OF_ONE_MAX,
        };
        Drivers {
            shared: Arc::new(Shared {
                orders,
                roster: Roster::default(),
                places: Places::new(limits),
                first: Semaphore::new(READS_MAX),
                again: Semaphore::new(READS_MAX),
                metrics,
                tasks,
                draining,
            }),
        }
    }

    /// Looks for changes of those who are followed, until `stop`. Run it beside the server.
    pub async fn run(self, stop: CancellationToken) {
        self.shared.roster.run(&self.shared.orders, stop).await;
    }

    /// Says whether a driver takes orders, and what it can do; what is `None` stays as it was. What is so then.
    pub async fn set_duty(
        &self,
        driver: &DriverId,
        is_on: Option<bool>,
        tags: Option<&Tags>,
    ) -> Result<Duty, StoreError> {
        self.shared.orders.set_duty(driver, is_on, tags).await
    }
}
