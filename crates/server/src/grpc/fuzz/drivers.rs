//! The requests of the apps of drivers, of who reads their positions again, and of who erases people.

use waybill_domain::duty::{TAG_LENGTH_MAX, TAGS_MAX, Tags};
use waybill_domain::id::DriverId;
use waybill_proto::admin::v1 as admin;
use waybill_proto::driver::v1 as driver;
use waybill_proto::fleet::v1 as fleet;
use waybill_proto::fleet::v1::replay_locations_request::From;

use super::checks::check_name;
use super::{ORDER, Request, request, taken};
use crate::grpc::{driver as driver_api, erasure as erasure_api, replay as replay_api};

/// Of an erasure that was not finished.
const RESUME: &str = "erased-019ac4e2b7d17c3f8a52d0c61e9b7f04.20000";

pub(super) fn drivers() -> Vec<Request> {
    let driver_id = || "cab-1".to_owned();
    vec![
        request(
            fleet::ReplayLocationsRequest {
                from: Some(From::Cursor("1795800000123-7,1795800000124-0".to_owned())),
            },
            |replay| {
                taken(replay_api::parse_replay(replay));
            },
        ),
        request(
            driver::WatchAssignmentsRequest {
                driver_id: driver_id(),
                cursor: ORDER.to_owned(),
            },
            |watch| {
                if let Some((driver, _)) = taken(driver_api::parse_watch(watch, false)) {
                    check_name(driver.as_ref().map(DriverId::as_str).unwrap());
                }
                taken(driver_api::parse_watch(watch, true));
            },
        ),
        request(
            admin::EraseDriverRequest {
                driver_id: driver_id(),
                resume_token: RESUME.to_owned(),
            },
            |erase| {
                if let Some((driver, _)) = taken(erasure_api::parse_driver(erase)) {
                    check_name(driver.as_str());
                }
            },
        ),
        request(
            admin::EraseUserRequest {
                user_id: "anna".to_owned(),
                resume_token: RESUME.to_owned(),
            },
            |erase| {
                if let Some((user, _)) = taken(erasure_api::parse_user(erase)) {
                    check_name(user.as_str());
                }
            },
        ),
        request(
            driver::SetDutyRequest {
                driver_id: driver_id(),
                on_duty: Some(true),
                tags: Some(driver::Tags {
                    tags: vec!["xl".to_owned(), "wheelchair".to_owned()],
                }),
            },
            |duty| {
                if let Some((driver, is_on, tags)) = taken(driver_api::parse_duty(duty, false)) {
                    check_name(driver.as_ref().map(DriverId::as_str).unwrap());
                    assert!(is_on.is_some() || tags.is_some());
                    tags.iter().for_each(check_tags);
                }
            },
        ),
    ]
}

pub(super) fn check_tags(tags: &Tags) {
    let all: Vec<&str> = tags.iter().collect();
    assert!(all.len() <= TAGS_MAX && all.is_sorted(), "{all:?}");
    let is_plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"_-".contains(&byte);
    for tag in all {
        assert!(
            (1..=TAG_LENGTH_MAX).contains(&tag.len()) && tag.bytes().all(is_plain),
            "{tag:?}"
        );
    }
}
