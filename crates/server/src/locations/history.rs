//! Moves the stream of fixes into Postgres.
//!
//! Per shard: read the entries after the cursor, insert the rows and move the cursor in one commit, then trim the
//! stream behind it. A crash anywhere repeats a read at most, and the rows' key removes the repeats. A reader group
//! would keep a second record of what was read, in a store that may lose it: see docs/adr.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use jiff::civil::Date;
use jiff::{Timestamp, ToSpan as _};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, info, warn};
use waybill_domain::fix::Fix;

use super::LocationSettings;
use crate::metrics::Metrics;
use crate::storage::StoreError;
use crate::storage::history::{HistoryStore, Written, day_of};
use crate::storage::keys::ShardKeys;
use crate::storage::live::{BEGINNING, LiveStore, ReadOn, StreamEntry, StreamState, entry_order};

/// How long a writer rests after an error, or while another instance is the writer.
const REST: Duration = Duration::from_secs(1);
/// Entries that a batch should hold while the stream keeps up: a large one takes a processor and the disk from those who wait for their
/// acknowledgements.
const BATCH_AIM: f64 = 100.0;
/// How many times the pause may be shorter for that. Ten commits a second become fifty, and no more.
const HASTE_MAX: u32 = 5;
/// When to try again to make or drop days.
const DAYS_RETRY: Duration = Duration::from_mins(1);
/// How often a writer that stops claims a stream again.
const LAST_CLAIMS_MAX: u32 = 3;
/// How often the writer's lease of 5 s is kept.
const CLAIM_EVERY: Duration = Duration::from_secs(2);

/// Writes the history of one shard.
pub struct HistoryWriter {
    live: LiveStore,
    history: HistoryStore,
    metrics: Arc<Metrics>,
    settings: LocationSettings,
    shard: ShardKeys,
    /// Days whose partition is known to exist.
    days: BTreeSet<Date>,
    /// What this writer knows of the stream while it is its writer.
    held: Option<Held>,
    /// The last entry that it knew to be stored, and how many such entries were in the stream: also when it could write no more.
    last_stored: Option<(String, u64)>,
    /// Since when something is behind and nothing was written.
    behind_since: Option<Instant>,
    /// The last day on which the days were kept in order, and when that failed.
    kept_days_on: Option<Date>,
    days_failed_at: Option<Instant>,
}

/// A stream in the hands of this writer.
struct Held {
    /// When that was last confirmed. Between two claims a second writer would fail at the cursor: the lease spares
    /// work, the compare-and-set decides.
    claimed_at: Instant,
    /// Which Redis the stream is in.
    epoch: Option<String>,
    /// The last entry that is stored.
    cursor: String,
    /// Whether it was erased from the stream, as with the driver that it is of. Else it is there.
    is_cursor_erased: bool,
    /// The last id and the length of each batch that is stored and still in the stream, the oldest first.
    stored: VecDeque<(String, u64)>,
}

/// How a round went.
enum Round {
    /// There may be more.
    Busy,
    /// Nothing more for now, after so many entries.
    CaughtUp(usize),
    /// Another instance writes this stream.
    NotOurs,
    /// It is another stream now, or in another Redis, to which the next claim sees.
    Elsewhere,
}

impl Held {
    /// Entries that are stored and still in the stream.
    fn stored_len(&self) -> u64 {
        self.stored.iter().map(|(_, count)| count).sum()
    }
}

impl HistoryWriter {
    /// A writer for one shard.
    pub fn new(
        live: LiveStore,
        history: HistoryStore,
        metrics: Arc<Metrics>,
        settings: LocationSettings,
        shard: ShardKeys,
    ) -> HistoryWriter {
        HistoryWriter {
            live,
            history,
            metrics,
            settings,
            shard,
            days: BTreeSet::new(),
            held: None,
            last_stored: None,
            behind_since: None,
            kept_days_on: None,
            days_failed_at: None,
        }
    }

