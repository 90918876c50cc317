//! Follows one fleet: first the index as it is, then the stream of fixes, from some seconds before that on. So nothing is missed, and
//! what comes twice changes nothing: the newest fix of a driver counts, as in the index.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};
use waybill_domain::duty::Duty;
use waybill_domain::fix::{Freshness, LatestFix};
use waybill_domain::id::DriverId;
use waybill_domain::live::LiveMap;
use waybill_domain::tenant::Tenant;

use super::cursor::Moments;
use super::fleet::{Fleet, Following};
use crate::storage::StoreError;
use crate::storage::keys::ShardKeys;
use crate::storage::live::{LiveStore, entry_order};
use crate::storage::orders::OrderStore;

/// How often the stream is read.
const READ_EVERY: Duration = Duration::from_millis(100);
/// Entries read at once.
const ENTRIES_MAX: usize = 1_000;
/// After such a pause what is next may be trimmed.
const LATE_AFTER: Duration = Duration::from_secs(1);
/// How long before its end the stream is read from: where a driver is now is written just after its entry, if that succeeds.
const BEGINS_BEFORE_MS: u64 = 5_000;
/// How often it is asked which drivers serve an order, who is silent, and whether the streams are still those that are read.
const TIDIED_EVERY: Duration = Duration::from_secs(1);
/// Drivers in one statement.
const DRIVERS_MAX: usize = 1_000;
/// How long before the last look a duty may have been changed that was not seen then: its statement had not ended.
const CHANGED_BEFORE: Duration = Duration::from_secs(10);
/// How long a fleet is followed after its last watcher left: one that comes back finds it.
const LINGERS: Duration = Duration::from_secs(30);
/// The rest after an error, and before the index is read as a whole again.
const REST: Duration = Duration::from_secs(1);

/// Keeps a fleet up to date.
pub(super) struct Follower {
    live: LiveStore,
    orders: OrderStore,
    tenant: Tenant,
    freshness: Freshness,
    fleet: Arc<Fleet>,
}

/// A stream that is read.
struct Stream {
    shard: ShardKeys,
    /// After which entry.
    cursor: String,
    /// Whether that is one that was read, and not a time.
    is_entry: bool,
    read_at: Instant,
    /// When it was last read to its end: what comes after the cursor arrived later.
    ended_at: Option<Timestamp>,
}

/// How far reading on came.
enum Page {
    /// To the end.
    Last,
    /// There may be more.
    Full,
    /// Nowhere: what lies between was trimmed, or it is another stream.
    Broken,
}

impl Follower {
    pub(super) fn new(
        live: LiveStore,
        orders: OrderStore,
        tenant: Tenant,
        freshness: Freshness,
        fleet: Arc<Fleet>,
    ) -> Follower {
        Follower {
            live,
            orders,
            tenant,
            freshness,
            fleet,
        }
    }

    /// Follows the fleet until a while after its last watcher left.
    pub(super) async fn run(self, stopping: CancellationToken) {
        let _following = Following(Arc::clone(&self.fleet));
        // Apart: a Postgres that is slow holds up no position.
        tokio::select! {
            () = self.follow_positions() => {}
            () = self.follow_orders() => {}
            () = self.follow_duty() => {}
            () = self.expire_silent() => {}
            () = stopping.cancelled() => {}
        }
    }

    async fn follow_positions(&self) {
        let mut watched_at = Instant::now();
        let mut streams = None;
        let mut checked_at = Instant::now();
        loop {
            if self.fleet.is_watched() {
                watched_at = Instant::now();
            } else if watched_at.elapsed() >= LINGERS && self.fleet.is_left() {
                return;
            }
            let pause = match self.round(&mut streams, &mut checked_at).await {
                Ok(pause) => pause,
                Err(error) => {
                    // Its guard counts it, and has it in the log.
                    debug!(tenant = %self.tenant, %error, "a fleet cannot be followed");
                    REST
                }
            };
            sleep(pause).await;
        }
    }

