//! Drivers and customers are erased: positions go, and in orders and their logs a pseudonym takes the name's place.
//!
//! A call works for some seconds and says where the next one goes on. Each part may be repeated, so that a call that was cut off, or
//! whose server died, is finished by another one; what was left is then under a second pseudonym.

use std::sync::Arc;
use std::time::Duration;

use thiserror::Error;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::sleep;
use tracing::info;
use waybill_domain::access::Authority;
use waybill_domain::erasure::{Pseudonym, Renamed, ResumePoint};
use waybill_domain::id::{DriverId, OrderId, UserId};

use crate::resilience::Deadline;
use crate::storage::StoreError;
use crate::storage::history::HistoryStore;
use crate::storage::keys::ShardKeys;
use crate::storage::live::{BEGINNING, LiveStore, entry_order};
use crate::storage::orders::{ErasedOrders, Obstacle, OrderStore, RenameInAnswer};

/// How long a call works, if its deadline leaves twice that.
const WORK: Duration = Duration::from_secs(4);
/// Positions that are deleted in one transaction, each of which may lie on a page of its own, and entries of the stream that are read at
/// once.
const POSITIONS: i64 = 1_000;
const ENTRIES: usize = 1_000;
/// How many erasures a process runs at once. They are seldom, and take connections from callers.
const PLACES: usize = 2;
/// How often is looked whether what is in the stream is in the history.
const HISTORY_POLL: Duration = Duration::from_millis(50);

/// Erases people.
#[derive(Clone)]
pub struct Erasure {
    orders: OrderStore,
    live: LiveStore,
    history: HistoryStore,
    in_answer: RenameInAnswer,
    places: Arc<Semaphore>,
}

/// What a call erased of a driver.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ErasedDriver {
    /// What takes the name's place.
    pub pseudonym: Pseudonym,
    /// Where the next call goes on; `None`: nothing is left.
    pub resume: Option<ResumePoint>,
    /// Positions that were deleted from the history.
    pub positions: u64,
    /// Orders in which the name was replaced.
    pub orders: u64,
}

/// What a call erased of a customer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ErasedUser {
    /// What takes the name's place.
    pub pseudonym: Pseudonym,
    /// Where the next call goes on; `None`: nothing is left.
    pub resume: Option<ResumePoint>,
    /// Orders in which the name was replaced.
    pub orders: u64,
}

/// Why a person was not erased, or not to the end.
#[derive(Debug, Error)]
pub enum ErasureError {
    /// The driver serves this order.
    #[error("the driver serves the order {0}")]
    OnOrder(OrderId),
    /// This order stands against erasing its customer.
    #[error("the order {0} {1}")]
    NotErasable(OrderId, Obstacle),
    /// Positions that the driver sent are in the stream, and would come into the history afterwards.
    #[error("what the driver sent is not in the history yet")]
    HistoryBehind,
    /// As many run as may at once.
    #[error("other people are being erased")]
    TooMany,
    /// A store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Erasure {
    /// Erases in these stores. Storage does not look into answers: `in_answer` replaces a name in one.
    pub fn new(orders: OrderStore, live: LiveStore, history: HistoryStore, in_answer: RenameInAnswer) -> Erasure {
        Erasure {
            orders,
            live,
            history,
            in_answer,
            places: Arc::new(Semaphore::new(PLACES)),
        }
    }

