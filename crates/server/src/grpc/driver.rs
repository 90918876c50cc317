//! `waybill.driver.v1.DriverService`, for the apps of drivers: parse, call, render.

use std::sync::Arc;

use futures_util::StreamExt as _;
use futures_util::stream::BoxStream;
use jiff::Timestamp;
use tonic::{Request, Response, Status};
use waybill_domain::access::Method;
use waybill_domain::duty::{Duty, Tags};
use waybill_domain::id::{DriverId, OrderId};
use waybill_domain::order::ReleaseReason;
use waybill_proto::driver::v1 as pb;
use waybill_proto::driver::v1::driver_service_server::DriverService as Api;

use super::classes::class;
use super::edge::IngressLimits;
use super::fields::Violations;
use super::{principal, render};
use crate::drivers::{AssignmentNews, Drivers};
use crate::identity::Access;

/// The driver service on the wire.
pub struct DriverApi {
    drivers: Drivers,
    limits: Arc<IngressLimits>,
}

impl DriverApi {
    /// Serves drivers within `limits`.
    pub fn new(drivers: Drivers, limits: Arc<IngressLimits>) -> DriverApi {
        DriverApi { drivers, limits }
    }

    async fn admit<T>(&self, method: Method, driver: &DriverId, request: &Request<T>) -> Result<(), Status> {
        let access = principal::access(request)?;
        let principal = principal::of(&access, || principal::driver(driver.as_str()));
        Ok(self.limits.admit_call(class(method), &principal, request).await?)
    }
}

#[tonic::async_trait]
impl Api for DriverApi {
    type WatchAssignmentsStream = BoxStream<'static, Result<pb::WatchAssignmentsResponse, Status>>;

    async fn watch_assignments(
        &self,
        request: Request<pb::WatchAssignmentsRequest>,
    ) -> Result<Response<Self::WatchAssignmentsStream>, Status> {
        let access = principal::access(&request)?;
        let (named, known) = parse_watch(request.get_ref(), is_driver(&access))?;
        let driver = driver(&access, named)?;
        self.admit(Method::WatchAssignments, &driver, &request).await?;
        let followed = self.drivers.watch(driver, known).await?;
        let rendered = followed.map(|news| Ok(render_news(&news?)));
        Ok(Response::new(principal::until_ended(rendered, access).boxed()))
    }

    async fn set_duty(&self, request: Request<pb::SetDutyRequest>) -> Result<Response<pb::SetDutyResponse>, Status> {
        let access = principal::access(&request)?;
        let (named, is_on, tags) = parse_duty(request.get_ref(), is_driver(&access))?;
        let driver = driver(&access, named)?;
        principal::check_business(&access, "tags", tags.is_some())?;
        self.admit(Method::SetDuty, &driver, &request).await?;
        let duty = self.drivers.set_duty(&driver, is_on, tags.as_ref()).await?;
        Ok(Response::new(pb::SetDutyResponse {
            duty: Some(render_duty(&duty)),
        }))
    }
}

/// Whether the caller is a driver, who need not name itself.
fn is_driver(access: &Access) -> bool {
    access.scope.driver().is_some()
}

/// The driver whom the call is about: the one who is named, or the caller.
fn driver(access: &Access, named: Option<DriverId>) -> Result<DriverId, Status> {
    let named = named.map(|driver| driver.of(&access.tenant()));
    let driver = principal::check_driver(access, named)?;
    driver.ok_or_else(|| Status::invalid_argument("driver_id is required"))
}

/// The driver, if one is named, and the order that the watcher knows.
pub(super) fn parse_watch(
    request: &pb::WatchAssignmentsRequest,
    is_driver: bool,
) -> Result<(Option<DriverId>, Option<OrderId>), Status> {
    let mut bad = Violations::default();
    let driver = parse_driver(&mut bad, &request.driver_id, is_driver);
    // What is no cursor counts as none.
    let known = request.cursor.parse().ok();
    if bad.is_empty() {
        return Ok((driver, known));
    }
    Err(bad.into_status())
}

type DutyRequest = (Option<DriverId>, Option<bool>, Option<Tags>);

/// The driver, if one is named, whether it takes orders, and what it can do.
pub(super) fn parse_duty(request: &pb::SetDutyRequest, is_driver: bool) -> Result<DutyRequest, Status> {
    let mut bad = Violations::default();
    let driver = parse_driver(&mut bad, &request.driver_id, is_driver);
    let tags = request.tags.as_ref();
    let tags = tags.and_then(|tags| bad.check("tags", Tags::new(&tags.tags)));
    if request.on_duty.is_none() && request.tags.is_none() {
        bad.add("on_duty", "or tags must be set");
    }
    if bad.is_empty() {
        return Ok((driver, request.on_duty, tags));
    }
    Err(bad.into_status())
}

/// The driver who is named; `None`: none is, which only a driver may do, or the name is bad.
fn parse_driver(bad: &mut Violations, name: &str, is_driver: bool) -> Option<DriverId> {
    if name.is_empty() && is_driver {
        return None;
    }
    bad.parse("driver_id", name)
}

fn render_news(news: &AssignmentNews) -> pb::WatchAssignmentsResponse {
    let current = news.current.as_ref();
    pb::WatchAssignmentsResponse {
        assignment: current.map(|current| pb::Assignment {
            order_id: current.order.to_string(),
            pickup: Some(render::position(current.pickup)),
            drop_off: current.drop_off.map(render::position),
            assigned_at: Some(render::timestamp(current.assigned_at)),
        }),
        ended: news.ended.as_ref().map(|(order, release)| pb::EndedAssignment {
            order_id: order.to_string(),
            reason: end(release.reason).into(),
            ended_at: Some(render::timestamp(release.released_at)),
        }),
        cursor: current.map(|current| current.order.to_string()).unwrap_or_default(),
        now: Some(render::timestamp(Timestamp::now())),
    }
}

fn end(reason: ReleaseReason) -> pb::AssignmentEnd {
    match reason {
        ReleaseReason::Completed => pb::AssignmentEnd::Completed,
        ReleaseReason::Cancelled => pb::AssignmentEnd::Cancelled,
        ReleaseReason::Declined => pb::AssignmentEnd::Released,
        ReleaseReason::Silent => pb::AssignmentEnd::NotSeen,
    }
}

fn render_duty(duty: &Duty) -> pb::Duty {
    pb::Duty {
        on_duty: duty.is_on,
        tags: duty.tags.iter().map(str::to_owned).collect(),
    }
}
