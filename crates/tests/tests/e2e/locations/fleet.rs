//! The fleet as it is seen: who is where, who is free, who is near.

use std::collections::BTreeSet;

use std::time::Duration;

use futures_util::future::join_all;
use jiff::SignedDuration;
use testkit::wire::{PICKUP, a_ride, assert_refused_for_now, fix, now, position, refusal_fields, time};
use testkit::{Rig, until, until_eq};
use tonic::{Code, Status};
use waybill_proto::fleet::v1 as pb;
use waybill_proto::order::v1::OrderStatus;

async fn get(rig: &Rig, driver: &str) -> Result<pb::Driver, Status> {
    let request = pb::GetDriverRequest {
        driver_id: driver.to_owned(),
    };
    Ok(rig.fleet().get_driver(request).await?.into_inner().driver.unwrap())
}

fn around(radius_meters: f64, max_count: i32) -> pb::SearchDriversRequest {
    pb::SearchDriversRequest {
        near: Some(position(PICKUP)),
        radius_meters,
        max_count,
    }
}

async fn search(rig: &Rig, request: pb::SearchDriversRequest) -> Result<Vec<pb::NearbyDriver>, Status> {
    Ok(rig.fleet().search_drivers(request).await?.into_inner().drivers)
}

/// The drivers who are found near the place where rides begin.
pub async fn names_near(rig: &Rig, radius_meters: f64, max_count: i32) -> Vec<String> {
    let found = search(rig, around(radius_meters, max_count)).await.unwrap();
    found.into_iter().map(|near| near.driver.unwrap().driver_id).collect()
}

/// A driver so many metres north of the place where rides begin.
async fn driver_north(rig: &Rig, driver: &str, metres: f64) {
    rig.driver_at(driver, PICKUP.0 + metres / 111_195.0, PICKUP.1).await;
}

#[tokio::test]
async fn a_driver_is_shown_with_its_place_its_age_and_its_order() {
    let rig = Rig::start().await;
    let at = now() - SignedDuration::from_secs(20);
    let sent_at = now();
    rig.report(vec![fix("cab-1", PICKUP.0, PICKUP.1, at)]).await;

    let driver = get(&rig, "cab-1").await.unwrap();
    assert_eq!(driver.driver_id, "cab-1");
    let position = driver.position.unwrap();
    assert_eq!((position.latitude(), position.longitude()), PICKUP);
    assert_eq!(driver.recorded_at, Some(time(at)));
    // Since it arrived.
    let age = SignedDuration::try_from(Duration::try_from(driver.age.unwrap()).unwrap()).unwrap();
    assert!(age <= now().duration_since(sent_at), "{age:?}");
    assert_eq!(driver.active_order_id, "");

    let order = rig.place(a_ride()).await;
    assert_eq!(order.status(), OrderStatus::Succeeded);
    assert_eq!(get(&rig, "cab-1").await.unwrap().active_order_id, order.order_id);

    rig.complete(&order.order_id).await.unwrap();
    assert_eq!(get(&rig, "cab-1").await.unwrap().active_order_id, "");
}

#[tokio::test]
async fn a_driver_that_is_not_seen_any_more_is_not_found_nor_offered() {
    let rig = Rig::with("locations.ttl=2s orders.assignment_window=100ms").await;
    // One whose fix was old when it came, and one that is not seen any more.
    let before = now() - SignedDuration::from_secs(121);
    rig.report(vec![fix("cab-old", PICKUP.0, PICKUP.1, before)]).await;
    assert_eq!(get(&rig, "cab-old").await.unwrap_err().code(), Code::NotFound);
    assert_eq!(names_near(&rig, 0.0, 0).await, [] as [&str; 0]);
    rig.driver_at("cab-1", PICKUP.0, PICKUP.1).await;
    assert_eq!(names_near(&rig, 0.0, 0).await, ["cab-1"]);

    let refusal = until("the driver is not found", async || match get(&rig, "cab-1").await {
        Ok(driver) => Err(driver.age),
        Err(status) => Ok(status),
    })
    .await;
    assert_eq!(refusal.code(), Code::NotFound);
    assert_eq!(names_near(&rig, 0.0, 0).await, [] as [&str; 0]);
    assert_eq!(rig.place(a_ride()).await.status(), OrderStatus::Refunded);
    let mut redis = rig.redis().await;
    until_eq::<(u64, u64, u64)>("the driver is evicted from the index", (0, 0, 0), async || {
        let left = redis::pipe()
            .zcard("drivers:geo")
            .zcard("drivers:seen")
            .hlen("drivers:recorded")
            .to_owned();
        left.query_async(&mut redis).await.unwrap()
    })
    .await;
}

