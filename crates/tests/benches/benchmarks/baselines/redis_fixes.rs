//! The baseline of fixes: Waybill's own scripts, given by a bare client that always has several on their way, and the
//! same rows put into the history by the same statement over a bare connection, at the same time.
//!
//! It parses nothing, answers no one, claims no lease and keeps no account of the stream. What it must do is what the
//! stores must do: take the batch in, give it out to the history, insert the rows, and trim what is stored.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use redis::Script;
use redis::Value;
use redis::aio::MultiplexedConnection;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Statement};

use crate::load::city::place_of;
use crate::server::migrate;
use crate::world::World;
use testkit::benchmark::rounds::Turn;

/// Two whole messages: the server takes them whole while it has less than `locations.batch_max`, 512.
const BATCH: usize = 1_000;
/// As `locations.history_batch_max` and `locations.keep_stored` are by default.
const HISTORY_BATCH: usize = 1_000;
const KEEP_STORED: u64 = 10_000;
/// Batches on their way at a time.
const BATCHES: usize = 4;
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
    drivers: Arc<Vec<String>>,
    next: AtomicU64,
    /// The last entry of the stream that is in the history.
    stored_up_to: Mutex<String>,
}

/// What one batch put into the stream, for the history.
#[derive(Default)]
struct Rows {
    drivers: Vec<String>,
    lats: Vec<f64>,
    longs: Vec<f64>,
    recorded_at: Vec<Timestamp>,
}

impl RedisFixes {
    /// On a database of Redis and a migrated one of Postgres, which are its own; with so many drivers.
    pub async fn new(world: &World, database: &str, redis: u16, drivers: usize) -> RedisFixes {
        let source = include_str!("../../../../server/src/storage/history.rs");
        assert!(
            source.contains(INSERT),
            "the baseline's insert is not the history's any more"
        );
        migrate(world, database).await;
        let sql = world.session(database).await;
        let day = Timestamp::now().to_zoned(jiff::tz::TimeZone::UTC).date();
        let partition = format!(
            "create table driver_locations_baseline partition of driver_locations
             for values from ('{day} 00:00:00Z') to ('{} 00:00:00Z')",
            day.tomorrow().unwrap().tomorrow().unwrap()
        );
        sql.batch_execute(&partition).await.unwrap();
        let insert = sql.prepare(INSERT).await.unwrap();
        RedisFixes {
            connection: world.redis(redis).await,
            sql,
            insert,
            append: Script::new(APPEND),
            latest: Script::new(LATEST),
            drivers: Arc::new((0..drivers).map(|driver| format!("load-driver-{driver:06}")).collect()),
            next: AtomicU64::new(0),
            stored_up_to: Mutex::new("0-0".to_owned()),
        }
    }

    /// Takes fixes in for so long. It ends when the last one is in the history.
    pub async fn run(&self, time: Duration) -> Turn {
        let began_at = Instant::now();
        let taken = Mutex::new(VecDeque::<Rows>::new());
        let is_taking = AtomicU64::new(BATCHES as u64);
        let take = |_| async {
            let mut connection = self.connection.clone();
            while began_at.elapsed() < time {
                let rows = self.take(&mut connection).await;
                taken.lock().unwrap().push_back(rows);
            }
            is_taking.fetch_sub(1, Ordering::Release);
        };
        let write = async {
            let mut history = History::new(self);
            loop {
                // Asked first: what is taken in between is seen below.
                let is_over = is_taking.load(Ordering::Acquire) == 0;
                let rows = Rows::joined(&mut taken.lock().unwrap());
                match rows {
                    Some(rows) => history.write(rows).await,
                    None if is_over => return history.written,
                    None => tokio::time::sleep(Duration::from_millis(1)).await,
                }
            }
        };
        let all = futures_util::future::join_all((0..BATCHES).map(take));
        let (_, count) = tokio::join!(all, write);
        Turn {
            count,
            elapsed: began_at.elapsed(),
            all: count,
        }
    }

    /// From where on the stream is not in the history yet.
    fn begin(&self) -> String {
        format!("({}", self.stored_up_to.lock().unwrap())
    }

    /// One batch through both scripts.
    async fn take(&self, connection: &mut MultiplexedConnection) -> Rows {
        let now = Timestamp::now();
        let (micros, expires) = (now.as_microsecond(), (now + FRESH).as_millisecond());
        let first = self.next.fetch_add(BATCH as u64, Ordering::Relaxed);
        let mut append = self.append.key(EVENTS);
        append.key("drivers:geo").key("drivers:seen").arg(HIGH_WATER);
        let mut latest = self.latest.prepare_invoke();
        let mut rows = Rows::default();
        for number in first..first + BATCH as u64 {
            let place = usize::try_from(number).unwrap() % self.drivers.len();
            let (driver, at) = (&self.drivers[place], place_of(place, self.drivers.len()));
            let lat = at.latitude + 1e-6 * f64::from(u16::try_from(number / BATCH as u64 % 1_000).unwrap());
            append.arg(driver).arg(lat).arg(at.longitude).arg(micros).arg(1);
            latest.key(format!("driver:{driver}"));
            latest.arg(driver).arg(lat).arg(at.longitude).arg(micros).arg(expires);
            rows.drivers.push(driver.clone());
            rows.lats.push(lat);
            rows.longs.push(at.longitude);
            rows.recorded_at.push(now);
        }
        let stored: u8 = append.invoke_async(connection).await.unwrap();
        assert_eq!(stored, 1, "the stream is full");
        latest.invoke_async::<()>(connection).await.unwrap();
        rows
    }
}

impl Rows {
    /// What waits, as much as one statement of the history takes.
    fn joined(taken: &mut VecDeque<Rows>) -> Option<Rows> {
        let mut rows = taken.pop_front()?;
        while rows.drivers.len() + BATCH <= HISTORY_BATCH + BATCH / 2
            && let Some(more) = taken.pop_front()
        {
            rows.drivers.extend(more.drivers);
            rows.lats.extend(more.lats);
            rows.longs.extend(more.longs);
            rows.recorded_at.extend(more.recorded_at);
        }
        Some(rows)
    }
}

/// The way from the stream into the history.
struct History<'a> {
    stores: &'a RedisFixes,
    connection: MultiplexedConnection,
    /// The last id of each batch that is stored, and its length.
    stored: VecDeque<(String, u64)>,
    written: u64,
}

impl History<'_> {
    fn new(stores: &RedisFixes) -> History<'_> {
        History {
            stores,
            connection: stores.connection.clone(),
            stored: VecDeque::new(),
            written: 0,
        }
    }

    /// Reads as many entries of the stream as these are, inserts these, and trims the stream.
    async fn write(&mut self, rows: Rows) {
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
        self.written += self.stores.sql.execute(&self.stores.insert, &columns).await.unwrap();
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
    }
}
