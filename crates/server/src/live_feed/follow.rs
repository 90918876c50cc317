//! Follows one fleet: first the index as it is, then the stream of fixes from the entry before that on. So nothing is missed, and what
//! comes twice changes nothing: the newest fix of a driver counts, as in the index.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};
use waybill_domain::live::LiveMap;
use waybill_domain::tenant::Tenant;

use crate::storage::StoreError;
use crate::storage::keys::ShardKeys;
use crate::storage::live::LiveStore;
use crate::storage::orders::OrderStore;

/// How often the stream is read.
const READ_EVERY: Duration = Duration::from_millis(100);
/// Entries read at once.
const ENTRIES_MAX: usize = 1_000;
/// How often it is asked which drivers serve an order, and who is silent.
const TIDIED_EVERY: Duration = Duration::from_secs(1);
/// How long a fleet is followed after its last watcher left: one that comes back finds it.
const LINGERS: Duration = Duration::from_secs(30);
/// The rest after an error.
const REST: Duration = Duration::from_secs(1);

/// How a fleet is followed.
#[derive(Debug, Clone, Copy)]
pub struct FollowSettings {
    /// How long a fix counts as the driver's position.
    ttl: SignedDuration,
}

/// A fleet that is followed, for its follower and its watchers.
#[derive(Debug, Default)]
pub(super) struct Fleet {
    state: RwLock<State>,
    watchers: AtomicUsize,
    is_over: AtomicBool,
}

/// What is known of it.
#[derive(Debug, Default)]
pub(super) struct State {
    /// Where its drivers are.
    pub map: LiveMap,
    /// Grows each time that the map was made anew: what was known of it before says nothing.
    pub made: u64,
    /// When it was last known to be up to date; `None`: never.
    pub current_at: Option<Instant>,
}

/// A watcher of a fleet. While there is one, it is followed.
#[derive(Debug)]
pub(super) struct Watching(pub Arc<Fleet>);

/// Keeps a fleet up to date.
pub(super) struct Follower {
    live: LiveStore,
    orders: OrderStore,
    tenant: Tenant,
    settings: FollowSettings,
    fleet: Arc<Fleet>,
}

/// A stream that is read, and its last entry that was.
struct Stream {
    shard: ShardKeys,
    cursor: String,
}

/// How far reading on came.
enum Page {
    /// To the end.
    Last,
    /// There may be more.
    Full,
    /// Nowhere: what lies between was trimmed.
    Trimmed,
}

impl FollowSettings {
    /// With this time to live of fixes.
    pub fn of(ttl: Duration) -> FollowSettings {
        FollowSettings {
            ttl: SignedDuration::try_from(ttl).unwrap_or(SignedDuration::MAX),
        }
    }
}

