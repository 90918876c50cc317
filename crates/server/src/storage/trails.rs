//! The tiles that the fleet draws, and how far its history is drawn. New parts of tiles and the cursor move in one commit.

use std::collections::BTreeMap;

use jiff::Timestamp;
use jiff::civil::Date;
use tokio_postgres::Row;
use tokio_postgres::types::ToSql;
use waybill_domain::fix::Fix;
use waybill_domain::id::DriverId;
use waybill_domain::position::Position;
use waybill_domain::trails::segment::TIME_MAX;
use waybill_domain::trails::{Canvas, Drawn, Pixels, TileId, parts};

use super::StoreError;
use super::postgres::Postgres;

/// Rows that one statement deletes at most.
const DELETED_AT_ONCE: i64 = 1_000;

/// The last fix that is drawn, in the order of arrival.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrailCursor {
    /// The transaction that stored it.
    tx: String,
    driver: String,
    recorded_at: Timestamp,
}

/// A fix that is not drawn yet, with the driver's fixes beside it.
#[derive(Debug, Clone)]
pub struct Arrival {
    /// The fix.
    pub fix: Fix,
    /// The driver's fix before it, if it is near in time.
    pub before: Option<Fix>,
    /// The one after it, if that arrived earlier. Else the way to that one is drawn when it is read itself.
    pub after: Option<Fix>,
    /// Where the cursor is once this is drawn.
    pub cursor: TrailCursor,
}

/// What became of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Added {
    /// It is stored and the cursor moved.
    Yes,
    /// Another server moved the cursor meanwhile; nothing was added.
    CursorMoved,
}

/// The parts of a tile's day that are worth merging.
#[derive(Debug)]
pub struct Mergeable {
    tile: TileId,
    day: Date,
    parts: Vec<i64>,
}

/// The tiles.
#[derive(Clone)]
pub struct TrailStore {
    postgres: Postgres,
    instance: String,
}

