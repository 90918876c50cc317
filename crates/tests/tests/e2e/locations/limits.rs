//! What happens to streams that are too fast, too large, idle, or ahead of the stores.

use std::time::Duration;

use futures_util::future::join_all;
use testkit::wire::{a_ride, assert_refused_for_now, by, retry_after};
use testkit::{Builder, Rig, until};
use tonic::Code;
use waybill_proto::location::v1::location_service_client::LocationServiceClient;
use waybill_proto::location::v1::{Fix, RejectionReason as Reason, ReportLocationsRequest};
use waybill_sandbox::proxy::Mode;

use crate::access::Doors;

use super::driver_stream::{DriverStream, be_refused_for_long, fix, history, report, stream_len, track};
use super::fleet::names_near;

/// A buffer that is soon full.
fn small_buffer() -> Builder {
    Rig::builder().with("locations.keep_stored=10 locations.history_batch_max=20 locations.high_water=200")
}

#[tokio::test]
async fn a_message_over_64_kib_ends_its_stream_and_nothing_else() {
    let rig = Rig::start().await;
    let mut other = DriverStream::open(rig.locations()).await;
    let mut stream = DriverStream::open(rig.locations()).await;
    stream.store(0, track("cab-1", 1)).await;

    stream.send(1, track("a-driver-with-a-long-name", 1_200)).await;

    let (acknowledged, status) = stream.rest().await;
    assert_eq!((acknowledged, status.code()), (None, Code::ResourceExhausted));
    other.store(0, track("cab-2", 1)).await;
    assert_eq!(stream_len(&rig).await, 2);
}

#[tokio::test]
async fn a_full_buffer_refuses_and_loses_nothing_that_it_acknowledged() {
    let rig = small_buffer().set("locations.caller_share", "1").start().await;
    let mut stream = DriverStream::open(rig.locations()).await;
    stream.store(0, track("cab-0", 5)).await;
    let held = rig.hold_history().await;
    let mut acknowledged = Vec::new();
    let refusal = loop {
        let driver = format!("cab-{}", acknowledged.len() + 1);
        let sequence = 1_000 * (acknowledged.len() as u64 + 1);
        stream.send(sequence, track(&driver, 20)).await;
        match stream.next().await {
            Ok(_) => acknowledged.push(driver),
            Err(status) => break status,
        }
        assert!(acknowledged.len() < 20, "the buffer is never full");
    };
    assert_refused_for_now(&refusal, Code::ResourceExhausted);
    assert!(retry_after(&refusal) > Some(Duration::ZERO), "{refusal:?}");
    assert!(acknowledged.len() >= 9, "{} messages of 20 fixes", acknowledged.len());
    let refusal = report(&rig, track("cab-late", 1)).await.unwrap_err();
    assert_refused_for_now(&refusal, Code::ResourceExhausted);
    assert!(stream_len(&rig).await >= 200);

    held.batch_execute("rollback").await.unwrap();

    // There is room again, and everything is there once.
    until("the buffer has room", async || report(&rig, track("cab-late", 1)).await).await;
    rig.until_written().await;
    for driver in &acknowledged {
        assert_eq!(history(&rig, driver).await.len(), 20, "{driver}");
    }
}

#[tokio::test]
async fn a_driver_pays_for_a_call_of_bad_fixes_and_its_good_ones_are_stored_among_bad_ones() {
    let limits = "limits.fixes_per_driver.per_second=1 limits.fixes_per_driver.burst=2";
    let doors = Doors::start(Rig::builder().with(limits)).await;
    let [cab, other] = ["cab-1", "cab-2"].map(|driver| doors.token("driver", driver));
    let locations = LocationServiceClient::new(doors.rig.channel());
    // All at once: tokens come back with time.
    let reports = async |token: &str, fixes: Vec<Fix>, calls: usize| {
        let call = async || {
            let request = by(Some(token), ReportLocationsRequest { fixes: fixes.clone() });
            locations.clone().report_locations(request).await
        };
        join_all((0..calls).map(|_| call())).await
    };
    let bad = vec![Fix::default(); 499];
    let mixed = [bad.clone(), track("cab-2", 1)].concat();
    for stored in reports(&other, mixed.clone(), 2).await {
        let stored = stored.unwrap().into_inner();
        assert_eq!((stored.accepted_count, stored.rejections.len()), (1, 499));
    }
    for (token, fixes) in [(&cab, bad), (&other, mixed)] {
        let answers = reports(token, fixes, 40).await;
        let refusal = answers.into_iter().find_map(Result::err).expect("a call is refused");
        assert_refused_for_now(&refusal, Code::ResourceExhausted);
    }
}

