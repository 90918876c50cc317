//! The fixes again, out of the stream in which they arrived.

use jiff::{SignedDuration, Timestamp};
use testkit::wire::{by, fix, refusal_fields, time};
use testkit::{Rig, until};
use tonic::Code;
use waybill_proto::fleet::v1::fleet_service_client::FleetServiceClient;
use waybill_proto::fleet::v1::replay_locations_request::From;
use waybill_proto::fleet::v1::{ReplayLocationsRequest, ReplayLocationsResponse};

use crate::access::Doors;

/// All messages of a replay to its end.
async fn replay(rig: &Rig, from: Option<From>) -> Vec<ReplayLocationsResponse> {
    let stream = rig.fleet().replay_locations(ReplayLocationsRequest { from }).await;
    let mut stream = stream.unwrap().into_inner();
    let mut messages = Vec::new();
    while let Some(message) = stream.message().await.unwrap() {
        messages.push(message);
    }
    messages
}

/// The drivers, in the order of their fixes.
fn drivers(messages: &[ReplayLocationsResponse]) -> Vec<&str> {
    let fixes = messages.iter().flat_map(|message| &message.fixes);
    fixes.map(|fix| fix.driver_id.as_str()).collect()
}

async fn report(rig: &Rig, names: &[String]) {
    for part in names.chunks(500) {
        let fixes = part.iter().map(|name| fix(name, 37.7, -122.4, Timestamp::now()));
        rig.report(fixes.collect()).await;
    }
}

fn names(prefix: &str, count: usize) -> Vec<String> {
    (0..count).map(|number| format!("{prefix}-{number:04}")).collect()
}

#[tokio::test]
async fn who_was_away_goes_on_where_it_was_and_is_sent_each_fix_in_its_order() {
    let rig = Rig::start().await;
    assert_eq!(drivers(&replay(&rig, None).await).len(), 0);
    let first = names("first", 1_200);
    report(&rig, &first).await;
    let messages = replay(&rig, None).await;
    assert_eq!(drivers(&messages), first);
    assert!(messages.iter().all(|message| message.fixes.len() <= 500));
    assert!(messages.iter().all(|message| message.trimmed_until.is_none()));

    let cursor = messages.last().unwrap().cursor.clone();
    let second = names("second", 3);
    report(&rig, &second).await;
    let messages = replay(&rig, Some(From::Cursor(cursor.clone()))).await;
    assert_eq!(drivers(&messages), second);
    // From the middle on, too.
    let whole = replay(&rig, None).await;
    let rest = replay(&rig, Some(From::Cursor(whole[0].cursor.clone()))).await;
    let expected = first[500..].iter().chain(&second).map(String::as_str);
    assert_eq!(drivers(&rest), expected.collect::<Vec<_>>());
    // Nothing is new, and the place stays.
    let end = messages.last().unwrap().cursor.clone();
    let nothing = replay(&rig, Some(From::Cursor(end.clone()))).await;
    assert_eq!(
        (nothing.len(), nothing[0].cursor.as_str(), drivers(&nothing).len()),
        (1, end.as_str(), 0)
    );
}

#[tokio::test]
async fn a_replay_from_a_time_begins_with_what_arrived_then_and_says_what_was_trimmed() {
    let rig = Rig::builder()
        .set("locations.keep_stored", "100")
        .set("locations.history_batch_max", "100")
        .set("locations.high_water", "10000")
        .start()
        .await;
    report(&rig, &names("early", 1)).await;
    let between = replay(&rig, None).await[0].cursor.clone();
    let between_ms: i64 = between.split_once('-').unwrap().0.parse().unwrap();
    let from_there = Timestamp::from_millisecond(between_ms + 1).unwrap();
    until("time goes on", async || {
        if Timestamp::now() > from_there { Ok(()) } else { Err(()) }
    })
    .await;
    report(&rig, &names("late", 1)).await;
    let later = replay(&rig, Some(From::Time(time(from_there)))).await;
    assert_eq!((drivers(&later), &later[0].trimmed_until), (vec!["late-0000"], &None));
    let future = Timestamp::now() + SignedDuration::from_hours(1);
    assert_eq!(drivers(&replay(&rig, Some(From::Time(time(future)))).await).len(), 0);

    report(&rig, &names("many", 2_000)).await;
    rig.until_written().await;
    until("the early ones are trimmed", async || {
        let whole = replay(&rig, None).await;
        if drivers(&whole).contains(&"early-0000") {
            Err(whole.len())
        } else {
            Ok(())
        }
    })
    .await;
    for from in [From::Cursor(between), From::Time(time(from_there))] {
        let gap = replay(&rig, Some(from)).await;
        assert!(gap[0].trimmed_until.is_some(), "it says that there is a gap");
        assert!(gap[1..].iter().all(|message| message.trimmed_until.is_none()));
    }
}

#[tokio::test]
async fn what_is_no_place_in_the_stream_is_refused_by_field() {
    let rig = Rig::start().await;
    let bad_time = prost_types::Timestamp {
        seconds: i64::MAX,
        nanos: 0,
    };
    for (from, field) in [
        (From::Cursor("garbage".to_owned()), "cursor"),
        (From::Cursor(String::new()), "cursor"),
        (From::Cursor("1-2,3-4".to_owned()), "cursor"),
        (From::Cursor("+".to_owned()), "cursor"),
        (From::Time(bad_time), "time"),
    ] {
        let request = ReplayLocationsRequest {
            from: Some(from.clone()),
        };
        let refused = rig.fleet().replay_locations(request).await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument, "{from:?}");
        assert_eq!(refusal_fields(&refused), [field], "{from:?}");
    }
}

#[tokio::test]
async fn of_several_streams_each_is_in_order_and_one_business_has_only_its_own() {
    let doors = Doors::start(Rig::builder().set("tenants.names", "acme").set("redis.shards", "3")).await;
    for tenant in ["", "acme"] {
        for number in 0..20 {
            let driver = format!("cab-{number}");
            doors.report_in(tenant, &driver, (37.7, -122.4)).await;
            doors.report_in(tenant, &driver, (37.8, -122.4)).await;
        }
    }
    let mut fleet = FleetServiceClient::new(doors.rig.channel());
    for tenant in ["", "acme"] {
        let token = doors.token_in(tenant, "service", "shop");
        let stream = fleet.replay_locations(by(Some(&token), ReplayLocationsRequest { from: None }));
        let mut stream = stream.await.unwrap().into_inner();
        let mut seen = Vec::new();
        while let Some(message) = stream.message().await.unwrap() {
            seen.extend(message.fixes);
        }
        assert_eq!(seen.len(), 40, "{tenant:?}");
        for number in 0..20 {
            let of_one = seen.iter().filter(|fix| fix.driver_id == format!("cab-{number}"));
            let lats: Vec<f64> = of_one.map(|fix| fix.position.unwrap().latitude()).collect();
            assert_eq!(lats.len(), 2, "{tenant:?}");
            assert!(lats[0] < lats[1], "{lats:?}");
        }
    }
}
