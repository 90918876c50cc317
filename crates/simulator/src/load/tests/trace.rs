//! Recorded cities under load, against a real gRPC server.

use tonic::Status;

use super::*;
use crate::client::Dial;
use crate::error::RunError;
use crate::fake_server::{FakeServer, Seen};
use crate::load::plan::TraceLoad;
use crate::trace::tests::{START, TraceFile, cabs, file, rides};

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
        deadline: Duration::from_secs(5),
        ..Plan::new(Workload::Trace(load), Pace::Recorded)
    }
}

async fn play(server: &FakeServer, plan: Plan, stop: &CancellationToken) -> Result<LoadReport, RunError> {
    let (dial, live) = (Dial::from(&server.target), Live::default());
    let run = run_on(plan, &dial, Clock::Machine, &live, stop);
    tokio::time::timeout(Duration::from_secs(15), run)
        .await
        .expect("the city ends by itself")
}

/// What a city with rides came to: fixes, orders, their creation, their completion.
async fn operations(server: &FakeServer, plan: Plan) -> [Operation; 4] {
    let report = play(server, plan, &CancellationToken::new()).await.unwrap();
    report.operations.try_into().expect("four operations")
}

#[tokio::test]
async fn every_fix_and_every_ride_of_a_city_is_counted_from_its_time() {
    let server = FakeServer::start().await;
    let (cabs, rides) = (cabs(), rides());
    let [fixes, orders, creations, completions] = operations(&server, plan(load(&cabs, Some(&rides), 600.0))).await;

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
    let (cabs, rides) = (cabs(), rides());
    let [_, orders, _, _] = operations(&server, plan(load(&cabs, Some(&rides), 600.0))).await;

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
    let (cabs, rides) = (cabs(), rides());
    let plan = Plan {
        retries: true,
        ..plan(load(&cabs, Some(&rides), 600.0))
    };
    let [_, orders, creations, completions] = operations(&server, plan).await;

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
    let operations = operations(&server, plan(load(&cabs, Some(&rides), 600.0))).await;
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
    let plan = plan(load(&cabs, Some(&rides), 1.0));
    let stop = CancellationToken::new();
    let end = async {
        let begun = |seen: &Seen| seen.creates.len() == 1 && seen.stored.len() == 1;
        server.until("the first fix and order are there", begun).await;
        stop.cancel();
        server.script.hold_orders.send_replace(false);
    };
    let (report, ()) = tokio::join!(play(&server, plan, &stop), end);

    let [fixes, orders, ..] = &report.unwrap().operations[..] else {
        panic!("fixes and orders")
    };

    assert_eq!((fixes.totals.offered, fixes.totals.answered), (1, 1));
    assert_eq!((orders.totals.offered, orders.totals.answered), (1, 1));
}

#[tokio::test]
async fn a_city_is_measured_until_its_last_fix_and_its_broken_lines_are_named() {
    let server = FakeServer::start().await;
    server.script.hold_orders.send_replace(true);
    let (cabs, rides) = (cabs(), rides());
    let mut plan = plan(load(&cabs, Some(&rides), 1_000.0));
    plan.deadline = Duration::from_secs(1);
    let report = play(&server, plan, &CancellationToken::new()).await.unwrap();
    // The last fix is 290 s after the first; the orders failed a second after that.
    assert!(
        (report.measured_seconds - 0.29).abs() < 1e-9,
        "{}",
        report.measured_seconds
    );
    assert!(!report.cut_short);
    let (cabs, rides) = (cabs.path.display(), rides.path.display());
    assert_eq!(
        (report.broken_lines, report.first_broken_lines),
        (
            2,
            vec![
                format!("{cabs}:62: recorded_at `later` is not a time in Unix seconds"),
                format!("{rides}:5: completed_at is before requested_at"),
            ]
        )
    );
    let flags: Vec<&str> = report.settings.keys().map(String::as_str).collect();
    assert_eq!(
        flags,
        ["deadline", "locations", "retries", "rides", "seed", "speed", "streams"]
    );
}