#[tokio::test]
async fn a_driver_that_was_never_seen_is_not_found() {
    let rig = Rig::start().await;
    assert_eq!(get(&rig, "cab-1").await.unwrap_err().code(), Code::NotFound);
    for bad in ["", "cab 1", "cab/1", "täxi", &"x".repeat(65)] {
        let refused = get(&rig, bad).await.unwrap_err();
        assert_eq!(refusal_fields(&refused), ["driver_id"], "{bad:?}");
    }
}

#[tokio::test]
async fn the_nearest_free_drivers_come_first_with_their_distance() {
    let rig = Rig::start().await;
    for (driver, metres) in [
        ("cab-900", 900.0),
        ("cab-100", 100.0),
        ("cab-6000", 6_000.0),
        ("cab-500", 500.0),
    ] {
        driver_north(&rig, driver, metres).await;
    }

    let found = search(&rig, around(0.0, 0)).await.unwrap();
    let expected = [("cab-100", 100.0), ("cab-500", 500.0), ("cab-900", 900.0)];
    assert_eq!(found.len(), expected.len(), "within 5 km: {found:?}");
    for (near, (name, about)) in found.iter().zip(expected) {
        assert_eq!(near.driver.as_ref().unwrap().driver_id, name);
        assert!((near.distance_meters - about).abs() < 5.0, "{found:?}");
    }
    assert_eq!(names_near(&rig, 0.0, 2).await, ["cab-100", "cab-500"]);
    assert_eq!(names_near(&rig, 300.0, 0).await, ["cab-100"]);
    assert_eq!(names_near(&rig, 50_000.0, 50).await.len(), 4);
    assert_eq!(names_near(&rig, 1.0, 1).await, [] as [&str; 0]);
}

#[tokio::test]
async fn a_search_gives_eight_drivers_where_no_count_is_given() {
    let rig = Rig::start().await;
    let fixes = (0..60).map(|number| fix(&format!("cab-{number}"), PICKUP.0, PICKUP.1, now()));
    rig.report(fixes.collect()).await;
    assert_eq!(names_near(&rig, 0.0, 0).await.len(), 8);
    assert_eq!(names_near(&rig, 0.0, 50).await.len(), 50);
}

/// Redis does not know who is busy: a search must look beyond the nearest where those are.
#[tokio::test]
async fn a_free_driver_is_found_behind_a_crowd_of_busy_ones() {
    let rig = Rig::start().await;
    for number in 0..20 {
        driver_north(&rig, &format!("busy-{number}"), f64::from(number)).await;
        assert_eq!(rig.place(a_ride()).await.status(), OrderStatus::Succeeded);
    }
    assert_eq!(names_near(&rig, 0.0, 1).await, [] as [&str; 0]);
    driver_north(&rig, "free-1", 1_000.0).await;
    driver_north(&rig, "free-2", 1_100.0).await;

    assert_eq!(names_near(&rig, 0.0, 1).await, ["free-1"]);
    assert_eq!(names_near(&rig, 0.0, 0).await, ["free-1", "free-2"]);
    let order = rig.place(a_ride()).await;
    assert_eq!(order.assignment.unwrap().driver_id, "free-1");
}

/// What others keep in the index hides no driver, however near it is.
#[tokio::test]
async fn members_of_the_index_that_are_no_drivers_hide_none() {
    let rig = Rig::start().await;
    let mut redis = rig.redis().await;
    let mut add = redis::cmd("GEOADD");
    add.arg("drivers:geo");
    for number in 0..30 {
        add.arg(PICKUP.1).arg(PICKUP.0).arg(format!("not a driver {number}"));
    }
    add.query_async::<()>(&mut redis).await.unwrap();
    driver_north(&rig, "cab-1", 1_000.0).await;
    assert_eq!(names_near(&rig, 0.0, 1).await, ["cab-1"]);
    let order = rig.place(a_ride()).await;
    assert_eq!(order.assignment.unwrap().driver_id, "cab-1");
}

