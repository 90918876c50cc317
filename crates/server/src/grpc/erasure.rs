//! The calls of `AdminService` that erase people: parse and render.

use prost::Message as _;
use tonic::Status;
use uuid::Uuid;
use waybill_domain::erasure::{Pseudonym, Renamed, ResumePoint};
use waybill_domain::id::{DriverId, UserId};
use waybill_proto::admin::v1 as pb;
use waybill_proto::order::v1::CreateOrderResponse;

use super::fields::Violations;
use crate::erasure::{ErasedDriver, ErasedUser};

/// Replaces a driver's name in the body of a stored answer to `CreateOrder`; `None`: it is not the order's driver. Of an answer of
/// a newer version, fields that this one does not know are left out.
pub fn rename_in_answer(body: &[u8], renamed: &Renamed) -> Option<Vec<u8>> {
    let mut answer = CreateOrderResponse::decode(body).ok()?;
    let assignment = answer.order.as_mut()?.assignment.as_mut()?;
    if assignment.driver_id != renamed.name() {
        return None;
    }
    renamed.new_name().clone_into(&mut assignment.driver_id);
    Some(answer.encode_to_vec())
}

pub(super) fn parse_driver(request: &pb::EraseDriverRequest) -> Result<(DriverId, ResumePoint), Status> {
    let mut bad = Violations::default();
    let driver = bad.parse("driver_id", &request.driver_id);
    let from = parse_resume(&mut bad, &request.resume_token, &request.driver_id);
    match (driver, from) {
        (Some(driver), Some(from)) => Ok((driver, from)),
        _ => Err(bad.into_status()),
    }
}

pub(super) fn parse_user(request: &pb::EraseUserRequest) -> Result<(UserId, ResumePoint), Status> {
    let mut bad = Violations::default();
    let user = bad.parse("user_id", &request.user_id);
    let from = parse_resume(&mut bad, &request.resume_token, &request.user_id);
    match (user, from) {
        (Some(user), Some(from)) => Ok((user, from)),
        _ => Err(bad.into_status()),
    }
}

/// Without a token it begins, under a new pseudonym.
fn parse_resume(bad: &mut Violations, token: &str, name: &str) -> Option<ResumePoint> {
    match token {
        "" => Some(ResumePoint::start(Pseudonym::new(Uuid::new_v4()))),
        token => bad.check("resume_token", ResumePoint::of_token(token, name)),
    }
}

pub(super) fn render_driver(driver: &DriverId, erased: &ErasedDriver) -> pb::EraseDriverResponse {
    pb::EraseDriverResponse {
        pseudonym: erased.pseudonym.to_string(),
        resume_token: render_resume(erased.resume, driver.name()),
        positions: count(erased.positions),
        orders: count(erased.orders),
    }
}

pub(super) fn render_user(user: &UserId, erased: &ErasedUser) -> pb::EraseUserResponse {
    pb::EraseUserResponse {
        pseudonym: erased.pseudonym.to_string(),
        resume_token: render_resume(erased.resume, user.name()),
        orders: count(erased.orders),
    }
}

fn render_resume(point: Option<ResumePoint>, name: &str) -> String {
    point.map(|point| point.to_token(name)).unwrap_or_default()
}

fn count(of: u64) -> i64 {
    i64::try_from(of).unwrap_or(i64::MAX)
}
