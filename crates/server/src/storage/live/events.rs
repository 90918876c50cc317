//! The stream of fixes, as the history writer reads and trims it.

use std::collections::HashMap;
use std::iter;
use std::sync::LazyLock;

use jiff::Timestamp;
use redis::streams::StreamRangeReply;
use redis::{ErrorKind, FromRedisValue as _, RedisResult, ServerErrorKind, Value};
use waybill_domain::fix::Fix;

use super::LiveStore;
use super::script::{Script, ScriptCall};
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

/// A stream as Redis has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamState {
    /// The id of the replication that the Redis leads which has the stream, in a cluster that of its node: a failover and a restart change
    /// it. `None`: it does not say.
    pub epoch: Option<String>,
    /// The id of the last entry that was ever added; `0-0` where there is no stream. `None`: Redis does not say.
    pub last_id: Option<String>,
    /// The highest id of those that were ever deleted; `0-0` where none was. `None`: Redis does not say, as before version 7.
    pub max_deleted_id: Option<String>,
}

/// Entries that come after one of them.
#[derive(Debug)]
pub struct ReadOn {
    /// They, the oldest first.
    pub entries: Vec<StreamEntry>,
    /// Whether the entry before them is in the stream. It goes with no trimming, so without it this may be another stream: one that was lost, and
    /// begun anew, with entries before the one that is missing. Where there is it, there is all that came before it.
    pub goes_on: bool,
    /// Which Redis they were read from: see [`StreamState::epoch`].
    pub epoch: Option<String>,
}

/// How many entries of a stream come after one of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backlog {
    /// So many were counted.
    pub at_least: u64,
    /// There are no more. The same number, unless more were there than are counted.
    pub at_most: u64,
}

/// The cursor before all entries.
pub const BEGINNING: &str = "0-0";
/// How many entries are counted at most: some 150 KB of them, which Redis sends within the time of one command.
const COUNTED_MAX: u64 = 1_000;

impl StreamEntry {
    /// When it was added, by Redis's clock: the first half of its id.
    pub fn added_at(&self) -> Option<Timestamp> {
        let millis = self.id.split_once('-')?.0.parse().ok()?;
        Timestamp::from_millisecond(millis).ok()
    }
}

