//! Notices drivers who fell silent while they serve an order, and has their orders look for another.
//!
//! Silence can be ours as well as theirs: with Redis emptied, the network cut or the history behind, every driver looks
//! silent, and taking all orders from all drivers would be the worst answer. So nobody is judged unless, for as long as
//! a driver may be silent, somebody was heard at every look and the history was up to date.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tokio::time::Instant;
use tracing::{info, warn};
use waybill_domain::id::{DriverId, OrderId};
use waybill_domain::order::ReleaseReason;

use super::Context;
use crate::storage::StoreError;
use crate::storage::history::HistoryStore;
use crate::storage::live::{LiveStore, StreamEntry};
use crate::storage::orders::{Bound, Lost};

/// Ten looks in the time that a driver may be silent; no more often than this, and no less.
const INTERVAL: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(10));
/// More than these, and more than a quarter of all who serve an order, do not fall silent at once: a network or one of
/// our own processes did.
const SILENT_AT_ONCE_MAX: usize = 3;
/// Drivers whose positions are asked for at once.
const BATCH: usize = 500;

/// The eyes of a patrol.
pub struct Patrol {
    context: Arc<Context>,
    live: LiveStore,
    history: HistoryStore,
    settings: Settings,
    /// Since when each look found that the fleet is heard.
    heard_from: Option<Instant>,
}

/// See `orders.silent_after` and `locations.ttl` in `config/waybill.toml`.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    /// How long a driver who serves an order may be silent.
    pub silent_after: Duration,
    /// How long a fix is fresh: a history that is further behind cannot tell who is silent.
    pub ttl: Duration,
}

impl Patrol {
    /// A patrol over the orders of `context`.
    pub fn new(context: Arc<Context>, live: LiveStore, history: HistoryStore, settings: Settings) -> Patrol {
        Patrol {
            context,
            live,
            history,
            settings,
            heard_from: None,
        }
    }

    /// Looks until the service drains.
    pub async fn run(mut self) {
        let interval = (self.settings.silent_after / 10).clamp(INTERVAL.0, INTERVAL.1);
        loop {
            tokio::select! {
                () = self.context.draining.cancelled() => return,
                () = tokio::time::sleep(interval) => {}
            }
            match self.look().await {
                Ok(()) => self.context.metrics.orders.patrolled(),
                Err(error) => {
                    self.heard_from = None;
                    warn!(%error, "cannot look for silent drivers");
                }
            }
        }
    }

    async fn look(&mut self) -> Result<(), StoreError> {
        let now = Timestamp::now();
        if !self.is_fleet_heard(now).await? {
            self.heard_from = None;
            return Ok(());
        }
        let heard_from = *self.heard_from.get_or_insert_with(Instant::now);
        if heard_from.elapsed() < self.settings.silent_after {
            return Ok(());
        }
        let bound = self.context.store.bound_for(self.settings.silent_after).await?;
        let mut silent = Vec::new();
        for batch in bound.chunks(BATCH) {
            let names = self.silent_among(batch, now).await?;
            silent.extend(batch.iter().filter(|bound| names.contains(&bound.driver)));
        }
        if silent.len() > SILENT_AT_ONCE_MAX && silent.len() > bound.len() / 4 {
            warn!(
                silent = silent.len(),
                of = bound.len(),
                "too many drivers are silent at once to be their own doing"
            );
            return Ok(());
        }
        for Bound { order, driver } in silent {
            if let Err(error) = self.lose(*order, driver).await {
                warn!(%order, %driver, %error, "a silent driver keeps the order for now");
            }
        }
        Ok(())
    }

    async fn lose(&self, order: OrderId, driver: &DriverId) -> Result<(), StoreError> {
        let lost = ReleaseReason::Silent;
        let detail = format!("nothing heard for {} s", self.settings.silent_after.as_secs_f64());
        // Who completed it, cancelled it or took it away in the meantime was first.
        if let Lost::Searching(work) = self.context.store.lose_driver(order, driver, lost, &detail).await? {
            info!(%order, %driver, "driver silent, the order looks for another");
            self.context.metrics.orders.step("release", lost.as_str());
            self.context.take_up(*work);
        }
        Ok(())
    }

    /// Whether somebody's position is fresh, and all that was heard for longer than that is in the history.
    async fn is_fleet_heard(&self, now: Timestamp) -> Result<bool, StoreError> {
        for shard in self.live.keys().shards() {
            let cursor = self.history.read_cursor(&shard.events).await?;
            let waiting = self.live.read_events(shard, &cursor, 1).await?;
            let oldest = waiting.first().and_then(StreamEntry::added_at);
            if oldest.is_some_and(|at| now.duration_since(at) > signed(self.settings.ttl)) {
                return Ok(false);
            }
        }
        self.live.is_anybody_fresh(now).await
    }

    /// Whose last fix is neither fresh nor in the history of late.
    async fn silent_among(&self, bound: &[Bound], now: Timestamp) -> Result<HashSet<DriverId>, StoreError> {
        let drivers: Vec<DriverId> = bound.iter().map(|bound| bound.driver.clone()).collect();
        let latest = self.live.latest_of(&drivers, now).await?;
        let stale = drivers.into_iter().zip(latest).filter(|(_, fix)| fix.is_none());
        let stale: Vec<DriverId> = stale.map(|(driver, _)| driver).collect();
        let since = now
            .saturating_sub(signed(self.settings.silent_after))
            .unwrap_or(Timestamp::MIN);
        let heard = self.context.store.heard_since(&stale, since).await?;
        Ok(stale.into_iter().filter(|driver| !heard.contains(driver)).collect())
    }
}

fn signed(duration: Duration) -> SignedDuration {
    SignedDuration::try_from(duration).unwrap_or(SignedDuration::MAX)
}
