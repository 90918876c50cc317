//! The history of fixes in Postgres. Rows and the cursor that says how far the stream is read move in one commit.

use std::collections::BTreeSet;

use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan as _};
use tokio_postgres::Row;
use tokio_postgres::types::ToSql;
use waybill_domain::fix::Fix;
use waybill_domain::id::DriverId;
use waybill_domain::position::Position;

use super::StoreError;
use super::live::BEGINNING;
use super::postgres::Postgres;

/// What became of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Written {
    /// It is stored and the cursor moved.
    Yes {
        /// Rows that were new; the others were duplicates.
        inserted: u64,
    },
    /// Another writer moved the cursor meanwhile; nothing was written.
    CursorMoved,
}

/// How far a stream is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamCursor {
    /// The stream's name.
    pub stream: String,
    /// Its last stored entry; `0-0` when there is none.
    pub last_id: String,
}

/// The end of the year 9998: no day after it has a partition.
const STORABLE_UNTIL: Timestamp = Timestamp::constant(253_370_764_800, 0);

/// A time range of one driver's fixes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Listed {
    /// From this time on; `None`: from the oldest.
    pub from: Option<Timestamp>,
    /// Until before this time; `None`: to the newest.
    pub until: Option<Timestamp>,
    /// Whether the oldest comes first. Else the newest does.
    pub oldest_first: bool,
}

/// The history of fixes.
#[derive(Clone)]
pub struct HistoryStore {
    postgres: Postgres,
    instance: String,
}

statements! {
    ENSURE_CURSOR = "insert into history_cursors (stream) values ($1) on conflict (stream) do nothing";
    /// Takes or keeps the writer's lease, and reads the cursor.
    CLAIM_CURSOR = "update history_cursors
                       set lease_owner = $2, lease_until = now() + interval '5 seconds'
                     where stream = $1 and (lease_owner is null or lease_owner = $2 or lease_until < now())
                    returning last_id, epoch";
    /// Compare and set, as below: from where on the stream is read, and which Redis it is in.
    SET_EPOCH = "update history_cursors set last_id = $3, epoch = $4, updated_at = now() where stream = $1 and last_id = $2";
    /// Gives the lease back, so that another instance need not wait for its end.
    YIELD_CURSOR = "update history_cursors set lease_owner = null, lease_until = null
                     where stream = $1 and lease_owner = $2";
    READ_CURSOR = "select last_id from history_cursors where stream = $1";
    READ_CURSORS = "select stream, last_id from history_cursors order by stream";
    /// Compare and set: of two writers that read the same entries, one gets no row and rolls back.
    MOVE_CURSOR = "update history_cursors set last_id = $3, updated_at = now() where stream = $1 and last_id = $2";
    INSERT_FIXES = "insert into driver_locations (driver_id, lat, long, recorded_at)
                    select * from unnest($1::text[], $2::float8[], $3::float8[], $4::timestamptz[])
                    on conflict (driver_id, recorded_at) do nothing";
    LIST_NEWEST = "select lat, long, recorded_at from driver_locations
                    where driver_id = $1
                      and recorded_at >= coalesce($2, '-infinity'::timestamptz)
                      and recorded_at < coalesce($3, 'infinity'::timestamptz)
                    order by recorded_at desc limit $4";
    LIST_OLDEST = "select lat, long, recorded_at from driver_locations
                    where driver_id = $1
                      and recorded_at >= coalesce($2, '-infinity'::timestamptz)
                      and recorded_at < coalesce($3, 'infinity'::timestamptz)
                    order by recorded_at limit $4";
    /// Lets the trigger pass what erases, until the transaction ends.
    ERASING = "select set_config('waybill.erasing', 'on', true)";
    ERASE_FIXES = "delete from driver_locations
                    where driver_id = $1
                      and recorded_at <= (select max(recorded_at)
                                            from (select recorded_at from driver_locations
                                                   where driver_id = $1 order by recorded_at limit $2) oldest)";
    /// Fixes of this transaction are drawn once more, which changes no pixel.
    ERASE_FROM_TRAIL_CURSOR = "update trail_cursor set driver_id = '', recorded_at = 'epoch' where driver_id = $1";
    PARTITIONS = "select c.relname::text
                    from pg_inherits i
                    join pg_class c on c.oid = i.inhrelid
                   where i.inhparent = 'driver_locations'::regclass";
}