    /// Writes until the service stops; then until the stream is written, so that a stopped service leaves no backlog.
    pub async fn run(mut self, stopping: CancellationToken) {
        let mut read_at = Instant::now();
        // Once it stops: the stream may seem to be another one since a driver was erased, and no backlog is left for that.
        let mut claims_left = LAST_CLAIMS_MAX;
        loop {
            let gathered_for = read_at.elapsed();
            read_at = Instant::now();
            // Before the round: what comes while it runs may be behind what it reads.
            let is_last = stopping.is_cancelled();
            let pause = match self.round().await {
                Ok(Round::Busy) => Duration::ZERO,
                Ok(Round::Elsewhere) if is_last && claims_left > 0 => {
                    claims_left -= 1;
                    Duration::ZERO
                }
                Ok(Round::CaughtUp(_) | Round::NotOurs | Round::Elsewhere) if is_last => break,
                Err(error) if is_last => {
                    warn!(stream = self.shard.events, %error, "history not written to its end, which is left to the next server");
                    break;
                }
                Ok(Round::CaughtUp(entries)) => pause(entries, gathered_for, self.settings.history_poll),
                // Not at once: a proxy may lead to another one each time.
                Ok(Round::Elsewhere) => REST,
                Ok(Round::NotOurs) => {
                    self.last_stored = None;
                    // Its writer reports how far behind it is; two would contradict each other.
                    self.report_lag(0, Duration::ZERO);
                    REST
                }
                Err(error) => {
                    warn!(stream = self.shard.events, %error, "history not written");
                    if let Err(error) = self.report_backlog().await {
                        debug!(stream = self.shard.events, %error, "backlog of the history not known");
                    }
                    REST
                }
            };
            self.keep_days().await;
            tokio::select! {
                () = stopping.cancelled() => {}
                () = tokio::time::sleep(pause) => {}
            }
        }
        if let Err(error) = self.history.yield_cursor(&self.shard.events).await {
            warn!(stream = self.shard.events, %error, "history lease not returned, it runs out by itself");
        }
    }

    async fn round(&mut self) -> Result<Round, StoreError> {
        // Taken, and given back only when all went well: after an error the cursor is read again, for a commit whose
        // answer was lost may have moved it.
        let held = match self.held.take() {
            Some(held) if held.claimed_at.elapsed() < CLAIM_EVERY => held,
            earlier => match self.claim(earlier).await? {
                Some(held) => held,
                None => return Ok(Round::NotOurs),
            },
        };
        self.write_next(held).await
    }

    /// Takes or keeps the lease of the stream.
    async fn claim(&self, earlier: Option<Held>) -> Result<Option<Held>, StoreError> {
        let claimed_at = Instant::now();
        let Some((cursor, epoch)) = self.history.claim_cursor(&self.shard.events).await? else {
            return Ok(None);
        };
        // In this order: an entry that is erased in between is there, or known to be erased.
        let goes_on = self.live.read_on(&self.shard, &cursor, 0).await?.goes_on;
        let state = self.live.stream_state(&self.shard).await?;
        let reread = why_reread(&cursor, goes_on, epoch.as_deref(), &state);
        let from = match reread {
            // Entries that are in the history already are passed over by their key.
            Some(_) => BEGINNING.to_owned(),
            None => cursor.clone(),
        };
        if (reread.is_some() || epoch != state.epoch)
            && !self
                .history
                .set_epoch(&self.shard.events, &cursor, &from, state.epoch.as_deref())
                .await?
        {
            return Ok(None);
        }
        if let Some(reason) = reread {
            self.metrics.locations.history_reread(reason);
            warn!(
                stream = self.shard.events,
                reason,
                cursor,
                last = ?state.last_id,
                "stream of fixes read anew from its beginning"
            );
        }
        let stored = match earlier {
            Some(earlier) if earlier.cursor == from => earlier.stored,
            _ => self.count_stored(&from).await?,
        };
        Ok(Some(Held {
            claimed_at,
            epoch: state.epoch,
            is_cursor_erased: reread.is_none() && !goes_on,
            cursor: from,
            stored,
        }))
    }

