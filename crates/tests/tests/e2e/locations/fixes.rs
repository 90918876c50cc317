//! Fixes in: what is acknowledged, what is rejected, and where it is found afterwards.

use jiff::SignedDuration;
use redis::aio::MultiplexedConnection;
use testkit::Rig;
use testkit::chance::Chance;
use testkit::wire::{self, now, refusal_fields, time};
use tonic::Code;
use waybill_proto::location::v1 as pb;
use waybill_proto::location::v1::RejectionReason as Reason;

use super::driver_stream::{DriverStream, fix, history, latest, latest_micros, report, stream_len, track};

#[tokio::test]
async fn an_acknowledged_fix_is_in_every_place_that_reads_it() {
    let rig = Rig::start().await;
    let at = now();
    let mut stream = DriverStream::open(rig.locations()).await;

    stream.store(7, vec![wire::fix("cab-1", 37.75, -122.5, at)]).await;

    let micros = at.as_microsecond();
    let mut hash = latest(&rig, "cab-1").await;
    let arrived_at: i64 = hash.remove("arrived_at").unwrap().parse().unwrap();
    assert!((micros..=now().as_microsecond()).contains(&arrived_at), "{arrived_at}");
    let expected = [
        ("driver_id", "cab-1".to_owned()),
        ("lat", "37.75".to_owned()),
        ("long", "-122.5".to_owned()),
        ("timestamp", micros.to_string()),
    ];
    assert_eq!(hash, expected.map(|(name, value)| (name.to_owned(), value)).into());
    let mut redis = rig.redis().await;
    let ttl = redis::cmd("PTTL").arg("driver:cab-1").to_owned();
    let ttl_ms: i64 = ttl.query_async(&mut redis).await.unwrap();
    assert!((1..=30_000).contains(&ttl_ms), "the key lives for {ttl_ms} ms");
    assert_eq!(latest_micros(&rig, "cab-1").await, (Some(micros), Some(micros)));
    let indexed = redis::cmd("GEOPOS").arg("drivers:geo").arg("cab-1").to_owned();
    let indexed: Vec<Option<(f64, f64)>> = indexed.query_async(&mut redis).await.unwrap();
    let (lon_deg, lat_deg) = indexed[0].expect("a position in the index");
    let off = (lat_deg - 37.75).abs().max((lon_deg + 122.5).abs());
    assert!(off < 1e-4, "{lat_deg} {lon_deg}");

    let events = redis::cmd("XRANGE").arg("location_events").arg("-").arg("+").to_owned();
    let events: redis::streams::StreamRangeReply = events.query_async(&mut redis).await.unwrap();
    assert_eq!(events.ids.len(), 1);
    for (name, value) in &hash {
        let stored = events.ids[0].get::<String>(name);
        assert_eq!(stored.as_ref(), Some(value), "{name} of the stream's entry");
    }
    rig.until_written().await;
    assert_eq!(history(&rig, "cab-1").await, [(37.75, -122.5, micros)]);
}

#[tokio::test]
async fn an_older_fix_goes_to_the_history_and_never_overwrites_a_newer_one() {
    let rig = Rig::start().await;
    let newer = now();
    let older = newer - SignedDuration::from_secs(5);
    let mut stream = DriverStream::open(rig.locations()).await;

    stream.store(0, vec![wire::fix("cab-1", 1.0, 1.0, newer)]).await;
    stream.store(1, vec![wire::fix("cab-1", 2.0, 2.0, older)]).await;

    assert_eq!(latest(&rig, "cab-1").await["lat"], "1.0");
    let (newer, older) = (newer.as_microsecond(), older.as_microsecond());
    assert_eq!(latest_micros(&rig, "cab-1").await, (Some(newer), Some(newer)));
    rig.until_written().await;
    assert_eq!(history(&rig, "cab-1").await, [(2.0, 2.0, older), (1.0, 1.0, newer)]);
}

