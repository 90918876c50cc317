//! The stream of fixes, as the history writer reads and trims it.

use jiff::Timestamp;
use redis::streams::StreamRangeReply;
use waybill_domain::fix::Fix;

use super::LiveStore;
use super::search::{parse_driver, parse_fix};
use crate::storage::StoreError;
use crate::storage::keys::ShardKeys;

/// An entry of the stream.
#[derive(Debug)]
pub struct StreamEntry {
    /// Its id: milliseconds, a dash, a number.
    pub id: String,
    /// What it holds. An entry that is not a fix was not written by Waybill.
    pub fix: Result<Fix, StoreError>,
}

impl StreamEntry {
    /// When it was added, by Redis's clock: the first half of its id.
    pub fn added_at(&self) -> Option<Timestamp> {
        let millis = self.id.split_once('-')?.0.parse().ok()?;
        Timestamp::from_millisecond(millis).ok()
    }
}

impl LiveStore {
    /// Up to `count` entries after the entry `after`, the oldest first.
    pub async fn read_events(
        &self,
        shard: &ShardKeys,
        after: &str,
        count: usize,
    ) -> Result<Vec<StreamEntry>, StoreError> {
        self.range(shard, &format!("({after}"), "+", count).await
    }

    /// Up to `count` entries up to the entry `last`, the oldest first.
    pub async fn read_events_until(
        &self,
        shard: &ShardKeys,
        after: Option<&str>,
        last: &str,
        count: usize,
    ) -> Result<Vec<StreamEntry>, StoreError> {
        let from = after.map_or_else(|| "-".to_owned(), |id| format!("({id}"));
        self.range(shard, &from, last, count).await
    }

    /// The stream's length.
    pub async fn events_len(&self, shard: &ShardKeys) -> Result<u64, StoreError> {
        let mut command = redis::cmd("XLEN");
        command.arg(&shard.events);
        let mut connection = self.redis.connection();
        self.redis
            .call(async { command.query_async(&mut connection).await })
            .await
    }

    /// Removes the entries before `first_kept`. The caller knows that they are all stored.
    pub async fn trim_events(&self, shard: &ShardKeys, first_kept: &str) -> Result<u64, StoreError> {
        let mut command = redis::cmd("XTRIM");
        command.arg(&shard.events).arg("MINID").arg("~").arg(first_kept);
        let mut connection = self.redis.connection();
        self.redis
            .call(async { command.query_async(&mut connection).await })
            .await
    }

    async fn range(
        &self,
        shard: &ShardKeys,
        from: &str,
        to: &str,
        count: usize,
    ) -> Result<Vec<StreamEntry>, StoreError> {
        let mut command = redis::cmd("XRANGE");
        command.arg(&shard.events).arg(from).arg(to).arg("COUNT").arg(count);
        let mut connection = self.redis.connection();
        let reply: StreamRangeReply = self
            .redis
            .call(async { command.query_async(&mut connection).await })
            .await?;
        Ok(reply.ids.into_iter().map(|entry| parse_entry(&entry)).collect())
    }
}

fn parse_entry(entry: &redis::streams::StreamId) -> StreamEntry {
    let text = |name: &str| match entry.map.get(name) {
        Some(redis::Value::BulkString(bytes)) => std::str::from_utf8(bytes).ok(),
        _ => None,
    };
    let fix = text("driver_id")
        .ok_or_else(|| StoreError::unexpected(format!("stream entry {} has no driver_id", entry.id)))
        .and_then(parse_driver)
        .and_then(|driver| parse_fix(driver, text));
    StreamEntry {
        id: entry.id.clone(),
        fix,
    }
}
