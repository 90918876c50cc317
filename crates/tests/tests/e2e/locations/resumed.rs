//! A watch that goes on after a broken stream (W5), and one of an area that is too full.

use std::collections::BTreeMap;

use jiff::Timestamp;
use testkit::wire::{PICKUP, a_ride, channel, fix};
use testkit::{Rig, ServerProcess, until};
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;
use waybill_proto::fleet::v1::fleet_service_client::FleetServiceClient;
use waybill_proto::fleet::v1::watch_drivers_request::Scope;
use waybill_proto::fleet::v1::{Driver, WatchDriversRequest};
use waybill_proto::location::v1::ReportLocationsRequest;
use waybill_proto::location::v1::location_service_client::LocationServiceClient;

use super::watched::{Watcher, around, named, request};
use crate::access::in_time;

/// Goes on after this cursor.
async fn resume(fleet: &mut FleetServiceClient<Channel>, scope: Scope, cursor: &str) -> Watcher {
    let request = WatchDriversRequest {
        cursor: cursor.to_owned(),
        ..request(scope)
    };
    Watcher::of(fleet.watch_drivers(request).await.unwrap().into_inner())
}

/// Where everyone is, by the server's answer to a new watch.
async fn all(fleet: &mut FleetServiceClient<Channel>) -> BTreeMap<String, Driver> {
    let mut watcher = resume(fleet, around(), "").await;
    watcher.read().await.unwrap();
    assert_eq!(watcher.resets, 1);
    watcher.known
}

/// Drivers that move all the time, ten times a second, until this is dropped.
fn moving(mut locations: LocationServiceClient<Channel>, stop: CancellationToken) -> tokio::task::JoinHandle<()> {
    let mut round = 0_u32;
    #[allow(clippy::disallowed_methods, reason = "a test waits for it by its handle")]
    tokio::spawn(async move {
        let mut ticks = tokio::time::interval(std::time::Duration::from_millis(100));
        while stop.run_until_cancelled(ticks.tick()).await.is_some() {
            round += 1;
            let fixes = (0..20)
                .filter(|number| (number + round).is_multiple_of(3))
                .map(|number| {
                    let along = f64::from((number * 7 + round) % 60) / 1_000.0;
                    fix(
                        &format!("cab-{number}"),
                        PICKUP.0 - 0.03 + along,
                        PICKUP.1,
                        Timestamp::now(),
                    )
                });
            let request = ReportLocationsRequest { fixes: fixes.collect() };
            // A server that is killed answers no more: the next report goes to the other one.
            let _ = locations.report_locations(request).await;
        }
    })
}

#[tokio::test]
async fn a_watch_goes_on_at_another_server_when_its_own_is_killed_under_load() {
    let rig = Rig::builder().no_server().start().await;
    let first = ServerProcess::start(&rig, &[]).await;
    let second = ServerProcess::start(&rig, &[]).await;
    let mut fleet = FleetServiceClient::new(channel(second.grpc_addr()));
    let stop = CancellationToken::new();
    let driving = moving(second.locations(), stop.clone());

    let mut own = FleetServiceClient::new(channel(first.grpc_addr()));
    let mut watcher = resume(&mut own, around(), "").await;
    watcher.until(|known| known.len() == 20).await;
    // Someone watches at the other server, too, and for long enough: it knows what was so some seconds ago.
    let mut other = resume(&mut fleet, around(), "").await;
    until("the other server could go on", async || {
        other.read().await.unwrap();
        // A client that reads all the time: what it knows is of now.
        watcher.read().await.unwrap();
        let mut again = resume(&mut fleet.clone(), around(), &other.cursor).await;
        again.read().await.unwrap();
        if again.resets == 0 { Ok(()) } else { Err(again.resets) }
    })
    .await;
    for _ in 0..8 {
        watcher.read().await.unwrap();
    }
    first.kill().await;

    let before = watcher.known.clone();
    let mut resumed = resume(&mut fleet, around(), &watcher.cursor).await;
    resumed.known = before;
    resumed.read().await.unwrap();
    assert_eq!(resumed.resets, 0, "it goes on, and does not begin anew");
    stop.cancel();
    driving.await.unwrap();
    // Once no one moves, it knows just what one knows who begins now.
    until("both know the same", async || {
        let expected = all(&mut fleet).await;
        let known: BTreeMap<_, _> = resumed
            .known
            .iter()
            .map(|(name, driver)| (name, &driver.position))
            .collect();
        let expected: BTreeMap<_, _> = expected.iter().map(|(name, driver)| (name, &driver.position)).collect();
        if known == expected {
            return Ok(());
        }
        let why = format!("{known:?} {expected:?}");
        resumed.read().await.unwrap();
        Err(why)
    })
    .await;
}