#[tokio::test]
async fn a_duplicate_is_acknowledged_and_adds_no_row() {
    let rig = Rig::start().await;
    let at = now();
    let first = || wire::fix("cab-1", 1.0, 1.0, at);
    let mut stream = DriverStream::open(rig.locations()).await;
    let mut other = DriverStream::open(rig.locations()).await;

    stream.store(0, vec![first(), first()]).await;
    stream.store(2, vec![first()]).await;
    other.store(0, vec![first()]).await;
    rig.until_written().await;
    // A copy that comes when the first is already in the history, and one with another place.
    other.store(1, vec![first(), wire::fix("cab-1", 9.0, 9.0, at)]).await;

    rig.until_written().await;
    assert_eq!(history(&rig, "cab-1").await, [(1.0, 1.0, at.as_microsecond())]);
    assert_eq!(latest(&rig, "cab-1").await["lat"], "1.0");
}

#[tokio::test]
async fn fixes_in_any_order_and_number_come_to_the_same_as_sorted_ones() {
    let rig =
        Rig::with("limits.fixes_per_driver.per_second=100000 limits.fixes_per_driver.burst=100000 locations.ttl=1h")
            .await;
    let begin = now() - SignedDuration::from_mins(10);
    let at = |number: i64| begin + SignedDuration::from_millis(number * 250);
    #[allow(clippy::cast_precision_loss, reason = "some thousands")]
    let place = |number: i64| 30.0 + number as f64 / 1_000.0;
    let mut fixes: Vec<pb::Fix> = (0..2_000)
        .map(|number| wire::fix(&format!("cab-{:02}", number % 20), place(number), 5.0, at(number)))
        .collect();
    // Each of them once, and every third one twice.
    fixes.extend(fixes.iter().step_by(3).cloned().collect::<Vec<_>>());
    shuffle(&mut fixes, 20_260_523);

    let mut streams = Vec::new();
    for _ in 0..4 {
        streams.push(DriverStream::open(rig.locations()).await);
    }
    let mut last = [0; 4];
    for (number, part) in fixes.chunks(200).enumerate() {
        let sequence = 1_000 * number as u64;
        streams[number % 4].send(sequence, part.to_vec()).await;
        last[number % 4] = sequence + part.len() as u64 - 1;
    }
    for (stream, last) in streams.iter_mut().zip(last) {
        assert_eq!(stream.until_acknowledged(last).await, []);
    }

    rig.until_written().await;
    for cab in 0..20_i64 {
        let driver = format!("cab-{cab:02}");
        let sorted: Vec<_> = (0..100)
            .map(|round| round * 20 + cab)
            .map(|number| (place(number), 5.0, at(number).as_microsecond()))
            .collect();
        assert_eq!(history(&rig, &driver).await, sorted, "{driver}");
        let last = sorted.last().map(|(_, _, micros)| *micros);
        assert_eq!(latest_micros(&rig, &driver).await, (last, last), "{driver}");
        let north = latest(&rig, &driver).await["lat"].parse();
        assert_eq!(north, Ok(place(1_980 + cab)), "{driver}");
    }
}

