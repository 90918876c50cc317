//! The whole fleet, for those who follow it: which drivers there are, and where the stream of fixes begins and ends.

use redis::streams::{StreamInfoStreamReply, StreamRangeReply};
use waybill_domain::id::DriverId;

use super::LiveStore;
use crate::storage::StoreError;
use crate::storage::keys::ShardKeys;

/// Members of an index that Redis looks at for one page.
const PAGE: usize = 1_000;

/// A part of the drivers of a shard.
#[derive(Debug)]
pub struct DriversPage {
    /// Who. One may come twice.
    pub drivers: Vec<DriverId>,
    /// Where the next page begins; `None` after the last.
    pub next: Option<u64>,
}

impl LiveStore {
    /// A page of the drivers in the index, fresh or not. Who is there from the first page to the last is in one of them.
    pub async fn indexed_drivers(&self, shard: &ShardKeys, from: Option<u64>) -> Result<DriversPage, StoreError> {
        let mut command = redis::cmd("ZSCAN");
        command.arg(&shard.seen).arg(from.unwrap_or(0)).arg("COUNT").arg(PAGE);
        let mut connection = self.redis.connection();
        let (next, members): (u64, Vec<(String, f64)>) = self
            .redis
            .call(async { command.query_async(&mut connection).await })
            .await?;
        Ok(DriversPage {
            // A member that is no driver was not put there by Waybill.
            drivers: members
                .iter()
                .filter_map(|(name, _)| DriverId::stored(name).ok())
                .collect(),
            next: (next != 0).then_some(next),
        })
    }

    /// The id of the last entry that was ever added to the stream, which may be gone. There must be such a stream.
    pub async fn last_event(&self, shard: &ShardKeys) -> Result<String, StoreError> {
        let mut command = redis::cmd("XINFO");
        command.arg("STREAM").arg(&shard.events);
        let mut connection = self.redis.connection();
        let stream: StreamInfoStreamReply = self
            .redis
            .call(async { command.query_async(&mut connection).await })
            .await?;
        Ok(stream.last_generated_id)
    }

    /// The id of the first entry of the stream, and of the last one; `None`: it is empty.
    pub async fn events_ends(&self, shard: &ShardKeys) -> Result<Option<(String, String)>, StoreError> {
        let mut pipe = redis::pipe();
        pipe.cmd("XRANGE")
            .arg(&shard.events)
            .arg("-")
            .arg("+")
            .arg("COUNT")
            .arg(1);
        pipe.cmd("XREVRANGE")
            .arg(&shard.events)
            .arg("+")
            .arg("-")
            .arg("COUNT")
            .arg(1);
        let mut connection = self.redis.connection();
        let (first, last): (StreamRangeReply, StreamRangeReply) = self
            .redis
            .call(async { pipe.query_async(&mut connection).await })
            .await?;
        let id = |reply: StreamRangeReply| reply.ids.into_iter().next().map(|entry| entry.id);
        Ok(id(first).zip(id(last)))
    }
}