impl HistoryStore {
    /// The history in `postgres`, written in the name of `instance`.
    pub fn new(postgres: Postgres, instance: String) -> HistoryStore {
        HistoryStore { postgres, instance }
    }

    /// Up to `limit` fixes of the driver.
    pub async fn list(&self, driver: &DriverId, listed: Listed, limit: i64) -> Result<Vec<Fix>, StoreError> {
        let statement = if listed.oldest_first { LIST_OLDEST } else { LIST_NEWEST };
        // Beyond these times there is nothing, and further out none that Postgres knows.
        let storable = |at: Timestamp| at.clamp(Timestamp::UNIX_EPOCH, STORABLE_UNTIL);
        let (from, until) = (listed.from.map(storable), listed.until.map(storable));
        let parameters: [&(dyn ToSql + Sync); 4] = [&driver.as_str(), &from, &until, &limit];
        let rows = self.postgres.query(statement, &parameters).await?;
        let fix = |row: &Row| {
            let position = Position::new(row.try_get("lat")?, row.try_get("long")?);
            Ok(Fix {
                driver: driver.clone(),
                position: position.map_err(StoreError::unexpected)?,
                recorded_at: row.try_get("recorded_at")?,
            })
        };
        rows.iter().map(fix).collect()
    }

    /// The last stored entry of the stream and the epoch that it is of, if this instance is its writer now.
    pub async fn claim_cursor(&self, stream: &str) -> Result<Option<(String, Option<String>)>, StoreError> {
        self.postgres.execute(ENSURE_CURSOR, &[&stream]).await?;
        let row = self
            .postgres
            .query_opt(CLAIM_CURSOR, &[&stream, &self.instance])
            .await?;
        row.map(|row| Ok((row.try_get(0)?, row.try_get(1)?))).transpose()
    }

    /// Moves the cursor from `from` to `to`, which is of this epoch. `false`: it was moved by someone else.
    pub async fn set_epoch(&self, stream: &str, from: &str, to: &str, epoch: Option<&str>) -> Result<bool, StoreError> {
        let moved = self.postgres.execute(SET_EPOCH, &[&stream, &from, &to, &epoch]).await?;
        Ok(moved == 1)
    }

    /// Stops being the stream's writer.
    pub async fn yield_cursor(&self, stream: &str) -> Result<(), StoreError> {
        self.postgres
            .execute(YIELD_CURSOR, &[&stream, &self.instance])
            .await
            .map(drop)
    }

    /// The last stored entry of the stream; `0-0` when there is none.
    pub async fn read_cursor(&self, stream: &str) -> Result<String, StoreError> {
        let row = self.postgres.query_opt(READ_CURSOR, &[&stream]).await?;
        row.map_or_else(|| Ok(BEGINNING.to_owned()), |row| Ok(row.try_get(0)?))
    }

    /// How far each stream is written that ever had a writer, by its name; those that no settings name any more, too.
    pub async fn cursors(&self) -> Result<Vec<StreamCursor>, StoreError> {
        let rows = self.postgres.query(READ_CURSORS, &[]).await?;
        let cursors = rows.iter().map(|row| {
            Ok(StreamCursor {
                stream: row.try_get(0)?,
                last_id: row.try_get(1)?,
            })
        });
        cursors.collect()
    }