/// However crowded the place is, and whatever was searched for before there or elsewhere: the nearest come first, and no one is
/// passed over.
#[tokio::test]
async fn the_nearest_are_found_in_crowds_and_in_deserts() {
    let rig = Rig::start().await;
    // A crowd to the north, from 1 m to 900 m, and few to the south, as far as 45 km.
    let crowd = (1..=300).map(|number| f64::from(number) * 3.0);
    let desert = (0..20).map(|number| -1_000.5 * 1.222_f64.powi(number));
    let places: Vec<f64> = crowd.chain(desert).collect();
    let name = |metres: f64| format!("cab-{:.0}", metres + 100_000.0);
    let fixes = places
        .iter()
        .map(|metres| fix(&name(*metres), PICKUP.0 + metres / 111_195.0, PICKUP.1, now()));
    rig.report(fixes.collect()).await;
    for (from, radius, count) in [
        (0.0, 5_000.0, 8),
        (0.0, 50_000.0, 50),
        (-20_001.0, 50_000.0, 8),
        (451.0, 300.0, 50),
        (451.0, 50_000.0, 1),
        (-45_000.0, 50_000.0, 50),
        (-8_000.0, 500.0, 50),
        (0.0, 1.0, 1),
        (0.0, 50_000.0, 8),
    ] {
        let mut expected = places.clone();
        let far = |metres: f64| (metres - from).abs();
        expected.retain(|metres| far(*metres) <= radius);
        expected.sort_by(|a, b| far(*a).total_cmp(&far(*b)));
        expected.truncate(count.try_into().unwrap());
        let request = pb::SearchDriversRequest {
            near: Some(position((PICKUP.0 + from / 111_195.0, PICKUP.1))),
            radius_meters: radius,
            max_count: count,
        };
        let found = search(&rig, request).await.unwrap();
        let found: Vec<String> = found.into_iter().map(|near| near.driver.unwrap().driver_id).collect();
        let expected: Vec<String> = expected.into_iter().map(name).collect();
        assert_eq!(found, expected, "{count} within {radius} m of {from} m");
    }
}

/// 180 degrees east are 180 degrees west.
#[tokio::test]
async fn drivers_at_the_date_line_are_found_from_both_sides() {
    let rig = Rig::start().await;
    let places = [
        ("east", 179.999),
        ("line-east", 180.0),
        ("line-west", -180.0),
        ("west", -179.999),
    ];
    for lat in [0.0, -16.8] {
        for (name, lon) in places {
            rig.driver_at(&format!("{name}-{lat}"), lat, lon).await;
        }
        for (from, lon) in places {
            let request = pb::SearchDriversRequest {
                near: Some(position((lat, lon))),
                ..around(1_000.0, 10)
            };
            let found = search(&rig, request).await.unwrap();
            let found: BTreeSet<String> = found.into_iter().map(|near| near.driver.unwrap().driver_id).collect();
            let expected = places.map(|(name, _)| format!("{name}-{lat}"));
            assert_eq!(found, BTreeSet::from(expected), "from {from} at {lat}");
        }
    }
    assert_eq!(
        get(&rig, "line-east-0").await.unwrap().position,
        Some(position((0.0, 180.0)))
    );
}

/// Redis has one core, and looks at all who are in the circle: twice the radius is four times the work.
#[tokio::test]
async fn a_wide_search_counts_as_several_reads() {
    let limits = "limits.reads_per_caller.per_second=1 limits.reads_per_caller.burst=10 limits.wait_max=0ms";
    for (radius_meters, passes) in [(50_000.0, 1), (15_000.0, 1), (10_000.0, 2), (1_000.0, 10)] {
        let rig = Rig::with(limits).await;
        // At once, and some more than pass: another that costs one passes with each second.
        let ends = join_all((0..passes + 5).map(|_| search(&rig, around(radius_meters, 1)))).await;
        let refusals: Vec<_> = ends.iter().filter_map(|end| end.as_ref().err()).collect();
        let passed = ends.len() - refusals.len();
        assert!(
            (passes..=passes + passes / 3).contains(&passed),
            "{radius_meters}: {passed}"
        );
        for refusal in refusals {
            assert_refused_for_now(refusal, Code::ResourceExhausted);
        }
    }
}

#[tokio::test]
async fn a_bad_search_names_each_bad_field() {
    let rig = Rig::start().await;
    for radius in [f64::NAN, f64::INFINITY, -1.0, 0.5, 50_001.0] {
        let refusal = search(&rig, around(radius, 0)).await.unwrap_err();
        assert_eq!(refusal_fields(&refusal), ["radius_meters"], "{radius}");
    }
    for count in [-1, 51, i32::MIN] {
        let refusal = search(&rig, around(0.0, count)).await.unwrap_err();
        assert_eq!(refusal_fields(&refusal), ["max_count"], "{count}");
    }
    let nowhere = pb::SearchDriversRequest {
        near: None,
        ..around(-1.0, 51)
    };
    let refusal = search(&rig, nowhere).await.unwrap_err();
    assert_eq!(refusal_fields(&refusal), ["max_count", "near", "radius_meters"]);
    let mut off_the_globe = around(0.0, 0);
    off_the_globe.near.as_mut().unwrap().latitude = Some(f64::NAN);
    let refusal = search(&rig, off_the_globe).await.unwrap_err();
    assert_eq!(refusal_fields(&refusal), ["near.latitude"]);
}
