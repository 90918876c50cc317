//! Whether a driver is there is judged by when its fixes arrive, and not by its clock; which fix is the newest, by its clock.

use std::collections::BTreeMap;

use jiff::SignedDuration;
use testkit::wire::{PICKUP, a_ride, fix, now};
use testkit::{Rig, until};
use tonic::Code;
use waybill_proto::fleet::v1 as fleet;
use waybill_proto::location::v1::{ClockOffset, ReportLocationsRequest};
use waybill_proto::order::v1::OrderStatus;

use super::driver_stream::{DriverStream, history, latest};
use super::watched::{Watcher, around};

fn secs(secs: i64) -> SignedDuration {
    SignedDuration::from_secs(secs)
}

async fn near(rig: &Rig) -> Vec<fleet::NearbyDriver> {
    let request = fleet::SearchDriversRequest {
        near: Some(testkit::wire::position(PICKUP)),
        ..Default::default()
    };
    rig.fleet().search_drivers(request).await.unwrap().into_inner().drivers
}

/// A fix of the driver at the pickup, by a clock that is so far ahead.
async fn report(rig: &Rig, driver: &str, ahead: SignedDuration) -> Vec<ClockOffset> {
    let fixes = vec![fix(driver, PICKUP.0, PICKUP.1, now() + ahead)];
    let request = ReportLocationsRequest { fixes };
    let response = rig.locations().report_locations(request).await.unwrap().into_inner();
    assert_eq!((response.accepted_count, response.rejections), (1, Vec::new()));
    response.clock_offsets
}

#[tokio::test]
async fn a_phone_whose_clock_is_a_minute_slow_gets_work() {
    let rig = Rig::start().await;
    report(&rig, "cab-1", secs(-60)).await;

    let mut watcher = Watcher::begin(&rig, around()).await;
    watcher.until(|known| known.len() == 1).await;
    let found = near(&rig).await.remove(0).driver.unwrap();
    // Since it arrived, and not by its clock.
    for age in [found.age.unwrap(), watcher.known["cab-1"].age.unwrap()] {
        assert!(age.seconds < 30, "{age:?}");
    }
    let order = rig.place(a_ride()).await;
    assert_eq!(order.assignment.unwrap().driver_id, "cab-1");
}

#[tokio::test]
async fn a_phone_whose_clock_is_fast_is_gone_once_it_is_silent() {
    let rig = Rig::with("locations.ttl=3s orders.assignment_window=100ms").await;
    // The first is followed from the index, the second from the stream.
    report(&rig, "cab-1", secs(29)).await;
    let mut watcher = Watcher::begin(&rig, around()).await;
    watcher.until(|known| known.len() == 1).await;
    report(&rig, "cab-2", secs(29)).await;
    watcher.until(|known| known.len() == 2).await;

    watcher.until(BTreeMap::is_empty).await;

    // By its own clock it is there for half a minute more.
    assert!(now() < at_of(&rig, "cab-2").await, "it took too long to say anything");
    until("no one is found", async || match near(&rig).await {
        found if found.is_empty() => Ok(()),
        found => Err(found),
    })
    .await;
    let request = fleet::GetDriverRequest {
        driver_id: "cab-2".to_owned(),
    };
    let status = rig.fleet().get_driver(request).await.unwrap_err();
    assert_eq!(status.code(), Code::NotFound);
    assert_eq!(rig.place(a_ride()).await.status(), OrderStatus::Refunded);
}

/// The time of the driver's newest fix in the history, by its clock.
async fn at_of(rig: &Rig, driver: &str) -> jiff::Timestamp {
    let rows = until("the fix is in the history", async || {
        let rows = history(rig, driver).await;
        if rows.is_empty() { Err("none") } else { Ok(rows) }
    })
    .await;
    jiff::Timestamp::from_microsecond(rows[0].2).unwrap()
}

/// Its clock is set right, and goes back by that. What it sends then looks older than what is known until it is found silent.
#[tokio::test]
async fn a_phone_whose_clock_is_set_back_is_there_again() {
    let rig = Rig::with("locations.ttl=1s").await;
    report(&rig, "cab-1", secs(25)).await;
    let there = async || {
        let offsets = report(&rig, "cab-1", secs(0)).await;
        assert_eq!(offsets, []);
        let micros: i64 = latest(&rig, "cab-1")
            .await
            .get("timestamp")
            .map_or(0, |at| at.parse().unwrap());
        let is_right = micros > 0 && micros <= now().as_microsecond();
        let found = near(&rig).await.len();
        if is_right && found == 1 {
            Ok(())
        } else {
            Err((micros, found))
        }
    };
    until("it is seen by its clock as it is now", there).await;
}

/// Where it was when it had no network is for the history alone, and takes no one to where it was.
#[tokio::test]
async fn what_was_measured_long_before_it_arrives_is_not_where_a_driver_is() {
    let rig = Rig::with("locations.live_age_max=1m").await;
    report(&rig, "cab-1", secs(-61)).await;
    report(&rig, "cab-2", secs(-55)).await;
    let found = near(&rig).await;
    let names: Vec<&str> = found
        .iter()
        .map(|near| near.driver.as_ref().unwrap().driver_id.as_str())
        .collect();
    assert_eq!(names, ["cab-2"]);
    let mut watcher = Watcher::begin(&rig, around()).await;
    watcher.until(|known| known.len() == 1).await;
    report(&rig, "cab-3", secs(-62)).await;
    report(&rig, "cab-4", secs(0)).await;
    watcher.until(|known| known.contains_key("cab-4")).await;
    assert_eq!(watcher.names(), ["cab-2", "cab-4"]);
    assert!(at_of(&rig, "cab-1").await < now() - secs(60));
}

#[tokio::test]
async fn a_clock_that_is_off_is_named_with_how_far() {
    let rig = Rig::start().await;
    assert_eq!(report(&rig, "cab-1", secs(0)).await, []);
    for off in [-60, 20] {
        let [offset] = report(&rig, "cab-1", secs(off)).await.try_into().unwrap();
        let seconds = offset.offset.unwrap().seconds;
        assert_eq!(offset.driver_id, "cab-1");
        // The fix was under way for a moment.
        assert!((off - 4..=off).contains(&seconds), "{seconds}");
    }

    // The newest fix of each driver counts: what was measured before it was sent says nothing.
    let mut stream = DriverStream::open(rig.locations()).await;
    let at = |ahead| now() + secs(ahead);
    let fixes = vec![
        fix("cab-2", 1.0, 1.0, at(-90)),
        fix("cab-2", 1.0, 1.0, at(0)),
        fix("cab-3", 1.0, 1.0, at(-90)),
        fix("cab-3", 1.0, 1.0, at(-40)),
    ];
    let response = stream.exchange(0, fixes).await;
    let [offset] = response.clock_offsets.try_into().unwrap();
    assert_eq!(offset.driver_id, "cab-3");
    assert_eq!(offset.offset.unwrap().seconds / 10, -4);
}