/// Where a driver is matters to dispatch though its track is not kept.
#[tokio::test]
async fn drivers_are_found_while_the_buffer_of_fixes_is_full() {
    for caller_share in ["1", "0.5"] {
        let builder = small_buffer().set("locations.caller_share", caller_share);
        // The drivers are in several shards, and all of them in one call.
        let rig = builder.with("redis.shards=4 locations.ttl=2s").start().await;
        let held = rig.sql().await;
        let lock = "begin; lock table history_cursors in share row exclusive mode";
        held.batch_execute(lock).await.unwrap();
        let drivers = ["cab-1", "cab-2", "cab-3", "cab-4", "cab-5"];
        for (driver, fixes) in drivers.iter().flat_map(|driver| [(driver, 20), (driver, 1)]) {
            until("the buffer is full", async || {
                report(&rig, track(driver, fixes)).await.err()
            })
            .await;
        }
        be_refused_for_long(&rig, &drivers, Code::ResourceExhausted).await;
        let mut found = names_near(&rig, 100.0, 10).await;
        found.sort();
        assert_eq!(found, drivers);
        rig.place(a_ride()).await;
        held.batch_execute("rollback").await.unwrap();
        rig.assert_clean().await;
    }
}

/// A gateway that invents drivers, or sends what it has gathered for a week, takes no room from the drivers.
#[tokio::test]
async fn one_caller_does_not_fill_the_buffer_for_the_others() {
    let doors = Doors::start(small_buffer()).await;
    let held = doors.rig.hold_history().await;
    let gateway = doors.token("service", "gateway");
    let report = async |token: &str, fixes: Vec<Fix>| {
        let mut locations = LocationServiceClient::new(doors.rig.channel());
        locations
            .report_locations(by(Some(token), ReportLocationsRequest { fixes }))
            .await
    };
    let mut accepted = 0;
    let refusal = loop {
        match report(&gateway, track(&format!("invented-{accepted}"), 10)).await {
            Ok(answer) => accepted += u64::from(answer.into_inner().accepted_count),
            Err(status) => break status,
        }
    };
    assert_refused_for_now(&refusal, Code::ResourceExhausted);
    assert!(refusal.message().contains("of this caller"), "{refusal:?}");
    assert!((130..200).contains(&accepted), "{accepted}");
    for driver in ["cab-1", "cab-2"] {
        report(&doors.token("driver", driver), track(driver, 5)).await.unwrap();
    }

    held.batch_execute("rollback").await.unwrap();

    // Also where no one else sends anything.
    until("it has room again", async || {
        report(&gateway, track("cab-3", 100)).await
    })
    .await;
}

/// A batch is worth as much as its fixes: a driver who sends batches sends no more than one with a stream.
#[tokio::test]
async fn each_fix_of_a_batch_counts_against_its_drivers_limit() {
    let rig = Rig::with("limits.fixes_per_driver.per_second=1 limits.fixes_per_driver.burst=10").await;
    let mut fixes = track("cab-1", 30);
    fixes.extend(track("cab-2", 5));
    let answer = report(&rig, fixes).await.unwrap();
    assert_eq!(answer.accepted_count, 15);
    let rejected = answer.rejections.iter().map(|one| (one.sequence, one.reason()));
    // The newest pass.
    let expected = (0..20).map(|index| (index, Reason::RateLimited));
    assert_eq!(rejected.collect::<Vec<_>>(), expected.collect::<Vec<_>>());

    // At once, for each second lets another fix in.
    let more = join_all((0..4).map(|_| report(&rig, track("cab-1", 30)))).await;
    let refusal = more
        .into_iter()
        .find_map(Result::err)
        .expect("one of them is refused whole");
    assert_refused_for_now(&refusal, Code::ResourceExhausted);
    assert_eq!(report(&rig, track("cab-2", 2)).await.unwrap().accepted_count, 2);
}

/// The smallest mark that is allowed must not be one at which nothing moves any more.
#[tokio::test]
async fn a_buffer_that_is_hardly_larger_than_what_it_keeps_goes_on() {
    let rig = Rig::with("locations.keep_stored=100 locations.history_batch_max=100 locations.high_water=300").await;
    for round in 0..12 {
        let driver = format!("cab-{round}");
        until("there is room", async || report(&rig, track(&driver, 100)).await).await;
    }
}