#[tokio::test]
async fn each_bad_fix_is_rejected_by_name_and_the_good_ones_beside_it_are_stored() {
    let rig = Rig::start().await;
    let placed = |lat_deg, lon_deg| fix("cab-1", lat_deg, lon_deg);
    let timed = |recorded_at| pb::Fix {
        recorded_at,
        ..fix("cab-1", 1.0, 1.0)
    };
    let off_by = |secs| wire::fix("cab-1", 1.0, 1.0, now() + SignedDuration::from_secs(secs));
    let nanos = |nanos| timed(Some(prost_types::Timestamp { nanos, ..time(now()) }));
    let nowhere = pb::Fix {
        position: None,
        ..fix("cab-1", 1.0, 1.0)
    };
    let at = |position| pb::Fix {
        position: Some(position),
        ..fix("cab-1", 1.0, 1.0)
    };
    let bad = [
        (fix("", 1.0, 1.0), Reason::DriverId, "driver_id"),
        (fix(&"x".repeat(65), 1.0, 1.0), Reason::DriverId, "driver_id"),
        (fix("cab 1", 1.0, 1.0), Reason::DriverId, "driver_id"),
        (fix("täxi", 1.0, 1.0), Reason::DriverId, "driver_id"),
        (nowhere, Reason::Position, "position"),
        // 0 is a place, and has to be said.
        (at(pb::LatLng::default()), Reason::Position, "position.latitude"),
        (
            at(pb::LatLng {
                longitude: None,
                ..wire::position((0.0, 0.0))
            }),
            Reason::Position,
            "position.longitude",
        ),
        (placed(f64::NAN, 1.0), Reason::Position, "position.latitude"),
        (placed(1.0, f64::NAN), Reason::Position, "position.longitude"),
        (placed(f64::INFINITY, 1.0), Reason::Position, "position.latitude"),
        (placed(1.0, f64::NEG_INFINITY), Reason::Position, "position.longitude"),
        (placed(90.0001, 1.0), Reason::Position, "position.latitude"),
        (placed(1.0, -180.0001), Reason::Position, "position.longitude"),
        (timed(None), Reason::TimeInvalid, "recorded_at"),
        (nanos(2_000_000_000), Reason::TimeInvalid, "recorded_at.nanos"),
        (nanos(-1), Reason::TimeInvalid, "recorded_at.nanos"),
        (
            timed(Some(prost_types::Timestamp {
                seconds: i64::MAX,
                nanos: 0,
            })),
            Reason::TimeInvalid,
            "recorded_at",
        ),
        (off_by(3_600), Reason::TimeInFuture, "recorded_at"),
        (off_by(-25 * 3_600), Reason::TimeTooOld, "recorded_at"),
    ];
    // Good and bad by turns: 100 is good, 101 is the first bad one, and so on.
    let fixes = bad.iter().enumerate();
    let fixes = fixes.flat_map(|(number, (bad, _, _))| [fix(&format!("good-{number}"), 1.0, 1.0), bad.clone()]);
    let mut stream = DriverStream::open(rig.locations()).await;

    let answer = stream.exchange(100, fixes.collect()).await;

    assert_eq!(answer.acknowledged_sequence, 100 + 2 * bad.len() as u64 - 1);
    assert_eq!(answer.rejections.len(), bad.len());
    let expected = (101..).step_by(2).zip(&bad);
    for (rejection, (sequence, (_, reason, field))) in answer.rejections.iter().zip(expected) {
        let found = (rejection.sequence, rejection.reason(), rejection.field.as_str());
        assert_eq!(found, (sequence, *reason, *field));
        assert!(rejection.message.starts_with(field), "{rejection:?}");
    }

    stream.store(500, vec![fix("cab-2", 1.0, 1.0)]).await;
    rig.until_written().await;
    // Every good fix, and no other.
    assert_eq!(stream_len(&rig).await, bad.len() as u64 + 1);
    assert_eq!(history(&rig, "cab-1").await, []);
    assert_eq!(history(&rig, "cab-2").await.len(), 1);
}

#[tokio::test]
async fn a_sequence_that_does_not_grow_ends_the_stream_and_stores_nothing_more() {
    let rig = Rig::start().await;
    for (first, again) in [(5, 5), (5, 4), (0, 0), (5, 6)] {
        let mut stream = DriverStream::open(rig.locations()).await;
        // The message takes two sequences.
        stream.store(first, track("cab-1", 2)).await;
        stream.send(again, track("cab-2", 1)).await;
        let (acknowledged, status) = stream.rest().await;
        let found = (acknowledged, status.code());
        assert_eq!(found, (None, Code::InvalidArgument), "{first}, then {again}");
        assert!(status.message().contains("first_sequence"), "{}", status.message());
    }
    assert_eq!(latest(&rig, "cab-2").await, [].into());
}