    /// Erases a driver, under the pseudonym of this point; the step log from there on.
    pub async fn driver(
        &self,
        driver: &DriverId,
        mut point: ResumePoint,
        by: &Authority,
        deadline: Deadline,
    ) -> Result<ErasedDriver, ErasureError> {
        let until = work_until(deadline);
        let _place = self.place(until).await?;
        if let Some(order) = self.orders.retire_driver(driver).await? {
            return Err(ErasureError::OnOrder(order));
        }
        self.live.remove_driver(driver).await?;
        let (mut positions, mut orders) = (0, 0);
        let mut is_left = true;
        while is_left && !until.is_past() {
            // Whatever was in the stream: more may have been sent meanwhile.
            is_left = self.erase_from_stream(driver, until).await?;
            loop {
                let deleted = self.history.erase(driver, POSITIONS).await?;
                positions += deleted;
                if deleted == 0 {
                    break;
                }
                if until.is_past() {
                    is_left = true;
                    break;
                }
            }
        }
        let renamed = Renamed::driver(driver, point.pseudonym);
        let last_line = self.orders.last_line().await?;
        while !is_left && point.after_line < last_line && !until.is_past() {
            let (after_line, changed) = self
                .orders
                .rename_driver(&renamed, &driver.tenant(), point.after_line, self.in_answer)
                .await?;
            point.after_line = after_line;
            orders += changed;
        }
        let is_done = !is_left && point.after_line >= last_line;
        if is_done && let Some(order) = self.orders.delete_driver(driver).await? {
            return Err(ErasureError::OnOrder(order));
        }
        info!(
            pseudonym = %point.pseudonym, by = by.name.as_deref(), positions, orders,
            "{}", if is_done { "driver erased" } else { "driver erased in part" }
        );
        Ok(ErasedDriver {
            pseudonym: point.pseudonym,
            resume: (!is_done).then_some(point),
            positions,
            orders,
        })
    }

    /// Erases a customer, under the pseudonym of this point.
    pub async fn user(
        &self,
        user: &UserId,
        point: ResumePoint,
        by: &Authority,
        deadline: Deadline,
    ) -> Result<ErasedUser, ErasureError> {
        let until = work_until(deadline);
        let _place = self.place(until).await?;
        if let Some((order, obstacle)) = self.orders.obstacle_to_erase(user).await? {
            return Err(ErasureError::NotErasable(order, obstacle));
        }
        let renamed = Renamed::user(user, point.pseudonym);
        let (mut orders, mut is_left) = (0, true);
        while is_left && !until.is_past() {
            match self.orders.rename_user(user, &renamed).await? {
                ErasedOrders::Refused(order, obstacle) => return Err(ErasureError::NotErasable(order, obstacle)),
                ErasedOrders::Some(changed) => {
                    orders += changed;
                    is_left = changed > 0;
                }
            }
        }
        info!(
            pseudonym = %point.pseudonym, by = by.name.as_deref(), orders,
            "{}", if is_left { "customer erased in part" } else { "customer erased" }
        );
        Ok(ErasedUser {
            pseudonym: point.pseudonym,
            resume: is_left.then_some(point),
            orders,
        })
    }

    /// Removes the driver's entries from the stream, once the history has them: what is read before it is removed, and written
    /// afterwards, would come back. Whether there were any.
    async fn erase_from_stream(&self, driver: &DriverId, until: Deadline) -> Result<bool, ErasureError> {
        let Some(shard) = self.live.shard(driver) else {
            return Ok(false);
        };
        let entries = self.entries_of(shard, driver).await?;
        let Some(last) = entries.last() else { return Ok(false) };
        while entry_order(&self.history.read_cursor(&shard.events).await?) < entry_order(last) {
            if until.is_past() {
                return Err(ErasureError::HistoryBehind);
            }
            sleep(HISTORY_POLL).await;
        }
        for some in entries.chunks(ENTRIES) {
            self.live.delete_events(shard, some).await?;
        }
        Ok(true)
    }

    async fn place(&self, until: Deadline) -> Result<SemaphorePermit<'_>, ErasureError> {
        match until.bound(self.places.acquire()).await {
            Ok(Ok(place)) => Ok(place),
            _ => Err(ErasureError::TooMany),
        }
    }

    /// The ids of the driver's entries in the stream, the oldest first.
    async fn entries_of(&self, shard: &ShardKeys, driver: &DriverId) -> Result<Vec<String>, StoreError> {
        let (mut found, mut after) = (Vec::new(), BEGINNING.to_owned());
        loop {
            let read = self.live.read_events(shard, &after, ENTRIES).await?;
            let Some(last) = read.last() else { return Ok(found) };
            after.clone_from(&last.id);
            let own = read
                .into_iter()
                .filter(|entry| entry.fix.as_ref().is_ok_and(|fix| fix.driver == *driver));
            found.extend(own.map(|entry| entry.id));
        }
    }
}

/// When the call answers, so that what it did is known before its deadline.
fn work_until(deadline: Deadline) -> Deadline {
    Deadline::after(WORK.min(deadline.remaining() / 2))
}