impl Fleet {
    pub(super) fn read(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, State> {
        self.state.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether it is not followed any more.
    pub(super) fn is_over(&self) -> bool {
        self.is_over.load(Ordering::SeqCst)
    }
}

impl Watching {
    /// Counts one more watcher; `None`: the fleet is not followed any more.
    pub(super) fn begin(fleet: Arc<Fleet>) -> Option<Watching> {
        fleet.watchers.fetch_add(1, Ordering::SeqCst);
        let watching = Watching(fleet);
        // The follower looks at both in the other order.
        (!watching.0.is_over()).then_some(watching)
    }
}

impl Drop for Watching {
    fn drop(&mut self) {
        self.0.watchers.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Follower {
    pub(super) fn new(
        live: LiveStore,
        orders: OrderStore,
        tenant: Tenant,
        settings: FollowSettings,
        fleet: Arc<Fleet>,
    ) -> Follower {
        Follower {
            live,
            orders,
            tenant,
            settings,
            fleet,
        }
    }

    /// Follows the fleet until a while after its last watcher left.
    pub(super) async fn run(self, stopping: CancellationToken) {
        let mut watched_at = Instant::now();
        let mut streams = None;
        let mut tidied_at: Option<Instant> = None;
        while !stopping.is_cancelled() {
            if self.fleet.watchers.load(Ordering::SeqCst) > 0 {
                watched_at = Instant::now();
            } else if watched_at.elapsed() >= LINGERS && self.is_left() {
                return;
            }
            let pause = match self.round(&mut streams, &mut tidied_at).await {
                Ok(pause) => pause,
                Err(error) => {
                    // Its guard counts it, and has it in the log.
                    debug!(tenant = %self.tenant, %error, "a fleet cannot be followed");
                    REST
                }
            };
            tokio::select! {
                () = stopping.cancelled() => {}
                () = tokio::time::sleep(pause) => {}
            }
        }
        self.fleet.is_over.store(true, Ordering::SeqCst);
    }

    /// Ends it, unless a watcher came meanwhile.
    fn is_left(&self) -> bool {
        self.fleet.is_over.store(true, Ordering::SeqCst);
        if self.fleet.watchers.load(Ordering::SeqCst) == 0 {
            return true;
        }
        self.fleet.is_over.store(false, Ordering::SeqCst);
        false
    }

    /// Brings it up to date; how long to wait for the next time.
    async fn round(
        &self,
        streams: &mut Option<Vec<Stream>>,
        tidied_at: &mut Option<Instant>,
    ) -> Result<Duration, StoreError> {
        let known = if let Some(known) = streams {
            known
        } else {
            *tidied_at = None;
            streams.insert(self.make().await?)
        };
        let mut has_more = false;
        for stream in known {
            match self.read_on(stream).await? {
                Page::Last => {}
                Page::Full => has_more = true,
                // The fleet is read as a whole again.
                Page::Trimmed => {
                    warn!(tenant = %self.tenant, "the feed fell behind the stream of fixes, and begins anew");
                    *streams = None;
                    return Ok(Duration::ZERO);
                }
            }
        }
        if tidied_at.is_none_or(|at| at.elapsed() >= TIDIED_EVERY) {
            self.tidy().await;
            *tidied_at = Some(Instant::now());
        }
        if has_more {
            return Ok(Duration::ZERO);
        }
        self.fleet.write().current_at = Some(Instant::now());
        Ok(READ_EVERY)
    }

    /// Reads the index, and makes the map anew. First where the streams end: what comes meanwhile is read from there.
    async fn make(&self) -> Result<Vec<Stream>, StoreError> {
        let mut streams = Vec::new();
        for shard in self.live.keys().shards_of(&self.tenant) {
            let last = self.live.events_ends(shard).await?.map(|(_, last)| last);
            streams.push(Stream {
                shard: shard.clone(),
                cursor: last.unwrap_or_else(|| "0-0".to_owned()),
            });
        }
        let mut map = LiveMap::default();
        for stream in &streams {
            let mut from = None;
            loop {
                let page = self.live.indexed_drivers(&stream.shard, from).await?;
                let now = Timestamp::now();
                let fixes = self.live.latest_of(&page.drivers, now).await?;
                for fix in fixes.into_iter().flatten() {
                    map.apply(fix, now);
                }
                from = page.next;
                if from.is_none() {
                    break;
                }
            }
        }
        let mut state = self.fleet.write();
        state.map = map;
        state.made += 1;
        Ok(streams)
    }

    /// Applies the next entries of a stream.
    async fn read_on(&self, stream: &mut Stream) -> Result<Page, StoreError> {
        let entries = self
            .live
            .read_events(&stream.shard, &stream.cursor, ENTRIES_MAX)
            .await?;
        let is_full = entries.len() >= ENTRIES_MAX;
        let Some(last) = entries.last().map(|entry| entry.id.clone()) else {
            return Ok(Page::Last);
        };
        // Who reads page after page is behind, and may be behind what is kept.
        if is_full && self.is_trimmed(stream).await? {
            return Ok(Page::Trimmed);
        }
        stream.cursor = last;
        let now = Timestamp::now();
        let since = now.saturating_sub(self.settings.ttl).unwrap_or(Timestamp::MIN);
        let mut state = self.fleet.write();
        for fix in entries.into_iter().filter_map(|entry| entry.fix.ok()) {
            if fix.recorded_at >= since {
                state.map.apply(fix, now);
            }
        }
        Ok(if is_full { Page::Full } else { Page::Last })
    }

    /// Whether the stream begins after the cursor.
    async fn is_trimmed(&self, stream: &Stream) -> Result<bool, StoreError> {
        let ends = self.live.events_ends(&stream.shard).await?;
        Ok(ends.is_some_and(|(first, _)| parts(&first) > parts(&stream.cursor)))
    }

    /// Who serves an order now, and who is silent. Without Postgres it is not known who serves: what was known stays, and positions go on.
    async fn tidy(&self) {
        let serving = self.orders.serving(&self.tenant).await;
        let serving = serving.inspect_err(|error| debug!(tenant = %self.tenant, %error, "who serves is not known"));
        let now = Timestamp::now();
        let before = |span: SignedDuration| now.saturating_sub(span).unwrap_or(Timestamp::MIN);
        let (fresh_since, known_since) = (before(self.settings.ttl), before(2 * self.settings.ttl));
        let mut state = self.fleet.write();
        if let Ok(serving) = serving {
            state.map.set_serving(&serving);
        }
        state.map.expire(fresh_since, known_since, now);
    }
}

/// The id of an entry as it is ordered: its milliseconds, and its number within them.
fn parts(id: &str) -> (u64, u64) {
    let (millis, number) = id.split_once('-').unwrap_or((id, "0"));
    (millis.parse().unwrap_or(0), number.parse().unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_ordered_as_numbers() {
        assert!(parts("1795348061741-10") > parts("1795348061741-9"));
        assert!(parts("999-1") < parts("1000-0"));
        assert_eq!(parts("0-0"), (0, 0));
    }

    #[test]
    fn a_fleet_that_is_over_is_not_watched_any_more() {
        let fleet = Arc::new(Fleet::default());
        let watching = Watching::begin(Arc::clone(&fleet)).unwrap();
        assert_eq!(fleet.watchers.load(Ordering::SeqCst), 1);
        drop(watching);
        fleet.is_over.store(true, Ordering::SeqCst);
        assert!(Watching::begin(Arc::clone(&fleet)).is_none());
        assert_eq!(fleet.watchers.load(Ordering::SeqCst), 0);
    }
}
