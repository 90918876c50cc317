//! From the stream to the history: batches, days, what is trimmed, and what is not a fix.

use std::collections::BTreeMap;

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp, ToSpan as _};
use testkit::sql::column;
use testkit::table::words;
use testkit::wire::{self, a_ride, now};
use testkit::{Builder, Rig, until, until_eq};

use super::driver_stream::{DriverStream, fix, history, latest, stream_len, track};

/// A stream that is trimmed soon, and no limit on what one driver sends.
fn small_stream() -> Builder {
    Rig::builder().with(
        "locations.keep_stored=100 locations.history_batch_max=50 limits.fixes_per_driver.per_second=100000 \
            limits.fixes_per_driver.burst=100000",
    )
}

#[tokio::test]
async fn the_stream_keeps_about_as_many_stored_fixes_as_it_is_set_to() {
    let rig = small_stream().start().await;
    let mut stream = DriverStream::open(rig.locations()).await;
    for round in 0..10 {
        stream.store(round * 200, track("cab-1", 200)).await;
    }
    rig.until_written().await;
    // One batch more than it is set to, and the rest of a node of the stream, since whole nodes of 100 are dropped.
    until("the stream is trimmed", async || {
        let length = stream_len(&rig).await;
        if (100..=250).contains(&length) {
            Ok(())
        } else {
            Err(length)
        }
    })
    .await;
    let distinct = rig.count("select count(*) from driver_locations").await;
    // More are in the history than in the stream.
    assert!(distinct > 250, "{distinct}");
    rig.assert_clean().await;
}

#[tokio::test]
async fn fixes_that_are_not_in_the_history_are_never_trimmed() {
    let rig = small_stream().start().await;
    let mut stream = DriverStream::open(rig.locations()).await;
    stream.store(0, track("cab-1", 300)).await;
    rig.until_written().await;

    let held = rig.hold_history().await;
    let before = stream_len(&rig).await;
    for round in 0..5 {
        let fixes = track(&format!("cab-{round}"), 200);
        stream.store(1_000 + round * 200, fixes).await;
    }
    assert_eq!(stream_len(&rig).await, before + 1_000);
    held.batch_execute("rollback").await.unwrap();

    rig.until_written().await;
    for round in 0..5 {
        assert!(history(&rig, &format!("cab-{round}")).await.len() >= 200);
    }
}

/// A server that was killed leaves entries in the stream that its successor did not write.
#[tokio::test]
async fn what_a_server_left_in_the_stream_is_trimmed_by_the_next() {
    let mut rig = small_stream().start().await;
    DriverStream::open(rig.locations())
        .await
        .store(0, track("cab-1", 100))
        .await;
    rig.until_written().await;
    for round in 0..4 {
        rig.restart_server().await;
        let driver = format!("cab-{}", round + 2);
        DriverStream::open(rig.locations())
            .await
            .store(0, track(&driver, 90))
            .await;
        rig.until_written().await;
    }
    let length = stream_len(&rig).await;
    // No server wrote as many as are kept.
    assert!(length <= 250, "{length} entries");
}

#[tokio::test]
async fn each_fix_lands_in_the_partition_of_its_day() {
    let rig = Rig::start().await;
    let today = now();
    let yesterday = today - SignedDuration::from_hours(24) + SignedDuration::from_mins(1);
    let fixes = [(1.0, today), (2.0, yesterday)].map(|(place, at)| wire::fix("cab-1", place, place, at));
    DriverStream::open(rig.locations()).await.store(0, fixes.into()).await;

    rig.until_written().await;
    let query = "select tableoid::regclass::text, lat from driver_locations where driver_id = 'cab-1'";
    let rows = rig.sql().await.query(query, &[]).await.unwrap();
    let found: BTreeMap<String, f64> = rows.iter().map(|row| (row.get(0), row.get(1))).collect();
    let partition = |at: Timestamp| format!("driver_locations_{}", at.to_zoned(TimeZone::UTC).strftime("%Y%m%d"));
    let expected = [(partition(today), 1.0), (partition(yesterday), 2.0)];
    assert_eq!(found, BTreeMap::from(expected));
    // A fix of yesterday is no place of today.
    assert_eq!(latest(&rig, "cab-1").await["lat"], "1.0");
}