statements! {
    /// Takes or keeps the lease, and reads the cursor. A cursor of the future is that of another cluster, whose dump this
    /// database was made from: all is drawn again then, which changes no pixel.
    CLAIM_CURSOR = "update trail_cursor
                       set lease_owner = $1, lease_until = now() + interval '30 seconds',
                           tx = case when tx < pg_snapshot_xmax(pg_current_snapshot()) then tx else '0' end
                     where lease_owner is null or lease_owner = $1 or lease_until < now()
                    returning trail_cursor.tx::text as tx, driver_id, recorded_at";
    YIELD_CURSOR = "update trail_cursor set lease_owner = null, lease_until = null where lease_owner = $1";
    /// Only what no transaction that still runs can precede. The neighbours by the primary key; each pair is drawn with the
    /// one of the two that arrived last.
    ARRIVALS = "with arrived as materialized (
                    select l.tx, l.driver_id, l.recorded_at, l.lat, l.long
                      from driver_locations l
                     where l.tx >= $1::text::xid8
                       and (l.tx, l.driver_id, l.recorded_at) > ($1::text::xid8, $2, $3)
                       and l.tx < pg_snapshot_xmin(pg_current_snapshot())
                     order by l.tx, l.driver_id, l.recorded_at
                     limit $4)
                select a.tx::text as tx, a.driver_id, a.recorded_at, a.lat, a.long,
                       b.recorded_at as before_at, b.lat as before_lat, b.long as before_long,
                       c.recorded_at as after_at, c.lat as after_lat, c.long as after_long
                  from arrived a
                  left join lateral (
                       select l.recorded_at, l.lat, l.long
                         from driver_locations l
                        where l.driver_id = a.driver_id
                          and l.recorded_at < a.recorded_at
                          and l.recorded_at >= a.recorded_at - make_interval(secs => $5)
                        order by l.recorded_at desc limit 1) b on true
                  left join lateral (
                       select l.recorded_at, l.lat, l.long, l.tx
                         from driver_locations l
                        where l.driver_id = a.driver_id
                          and l.recorded_at > a.recorded_at
                          and l.recorded_at <= a.recorded_at + make_interval(secs => $5)
                        order by l.recorded_at limit 1) c on coalesce(c.tx < a.tx, true)
                 order by a.tx, a.driver_id, a.recorded_at";
    /// The first fix that waits, also behind a transaction that still runs.
    WAITING = "select l.recorded_at
                 from driver_locations l
                where l.tx >= $1::text::xid8 and (l.tx, l.driver_id, l.recorded_at) > ($1::text::xid8, $2, $3)
                order by l.tx limit 1";
    /// Compare and set: of two servers that read the same fixes, one gets no row and rolls back.
    MOVE_CURSOR = "update trail_cursor
                      set tx = $4::text::xid8, driver_id = $5, recorded_at = $6, updated_at = now()
                    where tx = $1::text::xid8 and driver_id = $2 and recorded_at = $3";
    ADD_PARTS = "insert into trails (zoom, x, y, day, pixels)
                 select * from unnest($1::int2[], $2::int4[], $3::int4[], $4::date[], $5::bytea[])";
    /// Of these tiles, the parts of each that has too many, the smallest first. Sizes are read without the pixels.
    CROWDED = "select t.zoom, t.x, t.y, t.day,
                      array_agg(t.part order by octet_length(t.pixels), t.part) as parts,
                      array_agg(octet_length(t.pixels)::int8 order by octet_length(t.pixels), t.part) as sizes
                 from unnest($1::int2[], $2::int4[], $3::int4[], $4::date[]) touched (zoom, x, y, day)
                 join trails t on (t.zoom, t.x, t.y, t.day) = (touched.zoom, touched.x, touched.y, touched.day)
                group by t.zoom, t.x, t.y, t.day
               having count(*) > $5";
    /// Reads what it deletes: whoever merges at the same time gets other parts, or none.
    TAKE_PARTS = "delete from trails t
                   using unnest($1::int2[], $2::int4[], $3::int4[], $4::date[], $5::int8[]) taken (zoom, x, y, day, part)
                   where (t.zoom, t.x, t.y, t.day, t.part) = (taken.zoom, taken.x, taken.y, taken.day, taken.part)
                  returning t.zoom, t.x, t.y, t.day, t.pixels";
    TILE = "select pixels from trails where zoom = $1 and x = $2 and y = $3 and day >= $4";
    DROP_DAYS = "delete from trails
                  where ctid = any (array(select ctid from trails where day < coalesce($1, 'infinity'::date) limit $2))";
    RESET_CURSOR = "update trail_cursor set tx = '0', driver_id = '', recorded_at = 'epoch' where tx <> '0'";
}

impl TrailStore {
    /// The tiles in `postgres`, drawn in the name of `instance`.
    pub fn new(postgres: Postgres, instance: String) -> TrailStore {
        TrailStore { postgres, instance }
    }

    /// How far the history is drawn, if this instance is the one that draws now.
    pub async fn claim_cursor(&self) -> Result<Option<TrailCursor>, StoreError> {
        let row = self.postgres.query_opt(CLAIM_CURSOR, &[&self.instance]).await?;
        row.as_ref().map(TrailCursor::of).transpose()
    }

    /// Stops being the one that draws.
    pub async fn yield_cursor(&self) -> Result<(), StoreError> {
        self.postgres.execute(YIELD_CURSOR, &[&self.instance]).await.map(drop)
    }

    /// The next fixes after the cursor, in the order of arrival.
    pub async fn arrivals(&self, cursor: &TrailCursor, limit: usize) -> Result<Vec<Arrival>, StoreError> {
        let limit = i64::try_from(limit).map_err(StoreError::unexpected)?;
        let time_max = TIME_MAX.as_secs_f64();
        let TrailCursor {
            tx,
            driver,
            recorded_at,
        } = cursor;
        let rows = self
            .postgres
            .query(ARRIVALS, &[tx, driver, recorded_at, &limit, &time_max])
            .await?;
        rows.iter().map(arrival).collect()
    }

    /// When the first fix was recorded that is stored and not drawn. `None`: all are drawn.
    pub async fn first_waiting(&self, cursor: &TrailCursor) -> Result<Option<Timestamp>, StoreError> {
        let TrailCursor {
            tx,
            driver,
            recorded_at,
        } = cursor;
        let row = self.postgres.query_opt(WAITING, &[tx, driver, recorded_at]).await?;
        row.map(|row| Ok(row.try_get(0)?)).transpose()
    }

