//! The history behind the stream, and streams that are not the one that the history was written from.

use jiff::{Timestamp, ToSpan as _};
use testkit::wire::PICKUP;
use testkit::{Rig, until, until_eq};

use super::driver_stream::{fix, stream_len};

/// Adds an entry as a server does, with this id.
async fn add(redis: &mut redis::aio::MultiplexedConnection, id: &str, driver: &str) {
    let mut add = redis::cmd("XADD");
    add.arg("location_events").arg(id);
    add.arg("driver_id").arg(driver);
    add.arg("lat").arg(PICKUP.0).arg("long").arg(PICKUP.1);
    add.arg("timestamp").arg(Timestamp::now().as_microsecond());
    add.exec_async(redis).await.unwrap();
}

async fn until_stored(rig: &Rig, driver: &str) {
    let fixes = format!("select count(*) from driver_locations where driver_id = '{driver}'");
    until_eq(&format!("{driver} is in the history"), 1, async || {
        rig.count(&fixes).await
    })
    .await;
}

async fn rereads(rig: &Rig, reason: &str) -> u64 {
    rig.metrics().await["locations"]["history_rereads"][reason]
        .as_u64()
        .unwrap_or_default()
}

/// A clock that was an hour ahead left an entry; then all was lost. What comes after that has ids before the cursor.
#[tokio::test]
async fn a_stream_that_was_lost_is_written_from_its_beginning() {
    let rig = Rig::start().await;
    let mut redis = rig.redis().await;
    let ahead = Timestamp::now() + 1.hour();
    add(&mut redis, &format!("{}-0", ahead.as_millisecond()), "cab-1").await;
    until_stored(&rig, "cab-1").await;

    redis::cmd("FLUSHDB").exec_async(&mut redis).await.unwrap();
    rig.driver_at("cab-2", PICKUP.0, PICKUP.1).await;
    until_stored(&rig, "cab-2").await;
    assert_eq!(
        (rereads(&rig, "lost").await, rereads(&rig, "failed_over").await),
        (1, 0)
    );
    rig.driver_at("cab-3", PICKUP.0, PICKUP.1).await;
    until_stored(&rig, "cab-3").await;
    assert_eq!(rereads(&rig, "lost").await, 1, "once");
}

/// A replica that was behind took over, and entries were added before the cursor and after it.
#[tokio::test]
async fn a_stream_in_another_redis_is_written_from_its_beginning() {
    let mut rig = Rig::builder().private_stores().servers(1).start().await;
    rig.driver_at("cab-1", PICKUP.0, PICKUP.1).await;
    until_stored(&rig, "cab-1").await;
    rig.until_written().await;

    // A long time for the writer: nothing is read between these.
    let held = rig.hold_history().await;
    let now = Timestamp::now().as_millisecond();
    let mut redis = rig.redis().await;
    redis::cmd("DEL")
        .arg("location_events")
        .exec_async(&mut redis)
        .await
        .unwrap();
    add(&mut redis, &format!("{}-0", now - 3_600_000), "cab-2").await;
    add(&mut redis, &format!("{}-0", now + 1_000), "cab-3").await;
    rig.stores().redis().restart().await.unwrap();
    held.batch_execute("rollback").await.unwrap();

    until_stored(&rig, "cab-3").await;
    until_stored(&rig, "cab-2").await;
    until("it was noticed", async || rereads(&rig, "failed_over").await > 0).await;
}

#[tokio::test]
async fn what_the_history_is_behind_is_counted_from_its_cursor_on() {
    let rig = Rig::start().await;
    rig.driver_at("cab-1", PICKUP.0, PICKUP.1).await;
    until_stored(&rig, "cab-1").await;
    rig.until_written().await;
    assert_eq!(stream_len(&rig).await, 1, "it is kept");

    let held = rig.hold_history().await;
    let fixes = (0..3).map(|number| fix(&format!("cab-{}", number + 2), PICKUP.0, PICKUP.1));
    rig.report(fixes.collect()).await;
    let lag = async || {
        let metrics = rig.metrics().await;
        let lag = |name: &str| metrics["locations"][name].as_i64().unwrap();
        (lag("history_lag_entries"), lag("history_lag_sec") > 0)
    };
    until_eq("three are behind, for a while", (3, true), lag).await;
    held.batch_execute("rollback").await.unwrap();
    rig.until_written().await;
    until_eq("none is", (0, false), lag).await;
}