/// A rig whose Redis, its own, takes no write for now.
async fn with_paused_writes() -> (Rig, MultiplexedConnection) {
    let rig = Rig::builder()
        .private_stores()
        .set("limits.fixes_per_driver.burst", "1000")
        .start()
        .await;
    let mut redis = rig.redis().await;
    pause(&mut redis, &["PAUSE", "10000", "WRITE"]).await;
    (rig, redis)
}

async fn pause(redis: &mut MultiplexedConnection, words: &[&str]) {
    let mut client = redis::cmd("CLIENT");
    client.arg(words).query_async::<()>(redis).await.unwrap();
}

/// What waits behind a slow store is stored and acknowledged together: of some hundred messages each is not a round trip. Nothing is
/// acknowledged that came after a message that ends the stream, and all that came before it is.
#[tokio::test]
async fn messages_that_wait_are_acknowledged_together() {
    let (rig, mut redis) = with_paused_writes().await;
    let mut stream = DriverStream::open(rig.locations()).await;
    for sequence in 0..200 {
        let mut fixes = track("cab-1", 1);
        // One in ten cannot be stored.
        if sequence % 10 == 7 {
            fixes[0].position = None;
        }
        stream.send(sequence, fixes).await;
    }
    stream.send(200, Vec::new()).await;
    pause(&mut redis, &["UNPAUSE"]).await;

    let (mut responses, mut acknowledged, mut rejected) = (0, None, Vec::new());
    let status = loop {
        match stream.next().await {
            Ok(response) => {
                responses += 1;
                assert!(acknowledged < Some(response.acknowledged_sequence));
                acknowledged = Some(response.acknowledged_sequence);
                rejected.extend(response.rejections.iter().map(|rejection| rejection.sequence));
                assert!(
                    rejected.last() <= acknowledged.as_ref(),
                    "a rejection comes with its acknowledgement"
                );
            }
            Err(status) => break status,
        }
    };
    assert_eq!(
        (acknowledged, status.code()),
        (Some(199), Code::InvalidArgument),
        "{status:?}"
    );
    assert_eq!(
        rejected,
        (0..200).filter(|sequence| sequence % 10 == 7).collect::<Vec<u64>>()
    );
    assert!(responses < 50, "{responses} responses");
    rig.until_written().await;
    assert_eq!(stream_len(&rig).await, 180);
}

/// However much waits, a response stays within what a client reads: 500 fixes, and those of one message more.
#[tokio::test]
async fn a_response_names_no_more_rejections_than_a_client_reads() {
    let (rig, mut redis) = with_paused_writes().await;
    let mut stream = DriverStream::open(rig.locations()).await;
    stream.send(0, track("cab-1", 1)).await;
    let bad = vec![wire::fix("cab 1", 37.0, -122.0, now()); 100];
    for number in 0..30 {
        stream.send(1 + 100 * number, bad.clone()).await;
    }
    pause(&mut redis, &["UNPAUSE"]).await;
    let mut rejected = 0;
    while rejected < 3_000 {
        let answer = stream.answer().await;
        assert!(answer.rejections.len() <= 600, "{} at once", answer.rejections.len());
        rejected += answer.rejections.len();
        assert_eq!(answer.acknowledged_sequence, rejected as u64);
    }
}

#[tokio::test]
async fn sequences_may_skip_and_reach_the_largest_number() {
    let rig = Rig::start().await;
    let mut stream = DriverStream::open(rig.locations()).await;
    stream.store(3, track("cab-1", 1)).await;
    stream.store(u64::MAX - 2, track("cab-1", 1)).await;
    stream.send(u64::MAX - 1, track("cab-1", 3)).await;
    assert_eq!(stream.rest().await.1.code(), Code::InvalidArgument);
}

