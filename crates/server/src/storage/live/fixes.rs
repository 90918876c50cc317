//! Fixes in.

use futures_util::future::try_join_all;
use jiff::Timestamp;
use waybill_domain::fix::Fix;

use super::{LiveStore, ScriptCall};
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
        let length = self.append(shard, &keys.events, &append).await?;
        if length == 0 {
            return Ok(Stored::Full);
        }
        let foreign = self.move_latest(&newest, now).await?;
        Ok(Stored::Yes { foreign, length })
    }

    /// Calls the script that appends; its answer.
    async fn append(&self, shard: usize, events: &str, append: &ScriptCall<'_>) -> Result<u64, StoreError> {
        if self.redis.replicas() > 0 {
            return self.append_replicated(shard, events, append).await;
        }
        let mut connection = self.redis.connection();
        self.redis.call(async { append.send(&mut connection).await }).await
    }

    /// Moves where each driver of the batch is; how many keys another program holds.
    async fn move_latest(&self, newest: &[(usize, &Fix)], now: Timestamp) -> Result<u64, StoreError> {
        let connection = self.redis.connection();
        let send = async |call: ScriptCall<'_>| call.send::<u64>(&mut connection.clone()).await;
        if self.redis.is_cluster() {
            // Each driver is in a slot of its own.
            let calls = newest
                .chunks(1)
                .filter_map(|one| self.commands.latest(&self.keys, one, now));
            let work = async { Ok(try_join_all(calls.map(send)).await?.into_iter().sum()) };
            return self.redis.call(work).await;
        }
        match self.commands.latest(&self.keys, newest, now) {
            Some(latest) => self.redis.call(send(latest)).await,
            None => Ok(0),
        }
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
