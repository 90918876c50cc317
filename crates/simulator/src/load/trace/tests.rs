//! Recorded cities under load, against a real gRPC server.

use std::fmt::Write as _;

use super::*;
use crate::fake_server::{FakeServer, Seen};
use crate::load::Live;
use crate::load::alarm::Clock;
use crate::load::engine::run_on;
use crate::load::plan::{Pace, Plan, Workload};
use crate::load::report::Operation;
use crate::trace::tests::{TraceFile, file};

const START: i64 = 1_211_590_800;

/// Two cabs that send a fix every ten seconds for five minutes, and a line that is broken.
fn cabs() -> TraceFile {
    let mut content = "recorded_at,driver_id,lat,long,occupied\n".to_owned();
    for second in (0..300).step_by(10) {
        for cab in ["arphaud", "aslagni"] {
            writeln!(content, "{},{cab},37.79{second:03},-122.42697,0", START + second).unwrap();
        }
    }
    content.push_str("later,arphaud,37.7,-122.4,0\n");
    file("locations.csv", content.as_bytes())
}

/// Three rides: one that is short, one in the middle of the ocean, one that outlives the trace; and a broken line.
fn rides() -> TraceFile {
    let header = "requested_at,driver_id,pickup_lat,pickup_long,completed_at,dropoff_lat,dropoff_long";
    let ride =
        |from: i64, to: i64, lat: f64| format!("{},x,{lat},-122.42,{},{lat},-122.40\n", START + from, START + to);
    let rides = [
        ride(60, 90, 37.79),
        ride(120, 200, 0.0),
        ride(150, 90_000, 37.79),
        ride(160, 150, 37.79),
    ];
    file("rides.csv", format!("{header}\n{}", rides.concat()).as_bytes())
}

fn load(cabs: &TraceFile, rides: Option<&TraceFile>, speed: f64) -> TraceLoad {
    TraceLoad {
        locations: cabs.path.clone(),
        rides: rides.map(|rides| rides.path.clone()),
        speed,
        streams: 2,
    }
}

fn plan(load: TraceLoad) -> Plan {
    Plan {
        workload: Workload::Trace(load),
        pace: Pace::Recorded,
        warm_up: Duration::ZERO,
        duration: Duration::from_hours(1),
        count_max: None,
        deadline: Duration::from_secs(5),
        retries: false,
        seed: 1,
    }
}

/// What was played: fixes, orders, their creation, their completion.
async fn play(server: &FakeServer, replay: &Replay, stop: &CancellationToken) -> [Operation; 4] {
    play_with(server, replay, stop, false).await
}

async fn play_with(server: &FakeServer, replay: &Replay, stop: &CancellationToken, retries: bool) -> [Operation; 4] {
    let timeline = Timeline::new(Instant::now(), Duration::ZERO, &[]);
    let recorders = Recorders::new(&timeline);
    let playing = Playing {
        server: &Dial::from(&server.endpoint),
        timeline: &timeline,
        recorders: recorders.clone(),
        deadline: Duration::from_secs(5),
        retries,
    };
    let failures = tokio::time::timeout(Duration::from_secs(15), replay.run(playing, stop)).await;
    assert!(failures.expect("the city ends by itself").unwrap().is_empty());
    let all = [
        recorders.fixes,
        recorders.orders,
        recorders.creations,
        recorders.completions,
    ];
    all.map(|recorder| recorder.operation(Duration::from_secs(1)))
}

#[tokio::test]
async fn every_fix_and_every_ride_of_a_city_is_counted_from_its_time() {
    let server = FakeServer::start().await;
    let replay = Replay::read(&load(&cabs(), Some(&rides()), 600.0)).await.unwrap();
    let [fixes, orders, creations, completions] = play(&server, &replay, &CancellationToken::new()).await;

    assert_eq!(
        (fixes.totals.offered, fixes.totals.started, fixes.totals.answered),
        (60, 60, 60)
    );
    let totals = orders.totals;
    assert_eq!(
        (totals.offered, totals.started, totals.answered, totals.failed),
        (3, 3, 2, 1)
    );
    assert_eq!(
        orders.errors.keys().collect::<Vec<_>>(),
        ["ORDER_STATUS_REFUNDED"],
        "the ride in the ocean"
    );
    assert_eq!((creations.totals.answered, creations.totals.failed), (3, 0));
    assert_eq!(
        (completions.totals.offered, completions.totals.answered),
        (1, 1),
        "the ride that outlives the trace is left on the road"
    );
    server.see(|seen| assert_eq!((seen.stored.len(), seen.orders.len(), seen.completed.len()), (60, 3, 1)));
}

#[tokio::test]
async fn a_refused_call_is_one_call_and_counts_as_refused() {
    let server = FakeServer::start().await;
    let refusals = [Status::resource_exhausted("limit"), Status::unavailable("down")];
    server.script.create_refusals.lock().unwrap().extend(refusals);
    let replay = Replay::read(&load(&cabs(), Some(&rides()), 600.0)).await.unwrap();
    let [_, orders, _, _] = play(&server, &replay, &CancellationToken::new()).await;

    let totals = orders.totals;
    assert_eq!(
        (totals.started, totals.answered, totals.refused, totals.failed),
        (3, 1, 1, 1)
    );
    assert_eq!(
        orders.errors.keys().collect::<Vec<_>>(),
        ["RESOURCE_EXHAUSTED", "UNAVAILABLE"]
    );
    server.see(|seen| assert_eq!(seen.creates.len(), 3));
}