    /// Writes the next batch, if there is one.
    async fn write_next(&mut self, mut held: Held) -> Result<Round, StoreError> {
        let batch_max = self.settings.history_batch_max;
        self.last_stored = Some((held.cursor.clone(), held.stored_len()));
        let ReadOn {
            entries,
            goes_on,
            epoch,
        } = self.live.read_on(&self.shard, &held.cursor, batch_max).await?;
        if epoch != held.epoch || !(goes_on || held.is_cursor_erased) {
            return Ok(Round::Elsewhere);
        }
        let Some(last) = entries.last().map(|entry| entry.id.clone()) else {
            self.report_lag(0, Duration::ZERO);
            self.held = Some(held);
            return Ok(Round::CaughtUp(0));
        };
        let read = entries.len();
        let mut fixes = readable(entries);
        // Of a stream that is read anew: days that were dropped stay dropped.
        let first_kept = day_of(Timestamp::now()).saturating_sub(self.settings.retention_days.days());
        fixes.retain(|fix| day_of(fix.recorded_at) >= first_kept);
        self.ensure_partitions(&fixes).await?;
        match self
            .history
            .write(&self.shard.events, &held.cursor, &last, &fixes)
            .await?
        {
            Written::CursorMoved => return Ok(Round::NotOurs),
            Written::Yes { inserted } => self.metrics.locations.history_written(inserted, fixes.len() as u64),
        }
        held.stored.push_back((last.clone(), read as u64));
        (held.cursor, held.is_cursor_erased) = (last, false);
        self.behind_since = None;
        self.trim(&mut held).await?;

        let full = read >= batch_max;
        self.last_stored = Some((held.cursor.clone(), held.stored_len()));
        if full {
            self.report_backlog().await?;
        } else {
            self.report_lag(0, Duration::ZERO);
        }
        self.held = Some(held);
        Ok(if full { Round::Busy } else { Round::CaughtUp(read) })
    }

    /// Tells how much is in the stream and not in the history: what is behind the cursor, as this writer last knew it. One that never knew it
    /// counts what comes from now on, which is behind at least.
    async fn report_backlog(&mut self) -> Result<(), StoreError> {
        let length = self.live.events_len(&self.shard).await?;
        let Some((cursor, stored)) = &self.last_stored else {
            let last_id = self.live.stream_state(&self.shard).await?.last_id;
            self.last_stored = last_id.map(|last_id| (last_id, length));
            return Ok(());
        };
        let next = self.live.read_on(&self.shard, cursor, 1).await?;
        let is_erased = async || {
            let state = self.live.stream_state(&self.shard).await?;
            Ok::<_, StoreError>(state.max_deleted_id.as_ref() == Some(cursor))
        };
        let (stored, first) = if next.goes_on || is_erased().await? {
            (*stored, next.entries)
        } else {
            // All of it is another stream.
            (0, self.live.read_events(&self.shard, BEGINNING, 1).await?)
        };
        if first.is_empty() {
            self.report_lag(0, Duration::ZERO);
            return Ok(());
        }
        let added_at = first.first().and_then(StreamEntry::added_at);
        let age = added_at.map(|added_at| Timestamp::now().duration_since(added_at));
        self.report_lag(
            length.saturating_sub(stored),
            age.and_then(|age| Duration::try_from(age).ok()).unwrap_or_default(),
        );
        Ok(())
    }

