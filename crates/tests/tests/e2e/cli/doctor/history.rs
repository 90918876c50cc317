//! Streams of fixes that no server with these settings reads.

use std::ops::RangeInclusive;

use testkit::Rig;

use super::assert_finds;
use crate::cli::on_stores_with;

const ACME: (&str, &str) = ("WAYBILL_TENANTS__NAMES", "acme");
const FOUR_SHARDS: (&str, &str) = ("WAYBILL_REDIS__SHARDS", "4");
const NONE: &str = "no stream";

/// A stream with entries of these milliseconds, which is written to this one of them.
async fn stream(rig: &Rig, name: &str, entries: RangeInclusive<u32>, written: u32) {
    let mut pipe = redis::pipe();
    for millis in entries {
        pipe.cmd("XADD").arg(name).arg(format!("{millis}-0"));
        pipe.arg(&["driver_id", "acme/cab-1"]).ignore();
    }
    let () = pipe.query_async(&mut rig.redis().await).await.unwrap();
    write_until(rig, name, written).await;
}

async fn write_until(rig: &Rig, name: &str, written: u32) {
    rig.execute(&format!(
        "insert into history_cursors (stream, last_id) values ('{name}', '{written}-0')
         on conflict (stream) do update set last_id = excluded.last_id"
    ))
    .await;
}

#[tokio::test]
async fn the_doctor_finds_the_fixes_that_a_removed_tenant_left_in_its_stream() {
    let rig = Rig::builder().no_server().start().await;
    assert_finds(&rig, &[], "history", "ok", &[NONE]).await;

    let of_acme = "location_events:{acme}";
    stream(&rig, of_acme, 1..=5, 2).await;
    assert_finds(&rig, &[ACME], "history", "ok", &[NONE]).await;
    let left = [of_acme, "3 fixes", "tenants.names", "redis.shards"];
    assert_finds(&rig, &[], "history", "WARNING", &left).await;
    let ended = on_stores_with(&rig, &["doctor"], &[]).await;
    assert_eq!(ended.status, Some(0), "{ended:?}");

    write_until(&rig, of_acme, 4).await;
    assert_finds(&rig, &[], "history", "WARNING", &[of_acme, "1 fix "]).await;
    // What is written stays in the stream for a while, and is no reason for a warning.
    write_until(&rig, of_acme, 5).await;
    assert_finds(&rig, &[], "history", "ok", &[NONE]).await;
    // Redis was emptied.
    write_until(&rig, "location_events:{beta}", 7).await;
    assert_finds(&rig, &[], "history", "ok", &[NONE]).await;
}

#[tokio::test]
async fn the_doctor_finds_what_is_left_in_the_shards_that_there_were() {
    let rig = Rig::builder().no_server().start().await;
    stream(&rig, "location_events:{0}", 1..=5, 4).await;
    stream(&rig, "location_events:{3}", 1..=1_500, 200).await;
    assert_finds(&rig, &[FOUR_SHARDS], "history", "ok", &[NONE]).await;
    let ended = on_stores_with(&rig, &["doctor"], &[]).await;
    for left in [
        "location_events:{0} has 1 fix ",
        "location_events:{3} has 1000 to 1500 fixes ",
    ] {
        assert!(ended.stdout.contains(left), "{left:?} is not in {}", ended.stdout);
    }
    // More shards than there were leave the stream with the plain name.
    stream(&rig, "location_events", 1..=2, 0).await;
    let plain = ["location_events has 2 fixes"];
    assert_finds(&rig, &[FOUR_SHARDS], "history", "WARNING", &plain).await;
}

#[tokio::test]
async fn the_doctor_says_when_streams_cannot_be_looked_for() {
    let rig = Rig::builder().no_server().start().await;
    rig.execute("drop table history_cursors").await;
    assert_finds(&rig, &[], "history", "CHANGE", &["history_cursors"]).await;
}
