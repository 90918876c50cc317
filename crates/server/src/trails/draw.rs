//! Draws the history, batch by batch, at whatever pace leaves Postgres to others: a pause follows each batch, and its
//! connections are from the callers' partition of the pool.
//!
//! One server draws at a time. As with the history's writer its lease only spares work: a batch and the cursor move in one
//! commit, and what is drawn twice is drawn once, since a pixel is a set.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};
use waybill_domain::trails::{Drawing, Drawn};

use super::first_day;
use crate::metrics::Metrics;
use crate::storage::StoreError;
use crate::storage::trails::{Added, Arrival, TrailCursor, TrailStore};

/// Fixes read at once, at most.
const BATCH_MAX: usize = 2_000;
/// Tiles of the finest zoom drawn at once, at most; with the coarser ones they are some hundred more.
const TILES_MAX: usize = 500;
/// Tiles whose parts are merged at once, at most.
const MERGED_MAX: usize = 32;
/// How long it waits when it has caught up, after an error, and while another server draws. Short enough for who looks on,
/// and long enough for a driver's next fixes to be of one part.
const PAUSE: Duration = Duration::from_secs(5);
/// How often old days are dropped.
const DROP_EVERY: Duration = Duration::from_hours(1);

/// Draws the history.
pub struct Drawer {
    store: TrailStore,
    metrics: Arc<Metrics>,
    /// How many days before today are kept; 0: none, and nothing is drawn.
    days: u16,
    dropped_at: Option<Instant>,
}

/// How a round went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Round {
    /// There may be more.
    Busy,
    /// Nothing more for now.
    CaughtUp,
    /// Another server draws.
    NotOurs,
}

impl Drawer {
    /// Draws into `store`, and keeps so many days before today.
    pub fn new(store: TrailStore, metrics: Arc<Metrics>, days: u16) -> Drawer {
        Drawer {
            store,
            metrics,
            days,
            dropped_at: None,
        }
    }

    /// Draws until the service stops.
    pub async fn run(mut self, stopping: CancellationToken) {
        while !stopping.is_cancelled() {
            let began = Instant::now();
            let pause = match self.round().await {
                // It works half of the time at most.
                Ok(Round::Busy) => began.elapsed(),
                Ok(Round::CaughtUp | Round::NotOurs) => PAUSE,
                Err(error) => {
                    warn!(%error, "trails not drawn");
                    PAUSE
                }
            };
            tokio::select! {
                () = stopping.cancelled() => {}
                () = tokio::time::sleep(pause) => {}
            }
        }
        if let Err(error) = self.store.yield_cursor().await {
            warn!(%error, "lease of the trails not returned, it runs out by itself");
        }
    }

    /// Draws the next batch, if there is one.
    pub async fn round(&mut self) -> Result<Round, StoreError> {
        let Some(cursor) = self.store.claim_cursor().await? else {
            // Who draws reports how far behind it is; two would contradict each other.
            self.metrics.trails.lag(Duration::ZERO);
            return Ok(Round::NotOurs);
        };
        self.drop_days().await?;
        if self.days == 0 {
            return Ok(Round::CaughtUp);
        }
        let arrivals = self.store.arrivals(&cursor, BATCH_MAX).await?;
        let is_full = arrivals.len() == BATCH_MAX;
        let first_kept = first_day(self.days);
        // Milliseconds of arithmetic, which are not the runtime's.
        let batch = tokio::task::spawn_blocking(move || Batch::of(&arrivals, first_kept)).await;
        let Some(batch) = batch.map_err(StoreError::unexpected)? else {
            self.metrics.trails.lag(self.lag(&cursor).await?);
            return Ok(Round::CaughtUp);
        };
        if self.store.add(&cursor, &batch.cursor, &batch.drawn).await? == Added::CursorMoved {
            return Ok(Round::NotOurs);
        }
        self.metrics.trails.drawn(batch.segments, batch.drawn.len() as u64);
        self.metrics.trails.lag(self.lag(&batch.cursor).await?);
        for mergeable in self.store.mergeable(&batch.drawn).await?.chunks(MERGED_MAX) {
            self.store.merge(mergeable).await?;
        }
        Ok(if is_full || batch.is_cut {
            Round::Busy
        } else {
            Round::CaughtUp
        })
    }

    /// How long ago the first fix was recorded that is not drawn.
    async fn lag(&self, cursor: &TrailCursor) -> Result<Duration, StoreError> {
        let waiting = self.store.first_waiting(cursor).await?;
        let age = waiting.map(|recorded_at| Timestamp::now().duration_since(recorded_at));
        // A device's clock may be ahead.
        Ok(age.map_or(Duration::ZERO, |age| age.try_into().unwrap_or_default()))
    }

    /// Drops the days that are too old; all of them, and the cursor, where none is kept.
    async fn drop_days(&mut self) -> Result<(), StoreError> {
        if self.dropped_at.is_some_and(|at| at.elapsed() < DROP_EVERY) {
            return Ok(());
        }
        let first_kept = (self.days > 0).then(|| first_day(self.days));
        if first_kept.is_none() {
            self.store.reset_cursor().await?;
        }
        let mut dropped = 0;
        loop {
            let (rows, is_more) = self.store.drop_days_before(first_kept).await?;
            dropped += rows;
            if !is_more {
                break;
            }
        }
        if dropped > 0 {
            info!(parts = dropped, "old trails dropped");
        }
        self.dropped_at = Some(Instant::now());
        Ok(())
    }
}

/// What is drawn at once.
struct Batch {
    drawn: Vec<Drawn>,
    segments: u64,
    /// Where the cursor is then.
    cursor: TrailCursor,
    /// Whether it ends before the last fix, since it has many tiles.
    is_cut: bool,
}

impl Batch {
    fn of(arrivals: &[Arrival], first_kept: Date) -> Option<Batch> {
        let mut drawing = Drawing::default();
        let mut taken = 0;
        for Arrival { fix, before, after, .. } in arrivals {
            if drawing.finest_tiles() >= TILES_MAX {
                break;
            }
            taken += 1;
            if fix.recorded_at.to_zoned(TimeZone::UTC).date() < first_kept {
                continue;
            }
            let pairs = [before.as_ref().zip(Some(fix)), Some(fix).zip(after.as_ref())];
            for (from, to) in pairs.into_iter().flatten() {
                drawing.join(from, to);
            }
        }
        let last = arrivals.get(..taken)?.last()?;
        Some(Batch {
            segments: drawing.segments(),
            drawn: drawing.finish(),
            cursor: last.cursor.clone(),
            is_cut: taken < arrivals.len(),
        })
    }
}
