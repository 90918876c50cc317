//! Where drivers are, and which are near a point.

use std::collections::HashMap;

use futures_util::future::try_join_all;
use jiff::Timestamp;
use redis::{ErrorKind, RedisError, RedisResult};
use waybill_domain::fix::{Fix, LatestFix};
use waybill_domain::id::DriverId;
use waybill_domain::position::Position;
use waybill_domain::tenant::Tenant;

use super::circles::next_radius;
use super::{GEO_LATITUDE_MAX, LiveStore};
use crate::storage::StoreError;

/// The times that the history can hold, in Unix microseconds: 1970 to 9998. Outside of them a day has no name of eight
/// digits or no day after it, and so no partition. No fix that was acknowledged is there.
const STORABLE_MICROS: std::ops::Range<i64> = 0..253_370_764_800_000_000;

/// The fields of a key that should hold a fix.
type Hash = HashMap<String, String>;

/// Whether it says that a key holds something else than a fix.
fn is_foreign(error: &RedisError) -> bool {
    error.code() == Some("WRONGTYPE") || matches!(error.kind(), ErrorKind::UnexpectedReturnType | ErrorKind::Parse)
}

/// A circle to search.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SearchArea {
    /// Its centre.
    pub centre: Position,
    /// Its radius in metres.
    pub radius_m: f64,
}

/// A fresh driver in the circle.
#[derive(Debug, Clone, PartialEq)]
pub struct Near {
    /// Who.
    pub driver: DriverId,
    /// Great-circle distance from the centre, in metres.
    pub distance_m: f64,
}

/// What an index holds within a circle, up to a number, nearest first.
struct Found {
    /// A member that is no driver was not put there by Waybill, and must not hide those that are.
    members: usize,
    /// How far the last of them is, in metres.
    furthest_m: f64,
    drivers: Vec<Near>,
}

impl LiveStore {
    /// Whether Redis answers and takes writes: positions that are not written are old soon, and no one is found by them.
    pub async fn check(&self) -> Result<(), StoreError> {
        self.redis.check().await
    }

    /// The same, by a write in any case.
    pub async fn check_writes(&self) -> Result<(), StoreError> {
        self.redis.check_writes().await
    }

    /// The driver's latest fix; `None` when there is none that is fresh.
    pub async fn latest(&self, driver: &DriverId, now: Timestamp) -> Result<Option<LatestFix>, StoreError> {
        Ok(self
            .latest_of(std::slice::from_ref(driver), now)
            .await?
            .into_iter()
            .next()
            .flatten())
    }

    /// The latest fixes of several drivers, in their order. A key that another program holds is no fix.
    pub async fn latest_of(&self, drivers: &[DriverId], now: Timestamp) -> Result<Vec<Option<LatestFix>>, StoreError> {
        if drivers.is_empty() {
            return Ok(Vec::new());
        }
        let hashes = self.redis.call(self.hashes_of(drivers)).await?;
        let since = self.commands.fresh_since(now);
        let latest = |(driver, hash): (&DriverId, RedisResult<Hash>)| match hash {
            // The key expires by Redis' clock; which fix is fresh is decided by ours, here as everywhere.
            Ok(hash) => Ok(parse_latest(driver, &hash).filter(|latest| latest.arrived_at >= since)),
            // Another type than a hash, or bytes that are no text.
            Err(error) if is_foreign(&error) => Ok(None),
            Err(error) => Err(error.into()),
        };
        drivers.iter().zip(hashes).map(latest).collect()
    }

    /// What is at the keys of these drivers, in their order.
    async fn hashes_of(&self, drivers: &[DriverId]) -> RedisResult<Vec<RedisResult<Hash>>> {
        let mut connection = self.redis.connection();
        if !self.redis.is_cluster() {
            let mut pipeline = redis::pipe();
            pipeline.ignore_errors();
            for driver in drivers {
                pipeline.hgetall(self.keys.driver(driver));
            }
            return pipeline.query_async(&mut connection).await;
        }
        // Each is in a slot of its own.
        let read = drivers.iter().map(async |driver| {
            let command = redis::Cmd::hgetall(self.keys.driver(driver));
            match command.query_async(&mut connection.clone()).await {
                Err(error) if !is_foreign(&error) => Err(error),
                answer => Ok(answer),
            }
        });
        try_join_all(read).await
    }