    /// Brings it up to date; how long to wait for the next time.
    async fn round(&self, streams: &mut Option<Vec<Stream>>, checked_at: &mut Instant) -> Result<Duration, StoreError> {
        let known = if let Some(known) = streams {
            known
        } else {
            streams.insert(self.make().await?)
        };
        let begun_at = Timestamp::now();
        let is_due = checked_at.elapsed() >= TIDIED_EVERY;
        let mut has_more = false;
        for stream in known {
            let page = if is_due && self.is_another(stream).await? {
                Page::Broken
            } else {
                self.read_on(stream).await?
            };
            match page {
                Page::Last => {}
                Page::Full => has_more = true,
                // The fleet is read as a whole again.
                Page::Broken => {
                    warn!(tenant = %self.tenant, "the feed lost the stream of fixes, and begins anew");
                    *streams = None;
                    return Ok(REST);
                }
            }
        }
        if is_due {
            *checked_at = Instant::now();
        }
        if has_more {
            return Ok(Duration::ZERO);
        }
        let mut state = self.fleet.write();
        (state.current_at, state.streams_at) = (Some(Instant::now()), Some(begun_at));
        let version = state.map.version();
        state.moments.keep(Timestamp::now(), version);
        Ok(READ_EVERY)
    }

    /// Reads the index, and makes the map anew. First where the streams end: what comes meanwhile is read from there.
    async fn make(&self) -> Result<Vec<Stream>, StoreError> {
        let mut streams = Vec::new();
        for shard in self.live.keys().shards_of(&self.tenant) {
            let last = self.live.events_ends(shard).await?;
            let last_ms = last.map_or(0, |(_, last)| entry_order(&last).0);
            streams.push(Stream {
                shard: shard.clone(),
                cursor: format!("{}-0", last_ms.saturating_sub(BEGINS_BEFORE_MS)),
                is_entry: false,
                read_at: Instant::now(),
                ended_at: None,
            });
        }
        let mut map = LiveMap::default();
        for stream in &streams {
            let mut from = None;
            loop {
                let page = self.live.indexed_drivers(&stream.shard, from).await?;
                let now = Timestamp::now();
                for latest in self.latest_of(&page.drivers, now).await? {
                    map.apply(latest, now);
                }
                from = page.next;
                if from.is_none() {
                    break;
                }
            }
        }
        let mut state = self.fleet.write();
        map.set_serving(state.map.serving().clone());
        map.copy_duty(&state.map);
        let before = std::mem::replace(&mut state.map, map);
        state.made += 1;
        state.moments = Moments::default();
        drop(state);
        // Not while watchers wait to look.
        drop(before);
        Ok(streams)
    }

    /// The fresh ones of their latest fixes. One that cannot be read hides no other.
    async fn latest_of(&self, drivers: &[DriverId], now: Timestamp) -> Result<Vec<LatestFix>, StoreError> {
        let all = match self.live.latest_of(drivers, now).await {
            Err(StoreError::Unexpected(_)) => {
                let mut readable = Vec::new();
                for driver in drivers {
                    match self.live.latest(driver, now).await {
                        Err(StoreError::Unexpected(_)) => {}
                        latest => readable.push(latest?),
                    }
                }
                readable
            }
            all => all?,
        };
        Ok(all.into_iter().flatten().collect())
    }

    /// Applies the next entries of a stream.
    async fn read_on(&self, stream: &mut Stream) -> Result<Page, StoreError> {
        let cursor = &stream.cursor;
        let asked_at = Timestamp::now();
        let entries = self.live.read_events(&stream.shard, cursor, ENTRIES_MAX).await?;
        let is_full = entries.len() >= ENTRIES_MAX;
        let is_late = stream.read_at.elapsed() >= LATE_AFTER;
        // Who is behind may be behind what is kept.
        if stream.is_entry && (is_full || is_late && !entries.is_empty()) && self.is_trimmed(stream).await? {
            return Ok(Page::Broken);
        }
        stream.read_at = Instant::now();
        let arrived_after = stream.ended_at;
        stream.ended_at = (!is_full).then_some(asked_at);
        let Some(last) = entries.last().map(|entry| entry.id.clone()) else {
            return Ok(Page::Last);
        };
        (stream.cursor, stream.is_entry) = (last, true);
        let now = Timestamp::now();
        let since = self.freshness.since(now);
        let mut state = self.fleet.write();
        for entry in entries {
            // By the clock of Redis, which may be ahead or behind.
            let arrived_at = entry.added_at().max(arrived_after).map_or(now, |at| at.min(now));
            let Ok(fix) = entry.fix else { continue };
            if arrived_at >= since && self.freshness.is_live(fix.recorded_at, arrived_at) {
                state.map.apply(LatestFix { fix, arrived_at }, now);
            }
        }
        Ok(if is_full { Page::Full } else { Page::Last })
    }

