//! Fixes that replicas must have before they are acknowledged (`redis.replicas`).
//!
//! Redis executes nothing more of a connection that waits for replicas. So each shard has a connection of its own for this, and a call has it for
//! itself. What waited in vain is stored, and is sent again: until its replicas are there, calls of that shard move the index, wait for that, and store nothing,
//! or each repetition would add to the stream.

use std::collections::HashSet;
use std::sync::OnceLock;

use redis::RedisResult;
use tokio::sync::Mutex;
use tokio::time::{Instant, timeout_at};

use super::{LiveStore, ScriptCall};
use crate::storage::StoreError;
use crate::storage::redis::Redis;
use crate::storage::redis_connection::Connection;
use crate::storage::redis_link::Link;

/// So many connections at most, in a cluster to each node. Shards beyond that share them, and have turns.
const CONNECTIONS_MAX: usize = 16;

/// The connections, each made when it is first used.
pub(super) struct Waiting(Box<[Place]>);

#[derive(Default)]
struct Place {
    connection: OnceLock<Connection>,
    /// Whoever has the lock has the connection. Shards of which the last call waited in vain, or had no answer.
    in_vain: Mutex<HashSet<usize>>,
}

/// What became of a call.
enum Appended {
    /// Enough replicas have it; what the script answered.
    Yes(u64),
    /// It is stored, and no more than so many replicas have it.
    InVain(u16),
    /// So many replicas have what was written before; nothing was stored.
    Not(u16),
}

impl Waiting {
    /// For so many shards.
    pub(super) fn new(shards: usize) -> Waiting {
        let count = shards.clamp(1, CONNECTIONS_MAX);
        Waiting((0..count).map(|_| Place::default()).collect())
    }

    fn of(&self, shard: usize) -> Option<&Place> {
        self.0.get(shard.checked_rem(self.0.len())?)
    }
}

impl Place {
    fn connection(&self, redis: &Redis) -> Result<&Connection, StoreError> {
        if let Some(connection) = self.connection.get() {
            return Ok(connection);
        }
        let another = redis.another_connection()?;
        Ok(self.connection.get_or_init(|| another))
    }
}

impl LiveStore {
    /// Calls the script that appends to the stream of a shard; its answer, once as many replicas have it as are asked for. Where the last call of the
    /// shard was in vain, it calls `move_index` instead, until replicas have that. That they have it not in time says nothing of Redis, which answers others
    /// meanwhile.
    pub(super) async fn append_replicated<'a>(
        &self,
        shard: usize,
        append: &ScriptCall<'_>,
        move_index: impl FnOnce() -> ScriptCall<'a> + Send,
    ) -> Result<u64, StoreError> {
        let Some(place) = self.waiting.of(shard) else {
            return Err(StoreError::unexpected("there is no connection to wait for replicas on"));
        };
        let connection = place.connection(&self.redis)?;
        let replicas = self.redis.replicas();
        let limit = self.redis.command_timeout();
        let begun = Instant::now();
        // Half of the call's time: who waits in vain is to say so. All of it ends before the guard takes it for silence.
        let (patience, end) = (begun + limit / 2, begun + limit * 9 / 10);
        let work = async {
            let Ok(mut in_vain) = timeout_at(patience, place.in_vain.lock()).await else {
                return Err(busy(
                    "fixes of another shard wait for replicas (redis.replicas)".to_owned(),
                ));
            };
            let mut link = connection.current();
            let sent = send(&mut link, &mut in_vain, (shard, append, move_index), replicas, patience);
            let Ok(answer) = timeout_at(end, sent).await else {
                connection.said_nothing();
                return Err(busy("no answer in time from who waits for replicas".to_owned()));
            };
            connection.answered(answer.as_ref().err());
            match answer.map_err(|error| self.redis.store_error(error))? {
                Appended::Yes(stored) => Ok(stored),
                Appended::InVain(have_it) => Err(busy(format!(
                    "{have_it} of {replicas} replicas have the fixes (redis.replicas)"
                ))),
                Appended::Not(follow) if follow >= replicas => Err(busy(
                    "enough replicas follow again, and the fixes have to be sent again (redis.replicas)".to_owned(),
                )),
                Appended::Not(follow) => Err(busy(format!(
                    "{follow} of {replicas} replicas follow, and the fixes are not stored (redis.replicas)"
                ))),
            }
        };
        self.redis.call_apart(work).await
    }
}

/// Appends, and waits for the replicas until then. Where the last call of the shard was in vain, it is seen by a write whether they follow, as Redis itself may
/// be a replica now. If they do, the next call appends: it has all its time to wait.
async fn send<'a>(
    link: &mut Link,
    in_vain: &mut HashSet<usize>,
    (shard, append, move_index): (usize, &ScriptCall<'_>, impl FnOnce() -> ScriptCall<'a> + Send),
    replicas: u16,
    until: Instant,
) -> RedisResult<Appended> {
    if in_vain.contains(&shard) {
        let (_, follow): (u64, _) = move_index().send_to_replicas(link, replicas, until).await?;
        if follow >= replicas {
            in_vain.remove(&shard);
        }
        return Ok(Appended::Not(follow));
    }
    // It stays so where there is no answer.
    in_vain.insert(shard);
    let (stored, have_it) = append.send_to_replicas(link, replicas, until).await?;
    if have_it < replicas {
        return Ok(Appended::InVain(have_it));
    }
    in_vain.remove(&shard);
    Ok(Appended::Yes(stored))
}

fn busy(why: String) -> StoreError {
    StoreError::Busy { store: "redis", why }
}

#[cfg(test)]
mod tests {
    use std::ptr;

    use super::*;

    #[test]
    fn each_shard_has_a_connection_of_its_own_up_to_a_number() {
        let place = |waiting: &Waiting, shard| ptr::from_ref(waiting.of(shard).unwrap());
        let few = Waiting::new(3);
        let places: HashSet<_> = (0..3).map(|shard| place(&few, shard)).collect();
        assert_eq!((places.len(), few.0.len()), (3, 3));
        let many = Waiting::new(40);
        assert_eq!(many.0.len(), CONNECTIONS_MAX);
        assert_eq!(place(&many, 1), place(&many, 1 + CONNECTIONS_MAX));
    }
}
