//! `waybill.fleet.v1.FleetService`: the fleet as it is now.

use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::BoxStream;
use jiff::{SignedDuration, Timestamp};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};
use waybill_domain::access::{Method, Scope};
use waybill_domain::fix::Fix;
use waybill_domain::id::DriverId;
use waybill_domain::live::Area;
use waybill_domain::search_weight::{RADIUS_MAX_M, search_weight};
use waybill_proto::fleet::v1 as pb;
use waybill_proto::fleet::v1::fleet_service_server::FleetService as Api;

use super::classes::class;
use super::edge::IngressLimits;
use super::fields::{Violations, duration};
use super::replay::{Replayed, not_a_cursor, parse_replay, replayed};
use super::status::not_permitted;
use super::{principal, render};
use crate::live_feed::{FleetNews, LiveFeed, WatchedDrivers};
use crate::locations::replay::Replay;
use crate::orders::Dispatch;
use crate::storage::history::{HistoryStore, Listed};
use crate::storage::live::{LiveStore, SearchArea};
use crate::storage::orders::OrderStore;

/// The radius in metres where none is given, and the largest.
const RADIUS_M: (f64, f64) = (5_000.0, RADIUS_MAX_M);
/// So many bad ids are named in a refusal.
const BAD_NAMED_MAX: usize = 10;
/// Fixes on a page where that is not said, and at most.
const LOCATIONS: (usize, usize) = (100, 1_000);
/// How many drivers are watched by their ids at most.
const WATCHED_MAX: usize = 100;
/// How often is looked for changes where that is not said, and how often it may be.
const INTERVAL_DEFAULT: Duration = Duration::from_secs(1);
const INTERVAL: RangeInclusive<Duration> = Duration::from_millis(250)..=Duration::from_secs(30);
/// The count where none is given, and the largest.
const COUNT: (i32, i32) = (8, 50);

/// The fleet service on the wire.
pub struct FleetApi {
    feed: LiveFeed,
    live: LiveStore,
    orders: OrderStore,
    history: HistoryStore,
    dispatch: Dispatch,
    limits: Arc<IngressLimits>,
    draining: CancellationToken,
}

impl FleetApi {
    /// Serves these stores within `limits`. Replays end once `draining` is cancelled.
    pub fn new(
        feed: LiveFeed,
        live: LiveStore,
        orders: OrderStore,
        history: HistoryStore,
        dispatch: Dispatch,
        limits: Arc<IngressLimits>,
        draining: CancellationToken,
    ) -> FleetApi {
        FleetApi {
            feed,
            live,
            orders,
            history,
            dispatch,
            limits,
            draining,
        }
    }
}

#[tonic::async_trait]
impl Api for FleetApi {
    async fn get_driver(
        &self,
        request: Request<pb::GetDriverRequest>,
    ) -> Result<Response<pb::GetDriverResponse>, Status> {
        let mut bad = Violations::default();
        let Some(driver) = bad.parse::<DriverId>("driver_id", &request.get_ref().driver_id) else {
            return Err(bad.into_status());
        };
        let access = principal::access(&request)?;
        let driver = driver.of(&access.tenant());
        let principal = principal::of(&access, || principal::driver(driver.as_str()));
        let class = class(Method::GetDriver);
        self.limits.admit_call(class, &principal, &request).await?;
        let now = Timestamp::now();
        let unknown = || Status::not_found("there is no fresh fix of this driver");
        let (latest, active) = match &access.scope {
            scope @ (Scope::Everything | Scope::Tenant(_)) => {
                tokio::try_join!(self.live.latest(&driver, now), self.orders.active_order(scope, &driver))?
            }
            Scope::Driver(own) if *own != driver => return Err(unknown()),
            // A customer follows the driver of its order, and no other: the order is asked first.
            limited => {
                let active = self.orders.active_order(limited, &driver).await?;
                if active.is_none() && limited.driver().is_none() {
                    return Err(unknown());
                }
                (self.live.latest(&driver, now).await?, active)
            }
        };
        let latest = latest.ok_or_else(unknown)?;
        let mut driver = render::driver(&latest, active, now);
        // A customer sees who comes, and not what the driver's working day is like.
        if access.scope.user().is_none() {
            let id = &latest.fix.driver;
            let duty = self.orders.duty_of(std::slice::from_ref(id)).await?;
            let duty = duty.get(id);
            driver.off_duty = duty.is_some_and(|duty| !duty.is_on);
            driver.tags = duty.map_or_else(Vec::new, |duty| duty.tags.iter().map(str::to_owned).collect());
        }
        Ok(Response::new(pb::GetDriverResponse { driver: Some(driver) }))
    }