#[tokio::test]
async fn days_beyond_the_retention_are_dropped_and_no_other() {
    let mut rig = Rig::builder().set("locations.retention_days", "2").start().await;
    let today = now().to_zoned(TimeZone::UTC).date();
    for days_ago in [2_i64, 3, 40] {
        let day = today.checked_sub(days_ago.days()).unwrap();
        let next = day.checked_add(1.day()).unwrap();
        let name = format!("driver_locations_{}", day.strftime("%Y%m%d"));
        let create = format!(
            "create table {name} partition of driver_locations
             for values from ('{day} 00:00:00Z') to ('{next} 00:00:00Z');
             insert into driver_locations values ('cab-{days_ago}', 1, 1, '{day} 12:00:00Z')"
        );
        rig.execute(&create).await;
    }

    rig.restart_server().await;

    until_eq("old days are dropped", vec!["cab-2".to_owned()], async || {
        let query = "select driver_id from driver_locations";
        column(&rig.sql().await, query, &[]).await.unwrap()
    })
    .await;
}

/// Other programs may write into our Redis. What is not a fix must not keep fixes from the history.
#[tokio::test]
async fn an_entry_that_is_not_a_fix_is_passed_over() {
    let rig = Rig::start().await;
    let mut redis = rig.redis().await;
    // The last two: the last day that a timestamp can hold, and one before Christ. No partition can be made for them.
    let foreign = [
        "greeting hello",
        "driver_id cab-1",
        "driver_id a~b lat 1 long 1 timestamp 1700000000000000",
        "driver_id cab-1 lat 91 long 1 timestamp 1700000000000000",
        "driver_id cab-1 lat 1 long 1 timestamp soon",
        "driver_id cab-1 lat 1 long 1 timestamp 253402207200000000",
        "driver_id cab-1 lat 1 long 1 timestamp -99999999999999999",
    ];
    let mut stream = DriverStream::open(rig.locations()).await;
    for (number, fields) in foreign.iter().enumerate() {
        let mut add = redis::cmd("XADD");
        add.arg("location_events").arg("*").arg(words(fields));
        add.exec_async(&mut redis).await.unwrap();
        stream.store(number as u64, vec![fix("cab-2", 1.0, 1.0)]).await;
    }

    rig.until_written().await;
    assert_eq!(history(&rig, "cab-2").await.len(), foreign.len());
    assert_eq!(history(&rig, "cab-1").await, []);
}

#[tokio::test]
async fn drivers_may_be_spread_over_four_shards() {
    let rig = Rig::builder().set("redis.shards", "4").start().await;
    let mut stream = DriverStream::open(rig.locations()).await;
    let fixes: Vec<_> = (0..40)
        .map(|number| fix(&format!("cab-{number}"), 37.7749, -122.4194))
        .collect();
    stream.store(0, fixes).await;

    let mut redis = rig.redis().await;
    let mut lengths = Vec::new();
    for shard in 0..4 {
        let stream = format!("location_events:{{{shard}}}");
        let length: u64 = redis::cmd("XLEN").arg(stream).query_async(&mut redis).await.unwrap();
        let index = format!("drivers:geo:{{{shard}}}");
        let indexed: u64 = redis::cmd("ZCARD").arg(index).query_async(&mut redis).await.unwrap();
        assert_eq!(length, indexed, "shard {shard}");
        lengths.push(length);
    }
    assert!(lengths.iter().all(|length| *length > 0), "{lengths:?}");
    assert_eq!(lengths.iter().sum::<u64>(), 40);
    assert_eq!(latest(&rig, "cab-17").await["driver_id"], "cab-17");

    rig.until_written().await;
    assert_eq!(rig.count("select count(*) from driver_locations").await, 40);
    assert_eq!(rig.count("select count(*) from history_cursors").await, 4);
    let order = rig.place(a_ride()).await;
    assert!(order.assignment.is_some(), "a driver of some shard serves the order");
    rig.assert_clean().await;
}