    /// Adds what was drawn, and moves the cursor from `from` to `to`, in one commit.
    pub async fn add(&self, from: &TrailCursor, to: &TrailCursor, drawn: &[Drawn]) -> Result<Added, StoreError> {
        let columns = Columns::of(drawn.iter().map(|drawn| (drawn.tile, drawn.day)))?;
        let pixels: Vec<Vec<u8>> = drawn.iter().map(|drawn| drawn.pixels.encode()).collect();
        self.postgres
            .call(async {
                let mut client = self.postgres.client().await?;
                let tx = client.transaction().await?;
                // The cursor first: it is the lock that keeps a second server out.
                let keys: [&(dyn ToSql + Sync); 6] = [
                    &from.tx,
                    &from.driver,
                    &from.recorded_at,
                    &to.tx,
                    &to.driver,
                    &to.recorded_at,
                ];
                if MOVE_CURSOR.execute(&tx, &keys).await? != 1 {
                    return Ok(Added::CursorMoved);
                }
                ADD_PARTS
                    .execute(&tx, &[&columns.zooms, &columns.xs, &columns.ys, &columns.days, &pixels])
                    .await?;
                tx.commit().await?;
                Ok(Added::Yes)
            })
            .await
    }

    /// Of these tiles, the parts that are worth merging.
    pub async fn mergeable(&self, drawn: &[Drawn]) -> Result<Vec<Mergeable>, StoreError> {
        let columns = Columns::of(drawn.iter().map(|drawn| (drawn.tile, drawn.day)))?;
        let parts_max = i64::try_from(parts::PARTS_MAX).map_err(StoreError::unexpected)?;
        let parameters: [&(dyn ToSql + Sync); 5] =
            [&columns.zooms, &columns.xs, &columns.ys, &columns.days, &parts_max];
        let rows = self.postgres.query(CROWDED, &parameters).await?;
        rows.iter().map(mergeable).collect()
    }

    /// Makes one part of these of each tile, in one commit.
    pub async fn merge(&self, mergeable: &[Mergeable]) -> Result<(), StoreError> {
        let (columns, parts) = Mergeable::columns(mergeable)?;
        self.postgres
            .call(async {
                let mut client = self.postgres.client().await?;
                let tx = client.transaction().await?;
                let parameters: [&(dyn ToSql + Sync); 5] =
                    [&columns.zooms, &columns.xs, &columns.ys, &columns.days, &parts];
                let taken = TAKE_PARTS.query(&tx, &parameters).await?;
                let (columns, merged) = merged_by_tile(taken)?;
                ADD_PARTS
                    .execute(&tx, &[&columns.zooms, &columns.xs, &columns.ys, &columns.days, &merged])
                    .await?;
                Ok(tx.commit().await?)
            })
            .await
    }

    /// Who passed each pixel of a tile since this day. `None`: no one passed any.
    pub async fn tile(&self, tile: TileId, first_day: Date) -> Result<Option<Canvas>, StoreError> {
        let (zoom, x, y) = place(tile)?;
        let rows = self.postgres.query(TILE, &[&zoom, &x, &y, &first_day]).await?;
        if rows.is_empty() {
            return Ok(None);
        }
        // A tile of a dense city takes milliseconds, which are not the runtime's.
        let merged = tokio::task::spawn_blocking(move || merged(&rows)).await;
        merged.map_err(StoreError::unexpected)?.map(Some)
    }

    /// Drops some of the parts of days before `first_kept`; `None`: of all days. How many, and whether there may be more.
    pub async fn drop_days_before(&self, first_kept: Option<Date>) -> Result<(u64, bool), StoreError> {
        let dropped = self
            .postgres
            .execute(DROP_DAYS, &[&first_kept, &DELETED_AT_ONCE])
            .await?;
        Ok((dropped, i64::try_from(dropped) == Ok(DELETED_AT_ONCE)))
    }

    /// Whoever draws again after this begins with the first fix of all.
    pub async fn reset_cursor(&self) -> Result<(), StoreError> {
        self.postgres.execute(RESET_CURSOR, &[]).await.map(drop)
    }
}

impl TrailCursor {
    fn of(row: &Row) -> Result<TrailCursor, StoreError> {
        Ok(TrailCursor {
            tx: row.try_get("tx")?,
            driver: row.try_get("driver_id")?,
            recorded_at: row.try_get("recorded_at")?,
        })
    }
}

