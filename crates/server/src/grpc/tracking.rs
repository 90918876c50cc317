//! `waybill.tracking.v1.TrackingService`: orders that are followed by a link.

use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::BoxStream;
use jiff::Timestamp;
use tonic::{Request, Response, Status};
use uuid::Uuid;
use waybill_domain::access::Method;
use waybill_domain::id::OrderId;
use waybill_domain::tracking::Stage;
use waybill_proto::order::v1 as order;
use waybill_proto::tracking::v1 as pb;
use waybill_proto::tracking::v1::tracking_service_server::TrackingService as Api;

use super::classes::class;
use super::edge::IngressLimits;
use super::fields::{Violations, duration};
use super::{principal, render};
use crate::tracking::{Followed, Tracking};

/// How long a link is good where that is not said.
const LIFETIME_DEFAULT: Duration = Duration::from_hours(24);
/// How long it may be good.
const LIFETIME: RangeInclusive<Duration> = Duration::from_mins(1)..=Duration::from_hours(7 * 24);

/// The tracking service on the wire.
pub struct TrackingApi {
    tracking: Tracking,
    limits: Arc<IngressLimits>,
}

impl TrackingApi {
    /// Serves links within `limits`.
    pub fn new(tracking: Tracking, limits: Arc<IngressLimits>) -> TrackingApi {
        TrackingApi { tracking, limits }
    }
}

#[tonic::async_trait]
impl Api for TrackingApi {
    type WatchSharedStream = BoxStream<'static, Result<pb::WatchSharedResponse, Status>>;

    async fn watch_shared(
        &self,
        request: Request<pb::WatchSharedRequest>,
    ) -> Result<Response<Self::WatchSharedStream>, Status> {
        let caller = principal::address(request.extensions());
        let class = class(Method::WatchShared);
        self.limits.admit_call(class, &caller, &request).await?;
        let token = request.into_inner().token;
        if token.is_empty() {
            let mut bad = Violations::default();
            bad.add("token", "is required");
            return Err(bad.into_status());
        }
        let followed = self.tracking.watch(&token).await?;
        let rendered = followed.map(|followed| Ok(render_followed(&followed?)));
        Ok(Response::new(rendered.boxed()))
    }
}

fn render_followed(followed: &Followed) -> pb::WatchSharedResponse {
    let now = Timestamp::now();
    let status = match followed.stage {
        Stage::Searching => pb::TrackingStatus::Searching,
        Stage::DriverAssigned => pb::TrackingStatus::DriverAssigned,
        Stage::Completed => pb::TrackingStatus::Completed,
        Stage::Ended => pb::TrackingStatus::Ended,
    };
    pb::WatchSharedResponse {
        status: status.into(),
        pickup: Some(render::position(followed.pickup)),
        drop_off: followed.drop_off.map(render::position),
        driver: followed.driver.as_ref().map(|latest| pb::SharedDriver {
            position: Some(render::position(latest.fix.position)),
            recorded_at: Some(render::timestamp(latest.fix.recorded_at)),
            age: Some(render::age(latest.arrived_at, now)),
        }),
        now: Some(render::timestamp(now)),
    }
}

/// The order to share, and for how long.
pub(super) fn parse_share(request: &order::ShareOrderRequest) -> Result<(OrderId, Duration), Status> {
    let mut bad = Violations::default();
    let id = bad.order_id(&request.order_id);
    let lifetime = match &request.lifetime {
        None => Some(LIFETIME_DEFAULT),
        Some(given) => duration(given),
    };
    let lifetime = lifetime.filter(|lifetime| LIFETIME.contains(lifetime));
    if lifetime.is_none() {
        bad.add("lifetime", "must be from 1 minute to 7 days, or not set for 24 hours");
    }
    match (id, lifetime) {
        (Some(id), Some(lifetime)) => Ok((id, lifetime)),
        _ => Err(bad.into_status()),
    }
}

/// The order, and its link; `None`: all of them.
pub(super) fn parse_revoke(request: &order::RevokeShareRequest) -> Result<(OrderId, Option<Uuid>), Status> {
    let mut bad = Violations::default();
    let id = bad.order_id(&request.order_id);
    let share = match request.share_id.as_str() {
        "" => Some(None),
        text => bad.parse("share_id", text).map(Some),
    };
    match (id, share) {
        (Some(id), Some(share)) => Ok((id, share)),
        _ => Err(bad.into_status()),
    }
}