/// The id of an entry as it is ordered: its milliseconds, and its number within them.
pub fn entry_order(id: &str) -> (u64, u64) {
    let (millis, number) = id.split_once('-').unwrap_or((id, "0"));
    (millis.parse().unwrap_or(0), number.parse().unwrap_or(0))
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

    /// Up to `count` entries after the entry `after`, the oldest first, and whether that one is there.
    pub async fn read_on(&self, shard: &ShardKeys, after: &str, count: usize) -> Result<ReadOn, StoreError> {
        let (answer, epoch) = self
            .with_epoch(range_command(shard, after, "+", count.saturating_add(1)))
            .await?;
        let mut entries = parse_entries(answer?)?;
        let goes_on = after == BEGINNING || entries.first().is_some_and(|first| first.id == after);
        if entries.first().is_some_and(|first| first.id == after) {
            entries.remove(0);
        }
        entries.truncate(count);
        Ok(ReadOn {
            entries,
            goes_on,
            epoch,
        })
    }

    /// What Redis has of the stream.
    pub async fn stream_state(&self, shard: &ShardKeys) -> Result<StreamState, StoreError> {
        let mut command = redis::cmd("XINFO");
        command.arg("STREAM").arg(&shard.events);
        let (stream, epoch) = self.with_epoch(command).await?;
        let beginning = || Some(BEGINNING.to_owned());
        let stream = stream.and_then(|stream| Ok(HashMap::<String, Value>::from_redis_value(stream)?));
        let (last_id, max_deleted_id) = match stream {
            Err(error) if error.detail().is_some_and(|detail| detail.contains("no such key")) => {
                (beginning(), beginning())
            }
            answer => {
                let mut stream = or_none(answer)?.unwrap_or_default();
                let mut id = |field: &str| String::from_redis_value(stream.remove(field)?).ok();
                (id("last-generated-id"), id("max-deleted-entry-id"))
            }
        };
        Ok(StreamState {
            epoch,
            last_id,
            max_deleted_id,
        })
    }

    /// The answer to a command about a stream, and the epoch, of the very server that gave it: they are sent together, and the key of the
    /// first leads both to the same node.
    async fn with_epoch(&self, command: redis::Cmd) -> Result<(RedisResult<Value>, Option<String>), StoreError> {
        let mut pipe = redis::pipe();
        pipe.ignore_errors().add_command(command);
        pipe.cmd("INFO").arg("replication");
        let mut connection = self.redis.connection();
        let work = async {
            let (answer, info): (RedisResult<Value>, RedisResult<String>) = pipe.query_async(&mut connection).await?;
            // What may be answered the next time is no answer.
            if let Err(error) = &answer
                && !matches!(
                    error.kind(),
                    ErrorKind::Server(ServerErrorKind::ResponseError | ServerErrorKind::NoPerm)
                )
            {
                return Err(error.clone());
            }
            Ok((answer, or_none(info)?.unwrap_or_default()))
        };
        let (answer, info) = self.redis.call(work).await?;
        let id = info.lines().find_map(|line| line.strip_prefix("master_replid:"));
        Ok((answer, id.map(|id| id.trim().to_owned())))
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

    /// How many entries of this stream, which need not be of these keys, come after the entry `after`. Redis can count only all of
    /// a stream, which keeps entries that are in the history: so they are read, up to a number, and beyond it bounded by its length.
    pub async fn backlog(&self, stream: &str, after: &str) -> Result<Backlog, StoreError> {
        let mut pipe = redis::pipe();
        pipe.cmd("XLEN").arg(stream);
        pipe.cmd("XRANGE").arg(stream).arg(format!("({after}")).arg("+");
        pipe.arg("COUNT").arg(COUNTED_MAX);
        let mut connection = self.redis.connection();
        let (length, entries): (u64, StreamRangeReply) = self
            .redis
            .call(async { pipe.query_async(&mut connection).await })
            .await?;
        let at_least = entries.ids.len() as u64;
        Ok(Backlog {
            at_least,
            at_most: if at_least < COUNTED_MAX {
                at_least
            } else {
                length.max(at_least)
            },
        })
    }

    /// Removes the entries before `first_kept`, where the entry `cursor` is in the stream; how many, or `None` where it is not: then this may be
    /// another stream, and the entries before that one were perhaps never read. The caller knows that they are all stored.
    pub async fn trim_events(
        &self,
        shard: &ShardKeys,
        first_kept: &str,
        cursor: &str,
    ) -> Result<Option<u64>, StoreError> {
        static TRIM: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("trim.lua")));
        let mut call = ScriptCall::new(&TRIM, iter::once(&shard.events), 2);
        call.arg(first_kept).arg(cursor);
        let mut connection = self.redis.connection();
        self.redis.call(async { call.send(&mut connection).await }).await
    }

    async fn range(
        &self,
        shard: &ShardKeys,
        from: &str,
        to: &str,
        count: usize,
    ) -> Result<Vec<StreamEntry>, StoreError> {
        let command = range_command(shard, from, to, count);
        let mut connection = self.redis.connection();
        let reply: Value = self
            .redis
            .call(async { command.query_async(&mut connection).await })
            .await?;
        parse_entries(reply)
    }
}

fn range_command(shard: &ShardKeys, from: &str, to: &str, count: usize) -> redis::Cmd {
    let mut command = redis::cmd("XRANGE");
    command.arg(&shard.events).arg(from).arg(to).arg("COUNT").arg(count);
    command
}

fn parse_entries(reply: Value) -> Result<Vec<StreamEntry>, StoreError> {
    let Value::Array(entries) = reply else {
        return Err(not_entries());
    };
    entries.into_iter().map(parse_entry).collect()
}

