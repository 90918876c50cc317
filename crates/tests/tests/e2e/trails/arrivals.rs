//! Fixes in whatever order they arrive: each is drawn, once the transaction that stored it is over.

use jiff::SignedDuration;
use testkit::chance::{Chance, seed};
use testkit::until;
use waybill_server::trails::draw::Round;

use super::City;
use super::city::{by_time, draw_all, map, noon, street, walks};

#[tokio::test]
async fn a_history_is_drawn_as_the_rules_say() {
    let city = City::start().await;
    let tracks = walks(&mut Chance::new(seed("TRAILS_SEED")), 12, 100);
    for batch in by_time(&tracks).chunks(250) {
        city.store(batch).await;
        city.draw().await;
    }
    city.assert_drawn(&tracks).await;
}

#[tokio::test]
async fn drivers_of_every_business_draw_the_map() {
    let city = City::start().await;
    let tracks = ["cab-1", "acme/cab-1", "beta/cab-1"].map(|driver| street(driver, noon(1)));
    for track in &tracks {
        city.store(track).await;
    }
    city.draw().await;
    city.assert_drawn(&tracks).await;
}

/// As when a driver was without a network: its fixes lie between others that are drawn already, or a day before them.
#[tokio::test]
async fn a_late_fix_is_drawn_with_those_beside_it() {
    let city = City::start().await;
    let track = street("cab-1", noon(1));
    let (on_time, late): (Vec<_>, Vec<_>) = track
        .iter()
        .cloned()
        .enumerate()
        .partition(|(number, _)| number % 5 == 0);
    let fixes = |of: &[(usize, _)]| of.iter().map(|(_, fix)| fix).cloned().collect::<Vec<_>>();
    let (on_time, late) = (fixes(&on_time), fixes(&late));
    city.store(&on_time).await;
    let newer = street("cab-2", noon(0));
    city.store(&newer).await;
    city.draw().await;
    city.assert_drawn(&[on_time.clone(), newer.clone()]).await;

    // In two parts: some of the late ones are each other's neighbours.
    for part in late.chunks(7) {
        city.store(part).await;
        city.draw().await;
    }
    // The ways that were drawn before the late fixes were known lie on the same street.
    city.assert_drawn(&[on_time, track, newer]).await;
}

/// The cursor is over the order in which fixes come to be visible. One over their times, or over numbers that are given when
/// they are inserted, would pass over what commits after it.
#[tokio::test]
async fn fixes_of_a_transaction_that_commits_late_are_not_passed_over() {
    let city = City::start().await;
    let tracks = ["cab-1", "cab-2", "cab-3"].map(|driver| street(driver, noon(1)));
    city.store(&tracks[0]).await;
    city.draw().await;
    let slow = city.rig.sql().await;
    slow.batch_execute("begin").await.unwrap();
    let insert = "insert into driver_locations (driver_id, lat, long, recorded_at) values ($1, $2, $3, $4)";
    for fix in &tracks[1] {
        let (driver, lat, long) = (fix.driver.as_str(), fix.position.lat_deg(), fix.position.lon_deg());
        slow.execute(insert, &[&driver, &lat, &long, &fix.recorded_at])
            .await
            .unwrap();
    }
    city.store(&tracks[2]).await;
    draw_all(&mut city.drawer("drawer", 7)).await;
    // What was stored behind the slow transaction waits for it.
    city.assert_drawn(&tracks[..1]).await;

    slow.batch_execute("commit").await.unwrap();
    city.draw().await;
    city.assert_drawn(&tracks).await;
}

/// Someone may load a history by hand, in one statement.
#[tokio::test]
async fn a_large_transaction_is_drawn_batch_by_batch() {
    let city = City::start().await;
    let tracks = walks(&mut Chance::new(seed("TRAILS_SEED")), 50, 100);
    city.store(&tracks.concat()).await;
    let mut drawer = city.drawer("drawer", 7);
    until("a batch is drawn", async || {
        drawer.round().await.unwrap() == Round::Busy
    })
    .await;
    let part = city.stored().await.0.len();
    assert!(part > 0 && part < map(&tracks).len(), "{part} tiles");
    city.draw().await;
    city.assert_drawn(&tracks).await;
}

/// Numbers of transactions begin anew in another cluster.
#[tokio::test]
async fn in_a_database_that_was_restored_from_a_dump_the_map_is_drawn_on() {
    let city = City::start().await;
    let tracks = ["cab-1", "cab-2"].map(|driver| street(driver, noon(1) + SignedDuration::from_secs(1)));
    city.store(&tracks[0]).await;
    city.draw().await;
    city.rig.execute("update trail_cursor set tx = '1000000000000'").await;
    city.store(&tracks[1]).await;
    city.draw().await;
    city.assert_drawn(&tracks).await;
}
