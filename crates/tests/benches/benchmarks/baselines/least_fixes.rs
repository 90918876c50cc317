//! The least work for fixes: bare `HSET` and `XADD`, pipelined, and the same rows into the history by binary `COPY`, at the same time.
//!
//! No index of places, no time of expiry, no comparison with what is newer, and the rows are never read out of the stream: they are known here.

use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::streams::StreamMaxlen;
use tokio_postgres::Client;
use tokio_postgres::binary_copy::BinaryCopyInWriter;
use tokio_postgres::types::Type;

use super::fix_batches::{self, Batches, Rows};
use crate::world::World;
use testkit::benchmark::rounds::Turn;

/// As `locations.keep_stored` is by default.
const KEEP: usize = 10_000;
const COPY: &str = "copy driver_locations (driver_id, lat, long, recorded_at) from stdin (format binary)";
const TYPES: [Type; 4] = [Type::TEXT, Type::FLOAT8, Type::FLOAT8, Type::TIMESTAMPTZ];

/// The stores, bare.
pub struct LeastFixes {
    connection: MultiplexedConnection,
    sql: Client,
    batches: Batches,
}

impl LeastFixes {
    /// On a database of Redis and a migrated one of Postgres, which are its own; with so many drivers.
    pub async fn new(world: &World, database: &str, redis: u16, drivers: usize) -> LeastFixes {
        LeastFixes {
            connection: world.redis(redis).await,
            sql: fix_batches::history(world, database).await,
            batches: Batches::of(drivers),
        }
    }

    /// Takes fixes in for so long. It ends when the last one is in the history.
    pub async fn run(&self, time: Duration) -> Turn {
        fix_batches::run(time, async || self.take().await, async |rows| self.copy(rows).await).await
    }

    async fn take(&self) -> Rows {
        let rows = self.batches.next();
        let mut pipe = redis::pipe();
        for (driver, lat, long, at) in rows.iter() {
            let micros = at.as_microsecond();
            let fields = [
                ("lat", lat.to_string()),
                ("long", long.to_string()),
                ("timestamp", micros.to_string()),
            ];
            pipe.cmd("HSET")
                .arg(format!("driver:{driver}"))
                .arg("driver_id")
                .arg(driver);
            pipe.arg(&fields).ignore();
            pipe.cmd("XADD")
                .arg("location_events")
                .arg(StreamMaxlen::Approx(KEEP))
                .arg("*");
            pipe.arg("driver_id").arg(driver).arg(&fields).ignore();
        }
        pipe.exec_async(&mut self.connection.clone()).await.unwrap();
        rows
    }

    async fn copy(&self, rows: Rows) -> u64 {
        let sink = self.sql.copy_in(COPY).await.unwrap();
        let mut writer = std::pin::pin!(BinaryCopyInWriter::new(sink, &TYPES));
        for (driver, lat, long, at) in rows.iter() {
            writer.as_mut().write(&[driver, &lat, &long, &at]).await.unwrap();
        }
        writer.finish().await.unwrap()
    }
}