impl Mergeable {
    /// All their parts, as columns.
    fn columns(all: &[Mergeable]) -> Result<(Columns, Vec<i64>), StoreError> {
        let each = all.iter().flat_map(|of| of.parts.iter().map(|_| (of.tile, of.day)));
        let parts = all.iter().flat_map(|of| of.parts.iter().copied());
        Ok((Columns::of(each)?, parts.collect()))
    }
}

fn arrival(row: &Row) -> Result<Arrival, StoreError> {
    let driver = DriverId::stored(row.try_get("driver_id")?).map_err(StoreError::unexpected)?;
    let fix = |at: &str, lat: &str, long: &str| {
        let Some(recorded_at) = row.try_get(at)? else {
            return Ok::<_, StoreError>(None);
        };
        let position = Position::new(row.try_get(lat)?, row.try_get(long)?);
        Ok(Some(Fix {
            driver: driver.clone(),
            position: position.map_err(StoreError::unexpected)?,
            recorded_at,
        }))
    };
    Ok(Arrival {
        fix: fix("recorded_at", "lat", "long")?.ok_or_else(|| StoreError::unexpected("a fix without a time"))?,
        before: fix("before_at", "before_lat", "before_long")?,
        after: fix("after_at", "after_lat", "after_long")?,
        cursor: TrailCursor::of(row)?,
    })
}

fn day_of_tile(row: &Row) -> Result<(TileId, Date), StoreError> {
    let (zoom, x, y): (i16, i32, i32) = (row.try_get("zoom")?, row.try_get("x")?, row.try_get("y")?);
    let tile = || TileId::new(zoom.try_into().ok()?, x.try_into().ok()?, y.try_into().ok()?);
    let tile = tile().ok_or_else(|| StoreError::unexpected("a tile that is not on the map"))?;
    Ok((tile, row.try_get("day")?))
}

fn mergeable(row: &Row) -> Result<Mergeable, StoreError> {
    let (tile, day) = day_of_tile(row)?;
    let sizes: Vec<i64> = row.try_get("sizes")?;
    let sizes: Vec<u64> = sizes.into_iter().map(i64::unsigned_abs).collect();
    let mut parts: Vec<i64> = row.try_get("parts")?;
    parts.truncate(parts::worth_merging(&sizes));
    Ok(Mergeable { tile, day, parts })
}

/// One part of each tile's day that is among these.
fn merged_by_tile(rows: Vec<Row>) -> Result<(Columns, Vec<Vec<u8>>), StoreError> {
    let mut tiles: BTreeMap<(TileId, Date), Vec<Row>> = BTreeMap::new();
    for row in rows {
        tiles.entry(day_of_tile(&row)?).or_default().push(row);
    }
    let pixels = tiles.values().map(|rows| Ok(merged(rows)?.pixels().encode()));
    let pixels = pixels.collect::<Result<_, StoreError>>()?;
    Ok((Columns::of(tiles.into_keys())?, pixels))
}

fn merged(rows: &[Row]) -> Result<Canvas, StoreError> {
    let mut canvas = Canvas::default();
    for row in rows {
        canvas.merge(&Pixels::decode(row.try_get("pixels")?).map_err(StoreError::unexpected)?);
    }
    Ok(canvas)
}

/// A tile as Postgres has it.
fn place(tile: TileId) -> Result<(i16, i32, i32), StoreError> {
    let number = |value: u32| i32::try_from(value).map_err(StoreError::unexpected);
    Ok((i16::from(tile.zoom()), number(tile.x())?, number(tile.y())?))
}

/// Days of tiles as columns, for `unnest`.
#[derive(Default)]
struct Columns {
    zooms: Vec<i16>,
    xs: Vec<i32>,
    ys: Vec<i32>,
    days: Vec<Date>,
}

impl Columns {
    fn of(tiles: impl IntoIterator<Item = (TileId, Date)>) -> Result<Columns, StoreError> {
        let mut columns = Columns::default();
        for (tile, day) in tiles {
            let (zoom, x, y) = place(tile)?;
            columns.zooms.push(zoom);
            columns.xs.push(x);
            columns.ys.push(y);
            columns.days.push(day);
        }
        Ok(columns)
    }
}