    type WatchDriversStream = BoxStream<'static, Result<pb::WatchDriversResponse, Status>>;

    async fn watch_drivers(
        &self,
        request: Request<pb::WatchDriversRequest>,
    ) -> Result<Response<Self::WatchDriversStream>, Status> {
        let (drivers, interval) = parse_watch(request.get_ref())?;
        let cursor = request.get_ref().cursor.clone();
        let access = principal::access(&request)?;
        let (drivers, field) = match drivers {
            WatchedDrivers::Drivers(ids) => {
                let ids = ids.into_iter().map(|driver| driver.of(&access.tenant()));
                (WatchedDrivers::Drivers(ids.collect()), Some("drivers"))
            }
            area @ WatchedDrivers::Area(_) => (area, Some("area")),
            order @ WatchedDrivers::Order(_) => (order, None),
        };
        if let (Scope::User(..) | Scope::Driver(_), Some(field)) = (&access.scope, field) {
            return Err(not_permitted(field, "is for the business to watch: name an order_id"));
        }
        let principal = principal::of(&access, || principal::address(request.extensions()));
        let class = class(Method::WatchDrivers);
        self.limits.admit_call(class, &principal, &request).await?;
        let watched = self.feed.watch(&access.scope, drivers, interval, &cursor).await?;
        let rendered = watched.map(|news| Ok(render_news(&news?)));
        Ok(Response::new(principal::until_ended(rendered, access).boxed()))
    }

    async fn list_locations(
        &self,
        request: Request<pb::ListLocationsRequest>,
    ) -> Result<Response<pb::ListLocationsResponse>, Status> {
        let (driver, listed, size) = parse_locations(request.get_ref())?;
        let access = principal::access(&request)?;
        let driver = driver.of(&access.tenant());
        let principal = principal::of(&access, || principal::driver(driver.as_str()));
        let class = class(Method::ListLocations);
        self.limits.admit_call(class, &principal, &request).await?;
        // Another driver's are as those of one that there is not.
        if access.scope.driver().is_some_and(|own| *own != driver) {
            return Ok(Response::new(pb::ListLocationsResponse::default()));
        }
        // One more than the page: whether there is a next one.
        let limit = i64::try_from(size).unwrap_or(i64::MAX).saturating_add(1);
        let mut fixes = self.history.list(&driver, listed, limit).await?;
        let more = fixes.len() > size;
        fixes.truncate(size);
        let next_page_token = match fixes.last() {
            Some(last) if more => locations_token(request.get_ref(), last.recorded_at),
            _ => String::new(),
        };
        let location = |fix: &Fix| pb::Location {
            position: Some(render::position(fix.position)),
            recorded_at: Some(render::timestamp(fix.recorded_at)),
        };
        Ok(Response::new(pb::ListLocationsResponse {
            locations: fixes.iter().map(location).collect(),
            next_page_token,
        }))
    }

    type ReplayLocationsStream = Replayed;

    async fn replay_locations(
        &self,
        request: Request<pb::ReplayLocationsRequest>,
    ) -> Result<Response<Replayed>, Status> {
        let from = parse_replay(request.get_ref())?;
        let access = principal::access(&request)?;
        let principal = principal::of(&access, || principal::address(request.extensions()));
        let class = class(Method::ReplayLocations);
        self.limits.admit_call(class, &principal, &request).await?;
        let replay = Replay::begin(self.live.clone(), &access.tenant(), &from).await?;
        let replayed = replayed(replay.ok_or_else(not_a_cursor)?, self.draining.clone());
        Ok(Response::new(principal::until_ended(replayed, access).boxed()))
    }

