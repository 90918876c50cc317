//! A fleet against a real gRPC server that breaks, rejects and stalls.

use std::collections::BTreeSet;

use super::*;
use crate::client::Target;
use crate::drive::{Alarm, Clock};
use crate::fake_server::FakeServer;
use crate::recorder::Timeline;
use crate::stats::{FixesSeen, Stats};

fn quick() -> FleetOptions {
    FleetOptions {
        streams: 1,
        batch: 10,
        retry: RetryPolicy::QUICK,
        ..FleetOptions::default()
    }
}

/// `rounds` fixes of each driver, all due at once.
fn fixes(drivers: &Arc<Drivers>, rounds: i64, streams: usize, number: usize) -> impl Iterator<Item = DueFix> + use<> {
    let due = Instant::now();
    let stream_of = drivers.streams(streams);
    let count = u32::try_from(drivers.len()).unwrap();
    (0..rounds)
        .flat_map(move |round| (0..count).map(move |driver| (round, driver)))
        .filter_map(move |(round, driver)| {
            let fix = DueFix {
                due,
                driver,
                lat_deg: 37.7,
                lon_deg: -122.4,
                recorded_at_micros: 1_000_000 + round,
            };
            (stream_of[driver as usize] == number).then_some(fix)
        })
}

fn named(names: &[&str]) -> Arc<Drivers> {
    Arc::new(names.iter().collect())
}

/// A fleet of `fixes` under way, and who counts it.
fn start<I: Iterator<Item = DueFix> + Send + 'static>(
    server: &Target,
    options: FleetOptions,
    drivers: &Arc<Drivers>,
    stop: &CancellationToken,
    fixes: impl Fn(usize) -> I,
) -> (Streams, Stats) {
    let stats = Stats::new(Timeline::without_seconds());
    let fleet = Fleet {
        server: &Dial::from(server),
        options,
        drivers,
        counts: &stats.fixes,
        keeps_log: true,
        hopeless: None,
    };
    let alarm = Alarm::new(Clock::Machine);
    (fleet.start(stop, |stream| Scheduled::new(fixes(stream), &alarm)), stats)
}

async fn ended(streams: Streams) -> FleetReport {
    let report = tokio::time::timeout(Duration::from_secs(10), streams.ended()).await;
    report.expect("the fleet ends by itself").unwrap()
}

async fn stream(
    server: &Target,
    options: FleetOptions,
    drivers: &Arc<Drivers>,
    rounds: i64,
) -> (FleetReport, FixesSeen) {
    let source = |number| fixes(drivers, rounds, options.streams, number);
    let (streams, stats) = start(server, options, drivers, &CancellationToken::new(), source);
    (ended(streams).await, stats.snapshot().locations)
}

#[tokio::test]
async fn every_fix_is_acknowledged_once_though_streams_break() {
    let server = FakeServer::start().await;
    server
        .script
        .streams_break_after
        .lock()
        .unwrap()
        .extend([3, 1, 5, 1, 2]);

    let (report, counts) = stream(&server.target, quick(), &named(&["a", "b", "c"]), 100).await;

    assert_eq!(
        (counts.sent, counts.acknowledged, counts.rejected, counts.unsettled),
        (300, 300, 0, 0)
    );
    assert_eq!((counts.broken_streams, counts.drivers_seen), (5, 3));
    assert_eq!(report.acknowledged.distinct(), 300);
    assert!(report.failures.is_empty());
    let acknowledged: BTreeSet<_> = report
        .acknowledged
        .iter()
        .map(|(driver, at)| (driver.to_owned(), at))
        .collect();
    server.see(|seen| {
        assert_eq!(acknowledged, seen.stored.keys().cloned().collect());
        assert!(
            seen.fixes as u64 <= counts.sent + counts.resent,
            "what went out again is counted as such"
        );
        assert!(
            counts.resent >= 50,
            "five streams broke after a message of ten: {}",
            counts.resent
        );
        assert_eq!(seen.largest_message, 10);
    });
}

#[tokio::test]
async fn what_was_acknowledged_is_not_sent_again() {
    let server = FakeServer::start().await;
    let options = FleetOptions { window: 10, ..quick() };
    server.script.streams_break_after.lock().unwrap().extend([4]);

    let (_, counts) = stream(&server.target, options, &named(&["a"]), 100).await;

    // With a window of one message, the fourth alone is unacknowledged when the stream breaks.
    assert_eq!(counts.resent, 10);
    server.see(|seen| assert_eq!(seen.stored.values().filter(|times| **times > 1).count(), 10));
}

