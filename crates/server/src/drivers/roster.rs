//! The drivers that are followed at this server, and how often each of them was assigned or released.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;
use tracing::debug;
use waybill_domain::id::DriverId;

use crate::storage::StoreError;
use crate::storage::orders::OrderStore;

/// How often is looked.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// Drivers in one statement.
const PAGE: usize = 1_000;

/// Of each driver that is followed, its count when it was last looked at.
#[derive(Default)]
pub(super) struct Roster {
    followed: Mutex<HashMap<DriverId, watch::Sender<i64>>>,
    looked_at: Mutex<Option<Instant>>,
}

impl Roster {
    /// Follows a driver whose count is this: what is returned changes with every other one.
    pub(super) fn follow(&self, driver: &DriverId, seq: i64) -> watch::Receiver<i64> {
        let mut followed = self.followed();
        let sender = followed
            .entry(driver.clone())
            .or_insert_with(|| watch::Sender::new(seq));
        let mut receiver = sender.subscribe();
        // Another one may follow since before, and its count be newer.
        if *receiver.borrow_and_update() != seq {
            receiver.mark_changed();
        }
        receiver
    }

    /// For how long no look has succeeded.
    pub(super) fn stale_for(&self) -> Duration {
        let looked_at = self.looked_at.lock().unwrap_or_else(PoisonError::into_inner);
        looked_at.map_or(Duration::ZERO, |at| at.elapsed())
    }

    pub(super) async fn run(&self, orders: &OrderStore, stop: CancellationToken) {
        let mut ticks = interval(LOOK_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while stop.run_until_cancelled(ticks.tick()).await.is_some() {
            match self.look(orders).await {
                Ok(()) => {
                    let mut looked_at = self.looked_at.lock().unwrap_or_else(PoisonError::into_inner);
                    *looked_at = Some(Instant::now());
                }
                // The watchers say so if it lasts.
                Err(error) => debug!(%error, "the assignments of drivers cannot be read"),
            }
        }
    }

    async fn look(&self, orders: &OrderStore) -> Result<(), StoreError> {
        let drivers: Vec<DriverId> = {
            let mut followed = self.followed();
            followed.retain(|_, sender| sender.receiver_count() > 0);
            followed.keys().cloned().collect()
        };
        for page in drivers.chunks(PAGE) {
            let seqs = orders.assignment_seqs(page).await?;
            let followed = self.followed();
            for (driver, seq) in seqs {
                if let Some(sender) = followed.get(&driver) {
                    sender.send_if_modified(|known| std::mem::replace(known, seq) != seq);
                }
            }
        }
        Ok(())
    }

    fn followed(&self) -> MutexGuard<'_, HashMap<DriverId, watch::Sender<i64>>> {
        self.followed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