    async fn search_drivers(
        &self,
        request: Request<pb::SearchDriversRequest>,
    ) -> Result<Response<pb::SearchDriversResponse>, Status> {
        let (area, count) = parse_search(request.get_ref())?;
        let access = principal::access(&request)?;
        let principal = principal::of(&access, || principal::address(request.extensions()));
        let weight = search_weight(area.radius_m);
        self.limits
            .admit_weighted(class(Method::SearchDrivers), &principal, weight, &request)
            .await?;
        let near = self.dispatch.search(&access.tenant(), area, count).await?;
        let drivers: Vec<DriverId> = near.iter().map(|near| near.driver.clone()).collect();
        let now = Timestamp::now();
        let latest = self.live.latest_of(&drivers, now).await?;
        // A driver whose last fix became stale between the two reads is left out.
        let found = near.iter().zip(&latest).filter_map(|(near, latest)| {
            let driver = render::driver(latest.as_ref()?, None, now);
            Some(pb::NearbyDriver {
                driver: Some(driver),
                distance_meters: near.distance_m,
            })
        });
        Ok(Response::new(pb::SearchDriversResponse {
            drivers: found.collect(),
        }))
    }
}

fn render_news(news: &FleetNews) -> pb::WatchDriversResponse {
    let now = Timestamp::now();
    let drivers = news.drivers.iter();
    pb::WatchDriversResponse {
        reset: news.reset,
        drivers: drivers.map(|seen| render::seen(seen, now)).collect(),
        gone: news.gone.iter().map(|driver| driver.name().to_owned()).collect(),
        now: Some(render::timestamp(now)),
        more: news.more,
        cells: news.cells.iter().map(render::cell).collect(),
        cursor: news.cursor.clone(),
    }
}

/// Which drivers to watch, and how often to look. Ids are as the caller wrote them.
pub(super) fn parse_watch(request: &pb::WatchDriversRequest) -> Result<(WatchedDrivers, Duration), Status> {
    let mut bad = Violations::default();
    let drivers = match &request.scope {
        None => {
            bad.add("scope", "must name an area, drivers, or an order");
            None
        }
        Some(pb::watch_drivers_request::Scope::OrderId(id)) => bad.order_id(id).map(WatchedDrivers::Order),
        Some(pb::watch_drivers_request::Scope::Area(area)) => parse_area(&mut bad, area).map(WatchedDrivers::Area),
        Some(pb::watch_drivers_request::Scope::Drivers(drivers)) => {
            let ids = &drivers.driver_ids;
            if !(1..=WATCHED_MAX).contains(&ids.len()) {
                bad.add("drivers.driver_ids", "must be from 1 to 100");
            }
            let parsed = ids.iter().take(WATCHED_MAX).enumerate();
            let (mut good, mut bad_ones) = (Vec::new(), 0);
            for (number, id) in parsed {
                match bad.parse(&format!("drivers.driver_ids[{number}]"), id) {
                    Some(id) => good.push(id),
                    None => bad_ones += 1,
                }
                // A refusal has to fit into what clients read of one.
                if bad_ones == BAD_NAMED_MAX {
                    break;
                }
            }
            (bad_ones == 0).then_some(WatchedDrivers::Drivers(good))
        }
    };
    let interval = match &request.interval {
        None => Some(INTERVAL_DEFAULT),
        Some(given) => duration(given).filter(|interval| INTERVAL.contains(interval)),
    };
    if interval.is_none() {
        bad.add("interval", "must be from 0.25 s to 30 s, or not set for 1 s");
    }
    match (drivers, interval) {
        (Some(drivers), Some(interval)) if bad.is_empty() => Ok((drivers, interval)),
        _ => Err(bad.into_status()),
    }
}

