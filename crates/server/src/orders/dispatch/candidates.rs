//! The nearest drivers that are fresh and free.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use jiff::Timestamp;
use waybill_domain::duty::Tags;
use waybill_domain::id::DriverId;
use waybill_domain::position::Position;
use waybill_domain::tenant::Tenant;

use super::busy::BusyDrivers;
use crate::storage::StoreError;
use crate::storage::live::{LiveStore, Near, SearchArea};
use crate::storage::orders::{Candidate, OrderStore};

/// How many drivers of a crowded place are considered before a search gives up. With 2,048 drivers nearer and all of
/// them busy, one more is not near.
const SEARCH_MAX: usize = 2_048;
/// How many are considered first, at most.
const SEARCH_FIRST_MAX: usize = 512;

/// Finds drivers.
#[derive(Clone)]
pub struct Dispatch {
    live: LiveStore,
    orders: OrderStore,
    busy: Arc<BusyDrivers>,
    /// How many of those near were busy at the last search for who was free: about so many are at the next one.
    busy_near: Arc<AtomicUsize>,
    radius_m: f64,
    candidates: usize,
}

impl Dispatch {
    /// Proposes up to `candidates` drivers within `radius_m` metres.
    pub fn new(live: LiveStore, orders: OrderStore, radius_m: f64, candidates: usize) -> Dispatch {
        Dispatch {
            live,
            orders,
            busy: Arc::default(),
            busy_near: Arc::default(),
            radius_m,
            candidates,
        }
    }

    /// Whether drivers can be searched now.
    pub async fn check(&self) -> Result<(), StoreError> {
        self.live.check().await
    }

    /// The same, seen by a write: no one who reports a position is found where none is written.
    pub async fn check_writes(&self) -> Result<(), StoreError> {
        self.live.check_writes().await
    }

    /// The nearest drivers of the tenant that are fresh and are not `excluded`, nearest first. With `were_free`, those who were free a moment
    /// ago. With `required`, only those who are on duty and have these tags. Each is one more read, which most orders can do without:
    /// whoever assigns one looks at those who are proposed.
    ///
    /// As many are asked for as were busy near the last pickup, and a few more: so mostly one search of the index finds a free driver if there
    /// is one. Else it widens.
    pub async fn candidates(
        &self,
        tenant: &Tenant,
        pickup: Position,
        required: Option<&Tags>,
        excluded: &HashSet<DriverId>,
        were_free: bool,
    ) -> Result<Vec<Candidate>, StoreError> {
        let area = SearchArea {
            centre: pickup,
            radius_m: self.radius_m,
        };
        let busy_near = if were_free {
            self.busy_near.load(Ordering::Relaxed)
        } else {
            0
        };
        let mut asked = (self.candidates + busy_near + excluded.len()).min(SEARCH_FIRST_MAX);
        loop {
            let busy_before = AtomicUsize::new(0);
            let is_wanted = |driver: &DriverId| {
                let is_busy = were_free && self.busy.was_busy(driver);
                busy_before.fetch_add(usize::from(is_busy), Ordering::Relaxed);
                !is_busy && !excluded.contains(driver)
            };
            let (mut free, whole) = self
                .live
                .nearest(tenant, area, asked, Timestamp::now(), is_wanted)
                .await?;
            if were_free {
                let found = free.len();
                free = self.without_busy(free).await?;
                let busy = busy_before.load(Ordering::Relaxed) + found - free.len();
                self.busy_near.store(busy, Ordering::Relaxed);
            }
            let free = match required {
                Some(required) => self.takers_of(free, required).await?,
                None => free,
            };
            if !free.is_empty() || whole || asked >= SEARCH_MAX {
                let nearest = free.into_iter().take(self.candidates);
                return Ok(nearest
                    .map(|near| Candidate {
                        driver: near.driver,
                        distance_m: near.distance_m,
                    })
                    .collect());
            }
            asked = (asked * 4).min(SEARCH_MAX);
        }
    }

    /// Up to `count` drivers of the tenant in the area that are fresh and free now, nearest first. Exact, and dearer than
    /// [`candidates`](Dispatch::candidates): for callers who search.
    pub async fn search(&self, tenant: &Tenant, area: SearchArea, count: usize) -> Result<Vec<Near>, StoreError> {
        let mut asked = count.max(1) * 2;
        loop {
            let (near, whole) = self
                .live
                .nearest(tenant, area, asked, Timestamp::now(), |_| true)
                .await?;
            let free = self.free_of(near, count).await?;
            if free.len() >= count || whole || asked >= SEARCH_MAX {
                return Ok(free);
            }
            asked = (asked * 4).min(SEARCH_MAX);
        }
    }

    /// Those of them who serve no order, as of a moment ago.
    async fn without_busy(&self, near: Vec<Near>) -> Result<Vec<Near>, StoreError> {
        let drivers: Vec<DriverId> = near.iter().map(|near| near.driver.clone()).collect();
        let busy = self.busy.among(&self.orders, &drivers).await?;
        Ok(near.into_iter().filter(|near| !busy.contains(&near.driver)).collect())
    }

    /// Those of them who are on duty and have these tags.
    async fn takers_of(&self, near: Vec<Near>, required: &Tags) -> Result<Vec<Near>, StoreError> {
        let drivers: Vec<DriverId> = near.iter().map(|near| near.driver.clone()).collect();
        let takers = self.orders.free_among(&drivers, required, self.candidates).await?;
        Ok(among(near, takers))
    }

    async fn free_of(&self, near: Vec<Near>, count: usize) -> Result<Vec<Near>, StoreError> {
        if near.is_empty() {
            return Ok(near);
        }
        let drivers: Vec<DriverId> = near.iter().map(|near| near.driver.clone()).collect();
        let free = self.orders.free_among(&drivers, &Tags::default(), count).await?;
        Ok(among(near, free))
    }
}

/// Those who are among these. Both lists are in the order of distance.
fn among(near: Vec<Near>, drivers: Vec<DriverId>) -> Vec<Near> {
    let mut drivers = drivers.into_iter().peekable();
    near.into_iter()
        .filter(|near| drivers.next_if(|driver| *driver == near.driver).is_some())
        .collect()
}