#[tokio::test]
async fn while_postgres_is_down_fixes_are_accepted_and_reach_the_history_afterwards() {
    let mut rig = Rig::builder().private_stores().start().await;
    let mut stream = DriverStream::open(rig.locations()).await;
    stream.store(0, track("cab-1", 10)).await;

    rig.stores().postgres().kill().await.unwrap();
    stream.store(10, track("cab-2", 50)).await;
    rig.stores().postgres().restart().await.unwrap();
    stream.store(60, track("cab-3", 10)).await;

    rig.until_written().await;
    for (driver, count) in [("cab-1", 10), ("cab-2", 50), ("cab-3", 10)] {
        assert_eq!(history(&rig, driver).await.len(), count, "{driver}");
    }
}

#[tokio::test]
async fn while_redis_is_down_fixes_are_refused_and_accepted_again_afterwards() {
    let rig = Rig::builder().redis_through_proxy().start().await;
    let mut stream = DriverStream::open(rig.locations()).await;
    stream.store(0, track("cab-1", 1)).await;

    rig.redis_line().set_mode(Mode::Refuse);
    let refusal = until("fixes are refused", async || {
        let mut stream = DriverStream::open(rig.locations()).await;
        stream.send(0, track("cab-2", 1)).await;
        stream.next().await.err()
    })
    .await;
    assert_refused_for_now(&refusal, Code::Unavailable);
    assert!(!refusal.message().contains("redis://"), "{refusal:?}");

    rig.redis_line().set_mode(Mode::Pass);
    until("fixes are accepted", async || {
        let mut stream = DriverStream::open(rig.locations()).await;
        stream.send(0, vec![fix("cab-3", 1.0, 1.0)]).await;
        stream.next().await
    })
    .await;
    rig.until_written().await;
    assert!(!history(&rig, "cab-3").await.is_empty());
}

#[tokio::test]
async fn an_idle_stream_is_ended() {
    let rig = Rig::builder().set("grpc.stream_idle_max", "300ms").start().await;
    let mut stream = DriverStream::open(rig.locations()).await;
    stream.store(0, track("cab-1", 1)).await;
    let (acknowledged, status) = stream.rest().await;
    assert_eq!((acknowledged, status.code()), (None, Code::DeadlineExceeded));
}

#[tokio::test]
async fn a_driver_over_its_rate_is_slowed_and_not_refused() {
    let rig = Rig::with("limits.fixes_per_driver.per_second=100 limits.fixes_per_driver.burst=10").await;
    let mut stream = DriverStream::open(rig.locations()).await;
    // Thrice the bucket in one message, and more after it.
    stream.store(0, track("cab-1", 30)).await;
    stream.store(30, track("cab-1", 10)).await;

    let metrics = rig.metrics().await;
    assert!(metrics["rate_limit_waits"].as_u64() > Some(0), "{metrics}");
    assert!(metrics["rate_limit_wait_ms"].as_u64() > Some(0), "{metrics}");
    rig.until_written().await;
    assert_eq!(stream_len(&rig).await, 40);
}

#[tokio::test]
async fn a_driver_over_its_rate_does_not_slow_another() {
    let rig = Rig::with("limits.fixes_per_driver.per_second=1 limits.fixes_per_driver.burst=1").await;
    let fast = DriverStream::open(rig.locations()).await;
    fast.send(0, track("cab-1", 600)).await;
    until("the fast driver waits", async || {
        rig.metrics().await["rate_limit_waits"].as_u64() > Some(0)
    })
    .await;
    DriverStream::open(rig.locations())
        .await
        .store(0, track("cab-2", 1))
        .await;
}

/// Whoever sends 600 fixes and goes leaves no stream behind that waits for ten minutes.
#[tokio::test]
async fn what_a_client_sent_that_is_gone_waits_for_no_tokens() {
    let rig = Rig::with("limits.fixes_per_driver.per_second=1 limits.fixes_per_driver.burst=1").await;
    let stream = DriverStream::open(rig.locations()).await;
    stream.send(0, track("cab-1", 600)).await;
    until("its fixes wait", async || {
        rig.metrics().await["rate_limit_waits"].as_u64() > Some(0)
    })
    .await;
    drop(stream);
    until("they wait no more", async || {
        rig.metrics().await["locations"]["refused"].as_u64() == Some(600)
    })
    .await;
    assert_eq!(stream_len(&rig).await, 0);
}

