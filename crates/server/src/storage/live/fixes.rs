//! Fixes in. Those that cannot be kept say where their drivers are all the same: dispatch goes on while the history is behind, or replicas are away.

use futures_util::future::try_join_all;
use jiff::Timestamp;
use waybill_domain::fix::Fix;

use super::{LiveStore, ScriptCall};
use crate::storage::StoreError;
use crate::storage::keys::ShardKeys;

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
    /// The stream is full; nothing of the batch is in it.
    Full,
}

impl LiveStore {
    /// Stores a batch of one shard's fixes: all of it or nothing. They arrive `now`.
    pub async fn store(&self, shard: usize, fixes: &[Fix], now: Timestamp) -> Result<Stored, StoreError> {
        let keys = self.keys_of(shard)?;
        let newest = self.commands.newest(fixes, now);
        let append = self.commands.append(keys, fixes, &newest, now);
        let appended = if self.redis.replicas() > 0 {
            let move_index = || self.commands.move_index(keys, fixes, &newest, now);
            self.append_replicated(shard, &append, move_index).await
        } else {
            self.send(&append).await
        };
        // Busy: Redis answers others while replicas are away.
        let length = match appended {
            Ok(length) => Ok(length),
            Err(away @ StoreError::Busy { .. }) => Err(away),
            Err(error) => return Err(error),
        };
        let foreign = self.move_latest(&newest, now).await?;
        Ok(match length? {
            0 => Stored::Full,
            length => Stored::Yes { foreign, length },
        })
    }

    /// Moves the drivers of one shard by fixes that arrive `now`, and are not kept.
    pub async fn move_drivers(&self, shard: usize, fixes: &[Fix], now: Timestamp) -> Result<(), StoreError> {
        let newest = self.commands.newest(fixes, now);
        let move_index = self.commands.move_index(self.keys_of(shard)?, fixes, &newest, now);
        let _full: u64 = self.send(&move_index).await?;
        self.move_latest(&newest, now).await.map(drop)
    }

    fn keys_of(&self, shard: usize) -> Result<&ShardKeys, StoreError> {
        let keys = self.keys.shards().get(shard);
        keys.ok_or_else(|| StoreError::unexpected(format!("there is no shard {shard}")))
    }

    async fn send(&self, call: &ScriptCall<'_>) -> Result<u64, StoreError> {
        let mut connection = self.redis.connection();
        self.redis.call(async { call.send(&mut connection).await }).await
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
