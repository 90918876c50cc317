//! What both baselines of fixes share: batches of fixes, the database that they end in, and the pace. Several batches are on their way to
//! Redis at a time, and Postgres is written meanwhile.

use std::collections::VecDeque;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use tokio_postgres::Client;

use crate::load::city::place_of;
use crate::server::migrate;
use crate::world::World;
use testkit::benchmark::rounds::Turn;
use testkit::process::program;

/// Two whole messages: the server takes them whole while it has less than `locations.batch_max`, 512. As many as `locations.history_batch_max`
/// by default: a batch is a statement of the history.
pub const BATCH: usize = 1_000;
/// Batches on their way at a time.
const IN_FLIGHT: usize = 4;

/// The fixes of a fleet, batch for batch.
pub struct Batches {
    drivers: Vec<String>,
    next: AtomicU64,
}

/// What one batch puts into the stream, for the history.
#[derive(Default)]
pub struct Rows {
    pub drivers: Vec<String>,
    pub lats: Vec<f64>,
    pub longs: Vec<f64>,
    pub recorded_at: Vec<Timestamp>,
}

impl Batches {
    /// Of so many drivers.
    pub fn of(drivers: usize) -> Batches {
        Batches {
            drivers: (0..drivers).map(|driver| format!("load-driver-{driver:06}")).collect(),
            next: AtomicU64::new(0),
        }
    }

    /// The next one, of now. No driver is in it twice.
    pub fn next(&self) -> Rows {
        let now = Timestamp::now();
        let first = self.next.fetch_add(BATCH as u64, Ordering::Relaxed);
        let mut rows = Rows::default();
        for number in first..first + BATCH as u64 {
            let place = usize::try_from(number).unwrap() % self.drivers.len();
            let at = place_of(place, self.drivers.len());
            let moved = 1e-6 * f64::from(u16::try_from(number / BATCH as u64 % 1_000).unwrap());
            rows.drivers.push(self.drivers[place].clone());
            rows.lats.push(at.latitude() + moved);
            rows.longs.push(at.longitude());
            rows.recorded_at.push(now);
        }
        rows
    }
}

impl Rows {
    /// Each fix: driver, latitude, longitude, time.
    pub fn iter(&self) -> impl Iterator<Item = (&String, f64, f64, Timestamp)> {
        let places = self.lats.iter().zip(&self.longs);
        let rows = self.drivers.iter().zip(places).zip(&self.recorded_at);
        rows.map(|((driver, (lat, long)), at)| (driver, *lat, *long, *at))
    }
}

/// A session on a migrated database with a history for today and tomorrow.
pub async fn history(world: &World, database: &str) -> Client {
    migrate(world, &program(), database).await;
    let sql = world.session(database).await;
    let day = Timestamp::now().to_zoned(jiff::tz::TimeZone::UTC).date();
    let partition = format!(
        "create table driver_locations_baseline partition of driver_locations
         for values from ('{day} 00:00:00Z') to ('{} 00:00:00Z')",
        day.tomorrow().unwrap().tomorrow().unwrap()
    );
    sql.batch_execute(&partition).await.unwrap();
    sql
}

/// Takes fixes in for so long, by `take`, which returns what it put into Redis, and `write`, which returns how many rows it made of that. It
/// ends when the last one is written.
pub async fn run(time: Duration, take: impl AsyncFn() -> Rows, mut write: impl AsyncFnMut(Rows) -> u64) -> Turn {
    let began_at = Instant::now();
    let taken = Mutex::new(VecDeque::<Rows>::new());
    let is_taking = AtomicU64::new(IN_FLIGHT as u64);
    let take = |_| async {
        while began_at.elapsed() < time {
            let rows = take().await;
            taken.lock().unwrap().push_back(rows);
        }
        is_taking.fetch_sub(1, Ordering::Release);
    };
    let write = async {
        let mut written = 0;
        loop {
            // Asked first: what is taken in between is seen below.
            let is_over = is_taking.load(Ordering::Acquire) == 0;
            let rows = taken.lock().unwrap().pop_front();
            match rows {
                Some(rows) => written += write(rows).await,
                None if is_over => return written,
                None => tokio::time::sleep(Duration::from_millis(1)).await,
            }
        }
    };
    let all = futures_util::future::join_all((0..IN_FLIGHT).map(take));
    let (_, count) = tokio::join!(all, write);
    Turn {
        count,
        elapsed: began_at.elapsed(),
        all: count,
    }
}