/// An empty fix takes two bytes: a message of 64 KiB could ask for 32,000 rejections.
#[tokio::test]
async fn a_message_holds_1_to_1000_fixes_and_any_other_ends_the_stream() {
    let rig = Rig::start().await;
    for count in [0, 1_001, 30_000] {
        let mut stream = DriverStream::open(rig.locations()).await;
        stream.send(0, track("cab-1", 1)).await;
        stream.send(1, vec![pb::Fix::default(); count]).await;
        let (acknowledged, status) = stream.rest().await;
        assert_eq!(
            (acknowledged, status.code()),
            (Some(0), Code::InvalidArgument),
            "{count}"
        );
        assert_eq!(refusal_fields(&status), ["fixes"], "{count}");
    }
    let mut stream = DriverStream::open(rig.locations()).await;
    stream.store(0, track("cab-2", 1_000)).await;
    let answer = stream.exchange(1_000, vec![pb::Fix::default(); 1_000]).await;
    assert_eq!((answer.acknowledged_sequence, answer.rejections.len()), (1_999, 1_000));
    rig.until_written().await;
    assert_eq!(history(&rig, "cab-2").await.len(), 1_000);
}

#[tokio::test]
async fn a_stream_that_the_client_ends_ends_well() {
    let rig = Rig::start().await;
    let mut stream = DriverStream::open(rig.locations()).await;
    stream.store(0, track("cab-1", 1)).await;
    assert_eq!(stream.close().await.code(), Code::Ok);
}

#[tokio::test]
async fn a_batch_is_counted_and_its_bad_fixes_are_named_by_index() {
    let rig = Rig::start().await;
    let fixes = vec![
        fix("cab-1", 1.0, 1.0),
        fix("cab 2", 1.0, 1.0),
        fix("cab-3", 1.0, 1.0),
        fix("cab-4", 91.0, 1.0),
    ];

    let answer = report(&rig, fixes).await.unwrap();

    assert_eq!(answer.accepted_count, 2);
    let rejections = answer.rejections.iter();
    let rejections: Vec<_> = rejections.map(|bad| (bad.sequence, bad.reason())).collect();
    assert_eq!(rejections, [(1, Reason::DriverId), (3, Reason::Position)]);
    rig.until_written().await;
    for driver in ["cab-1", "cab-3"] {
        assert_eq!(history(&rig, driver).await.len(), 1, "{driver}");
    }
}

#[tokio::test]
async fn a_batch_holds_1_to_500_fixes() {
    let rig = Rig::builder().set("limits.fixes_per_driver.burst", "500").start().await;
    for count in [0, 501] {
        let refusal = report(&rig, track("cab-1", count)).await.unwrap_err();
        assert_eq!(refusal.code(), Code::InvalidArgument, "{count}");
    }
    assert_eq!(stream_len(&rig).await, 0);
    assert_eq!(report(&rig, track("cab-1", 500)).await.unwrap().accepted_count, 500);
}

#[tokio::test]
async fn a_fix_at_the_pole_is_stored_though_the_index_cannot_hold_it() {
    let rig = Rig::start().await;
    let at = now();
    let mut stream = DriverStream::open(rig.locations()).await;
    // The beyond of the index, the edge of the world, and the last latitude that is indexed.
    let fixes = vec![
        wire::fix("sledge-1", 85.06, 0.0, at),
        wire::fix("sledge-2", -90.0, 180.0, at),
        wire::fix("sledge-3", 85.05, -180.0, at),
    ];
    stream.store(0, fixes).await;

    let micros = Some(at.as_microsecond());
    assert_eq!(latest_micros(&rig, "sledge-1").await, (micros, None));
    assert_eq!(latest_micros(&rig, "sledge-2").await, (micros, None));
    assert_eq!(latest_micros(&rig, "sledge-3").await, (micros, micros));
    rig.until_written().await;
    assert_eq!(history(&rig, "sledge-2").await, [(-90.0, 180.0, at.as_microsecond())]);
}

/// Fisher and Yates, the same order at every run.
fn shuffle<T>(items: &mut [T], seed: u64) {
    let mut chance = Chance::new(seed);
    for last in (1..items.len()).rev() {
        items.swap(last, chance.index(last + 1));
    }
}