#[tokio::test]
async fn a_cursor_that_is_none_or_of_other_drivers_begins_anew() {
    let rig = Rig::builder().servers(2).start().await;
    rig.driver_at("cab-1", PICKUP.0, PICKUP.1).await;
    let mut fleet = rig.fleet();
    let mut watcher = resume(&mut fleet, around(), "").await;
    watcher.until(|known| known.len() == 1).await;
    watcher.until_it_can_go_on().await;
    let another = named(&["cab-1"]);
    let mut of_another = resume(&mut fleet, another.clone(), "").await;
    of_another.until_it_can_go_on().await;
    for (scope, cursor) in [
        (around(), "garbage"),
        (around(), ""),
        (another, watcher.cursor.as_str()),
        (around(), of_another.cursor.as_str()),
    ] {
        // It took a while, and who is silent is gone.
        rig.driver_at("cab-1", PICKUP.0, PICKUP.1).await;
        let mut other = resume(&mut fleet, scope.clone(), cursor).await;
        other.until(|known| known.len() == 1).await;
        assert_eq!(other.resets, 1, "{scope:?} {cursor:?}");
    }
    // At a server where no one watched: it does not know what was so before.
    rig.driver_at("cab-1", PICKUP.0, PICKUP.1).await;
    let mut elsewhere = FleetServiceClient::new(rig.channel_of(1));
    let mut other = resume(&mut elsewhere, around(), &watcher.cursor).await;
    other.until(|known| known.len() == 1).await;
    assert_eq!(other.resets, 1);
}

#[tokio::test]
async fn an_area_with_too_many_drivers_is_sent_as_counts_and_as_drivers_again_when_they_left() {
    let rig = Rig::builder()
        .set("locations.watch_area_max", "10")
        .set("locations.ttl", "20s")
        .start()
        .await;
    let here = |name: &str, lat: f64| fix(name, lat, PICKUP.1, Timestamp::now());
    let names: Vec<String> = (0..12).map(|number| format!("cab-{number}")).collect();
    let (near, far) = names.split_at(8);
    let near = || near.iter().map(|name| here(name, PICKUP.0));
    let far = || far.iter().map(|name| here(name, PICKUP.0 + 0.02));
    rig.report(near().chain(far()).collect()).await;
    let mut watcher = resume(&mut rig.fleet(), around(), "").await;
    watcher.read().await.unwrap();
    let counts = |watcher: &Watcher| -> Vec<(i32, i32)> { watcher.cells.values().copied().collect() };
    assert_eq!(counts(&watcher), [(8, 8), (4, 4)]);
    assert_eq!((watcher.known.len(), watcher.resets), (0, 1));

    rig.place(a_ride()).await;
    let taken = async {
        while counts(&watcher) != [(8, 7), (4, 4)] {
            watcher.read().await.unwrap();
        }
    };
    in_time(taken).await;
    assert_eq!(watcher.resets, 1, "only what changed is sent");

    // The others fall silent.
    let silent = async {
        while watcher.resets < 2 {
            rig.report(near().collect()).await;
            watcher.read().await.unwrap();
        }
    };
    in_time(silent).await;
    watcher.until(|known| known.len() == 8).await;
    assert!(watcher.cells.is_empty());
}