    /// Whether the stream begins after the last entry that was read.
    async fn is_trimmed(&self, stream: &Stream) -> Result<bool, StoreError> {
        let ends = self.live.events_ends(&stream.shard).await?;
        Ok(ends.is_some_and(|(first, _)| entry_order(&first) > entry_order(&stream.cursor)))
    }

    /// Whether it ends before what was read: a Redis that took over, or came back from a copy, and whose clock is behind.
    async fn is_another(&self, stream: &Stream) -> Result<bool, StoreError> {
        let ends = self.live.events_ends(&stream.shard).await?;
        let is_before = |last: &str| entry_order(last) < entry_order(&stream.cursor);
        // The last entry may have been erased with its driver: the stream remembers that there was one.
        Ok(ends.is_some_and(|(_, last)| is_before(&last)) && is_before(&self.live.last_event(&stream.shard).await?))
    }

    /// Who serves an order now. While Postgres does not say, what was known stays, and positions go on.
    async fn follow_orders(&self) {
        loop {
            let begun_at = Timestamp::now();
            match self.orders.serving(&self.tenant).await {
                Ok(serving) => {
                    let mut state = self.fleet.write();
                    state.map.set_serving(serving);
                    state.serving_at = Some(begun_at);
                }
                Err(error) => debug!(tenant = %self.tenant, %error, "who serves an order is not known"),
            }
            sleep(TIDIED_EVERY).await;
        }
    }

    /// Who is off duty: asked of those who came, and of those whose duty changed. While Postgres does not say, what was known stays.
    async fn follow_duty(&self) {
        let mut asked_at = Instant::now();
        loop {
            let newcomers = {
                let mut state = self.fleet.write();
                (state.made > 0).then(|| state.map.take_newcomers(DRIVERS_MAX))
            };
            // Not before it is known who is there.
            let Some(newcomers) = newcomers else {
                sleep(READ_EVERY).await;
                continue;
            };
            let is_full = newcomers.len() >= DRIVERS_MAX;
            let (begun_at, now) = (Instant::now(), Timestamp::now());
            let duties = self.read_duty(&newcomers, asked_at.elapsed()).await;
            let has_failed = duties.is_err();
            match duties {
                Ok(duties) => {
                    asked_at = begun_at;
                    let mut state = self.fleet.write();
                    if !is_full {
                        state.duty_at = Some(now);
                    }
                    for (driver, duty) in duties {
                        state.map.set_off_duty(&driver, !duty.is_on);
                    }
                }
                Err(error) => {
                    debug!(tenant = %self.tenant, %error, "who is off duty is not known");
                    self.fleet.write().map.put_back(newcomers);
                }
            }
            if !is_full || has_failed {
                sleep(TIDIED_EVERY).await;
            }
        }
    }

    async fn read_duty(
        &self,
        newcomers: &[DriverId],
        asked_before: Duration,
    ) -> Result<HashMap<DriverId, Duty>, StoreError> {
        let mut duties = self.orders.duty_of(newcomers).await?;
        let changed = self
            .orders
            .duty_changed(&self.tenant, asked_before + CHANGED_BEFORE)
            .await?;
        duties.extend(changed);
        Ok(duties)
    }

    /// Who is silent is gone, also while nothing can be read.
    async fn expire_silent(&self) {
        loop {
            sleep(TIDIED_EVERY).await;
            let now = Timestamp::now();
            let fresh_since = self.freshness.since(now);
            let known_since = self.freshness.since(fresh_since);
            let mut state = self.fleet.write();
            state.map.expire(fresh_since, known_since, now);
            state.silence_at = Some(now);
        }
    }
}
