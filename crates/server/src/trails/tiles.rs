//! The tiles, as they are asked for: from a small cache, or made, a few at a time.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use quick_cache::Weighter;
use quick_cache::sync::Cache;
use thiserror::Error;
use tokio::sync::Semaphore;
use tokio::time::timeout;
use waybill_domain::trails::TileId;

use super::first_day;
use super::picture::Picture;
use crate::storage::StoreError;
use crate::storage::trails::TrailStore;

/// How old a picture in the cache may be. It is a part of its key, so that old ones are pushed out like others.
const FRESH_SECS: i64 = 10;
/// What is in the cache at most: most pictures have some 10 KB.
const CACHE_BYTES: u64 = 16 * 1024 * 1024;
const CACHE_ITEMS: usize = 4_000;
/// Pictures made at once: what looks on takes neither the processor nor the connections of those who work.
const RENDERINGS_MAX: usize = 2;
/// How long one waits for that.
const WAIT_MAX: Duration = Duration::from_secs(5);

/// Why there is no picture now.
#[derive(Debug, Error)]
pub enum TileError {
    /// The tiles cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Too many are asked for.
    #[error("too many tiles are asked for")]
    Busy,
    /// The picture cannot be made.
    #[error("a tile cannot be made: {0}")]
    Picture(String),
}

/// The tiles. Clones share the cache.
#[derive(Clone)]
pub struct Trails(Arc<Inner>);

struct Inner {
    store: TrailStore,
    days: u16,
    cache: Cache<(TileId, i64), Picture, PictureBytes>,
    renderings: Semaphore,
}

/// How much of the cache a picture takes.
#[derive(Clone)]
struct PictureBytes;

impl Weighter<(TileId, i64), Picture> for PictureBytes {
    fn weight(&self, _: &(TileId, i64), picture: &Picture) -> u64 {
        picture.png.len() as u64
    }
}

impl Trails {
    /// The tiles of `store`, of today and so many days before; 0: none.
    pub fn new(store: TrailStore, days: u16) -> Trails {
        Trails(Arc::new(Inner {
            store,
            days,
            cache: Cache::with_weighter(CACHE_ITEMS, CACHE_BYTES, PictureBytes),
            renderings: Semaphore::new(RENDERINGS_MAX),
        }))
    }

    /// The picture of a tile; `None` where no tiles are: off the map, of a zoom that is not kept, or with trails turned off.
    pub async fn tile(&self, zoom: u8, x: u32, y: u32) -> Result<Option<Picture>, TileError> {
        let Some(tile) = TileId::new(zoom, x, y).filter(|_| self.0.days > 0) else {
            return Ok(None);
        };
        let key = (tile, Timestamp::now().as_second() / FRESH_SECS);
        let picture = self.0.cache.get_or_insert_async(&key, self.render(tile)).await?;
        Ok(Some(picture))
    }

    async fn render(&self, tile: TileId) -> Result<Picture, TileError> {
        let Ok(Ok(_place)) = timeout(WAIT_MAX, self.0.renderings.acquire()).await else {
            return Err(TileError::Busy);
        };
        let canvas = self.0.store.tile(tile, first_day(self.0.days)).await?;
        let picture = tokio::task::spawn_blocking(move || Picture::of(canvas.as_ref())).await;
        let failed = |why: &dyn std::fmt::Display| TileError::Picture(why.to_string());
        picture.map_err(|error| failed(&error))?.map_err(|error| failed(&error))
    }
}
