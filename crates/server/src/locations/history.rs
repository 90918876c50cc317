//! Moves the stream of fixes into Postgres.
//!
//! Per shard: read the entries after the cursor, insert the rows and move the cursor in one commit, then trim the
//! stream behind it. A crash anywhere repeats a read at most, and the rows' key removes the repeats. A reader group
//! would keep a second truth of what was read, in a store that may forget: see docs/adr.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use jiff::civil::Date;
use jiff::{Timestamp, ToSpan as _};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};
use waybill_domain::fix::Fix;

use super::Settings;
use crate::metrics::Metrics;
use crate::storage::StoreError;
use crate::storage::history::{HistoryStore, Written, day_of};
use crate::storage::keys::ShardKeys;
use crate::storage::live::{LiveStore, StreamEntry};

/// How long a writer rests after an error, or while another instance is the writer.
const REST: Duration = Duration::from_secs(1);

/// Writes the history of one shard.
pub struct HistoryWriter {
    live: LiveStore,
    history: HistoryStore,
    metrics: Arc<Metrics>,
    settings: Settings,
    shard: ShardKeys,
    /// Days whose partition is known to exist.
    days: BTreeSet<Date>,
    /// The last id and the length of each batch that is stored and still in the stream, the oldest first. `None`: not
    /// known, since another writer was here before.
    stored: Option<VecDeque<(String, u64)>>,
}

/// How a round went.
enum Round {
    /// There may be more.
    Busy,
    /// Nothing more for now.
    CaughtUp,
    /// Another instance writes this stream.
    NotOurs,
}

impl HistoryWriter {
    /// A writer for one shard.
    pub fn new(
        live: LiveStore,
        history: HistoryStore,
        metrics: Arc<Metrics>,
        settings: Settings,
        shard: ShardKeys,
    ) -> HistoryWriter {
        HistoryWriter {
            live,
            history,
            metrics,
            settings,
            shard,
            days: BTreeSet::new(),
            stored: None,
        }
    }

    /// Writes until the service stops; then until the stream is written, so that a stopped service leaves no backlog.
    pub async fn run(mut self, stopping: CancellationToken) {
        let mut dropped_on = None;
        loop {
            let pause = match self.round().await {
                Ok(Round::Busy) => Duration::ZERO,
                Ok(Round::CaughtUp | Round::NotOurs) | Err(_) if stopping.is_cancelled() => break,
                Ok(Round::CaughtUp) => self.settings.history_poll,
                Ok(Round::NotOurs) => REST,
                Err(error) => {
                    warn!(stream = self.shard.events, %error, "history not written");
                    REST
                }
            };
            let today = day_of(Timestamp::now());
            if dropped_on != Some(today) {
                self.drop_old_days(today).await;
                dropped_on = Some(today);
            }
            tokio::select! {
                () = stopping.cancelled() => {}
                () = tokio::time::sleep(pause) => {}
            }
        }
        if let Err(error) = self.history.yield_cursor(&self.shard.events).await {
            warn!(stream = self.shard.events, %error, "the history's lease is left to run out");
        }
    }

    async fn round(&mut self) -> Result<Round, StoreError> {
        let Some(cursor) = self.history.claim_cursor(&self.shard.events).await? else {
            self.stored = None;
            return Ok(Round::NotOurs);
        };
        if self.stored.is_none() {
            self.stored = Some(self.count_stored(&cursor).await?);
        }
        let entries = self
            .live
            .read_events(&self.shard, &cursor, self.settings.history_batch_max)
            .await?;
        let Some(last) = entries.last().map(|entry| entry.id.clone()) else {
            self.metrics.locations.history_lag(0);
            return Ok(Round::CaughtUp);
        };
        let full = entries.len() >= self.settings.history_batch_max;
        let read = entries.len() as u64;

        let fixes = readable(entries);
        self.ensure_partitions(&fixes).await?;
        match self.history.write(&self.shard.events, &cursor, &last, &fixes).await? {
            Written::CursorMoved => {
                self.stored = None;
                return Ok(Round::NotOurs);
            }
            Written::Yes { inserted } => self.metrics.locations.history_stored(inserted),
        }
        self.trim(last, read).await?;
        if !full {
            self.metrics.locations.history_lag(0);
            return Ok(Round::CaughtUp);
        }
        let stored: u64 = self.stored.iter().flatten().map(|(_, count)| count).sum();
        let length = self.live.events_len(&self.shard).await?;
        self.metrics.locations.history_lag(length.saturating_sub(stored));
        Ok(Round::Busy)
    }

    /// What the writers before this one left in the stream: it is stored, and must be trimmed some day too.
    async fn count_stored(&self, cursor: &str) -> Result<VecDeque<(String, u64)>, StoreError> {
        let mut stored = VecDeque::new();
        let mut after: Option<String> = None;
        loop {
            let entries = self
                .live
                .read_events_until(&self.shard, after.as_deref(), cursor, self.settings.history_batch_max)
                .await?;
            let Some(last) = entries.last() else { return Ok(stored) };
            after = Some(last.id.clone());
            stored.push_back((last.id.clone(), entries.len() as u64));
        }
    }

    async fn ensure_partitions(&mut self, fixes: &[Fix]) -> Result<(), StoreError> {
        let new: BTreeSet<Date> = fixes
            .iter()
            .map(|fix| day_of(fix.recorded_at))
            .filter(|day| !self.days.contains(day))
            .collect();
        if !new.is_empty() {
            self.history.ensure_partitions(&new).await?;
            self.days.extend(new);
        }
        Ok(())
    }

    /// Keeps the newest `keep_stored` entries that are stored, and never touches one that is not.
    async fn trim(&mut self, last: String, count: u64) -> Result<(), StoreError> {
        let stored = self.stored.get_or_insert_default();
        stored.push_back((last, count));
        let mut kept: u64 = stored.iter().map(|(_, count)| count).sum();
        let mut first_kept = None;
        while let Some((id, count)) = stored.front()
            && kept - count >= self.settings.keep_stored
        {
            kept -= count;
            first_kept = Some(id.clone());
            stored.pop_front();
        }
        if let Some(first_kept) = first_kept {
            self.live.trim_events(&self.shard, &first_kept).await?;
        }
        Ok(())
    }

    async fn drop_old_days(&mut self, today: Date) {
        let Ok(first_kept) = today.checked_sub(self.settings.retention_days.days()) else {
            return;
        };
        match self.history.drop_partitions_before(first_kept).await {
            Ok(dropped) if dropped.is_empty() => {}
            Ok(dropped) => info!(partitions = dropped.join(", "), "old history dropped"),
            Err(error) => warn!(%error, "old history not dropped"),
        }
        self.days.retain(|day| *day >= first_kept);
    }
}

/// The fixes in the entries. What is not a fix was not acknowledged by us: it is passed over, and said so.
fn readable(entries: Vec<StreamEntry>) -> Vec<Fix> {
    entries
        .into_iter()
        .filter_map(|entry| match entry.fix {
            Ok(fix) => Some(fix),
            Err(error) => {
                error!(id = entry.id, %error, "an entry of the stream is not a fix");
                None
            }
        })
        .collect()
}
