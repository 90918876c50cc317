//! `waybill.fleet.v1.FleetService`: the fleet as it is now.

use std::sync::Arc;

use jiff::Timestamp;
use tonic::{Request, Response, Status};
use waybill_domain::access::Scope;
use waybill_domain::id::DriverId;
use waybill_proto::fleet::v1 as pb;
use waybill_proto::fleet::v1::fleet_service_server::FleetService as Api;

use super::edge::{Class, IngressLimits};
use super::fields::Violations;
use super::{principal, render};
use crate::orders::Dispatch;
use crate::storage::live::{LiveStore, SearchArea};
use crate::storage::orders::OrderStore;

/// The radius in metres where none is given, and the largest. The largest is about a city.
const RADIUS_M: (f64, f64) = (5_000.0, 50_000.0);
/// The count where none is given, and the largest.
const COUNT: (i32, i32) = (8, 50);

/// The fleet service on the wire.
pub struct FleetApi {
    live: LiveStore,
    orders: OrderStore,
    dispatch: Dispatch,
    limits: Arc<IngressLimits>,
}

impl FleetApi {
    /// Serves these stores within `limits`.
    pub fn new(live: LiveStore, orders: OrderStore, dispatch: Dispatch, limits: Arc<IngressLimits>) -> FleetApi {
        FleetApi {
            live,
            orders,
            dispatch,
            limits,
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
        self.limits.admit_call(Class::Reads, &principal, &request).await?;
        let now = Timestamp::now();
        let unknown = || Status::not_found("there is no fresh fix of this driver");
        let (fix, active) = match &access.scope {
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
        let fix = fix.ok_or_else(unknown)?;
        Ok(Response::new(pb::GetDriverResponse {
            driver: Some(render::driver(&fix, active, now)),
        }))
    }

    async fn search_drivers(
        &self,
        request: Request<pb::SearchDriversRequest>,
    ) -> Result<Response<pb::SearchDriversResponse>, Status> {
        let (area, count) = parse_search(request.get_ref())?;
        let access = principal::access(&request)?;
        let principal = principal::of(&access, || principal::address(&request));
        self.limits.admit_call(Class::Reads, &principal, &request).await?;
        let near = self.dispatch.search(&access.tenant(), area, count).await?;
        let drivers: Vec<DriverId> = near.iter().map(|near| near.driver.clone()).collect();
        let now = Timestamp::now();
        let fixes = self.live.latest_of(&drivers, now).await?;
        // A driver whose last fix became stale between the two reads is left out.
        let found = near.iter().zip(&fixes).filter_map(|(near, fix)| {
            let driver = render::driver(fix.as_ref()?, None, now);
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
