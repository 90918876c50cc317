//! Stale-driver eviction: removes drivers whose last fix is too old from the index, every second. Searches do not rely on
//! it: they check each driver's last fix themselves. It keeps the index small, and the searches in crowded places quick.

use std::time::Duration;

use jiff::Timestamp;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use crate::storage::live::LiveStore;

const INTERVAL: Duration = Duration::from_secs(1);
/// Drivers a shard and second: one script that removes more would block everything else on that Redis.
const BATCH: usize = 500;

/// Evicts until the service stops.
pub async fn run(live: LiveStore, stopping: CancellationToken) {
    loop {
        tokio::select! {
            () = stopping.cancelled() => return,
            () = tokio::time::sleep(INTERVAL) => {}
        }
        match live.evict_stale(Timestamp::now(), BATCH).await {
            Ok(0) => {}
            Ok(evicted) => debug!(drivers = evicted, "stale drivers evicted from the index"),
            Err(error) => warn!(%error, "stale drivers cannot be evicted"),
        }
    }
}