/// A phone that was offline hands in more than is read ahead, and does not say who it is.
#[tokio::test]
async fn a_backlog_of_one_driver_alone_is_stored_whole_at_its_own_pace() {
    let rig = Rig::with("limits.fixes_per_driver.per_second=2000 limits.fixes_per_driver.burst=100").await;
    let mut stream = DriverStream::open(rig.locations()).await;
    for (number, part) in track("cab-1", 4_000).chunks(800).enumerate() {
        stream.send(800 * number as u64, part.to_vec()).await;
    }
    assert_eq!(stream.until_acknowledged(3_999).await, []);
    rig.until_written().await;
    assert_eq!(history(&rig, "cab-1").await.len(), 4_000);
}

/// A gateway begins its stream with what it gathered of one driver, which by that driver's limit would take minutes.
#[tokio::test]
async fn a_backlog_that_comes_first_on_a_stream_holds_up_no_other_driver() {
    let rig = Rig::with("limits.fixes_per_driver.per_second=1 limits.fixes_per_driver.burst=10").await;
    for (count, in_each) in [(600, 600), (1_400, 700), (200, 100)] {
        let (noisy, other) = (format!("noisy-{count}"), format!("cab-{count}"));
        let backlog = track(&noisy, count);
        let end = backlog.len() as u64;
        let mut stream = DriverStream::open(rig.locations()).await;
        for (number, part) in backlog.chunks(in_each).enumerate() {
            stream.send((number * in_each) as u64, part.to_vec()).await;
        }
        stream.send(end, track(&other, 1)).await;
        let rejections = stream.until_acknowledged(end).await;
        stream.store(end + 1, track(&other, 1)).await;

        // The newest pass, and what does not is named.
        for one in &rejections {
            assert_eq!(one.reason(), Reason::RateLimited, "{one:?}");
            assert!(one.sequence + 1 < end, "{one:?}");
        }
        rig.until_written().await;
        assert_eq!(history(&rig, &other).await.len(), 2);
        let stored = history(&rig, &noisy).await.len();
        assert_eq!(stored + rejections.len(), backlog.len());
        assert!((10..100).contains(&stored), "{stored}");
    }
    rig.assert_clean().await;
}

/// A gateway sends for several drivers on one stream.
#[tokio::test]
async fn of_several_drivers_on_one_stream_only_the_one_with_too_many_fixes_is_rejected() {
    let rig = Rig::builder()
        .with("limits.fixes_per_driver.per_second=1 limits.fixes_per_driver.burst=10")
        .start()
        .await;
    let mut stream = DriverStream::open(rig.locations()).await;
    let (mut sequence, mut rejected) = (0, Vec::new());
    for round in 0..3 {
        let mut fixes: Vec<_> = (0..20)
            .map(|number| fix(&format!("cab-{number}"), 37.0, -122.0))
            .collect();
        // A backlog, in the middle of it a fix that is none.
        let mut backlog = track("noisy", 50);
        backlog[20].driver_id = "no name".to_owned();
        fixes.splice(10..10, backlog);
        let answer = stream.exchange(sequence, fixes).await;
        assert_eq!(answer.acknowledged_sequence, sequence + 69, "round {round}");
        rejected.extend(answer.rejections);
        sequence += 70;
    }
    let first_round: Vec<_> = rejected.iter().filter(|one| one.sequence < 70).collect();
    let sequences: Vec<u64> = first_round.iter().map(|one| one.sequence).collect();
    // The newest ten of it pass.
    assert_eq!(sequences, (10..50).collect::<Vec<_>>());
    for one in first_round {
        let expected = if one.sequence == 30 {
            Reason::DriverId
        } else {
            Reason::RateLimited
        };
        assert_eq!((one.reason(), one.field.as_str()), (expected, "driver_id"), "{one:?}");
    }
    rig.until_written().await;
    let others = "select count(distinct driver_id) from driver_locations where driver_id <> 'noisy'";
    assert_eq!(rig.count(others).await, 20);
    let noisy = rig
        .count("select count(*) from driver_locations where driver_id = 'noisy'")
        .await;
    assert!((10..49).contains(&noisy), "{noisy}");
    rig.assert_clean().await;
}