#[tokio::test]
async fn a_stream_keeps_no_more_unacknowledged_fixes_than_its_window() {
    let server = FakeServer::start().await;
    server.script.hold_acknowledgements.send_replace(true);
    let options = FleetOptions {
        window: 50,
        batch: 40,
        ..quick()
    };
    let drivers = named(&["a", "b"]);
    let source = |number| fixes(&drivers, 250, 1, number);
    let (streams, _) = start(&server.target, options, &drivers, &CancellationToken::new(), source);

    server.until("the window is full", |seen| seen.fixes >= 50).await;
    server.script.hold_acknowledgements.send_replace(false);
    let report = ended(streams).await;

    assert_eq!(report.acknowledged.distinct(), 500);
    server.see(|seen| assert_eq!(seen.unacknowledged_max, 50));
}

#[tokio::test]
async fn a_rejected_fix_is_counted_and_the_stream_goes_on() {
    let server = FakeServer::start().await;
    server.script.streams_break_after.lock().unwrap().extend([2]);

    let (report, counts) = stream(&server.target, quick(), &named(&["a", "bad driver", "c"]), 50).await;

    assert_eq!((counts.sent, counts.acknowledged, counts.rejected), (150, 100, 50));
    assert!(report.acknowledged.iter().all(|(driver, _)| driver != "bad driver"));
    assert_eq!((report.acknowledged.distinct(), counts.unsettled), (100, 0));
}

#[tokio::test]
async fn all_streams_carry_their_drivers_and_are_half_closed_at_the_end() {
    let server = FakeServer::start().await;
    let names: Vec<String> = (0..40).map(|n| format!("cab-{n}")).collect();
    let drivers = named(&names.iter().map(String::as_str).collect::<Vec<_>>());

    let (report, counts) = stream(&server.target, FleetOptions { streams: 4, ..quick() }, &drivers, 20).await;

    assert_eq!((report.acknowledged.distinct(), counts.drivers_seen), (800, 40));
    server
        .until("every stream is half-closed", |seen| seen.half_closed == 4)
        .await;
    server.see(|seen| assert_eq!((seen.streams, seen.fixes), (4, 800)));
}

#[tokio::test]
async fn a_server_that_comes_up_late_gets_every_fix() {
    let address = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let drivers = named(&["a"]);
    let target = Target::new(&address.to_string(), None).unwrap();
    let source = |number| fixes(&drivers, 30, 1, number);
    let (streams, stats) = start(&target, quick(), &drivers, &CancellationToken::new(), source);
    let broken = async {
        while stats.snapshot().locations.broken_streams < 3 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), broken).await.unwrap();

    let server = FakeServer::start_at(address).await;

    assert_eq!(ended(streams).await.acknowledged.distinct(), 30);
    server.see(|seen| assert_eq!(seen.stored.len(), 30));
}

#[tokio::test]
async fn a_fleet_that_is_stopped_settles_what_it_took_and_takes_no_more() {
    let server = FakeServer::start().await;
    let drivers = named(&["a"]);
    let stop = CancellationToken::new();
    let far_off = Instant::now() + Duration::from_hours(1);
    let source = |number| {
        let soon = fixes(&drivers, 20, 1, number);
        soon.chain(fixes(&drivers, 20, 1, number).map(move |fix| DueFix { due: far_off, ..fix }))
    };
    let (streams, stats) = start(&server.target, quick(), &drivers, &stop, source);
    server
        .until("the fixes that were due came", |seen| seen.fixes == 20)
        .await;

    stop.cancel();

    let report = ended(streams).await;
    let counts = stats.snapshot().locations;
    assert_eq!(
        (report.acknowledged.distinct(), counts.sent, counts.unsettled),
        (20, 20, 0)
    );
}

#[tokio::test]
async fn fixes_that_are_never_acknowledged_are_counted_at_the_end() {
    let server = FakeServer::start().await;
    server.script.hold_acknowledgements.send_replace(true);
    let options = FleetOptions {
        drain: Duration::from_millis(50),
        ..quick()
    };

    let (report, counts) = stream(&server.target, options, &named(&["a"]), 20).await;

    assert_eq!(
        (counts.sent, report.acknowledged.distinct(), counts.unsettled),
        (20, 0, 20)
    );
    assert_eq!(report.failures.len(), 1);
}