    /// Stores the fixes and moves the cursor from `from` to `to`, in one commit.
    pub async fn write(&self, stream: &str, from: &str, to: &str, fixes: &[Fix]) -> Result<Written, StoreError> {
        let columns = Columns::of(fixes);
        self.postgres
            .call(async {
                let mut client = self.postgres.client().await?;
                let tx = client.transaction().await?;
                // The cursor first: it is the lock that keeps a second writer out.
                if MOVE_CURSOR.execute(&tx, &[&stream, &from, &to]).await? != 1 {
                    return Ok(Written::CursorMoved);
                }
                let inserted = INSERT_FIXES
                    .execute(
                        &tx,
                        &[&columns.drivers, &columns.lats, &columns.longs, &columns.recorded_at],
                    )
                    .await?;
                tx.commit().await?;
                Ok(Written::Yes { inserted })
            })
            .await
    }

    /// Deletes up to `limit` of the oldest fixes of a driver who is erased; how many.
    pub async fn erase(&self, driver: &DriverId, limit: i64) -> Result<u64, StoreError> {
        let work = async {
            let mut client = self.postgres.client().await?;
            let tx = client.transaction().await?;
            ERASING.query_one(&tx, &[]).await?;
            let deleted = ERASE_FIXES.execute(&tx, &[&driver.as_str(), &limit]).await?;
            ERASE_FROM_TRAIL_CURSOR.execute(&tx, &[&driver.as_str()]).await?;
            tx.commit().await?;
            Ok(deleted)
        };
        self.postgres.call(work).await
    }

    /// Makes the partitions of these days, where they do not exist.
    pub async fn ensure_partitions(&self, days: &BTreeSet<Date>) -> Result<(), StoreError> {
        for day in days {
            let next = day.checked_add(1.day()).map_err(StoreError::unexpected)?;
            // DDL takes no parameters; a civil date holds digits and dashes only.
            let ddl = format!(
                "create table if not exists {} partition of driver_locations
                 for values from ('{day} 00:00:00Z') to ('{next} 00:00:00Z')",
                partition_name(*day)
            );
            self.postgres
                .call(async { Ok(self.postgres.client().await?.batch_execute(&ddl).await?) })
                .await?;
        }
        Ok(())
    }

    /// Drops the partitions of days before `first_kept`. The names of those dropped.
    pub async fn drop_partitions_before(&self, first_kept: Date) -> Result<Vec<String>, StoreError> {
        let oldest_kept = partition_name(first_kept);
        let mut dropped = Vec::new();
        for row in self.postgres.query(PARTITIONS, &[]).await? {
            let name: String = row.try_get(0)?;
            // The names sort by day, and only ours are touched.
            if name.starts_with(PARTITION_PREFIX) && name.len() == oldest_kept.len() && name < oldest_kept {
                let ddl = format!("drop table if exists {name}");
                self.postgres
                    .call(async { Ok(self.postgres.client().await?.batch_execute(&ddl).await?) })
                    .await?;
                dropped.push(name);
            }
        }
        Ok(dropped)
    }
}

/// The day (UTC) whose partition holds this time.
pub fn day_of(at: Timestamp) -> Date {
    at.to_zoned(TimeZone::UTC).date()
}

const PARTITION_PREFIX: &str = "driver_locations_";

fn partition_name(day: Date) -> String {
    format!("{PARTITION_PREFIX}{:04}{:02}{:02}", day.year(), day.month(), day.day())
}

/// Fixes as columns, for `unnest`.
#[derive(Default)]
struct Columns<'a> {
    drivers: Vec<&'a str>,
    lats: Vec<f64>,
    longs: Vec<f64>,
    recorded_at: Vec<Timestamp>,
}

impl<'a> Columns<'a> {
    fn of(fixes: &'a [Fix]) -> Columns<'a> {
        Columns {
            drivers: fixes.iter().map(|fix| fix.driver.as_str()).collect(),
            lats: fixes.iter().map(|fix| fix.position.lat_deg()).collect(),
            longs: fixes.iter().map(|fix| fix.position.lon_deg()).collect(),
            recorded_at: fixes.iter().map(|fix| fix.recorded_at).collect(),
        }
    }
}
