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

/// How many entries are behind, and whether for some time.
async fn lag(rig: &Rig) -> (i64, bool) {
    let metrics = rig.metrics().await;
    let lag = |name: &str| metrics["locations"][name].as_i64().unwrap();
    (lag("history_lag_entries"), lag("history_lag_sec") > 0)
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

/// All was lost while nothing could be written, and so much came since that it ends beyond the cursor: the entry at the cursor is missing.
#[tokio::test]
async fn a_stream_that_was_lost_and_filled_beyond_its_cursor_is_written_from_its_beginning() {
    let rig = Rig::start().await;
    rig.driver_at("cab-1", PICKUP.0, PICKUP.1).await;
    until_stored(&rig, "cab-1").await;
    rig.until_written().await;

    let held = rig.hold_history().await;
    let now = Timestamp::now().as_millisecond();
    let mut redis = rig.redis().await;
    redis::cmd("FLUSHDB").exec_async(&mut redis).await.unwrap();
    add(&mut redis, &format!("{}-0", now - 3_600_000), "cab-2").await;
    add(&mut redis, &format!("{now}-0"), "cab-3").await;
    rig.driver_at("cab-4", PICKUP.0, PICKUP.1).await;
    held.batch_execute("rollback").await.unwrap();

    for driver in ["cab-2", "cab-3", "cab-4"] {
        until_stored(&rig, driver).await;
    }
    assert_eq!(
        (rereads(&rig, "lost").await, rereads(&rig, "failed_over").await),
        (1, 0)
    );
}

/// A person who is erased takes the entry at the cursor along: nothing is lost by that.
#[tokio::test]
async fn a_stream_whose_last_entry_was_erased_is_not_lost() {
    let rig = Rig::start().await;
    rig.driver_at("cab-1", PICKUP.0, PICKUP.1).await;
    until_stored(&rig, "cab-1").await;
    rig.until_written().await;
    let mut redis = rig.redis().await;
    let cursor = "select last_id from history_cursors where stream = 'location_events'";
    let cursor: String = rig.sql().await.query_one(cursor, &[]).await.unwrap().get(0);
    let mut delete = redis::cmd("XDEL");
    delete.arg("location_events").arg(&cursor);
    let deleted: i64 = delete.query_async(&mut redis).await.unwrap();
    assert_eq!((deleted, stream_len(&rig).await), (1, 0));

    rig.driver_at("cab-2", PICKUP.0, PICKUP.1).await;
    until_stored(&rig, "cab-2").await;
    assert_eq!(rereads(&rig, "lost").await, 0);
}

/// A server that never knew the cursor says at least what came since it began.
#[tokio::test]
async fn what_comes_while_the_cursor_is_not_known_is_behind() {
    let mut rig = Rig::start().await;
    rig.driver_at("cab-1", PICKUP.0, PICKUP.1).await;
    until_stored(&rig, "cab-1").await;
    rig.until_written().await;

    let held = rig.hold_history().await;
    rig.restart_server().await;
    until("what comes is behind, for a while", async || {
        rig.driver_at("cab-2", PICKUP.0, PICKUP.1).await;
        let (entries, is_for_a_while) = lag(&rig).await;
        entries > 0 && is_for_a_while
    })
    .await;
    held.batch_execute("rollback").await.unwrap();
    rig.until_written().await;
    until_eq("none is", (0, false), async || lag(&rig).await).await;
}

/// The first entry that is behind has a time an hour ahead: what is known is for how long it was not written.
#[tokio::test]
async fn an_entry_ahead_of_time_hides_no_lag() {
    let rig = Rig::start().await;
    rig.driver_at("cab-1", PICKUP.0, PICKUP.1).await;
    until_stored(&rig, "cab-1").await;
    rig.until_written().await;

    let held = rig.hold_history().await;
    let ahead = Timestamp::now() + 1.hour();
    add(
        &mut rig.redis().await,
        &format!("{}-0", ahead.as_millisecond()),
        "cab-2",
    )
    .await;
    until_eq("one is behind, for a while", (1, true), async || lag(&rig).await).await;
    held.batch_execute("rollback").await.unwrap();
    until_stored(&rig, "cab-2").await;
    until_eq("none is", (0, false), async || lag(&rig).await).await;
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
    until_eq("three are behind, for a while", (3, true), async || lag(&rig).await).await;
    held.batch_execute("rollback").await.unwrap();
    rig.until_written().await;
    until_eq("none is", (0, false), async || lag(&rig).await).await;
}
