//! Fixes in.

use jiff::Timestamp;
use waybill_domain::fix::Fix;

use super::LiveStore;
use crate::storage::StoreError;

/// What became of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Stored {
    /// All of it is in the stream, and with that safe.
    Yes {
        /// Drivers whose keys another program holds: they are not on the map.
        foreign: u64,
        /// How many entries the stream has now.
        length: u64,
    },
    /// The stream is full; nothing was stored.
    Full,
}

impl LiveStore {
    /// Stores a batch of one shard's fixes: all of it or nothing. They arrive `now`.
    pub async fn store(&self, shard: usize, fixes: &[Fix], now: Timestamp) -> Result<Stored, StoreError> {
        let Some(keys) = self.keys.shards().get(shard) else {
            return Err(StoreError::unexpected(format!("there is no shard {shard}")));
        };
        let newest = self.commands.newest(fixes, now);
        let append = self.commands.append(keys, fixes, &newest, now);
        let mut connection = self.redis.connection();
        let length: u64 = self.redis.call(async { append.send(&mut connection).await }).await?;
        if length == 0 {
            return Ok(Stored::Full);
        }
        let foreign = match self.commands.latest(&newest, now) {
            Some(latest) => self.redis.call(async { latest.send(&mut connection).await }).await?,
            None => 0,
        };
        Ok(Stored::Yes { foreign, length })
    }

    /// Removes up to `limit` drivers of every shard of whom nothing newer arrived within the time to live. How many were.
    pub async fn evict_stale(&self, now: Timestamp, limit: usize) -> Result<u64, StoreError> {
        let mut evicted = 0;
        for keys in self.keys.shards() {
            let evict = self.commands.evict_stale(keys, now, limit);
            let mut connection = self.redis.connection();
            evicted += self
                .redis
                .call(async { evict.send::<u64>(&mut connection).await })
                .await?;
        }
        Ok(evicted)
    }
}