    /// Whether any driver's position is fresh.
    pub async fn is_any_driver_fresh(&self, now: Timestamp) -> Result<bool, StoreError> {
        for keys in self.keys.shards() {
            let mut count = redis::cmd("ZCOUNT");
            count
                .arg(&keys.seen)
                .arg(self.commands.fresh_since(now).as_microsecond())
                .arg("+inf");
            let mut connection = self.redis.connection();
            let fresh: u64 = self
                .redis
                .call(async { count.query_async(&mut connection).await })
                .await?;
            if fresh > 0 {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// The nearest drivers of the tenant in the circle that were seen within the time to live and are `wanted`, nearest first, of the
    /// nearest `count`; and whether the circle holds no more than those.
    pub async fn nearest(
        &self,
        tenant: &Tenant,
        area: SearchArea,
        count: usize,
        now: Timestamp,
        wanted: impl Fn(&DriverId) -> bool,
    ) -> Result<(Vec<Near>, bool), StoreError> {
        if area.centre.lat_deg().abs() > GEO_LATITUDE_MAX {
            return Ok((Vec::new(), true));
        }
        let mut near = Vec::new();
        let mut whole = true;
        for keys in self.keys.shards_of(tenant) {
            let mut found = self.search_circles(&keys.geo, area, count).await?;
            whole &= found.members < count;
            // Before their freshness is asked for: in a busy city few of those near are wanted.
            found.drivers.retain(|near| wanted(&near.driver));
            near.extend(self.keep_fresh(&keys.seen, found.drivers, now).await?);
        }
        near.sort_by(|a, b| a.distance_m.total_cmp(&b.distance_m));
        near.truncate(count);
        Ok((near, whole))
    }

    /// Looks close by first, and further as long as too few are found.
    async fn search_circles(&self, geo: &str, area: SearchArea, count: usize) -> Result<Found, StoreError> {
        let mut radius_m = self.densities.first_radius(geo, area.centre, count, area.radius_m);
        let mut before = None;
        loop {
            let found = self.search_index(geo, SearchArea { radius_m, ..area }, count).await?;
            if found.members < count
                && let Some(next) = next_radius(radius_m, (before, found.members), count, area.radius_m)
            {
                (radius_m, before) = (next, Some(found.members));
                continue;
            }
            let within_m = if found.members < count {
                radius_m
            } else {
                found.furthest_m
            };
            self.densities.learn(geo, area.centre, count, (found.members, within_m));
            return Ok(found);
        }
    }

    async fn search_index(&self, geo: &str, area: SearchArea, count: usize) -> Result<Found, StoreError> {
        // As the index has the place; see append.lua.
        let lon_deg = match area.centre.lon_deg() {
            lon_deg if lon_deg >= 180.0 => -180.0,
            lon_deg => lon_deg,
        };
        let mut search = redis::cmd("GEOSEARCH");
        search
            .arg(geo)
            .arg("FROMLONLAT")
            .arg(lon_deg)
            .arg(area.centre.lat_deg());
        search
            .arg("BYRADIUS")
            .arg(area.radius_m)
            .arg("m")
            .arg("ASC")
            .arg("COUNT")
            .arg(count)
            .arg("WITHDIST");
        let mut connection = self.redis.connection();
        let found: Vec<(String, f64)> = self
            .redis
            .call(async { search.query_async(&mut connection).await })
            .await?;
        let driver = |(name, distance_m): (String, f64)| {
            Some(Near {
                driver: DriverId::stored(&name).ok()?,
                distance_m,
            })
        };
        Ok(Found {
            members: found.len(),
            furthest_m: found.last().map_or(0.0, |(_, distance_m)| *distance_m),
            drivers: found.into_iter().filter_map(driver).collect(),
        })
    }

    /// Drops stale drivers: the index alone does not show them, its members do not expire.
    async fn keep_fresh(&self, seen: &str, found: Vec<Near>, now: Timestamp) -> Result<Vec<Near>, StoreError> {
        if found.is_empty() {
            return Ok(found);
        }
        let mut scores = redis::cmd("ZMSCORE");
        scores.arg(seen);
        for near in &found {
            scores.arg(near.driver.as_str());
        }
        let mut connection = self.redis.connection();
        let scores: Vec<Option<f64>> = self
            .redis
            .call(async { scores.query_async(&mut connection).await })
            .await?;
        #[allow(
            clippy::cast_precision_loss,
            reason = "microseconds since 1970 are exact in a double until 2255"
        )]
        let since = self.commands.fresh_since(now).as_microsecond() as f64;
        let fresh = scores.into_iter().map(|score| score.is_some_and(|at| at >= since));
        Ok(found
            .into_iter()
            .zip(fresh)
            .filter_map(|(near, fresh)| fresh.then_some(near))
            .collect())
    }
}

/// The fix in the hash of this driver; `None` where another program holds it.
fn parse_latest(driver: &DriverId, hash: &HashMap<String, String>) -> Option<LatestFix> {
    let field = |name: &str| hash.get(name).map(String::as_str);
    field("driver_id").filter(|held| *held == driver.as_str())?;
    let fix = parse_fix(driver.clone(), field).ok()?;
    // An instance of the version before does not write it.
    let arrived_at = field("arrived_at").and_then(|text| text.parse().ok());
    let arrived_at = arrived_at.and_then(|micros| Timestamp::from_microsecond(micros).ok());
    Some(LatestFix {
        arrived_at: arrived_at.unwrap_or(fix.recorded_at),
        fix,
    })
}

/// The fix in the fields of a hash or a stream entry.
pub(super) fn parse_fix<'a>(driver: DriverId, field: impl Fn(&str) -> Option<&'a str>) -> Result<Fix, StoreError> {
    let number = |name: &str| field(name).and_then(|text| text.parse::<f64>().ok());
    let position = number("lat")
        .zip(number("long"))
        .and_then(|(lat, long)| Position::new(lat, long).ok());
    let recorded_at = field("timestamp")
        .and_then(|text| text.parse::<i64>().ok())
        .filter(|micros| STORABLE_MICROS.contains(micros))
        .and_then(|micros| Timestamp::from_microsecond(micros).ok());
    match (position, recorded_at) {
        (Some(position), Some(recorded_at)) => Ok(Fix {
            driver,
            position,
            recorded_at,
        }),
        _ => Err(StoreError::unexpected(format!(
            "the stored fix of driver {driver} cannot be read"
        ))),
    }
}

pub(super) fn parse_driver(name: &str) -> Result<DriverId, StoreError> {
    DriverId::stored(name).map_err(|error| StoreError::unexpected(format!("a stored driver id {error}")))
}