    /// `age` is by Redis's clock, which may be ahead of its time: it is at least for as long as this writer waits to write it.
    fn report_lag(&mut self, entries: u64, age: Duration) {
        let age = if entries == 0 {
            self.behind_since = None;
            Duration::ZERO
        } else {
            age.max(self.behind_since.get_or_insert_with(Instant::now).elapsed())
        };
        self.metrics.locations.history_lag(&self.shard.events, entries, age);
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
    async fn trim(&self, held: &mut Held) -> Result<(), StoreError> {
        let mut kept = held.stored_len();
        let mut first_kept = None;
        while let Some((id, count)) = held.stored.front()
            && kept - count >= self.settings.keep_stored
        {
            kept -= count;
            first_kept = Some(id.clone());
            held.stored.pop_front();
        }
        // Where it is another stream by now, the next read shows it.
        if let Some(first_kept) = first_kept {
            self.live.trim_events(&self.shard, &first_kept, &held.cursor).await?;
        }
        Ok(())
    }

    /// Once a day, as the stream's writer: makes the partitions of today and tomorrow, so that no long reader at
    /// midnight holds up the first fix of a day, and drops those that are older than they are kept.
    async fn keep_days(&mut self) {
        let today = day_of(Timestamp::now());
        let due = self.held.is_some() && self.kept_days_on != Some(today);
        if !due || self.days_failed_at.is_some_and(|at| at.elapsed() < DAYS_RETRY) {
            return;
        }
        match self.ensure_and_drop(today).await {
            Ok(()) => (self.kept_days_on, self.days_failed_at) = (Some(today), None),
            Err(error) => {
                warn!(%error, "partitions of the history not maintained");
                self.days_failed_at = Some(Instant::now());
            }
        }
    }

    async fn ensure_and_drop(&mut self, today: Date) -> Result<(), StoreError> {
        let tomorrow = today.saturating_add(1.day());
        self.history
            .ensure_partitions(&BTreeSet::from([today, tomorrow]))
            .await?;
        self.days.extend([today, tomorrow]);
        let first_kept = today.saturating_sub(self.settings.retention_days.days());
        let dropped = self.history.drop_partitions_before(first_kept).await?;
        if !dropped.is_empty() {
            info!(partitions = dropped.join(", "), "old history dropped");
        }
        self.days.retain(|day| *day >= first_kept);
        Ok(())
    }
}

/// Why a stream has to be read from its beginning, if it has to: it ends before the cursor, or lacks the entry at the cursor although that was not deleted,
/// or is in another Redis than the cursor is of, where entries may have been added before the cursor.
fn why_reread(cursor: &str, goes_on: bool, epoch: Option<&str>, state: &StreamState) -> Option<&'static str> {
    let ends_before = |last: &String| entry_order(last) < entry_order(cursor);
    // What is deleted is in the history, so none that was is behind the cursor.
    let is_erased = state.max_deleted_id.as_deref() == Some(cursor);
    if state.last_id.as_ref().is_some_and(ends_before) {
        return Some("lost");
    }
    match (epoch, state.epoch.as_deref()) {
        (Some(before), Some(now)) if before != now => Some("failed_over"),
        _ => (!goes_on && !is_erased).then_some("lost"),
    }
}

/// How long to wait for the next batch when the last one gathered for so long: `longest`, or less, for it to be no larger than it should be.
fn pause(entries: usize, gathered_for: Duration, longest: Duration) -> Duration {
    #[expect(clippy::cast_precision_loss, reason = "at most as many as are written at once")]
    let aim = gathered_for.mul_f64(BATCH_AIM / entries.max(1) as f64);
    aim.clamp(longest / HASTE_MAX, longest)
}

/// The fixes in the entries. What is not a fix was not acknowledged by us: it is passed over, and said so.
fn readable(entries: Vec<StreamEntry>) -> Vec<Fix> {
    entries
        .into_iter()
        .filter_map(|entry| match entry.fix {
            Ok(fix) => Some(fix),
            Err(error) => {
                error!(id = entry.id, %error, "stream entry is not a fix");
                None
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_that_fills_faster_is_read_more_often_within_bounds() {
        let ms = Duration::from_millis;
        for (entries, gathered_for, expected) in [
            (0, ms(100), ms(100)),
            (10, ms(100), ms(100)),
            (200, ms(100), ms(50)),
            (100, ms(50), ms(50)),
            (800, ms(100), ms(20)),
            (160, ms(20), ms(20)),
            (1, ms(20), ms(100)),
            (1, Duration::ZERO, ms(20)),
        ] {
            assert_eq!(
                pause(entries, gathered_for, ms(100)),
                expected,
                "{entries} in {gathered_for:?}"
            );
        }
    }
}
