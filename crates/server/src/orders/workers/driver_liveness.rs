//! The driver liveness monitor: reassigns the orders of drivers who are not seen any more while they serve.
//!
//! The fault can be ours as well as theirs: with Redis emptied, the network cut or the history behind, no driver is seen,
//! and to unassign every driver would be the worst answer. Where one of a cluster's masters takes no writes, the drivers of
//! its shards are not seen, few as they may be. So no driver is judged unless, for the whole timeout, at every check Redis
//! took writes, some driver was seen and the history was up to date.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tokio::time::Instant;
use tracing::{info, warn};
use waybill_domain::access::Scope;
use waybill_domain::id::{DriverId, OrderId};
use waybill_domain::order::ReleaseReason;

use crate::orders::Context;
use crate::storage::StoreError;
use crate::storage::history::HistoryStore;
use crate::storage::live::{LiveStore, StreamEntry};
use crate::storage::orders::{ServingDriver, Unassigned};

/// Ten checks a timeout; no more often than the first, no less often than the second.
const INTERVAL: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(10));
/// More than these, and more than a quarter of all who serve an order, do not disappear at once by themselves: a network
/// or one of our own processes failed.
const UNSEEN_AT_ONCE_MAX: usize = 3;
/// Drivers whose positions are read at once.
const BATCH: usize = 500;

/// Checks the drivers who serve an order.
pub struct DriverLivenessMonitor {
    context: Arc<Context>,
    live: LiveStore,
    history: HistoryStore,
    settings: DriverLivenessSettings,
    /// Since when every check has seen the fleet.
    fleet_seen_from: Option<Instant>,
}

/// See `orders.driver_liveness_timeout` and `locations.ttl` in `config/waybill.toml`.
#[derive(Debug, Clone, Copy)]
pub struct DriverLivenessSettings {
    /// How long a driver who serves an order may be unseen.
    pub timeout: Duration,
    /// How long a fix is fresh. A history that is further behind cannot show who was seen.
    pub ttl: Duration,
}

impl DriverLivenessMonitor {
    /// A monitor of the drivers who serve the orders of `context`.
    pub fn new(
        context: Arc<Context>,
        live: LiveStore,
        history: HistoryStore,
        settings: DriverLivenessSettings,
    ) -> DriverLivenessMonitor {
        DriverLivenessMonitor {
            context,
            live,
            history,
            settings,
            fleet_seen_from: None,
        }
    }

    /// Checks until the service drains.
    pub async fn run(mut self) {
        let interval = (self.settings.timeout / 10).clamp(INTERVAL.0, INTERVAL.1);
        loop {
            tokio::select! {
                () = self.context.draining.cancelled() => return,
                () = tokio::time::sleep(interval) => {}
            }
            match self.check().await {
                Ok(()) => self.context.metrics.orders.driver_liveness_checked(),
                Err(error) => {
                    self.fleet_seen_from = None;
                    warn!(%error, "driver liveness cannot be checked");
                }
            }
        }
    }

    async fn check(&mut self) -> Result<(), StoreError> {
        self.live.check_writes().await?;
        let now = Timestamp::now();
        if !self.is_fleet_seen(now).await? {
            self.fleet_seen_from = None;
            return Ok(());
        }
        let seen_from = *self.fleet_seen_from.get_or_insert_with(Instant::now);
        if seen_from.elapsed() < self.settings.timeout {
            return Ok(());
        }
        let serving = self.context.store.serving_for(self.settings.timeout).await?;
        let mut unseen = Vec::new();
        for batch in serving.chunks(BATCH) {
            let names = self.unseen_among(batch, now).await?;
            unseen.extend(batch.iter().filter(|serving| names.contains(&serving.driver)));
        }
        if unseen.len() > UNSEEN_AT_ONCE_MAX && unseen.len() > serving.len() / 4 {
            warn!(
                unseen = unseen.len(),
                serving = serving.len(),
                "too many drivers disappeared at once, so none is unassigned"
            );
            return Ok(());
        }
        for ServingDriver { order, driver } in unseen {
            if let Err(error) = self.unassign(*order, driver).await {
                warn!(order_id = %order, %driver, %error, "unseen driver keeps the order for now");
            }
        }
        Ok(())
    }

    async fn unassign(&self, order: OrderId, driver: &DriverId) -> Result<(), StoreError> {
        let reason = ReleaseReason::Silent;
        let detail = format!("not seen for {} s", self.settings.timeout.as_secs_f64());
        // A completion, a cancellation or another unassignment may have come first.
        let unassigned = self
            .context
            .store
            .unassign_driver(&Scope::Everything, order, driver, reason, &detail)
            .await?;
        if let Unassigned::Searching(leased) = unassigned {
            info!(order_id = %order, %driver, "driver not seen, order is reassigned");
            self.context.metrics.orders.step("release", reason.as_str());
            self.context.resume(*leased);
        }
        Ok(())
    }

    /// Whether some position is fresh, and all fixes that are older than that are in the history.
    async fn is_fleet_seen(&self, now: Timestamp) -> Result<bool, StoreError> {
        for shard in self.live.keys().shards() {
            let cursor = self.history.read_cursor(&shard.events).await?;
            let waiting = self.live.read_events(shard, &cursor, 1).await?;
            let oldest = waiting.first().and_then(StreamEntry::added_at);
            if oldest.is_some_and(|at| now.duration_since(at) > signed(self.settings.ttl)) {
                return Ok(false);
            }
        }
        self.live.is_any_driver_fresh(now).await
    }

    /// The drivers whose last fix is neither fresh nor in the history within the timeout.
    async fn unseen_among(&self, serving: &[ServingDriver], now: Timestamp) -> Result<HashSet<DriverId>, StoreError> {
        let drivers: Vec<DriverId> = serving.iter().map(|serving| serving.driver.clone()).collect();
        let latest = self.live.latest_of(&drivers, now).await?;
        let stale = drivers.into_iter().zip(latest).filter(|(_, fix)| fix.is_none());
        let stale: Vec<DriverId> = stale.map(|(driver, _)| driver).collect();
        let since = now
            .saturating_sub(signed(self.settings.timeout))
            .unwrap_or(Timestamp::MIN);
        let seen = self.context.store.seen_since(&stale, since).await?;
        Ok(stale.into_iter().filter(|driver| !seen.contains(driver)).collect())
    }
}

fn signed(duration: Duration) -> SignedDuration {
    SignedDuration::try_from(duration).unwrap_or(SignedDuration::MAX)
}
