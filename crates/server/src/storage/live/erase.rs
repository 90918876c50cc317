//! What there is of one driver, for who erases it.

use jiff::Timestamp;
use waybill_domain::id::DriverId;

use super::LiveStore;
use crate::storage::StoreError;
use crate::storage::keys::ShardKeys;

impl LiveStore {
    /// Removes where the driver is: from the index, so that it is not proposed again, and its last fix.
    pub async fn remove_driver(&self, driver: &DriverId) -> Result<(), StoreError> {
        let mut connection = self.redis.connection();
        if let Some(shard) = self.shard(driver) {
            // On a cluster the three are in one slot, and the last fix is in another.
            let mut pipe = redis::pipe();
            for key in [&shard.geo, &shard.seen] {
                pipe.cmd("ZREM").arg(key).arg(driver.as_str()).ignore();
            }
            pipe.cmd("HDEL").arg(&shard.recorded).arg(driver.as_str()).ignore();
            self.redis
                .call(async { pipe.query_async::<()>(&mut connection).await })
                .await?;
        }
        // What another program holds there stays.
        if self.latest(driver, Timestamp::UNIX_EPOCH).await?.is_none() {
            return Ok(());
        }
        let mut delete = redis::cmd("DEL");
        delete.arg(self.keys.driver(driver));
        self.redis
            .call(async { delete.query_async(&mut connection).await })
            .await
    }

    /// The shard of the driver; `None`: its tenant is none of ours.
    pub fn shard(&self, driver: &DriverId) -> Option<&ShardKeys> {
        self.keys.shards().get(self.keys.shard_of(driver)?)
    }

    /// Removes these entries from the stream. The caller knows that they are in the history.
    pub async fn delete_events(&self, shard: &ShardKeys, ids: &[String]) -> Result<(), StoreError> {
        let mut delete = redis::cmd("XDEL");
        delete.arg(&shard.events).arg(ids);
        let mut connection = self.redis.connection();
        self.redis
            .call(async { delete.query_async(&mut connection).await })
            .await
    }
}