fn parse_area(bad: &mut Violations, area: &pb::Area) -> Option<Area> {
    let south_west = bad.position("area.south_west", area.south_west.as_ref());
    let north_east = bad.position("area.north_east", area.north_east.as_ref());
    match Area::new(south_west?, north_east?) {
        Ok(area) => Some(area),
        Err(error) => {
            bad.add("area.south_west", &error.to_string());
            None
        }
    }
}

/// The driver, which of its fixes, and how many of them.
pub(super) fn parse_locations(request: &pb::ListLocationsRequest) -> Result<(DriverId, Listed, usize), Status> {
    let mut bad = Violations::default();
    let driver = bad.parse::<DriverId>("driver_id", &request.driver_id);
    let mut time =
        |field, given: &Option<prost_types::Timestamp>| given.as_ref().and_then(|given| bad.time(field, Some(given)));
    let (from, until) = (time("from", &request.from), time("until", &request.until));
    if from.zip(until).is_some_and(|(from, until)| until <= from) {
        bad.add("until", "must be after from");
    }
    if request.page_size < 0 {
        bad.add("page_size", "must not be negative");
    }
    let size = usize::try_from(request.page_size).unwrap_or(0);
    let size = if size == 0 { LOCATIONS.0 } else { size.min(LOCATIONS.1) };
    let mut listed = Listed {
        from,
        until,
        oldest_first: request.oldest_first,
    };
    if !request.page_token.is_empty() {
        let last = parse_locations_token(request);
        let last = last.filter(|last| from.is_none_or(|from| *last >= from) && until.is_none_or(|until| *last < until));
        match (last, request.oldest_first) {
            (None, _) => bad.add("page_token", "is not a token of this listing"),
            // What comes after the last fix of the page before. Times are in whole microseconds.
            (Some(last), true) => listed.from = last.checked_add(SignedDuration::from_micros(1)).ok().or(from),
            (Some(last), false) => listed.until = Some(last),
        }
    }
    match driver {
        Some(driver) if bad.is_empty() => Ok((driver, listed, size)),
        _ => Err(bad.into_status()),
    }
}

/// Where the next page begins, and of which listing it is a page. Opaque to callers.
fn locations_token(request: &pb::ListLocationsRequest, last: Timestamp) -> String {
    format!("{}{}", locations_listing(request), last.as_microsecond())
}

fn parse_locations_token(request: &pb::ListLocationsRequest) -> Option<Timestamp> {
    let micros = request.page_token.strip_prefix(&locations_listing(request))?;
    Timestamp::from_microsecond(micros.parse().ok()?).ok()
}

fn locations_listing(request: &pb::ListLocationsRequest) -> String {
    let time = |time: &Option<prost_types::Timestamp>| {
        time.as_ref()
            .map_or_else(String::new, |time| format!("{}:{}", time.seconds, time.nanos))
    };
    let (from, until) = (time(&request.from), time(&request.until));
    let oldest_first = u8::from(request.oldest_first);
    format!("1.{oldest_first}.{from}.{until}.{}.", request.driver_id)
}

pub(super) fn parse_search(request: &pb::SearchDriversRequest) -> Result<(SearchArea, usize), Status> {
    let mut bad = Violations::default();
    let centre = bad.position("near", request.near.as_ref());
    let radius_m = match request.radius_meters {
        0.0 => Some(RADIUS_M.0),
        // Also false for NaN.
        radius if (1.0..=RADIUS_M.1).contains(&radius) => Some(radius),
        _ => {
            bad.add("radius_meters", "must be a number from 1 to 50000, or 0 for 5000");
            None
        }
    };
    let count = match request.max_count {
        0 => Some(COUNT.0),
        count if (1..=COUNT.1).contains(&count) => Some(count),
        _ => {
            bad.add("max_count", "must be from 1 to 50, or 0 for 8");
            None
        }
    };
    match (centre, radius_m, count.and_then(|count| usize::try_from(count).ok())) {
        (Some(centre), Some(radius_m), Some(count)) => Ok((SearchArea { centre, radius_m }, count)),
        _ => Err(bad.into_status()),
    }
}