/// What was asked for; `None` where Redis does not know the command, or does not let us have it.
fn or_none<T>(answer: RedisResult<T>) -> RedisResult<Option<T>> {
    match answer {
        Ok(answer) => Ok(Some(answer)),
        Err(error)
            if matches!(
                error.kind(),
                ErrorKind::Server(ServerErrorKind::ResponseError | ServerErrorKind::NoPerm)
            ) =>
        {
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

/// An entry as Redis sends it: its id, and its fields and their values in turns. Read in place and once: a map for each entry would
/// cost more than all else that is done with it.
fn parse_entry(entry: Value) -> Result<StreamEntry, StoreError> {
    let Value::Array(parts) = entry else {
        return Err(not_entries());
    };
    let Ok([Value::BulkString(id), Value::Array(fields)]) = <[Value; 2]>::try_from(parts) else {
        return Err(not_entries());
    };
    let id = String::from_utf8(id).map_err(|_| not_entries())?;
    let [mut driver, mut lat, mut long, mut timestamp] = [None; 4];
    for pair in fields.chunks_exact(2) {
        let [Value::BulkString(field), Value::BulkString(value)] = pair else {
            continue;
        };
        let known = match field.as_slice() {
            b"driver_id" => &mut driver,
            b"lat" => &mut lat,
            b"long" => &mut long,
            b"timestamp" => &mut timestamp,
            _ => continue,
        };
        *known = known.or(std::str::from_utf8(value).ok());
    }
    let text = |name: &str| match name {
        "lat" => lat,
        "long" => long,
        "timestamp" => timestamp,
        _ => None,
    };
    let fix = driver
        .ok_or_else(|| StoreError::unexpected(format!("stream entry {id} has no driver_id")))
        .and_then(parse_driver)
        .and_then(|driver| parse_fix(driver, text));
    Ok(StreamEntry { id, fix })
}

fn not_entries() -> StoreError {
    StoreError::unexpected("redis sent something else than entries of a stream".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_ordered_as_numbers() {
        assert!(entry_order("1795348061741-10") > entry_order("1795348061741-9"));
        assert!(entry_order("999-1") < entry_order("1000-0"));
        assert_eq!(entry_order("0-0"), (0, 0));
    }

    fn entry(id: &str, fields: &[&str]) -> Value {
        let text = |text: &str| Value::BulkString(text.as_bytes().to_vec());
        Value::Array(vec![
            text(id),
            Value::Array(fields.iter().map(|field| text(field)).collect()),
        ])
    }

    #[test]
    fn an_entry_is_a_fix_whatever_the_order_of_its_fields() {
        let fields = [
            "long",
            "-122.4",
            "timestamp",
            "1795348061741000",
            "lat",
            "37.5",
            "driver_id",
            "cab-1",
            "x",
            "y",
        ];
        let read = parse_entry(entry("7-1", &fields)).unwrap();
        let fix = read.fix.unwrap();
        assert_eq!((read.id.as_str(), fix.driver.as_str()), ("7-1", "cab-1"));
        assert_eq!((fix.position.lat_deg(), fix.position.lon_deg()), (37.5, -122.4));
        assert_eq!(fix.recorded_at.as_microsecond(), 1_795_348_061_741_000);
    }

    /// Others may write to the stream: what they wrote is passed over, and hides nothing that comes after.
    #[test]
    fn an_entry_that_is_no_fix_is_an_entry() {
        for fields in [
            &[][..],
            &["a"],
            &["driver_id"],
            &["driver_id", "cab-1"],
            &["lat", "37.5", "driver_id"],
            // A value is no field.
            &["x", "driver_id", "cab-1", "lat", "1", "long", "1"],
        ] {
            let read = parse_entry(entry("7-1", fields)).unwrap();
            assert_eq!((read.id.as_str(), read.fix.is_err()), ("7-1", true), "{fields:?}");
        }
        for reply in [
            Value::Nil,
            Value::Array(Vec::new()),
            Value::Array(vec![Value::Int(1), Value::Nil]),
        ] {
            assert!(parse_entry(reply).is_err());
        }
    }
}
