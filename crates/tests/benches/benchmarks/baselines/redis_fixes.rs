//! The baseline of fixes: Waybill's own scripts, given by a bare client that always has several on their way, and the
//! same rows put into the history by the same statement over a bare connection, at the same time.
//!
//! It parses nothing, answers no one, claims no lease and keeps no account of the stream. What it must do is what the
//! stores must do: take the batch in, give it out to the history, insert the rows, and trim what is stored.

use std::collections::VecDeque;
use std::sync::Mutex;
use std::time::Duration;

use jiff::Timestamp;
use redis::Script;
use redis::Value;
use redis::aio::MultiplexedConnection;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Statement};

use super::fix_batches::{self, Batches, Rows};
use crate::world::World;
use testkit::benchmark::rounds::Turn;

/// As `locations.keep_stored` is by default.
const KEEP_STORED: u64 = 10_000;
const HIGH_WATER: u64 = 100_000_000;
const EVENTS: &str = "location_events";
const FRESH: Duration = Duration::from_hours(1);

const APPEND: &str = include_str!("../../../../server/src/storage/live/append.lua");
const LATEST: &str = include_str!("../../../../server/src/storage/live/latest.lua");
/// Word for word what `storage/history.rs` says; the run holds it against the source.
const INSERT: &str = "insert into driver_locations (driver_id, lat, long, recorded_at)
                    select * from unnest($1::text[], $2::float8[], $3::float8[], $4::timestamptz[])
                    on conflict (driver_id, recorded_at) do nothing";

/// The stores, bare.
pub struct RedisFixes {
    connection: MultiplexedConnection,
    sql: Client,
    insert: Statement,
    append: Script,
    latest: Script,
    batches: Batches,
    /// The last entry of the stream that is in the history.
    stored_up_to: Mutex<String>,
}

impl RedisFixes {
    /// On a database of Redis and a migrated one of Postgres, which are its own; with so many drivers.
    pub async fn new(world: &World, database: &str, redis: u16, drivers: usize) -> RedisFixes {
        let source = include_str!("../../../../server/src/storage/history.rs");
        assert!(
            source.contains(INSERT),
            "the baseline's insert is not the history's any more"
        );
        let sql = fix_batches::history(world, database).await;
        let insert = sql.prepare(INSERT).await.unwrap();
        RedisFixes {
            connection: world.redis(redis).await,
            sql,
            insert,
            append: Script::new(APPEND),
            latest: Script::new(LATEST),
            batches: Batches::of(drivers),
            stored_up_to: Mutex::new("0-0".to_owned()),
        }
    }

    /// Takes fixes in for so long. It ends when the last one is in the history.
    pub async fn run(&self, time: Duration) -> Turn {
        let mut history = History::new(self);
        fix_batches::run(time, async || self.take().await, async |rows| history.write(rows).await).await
    }

    /// From where on the stream is not in the history yet.
    fn begin(&self) -> String {
        format!("({}", self.stored_up_to.lock().unwrap())
    }

    /// One batch through both scripts.
    async fn take(&self) -> Rows {
        let mut connection = self.connection.clone();
        let rows = self.batches.next();
        let now = Timestamp::now();
        let mut append = self.append.key(EVENTS);
        append.key("drivers:geo").key("drivers:seen").key("drivers:recorded");
        append.arg(HIGH_WATER).arg(now.as_microsecond()).arg(rows.drivers.len());
        let mut latest = self.latest.prepare_invoke();
        latest.arg(now.as_microsecond()).arg((now + FRESH).as_millisecond());
        for (driver, lat, long, at) in rows.iter() {
            append.arg(driver).arg(lat).arg(long).arg(at.as_microsecond());
        }
        // Each moves its driver.
        for place in 0..rows.drivers.len() {
            append.arg(place);
        }
        for (driver, lat, long, at) in rows.iter() {
            latest.key(format!("driver:{driver}"));
            latest.arg(driver).arg(lat).arg(long).arg(at.as_microsecond());
        }
        let length: u64 = append.invoke_async(&mut connection).await.unwrap();
        assert!(length > 0, "the stream is full");
        latest.invoke_async::<()>(&mut connection).await.unwrap();
        rows
    }
}

/// The way from the stream into the history.
struct History<'a> {
    stores: &'a RedisFixes,
    connection: MultiplexedConnection,
    /// The last id of each batch that is stored, and its length.
    stored: VecDeque<(String, u64)>,
}

impl History<'_> {
    fn new(stores: &RedisFixes) -> History<'_> {
        History {
            stores,
            connection: stores.connection.clone(),
            stored: VecDeque::new(),
        }
    }

    /// Reads as many entries of the stream as these are, inserts these, and trims the stream. How many were inserted.
    async fn write(&mut self, rows: Rows) -> u64 {
        let count = rows.drivers.len() as u64;
        let after = self
            .stored
            .back()
            .map_or_else(|| self.stores.begin(), |(id, _)| format!("({id}"));
        let mut range = redis::cmd("XRANGE");
        range.arg(EVENTS).arg(after).arg("+").arg("COUNT").arg(count);
        // Read, and not looked into: what they hold is known here.
        let mut entries: Vec<Value> = range.query_async(&mut self.connection).await.unwrap();
        let last = entries.pop().expect("as many entries as rows");
        let (last, _): (String, Value) = redis::from_redis_value(last).unwrap();

        let columns: [&(dyn ToSql + Sync); 4] = [&rows.drivers, &rows.lats, &rows.longs, &rows.recorded_at];
        let written = self.stores.sql.execute(&self.stores.insert, &columns).await.unwrap();
        self.stored.push_back((last.clone(), count));
        let mut kept: u64 = self.stored.iter().map(|(_, count)| count).sum();
        let mut first_kept = None;
        while let Some((id, count)) = self.stored.front()
            && kept - count >= KEEP_STORED
        {
            kept -= count;
            first_kept = Some(id.clone());
            self.stored.pop_front();
        }
        if let Some(first_kept) = first_kept {
            let mut trim = redis::cmd("XTRIM");
            trim.arg(EVENTS).arg("MINID").arg("~").arg(first_kept);
            trim.exec_async(&mut self.connection).await.unwrap();
        }
        *self.stores.stored_up_to.lock().unwrap() = last;
        written
    }
}