#[tokio::test]
async fn a_call_that_is_made_again_is_one_call_and_counts_as_repeated() {
    let server = FakeServer::start().await;
    let refused = |times| (0..times).map(|_| Status::unavailable("down"));
    server.script.create_refusals.lock().unwrap().extend(refused(2));
    server.script.complete_refusals.lock().unwrap().extend(refused(1));
    let replay = Replay::read(&load(&cabs(), Some(&rides()), 600.0)).await.unwrap();
    let [_, orders, creations, completions] = play_with(&server, &replay, &CancellationToken::new(), true).await;

    let counts = |of: &Operation| (of.totals.started, of.totals.repeated);
    assert_eq!(
        (counts(&orders), counts(&creations), counts(&completions)),
        ((3, 0), (3, 2), (1, 1))
    );
    server.see(|seen| assert_eq!(seen.creates.len(), 5));
}

#[tokio::test]
async fn rides_are_ordered_where_the_streams_are_refused() {
    let server = FakeServer::start().await;
    let refusals = [(); 2].map(|()| Status::unimplemented("no such service"));
    server.script.stream_refusals.lock().unwrap().extend(refusals);
    let (cabs, rides) = (cabs(), rides());
    let plan = plan(load(&cabs, Some(&rides), 600.0));
    let never = CancellationToken::new();
    let dial = Dial::from(&server.endpoint);
    let report = run_on(plan, &dial, Clock::Machine, &Live::default(), &never).await;

    let operations = report.unwrap().operations;
    let offered: Vec<_> = operations
        .iter()
        .map(|operation| (operation.name.as_str(), operation.totals.offered))
        .collect();
    assert_eq!(offered[..2], [("fix", 60), ("order", 3)]);
}

#[tokio::test]
async fn a_stopped_city_ends_with_what_was_begun() {
    let server = FakeServer::start().await;
    server.script.hold_orders.send_replace(true);
    // A fix and a ride at once, and another one of each in an hour.
    let later = START + 3_600;
    let cabs = format!("recorded_at,driver_id,lat,long\n{START},a,37.79,-122.42\n{later},a,37.79,-122.42\n");
    let header = "requested_at,pickup_lat,pickup_long,completed_at,dropoff_lat,dropoff_long";
    let ride = |at: i64| format!("{at},37.79,-122.42,{at},37.79,-122.40\n");
    let rides = format!("{header}\n{}{}", ride(START), ride(later));
    let (cabs, rides) = (file("cabs.csv", cabs.as_bytes()), file("rides.csv", rides.as_bytes()));
    let replay = Replay::read(&load(&cabs, Some(&rides), 1.0)).await.unwrap();
    let stop = CancellationToken::new();
    let end = async {
        let begun = |seen: &Seen| seen.creates.len() == 1 && seen.stored.len() == 1;
        server.until("the first fix and order are there", begun).await;
        stop.cancel();
        server.script.hold_orders.send_replace(false);
    };
    let ([fixes, orders, ..], ()) = tokio::join!(play(&server, &replay, &stop), end);

    assert_eq!((fixes.totals.offered, fixes.totals.answered), (1, 1));
    assert_eq!((orders.totals.offered, orders.totals.answered), (1, 1));
}

#[tokio::test]
async fn broken_lines_are_counted_and_the_first_are_named() {
    let (cabs, rides) = (cabs(), rides());
    let replay = Replay::read(&load(&cabs, Some(&rides), 600.0)).await.unwrap();
    let broken = replay.broken_lines();
    assert_eq!(broken.count, 2);
    assert_eq!(
        broken.first,
        [
            format!(
                "{}:62: recorded_at `later` is not a time in Unix seconds",
                cabs.path.display()
            ),
            format!("{}:5: completed_at is before requested_at", rides.path.display()),
        ]
    );
}

#[tokio::test]
async fn a_trace_that_is_not_there_or_empty_says_so() {
    let empty = file("empty.csv", b"recorded_at,driver_id,lat,long\n");
    let error = Replay::read(&load(&empty, None, 1.0)).await.unwrap_err();
    assert_eq!(error.to_string(), format!("{} holds no fix", empty.path.display()));

    let mut nowhere = load(&empty, None, 1.0);
    nowhere.locations = "/nowhere/cabs.csv".into();
    let error = Replay::read(&nowhere).await.unwrap_err();
    assert_eq!(error.to_string(), "cannot open the trace /nowhere/cabs.csv");
}

#[tokio::test]
async fn a_city_is_measured_until_its_last_fix_and_not_until_the_last_answer() {
    let server = FakeServer::start().await;
    server.script.hold_orders.send_replace(true);
    let (cabs, rides) = (cabs(), rides());
    let mut plan = plan(load(&cabs, Some(&rides), 1_000.0));
    plan.deadline = Duration::from_secs(1);
    let never = CancellationToken::new();
    let dial = Dial::from(&server.endpoint);
    let report = run_on(plan, &dial, Clock::Machine, &Live::default(), &never).await;

    let report = report.unwrap();
    // The last fix is 290 s after the first; the orders failed a second after that.
    assert!(
        (report.measured_seconds - 0.29).abs() < 1e-9,
        "{}",
        report.measured_seconds
    );
    assert!(!report.cut_short);
    let flags: Vec<&str> = report.settings.keys().map(String::as_str).collect();
    assert_eq!(
        flags,
        ["deadline", "locations", "retries", "rides", "seed", "speed", "streams"]
    );
}
