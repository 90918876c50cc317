//! How long the map is kept.

use testkit::{Rig, ServerProcess, until_eq};

use super::City;
use super::city::{draw_all, noon, street};

#[tokio::test]
async fn days_beyond_those_that_are_kept_are_dropped_and_not_drawn() {
    let city = City::start().await;
    let tracks = [0, 1, 2, 9].map(|days_ago| street(&format!("cab-{days_ago}"), noon(days_ago)));
    city.store(&tracks[..3].concat()).await;
    city.draw().await;
    city.assert_drawn(&tracks[..3]).await;
    // Of a day that is over even with seven kept.
    city.store(&tracks[3]).await;
    city.draw().await;
    city.assert_drawn(&tracks[..3]).await;

    draw_all(&mut city.drawer("drawer", 1)).await;
    city.assert_drawn(&tracks[..2]).await;
}

#[tokio::test]
async fn with_no_days_all_is_dropped_and_nothing_is_drawn() {
    let city = City::start().await;
    let track = [street("cab-1", noon(0))];
    city.store(&track[0]).await;
    city.draw().await;

    draw_all(&mut city.drawer("drawer", 0)).await;
    city.assert_drawn(&[]).await;
    assert!(city.trails(0).tile(15, 5241, 12665).await.unwrap().is_none());

    // What is turned on again is drawn anew.
    city.draw().await;
    city.assert_drawn(&track).await;
}

/// The setting, in the program.
#[tokio::test]
async fn a_server_that_keeps_no_trails_drops_those_that_are_there() {
    let rig = Rig::builder().no_server().start().await;
    let insert = "insert into trails (zoom, x, y, day, pixels) values (15, 1, 1, current_date, '')";
    rig.execute(insert).await;
    let server = ServerProcess::start(&rig, &[("web.trails_days", "0")]).await;
    until_eq("all is dropped", 0, async || {
        rig.count("select count(*) from trails").await
    })
    .await;
    server.kill().await;
}
