//! Gathers fixes into batches: while one batch is on its way to disk, the next one fills. So one write of the disk is
//! shared by all who wait, and no one waits for a timer.

use std::sync::Arc;

use jiff::Timestamp;
use thiserror::Error;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::warn;
use waybill_domain::fix::Fix;

use super::LocationSettings;
use super::buffer_shares::BufferShares;
use crate::metrics::Metrics;
use crate::storage::live::{LiveStore, Stored};

/// Why fixes were not stored. They may be sent again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum IngestError {
    /// The stream holds as many fixes as it may: the history is behind. Where the drivers are is known.
    #[error("the buffer of fixes is full")]
    Full,
    /// The history is behind, and this caller has as much of the stream as one may have then.
    #[error("the buffer of fixes fills up, and holds as many of this caller as it may")]
    ShareTaken,
    /// Redis did not confirm them. They may be stored all the same; a second copy changes nothing.
    #[error("the live store is not available")]
    Unavailable,
    /// The server stops.
    #[error("the server is draining")]
    Draining,
}

/// Takes fixes in.
#[derive(Clone)]
pub struct Ingest {
    shards: Arc<[mpsc::Sender<Submission>]>,
    live: LiveStore,
    shares: Arc<BufferShares>,
    metrics: Arc<Metrics>,
}

struct Submission {
    fixes: Vec<Fix>,
    stored: oneshot::Sender<Result<(), IngestError>>,
}

impl Ingest {
    /// Starts one batcher a shard on `tasks`. They end when `stopping` is cancelled: a connection that a client holds
    /// open holds a clone of this, so they cannot wait for the last one.
    pub fn start(
        live: LiveStore,
        metrics: Arc<Metrics>,
        settings: &LocationSettings,
        tasks: &TaskTracker,
        stopping: &CancellationToken,
    ) -> Ingest {
        let count = live.keys().shards().len();
        let buffer_shares = Arc::new(BufferShares::new(settings.buffer, count));
        let shards = (0..count)
            .map(|shard| {
                let (sender, receiver) = mpsc::channel(settings.queue_max);
                let batcher = Batcher {
                    shard,
                    receiver,
                    live: live.clone(),
                    shares: Arc::clone(&buffer_shares),
                    metrics: Arc::clone(&metrics),
                    batch_max: settings.batch_max,
                    stopping: stopping.clone(),
                };
                tasks.spawn(batcher.run());
                sender
            })
            .collect();
        Ingest {
            shards,
            live,
            shares: buffer_shares,
            metrics,
        }
    }

    /// Stores the fixes of this caller; returns when all of them are safe.
    pub async fn store(&self, caller: &str, fixes: Vec<Fix>) -> Result<(), IngestError> {
        let mut waiting = Vec::with_capacity(self.shards.len());
        let mut outcome = Ok(());
        for (shard, fixes) in self.by_shard(fixes) {
            if outcome.is_err() || !self.has_room(shard, caller, fixes.len() as u64).await {
                outcome = Err(IngestError::ShareTaken);
                self.refused(fixes.len());
                // Its drivers are found all the same.
                if let Err(error) = self.live.move_drivers(shard, &fixes, Timestamp::now()).await {
                    warn!(%error, fixes = fixes.len(), "drivers not moved");
                }
                continue;
            }
            let count = fixes.len() as u64;
            let (stored, answer) = oneshot::channel();
            let sender = self.shards.get(shard).ok_or(IngestError::Unavailable)?;
            // Full: this waits, and with it the caller's stream. That is the back pressure.
            if let Err(unsent) = sender.send(Submission { fixes, stored }).await {
                self.refused(unsent.0.fixes.len());
                self.shares.give_back(shard, caller, count);
                return Err(IngestError::Draining);
            }
            waiting.push((shard, count, answer));
        }
        for (shard, count, answer) in waiting {
            let stored = answer.await.map_err(|_| IngestError::Draining).flatten();
            if stored.is_err() {
                self.shares.give_back(shard, caller, count);
            }
            outcome = outcome.and(stored);
        }
        outcome
    }

    /// Whether so many fixes are within the caller's share of the buffer.
    async fn has_room(&self, shard: usize, caller: &str, fixes: u64) -> bool {
        if self.shares.take(shard, caller, fixes) {
            return true;
        }
        if let Some(keys) = self.live.keys().shards().get(shard)
            && self.shares.is_unknown(shard, Instant::now())
            && let Ok(length) = self.live.events_len(keys).await
        {
            self.shares.note(shard, length);
        }
        self.shares.take(shard, caller, fixes)
    }

    /// Counts a fix that can never be stored.
    pub fn rejected(&self, reason: &'static str) {
        self.metrics.locations.rejected(reason, 1);
    }

    /// Counts fixes that were turned away before they came here, to be sent again.
    pub fn refused(&self, fixes: usize) {
        self.metrics.locations.refused(fixes as u64);
    }

    /// Counts messages of drivers whose clocks seem to be off.
    pub fn clocks_off(&self, drivers: usize) {
        self.metrics.locations.clocks_off(drivers as u64);
    }

    fn by_shard(&self, fixes: Vec<Fix>) -> Vec<(usize, Vec<Fix>)> {
        if self.shards.len() == 1 {
            return if fixes.is_empty() { Vec::new() } else { vec![(0, fixes)] };
        }
        let mut shards: Vec<(usize, Vec<Fix>)> = (0..self.shards.len()).map(|shard| (shard, Vec::new())).collect();
        for fix in fixes {
            let shard = self.live.keys().shard_of(&fix.driver);
            if let Some((_, fixes)) = shard.and_then(|shard| shards.get_mut(shard)) {
                fixes.push(fix);
            }
        }
        shards.retain(|(_, fixes)| !fixes.is_empty());
        shards
    }
}

struct Batcher {
    shard: usize,
    receiver: mpsc::Receiver<Submission>,
    live: LiveStore,
    shares: Arc<BufferShares>,
    metrics: Arc<Metrics>,
    batch_max: usize,
    stopping: CancellationToken,
}

impl Batcher {
    async fn run(mut self) {
        while let Some(first) = self.next().await {
            let mut fixes = first.fixes;
            let mut waiting = vec![first.stored];
            while fixes.len() < self.batch_max
                && let Ok(next) = self.receiver.try_recv()
            {
                fixes.extend(next.fixes);
                waiting.push(next.stored);
            }
            let result = self.store(&fixes).await;
            for stored in waiting {
                // A caller that hung up meanwhile misses it.
                let _ = stored.send(result);
            }
        }
    }

    async fn next(&mut self) -> Option<Submission> {
        tokio::select! {
            biased;
            next = self.receiver.recv() => next,
            () = self.stopping.cancelled() => {
                // Closed, it still gives what was submitted before.
                self.receiver.close();
                self.receiver.recv().await
            }
        }
    }

    async fn store(&self, fixes: &[Fix]) -> Result<(), IngestError> {
        let count = fixes.len() as u64;
        match self.live.store(self.shard, fixes, Timestamp::now()).await {
            Ok(Stored::Yes { foreign, length }) => {
                self.shares.note(self.shard, length);
                self.metrics.locations.stored(count);
                self.metrics.locations.foreign_keys(foreign);
                Ok(())
            }
            Ok(Stored::Full) => {
                self.metrics.locations.refused(count);
                Err(IngestError::Full)
            }
            Err(error) => {
                warn!(%error, fixes = count, "fixes not stored");
                self.metrics.locations.refused(count);
                Err(IngestError::Unavailable)
            }
        }
    }
}
