//! Removes drivers that fell silent from the index, every second. Searches do not rely on it: they look at each
//! driver's last fix themselves. It keeps the index small, and the searches in crowded places quick.

use std::time::Duration;

use jiff::Timestamp;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use crate::storage::live::LiveStore;

const INTERVAL: Duration = Duration::from_secs(1);
/// Drivers a shard and second: one script that removes more would hold up everybody else on that Redis.
const BATCH: usize = 500;

/// Reaps until the service stops.
pub async fn run(live: LiveStore, stopping: CancellationToken) {
    loop {
        tokio::select! {
            () = stopping.cancelled() => return,
            () = tokio::time::sleep(INTERVAL) => {}
        }
        match live.reap(Timestamp::now(), BATCH).await {
            Ok(0) => {}
            Ok(reaped) => debug!(drivers = reaped, "silent drivers removed from the index"),
            Err(error) => warn!(%error, "cannot remove silent drivers"),
        }
    }
}
