//! Which of some drivers serve an order, as of a moment ago: a search leaves them out before it proposes anyone to the database.
//!
//! Only those near a pickup are asked about. To read all who serve an order cost more with each order that was ever served while a dump or an
//! audit ran: until it ends, the index keeps an entry of each. What one search has asked, others near it know; and of those that ask at
//! once, one asks for all.

use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;
use waybill_domain::id::DriverId;

use crate::storage::StoreError;
use crate::storage::orders::OrderStore;

/// How old an answer may be. A driver who was assigned meanwhile is proposed for nothing; one who was released is found in the
/// next round of the search, which is not sooner.
const AGE_MAX: Duration = Duration::from_millis(100);
/// About how many drivers a search asks for in the name of others.
const OF_OTHERS_MAX: usize = 4_096;

/// What is known of who is busy.
#[derive(Default)]
pub(super) struct BusyDrivers {
    known: Mutex<HashMap<DriverId, Seen>>,
    /// Of whom searches ask that wait for their turn.
    wanted: Mutex<HashSet<DriverId>>,
    turn: tokio::sync::Mutex<()>,
}

#[derive(Clone, Copy)]
struct Seen {
    is_busy: bool,
    /// When the read was begun.
    at: Instant,
}

impl Seen {
    /// A read that was begun since is as good as one's own, however long it took: else a slow database would be asked by all who wait, one after
    /// the other.
    fn is_good_since(&self, arrived_at: Instant) -> bool {
        self.at >= arrived_at || self.at.elapsed() < AGE_MAX
    }
}

impl BusyDrivers {
    /// Whether the driver was seen busy a moment ago.
    pub(super) fn was_busy(&self, driver: &DriverId) -> bool {
        let known = lock(&self.known);
        known
            .get(driver)
            .is_some_and(|seen| seen.is_busy && seen.at.elapsed() < AGE_MAX)
    }

    /// Those of the drivers that are busy.
    pub(super) async fn among(
        &self,
        orders: &OrderStore,
        drivers: &[DriverId],
    ) -> Result<HashSet<DriverId>, StoreError> {
        let arrived_at = Instant::now();
        if let Some(busy) = self.known_since(arrived_at, drivers) {
            return Ok(busy);
        }
        lock(&self.wanted).extend(drivers.iter().cloned());
        let _turn = self.turn.lock().await;
        if let Some(busy) = self.known_since(arrived_at, drivers) {
            return Ok(busy);
        }
        let begun_at = Instant::now();
        let mut wanted: HashSet<DriverId> = drivers.iter().cloned().collect();
        wanted.extend(std::mem::take(&mut *lock(&self.wanted)).into_iter().take(OF_OTHERS_MAX));
        let wanted: Vec<DriverId> = wanted.into_iter().collect();
        let busy = orders.busy_among(&wanted).await?;
        {
            let mut known = lock(&self.known);
            known.retain(|_, seen| seen.at.elapsed() < AGE_MAX);
            known.extend(wanted.into_iter().map(|driver| {
                let is_busy = busy.contains(&driver);
                (driver, Seen { is_busy, at: begun_at })
            }));
        }
        Ok(drivers
            .iter()
            .filter(|driver| busy.contains(*driver))
            .cloned()
            .collect())
    }

    /// Those of the drivers that are busy, if that is known of all of them.
    fn known_since(&self, arrived_at: Instant, drivers: &[DriverId]) -> Option<HashSet<DriverId>> {
        let known = lock(&self.known);
        let mut busy = HashSet::new();
        for driver in drivers {
            let seen = known.get(driver).filter(|seen| seen.is_good_since(arrived_at))?;
            if seen.is_busy {
                busy.insert(driver.clone());
            }
        }
        Some(busy)
    }
}

fn lock<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}
