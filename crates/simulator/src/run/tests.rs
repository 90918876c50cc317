//! Whole runs against a real gRPC server.

use std::collections::BTreeSet;

use super::*;
use crate::fake_server::FakeServer;
use crate::trace::tests::{TraceFile, cabs, file, rides};

fn options(cabs: &TraceFile, rides: Option<&TraceFile>, speed: f64) -> TraceOptions {
    TraceOptions {
        locations: cabs.path.clone(),
        rides: rides.map(|rides| rides.path.clone()),
        speed,
        fleet: FleetOptions::default(),
        customers: CustomersOptions::default(),
    }
}

async fn in_time<T>(run: impl Future<Output = Result<T, RunError>>) -> Result<T, RunError> {
    tokio::time::timeout(Duration::from_secs(15), run)
        .await
        .expect("the run ends by itself")
}

#[tokio::test]
async fn a_trace_is_played_with_every_fix_and_every_ride() {
    let server = FakeServer::start().await;
    let (cabs, rides) = (cabs(), rides());
    server.script.streams_break_after.lock().unwrap().extend([4, 3, 2]);
    let (stats, cancel) = (Arc::new(Stats::default()), CancellationToken::new());
    let run = run_trace(options(&cabs, Some(&rides), 600.0), &server.target, stats, &cancel);
    let report = in_time(run).await.unwrap();

    let (fixes, orders) = (report.counts.locations, report.counts.orders);
    assert_eq!((fixes.sent, fixes.acknowledged, fixes.rejected), (60, 60, 0));
    assert_eq!(
        (orders.placed, orders.succeeded, orders.refunded, orders.failed),
        (3, 2, 1, 0)
    );
    assert_eq!((report.unsettled_fixes, report.broken_lines.count), (0, 2));
    assert_eq!(
        orders.completed, 1,
        "the ride that outlives the trace is left on the road"
    );
    server.see(|seen| {
        let acknowledged: BTreeSet<_> = report
            .acknowledged
            .iter()
            .map(|(cab, at)| (cab.to_owned(), at))
            .collect();
        assert_eq!(acknowledged, seen.stored.keys().cloned().collect());
        let users: Vec<&str> = seen.orders.keys().map(|(user, _)| user.as_str()).collect();
        assert_eq!(users, ["rider-000001", "rider-000002", "rider-000003"]);
        let amounts: BTreeSet<i64> = seen
            .creates
            .iter()
            .map(|call| call.amount.as_ref().unwrap().minor_units)
            .collect();
        assert!(amounts.iter().all(|cents| (500..2_000).contains(cents)), "{amounts:?}");
    });
}

#[tokio::test]
async fn a_replay_streams_fixes_and_orders_nothing() {
    let server = FakeServer::start().await;
    let cabs = cabs();
    let before = Timestamp::now().as_microsecond();
    let (stats, cancel) = (Arc::new(Stats::default()), CancellationToken::new());
    let run = run_trace(options(&cabs, None, 2_900.0), &server.target, stats, &cancel);
    let report = in_time(run).await.unwrap();

    assert_eq!(
        (report.counts.locations.acknowledged, report.counts.orders.placed),
        (60, 0)
    );
    let times: Vec<i64> = report.acknowledged.iter().map(|(_, at)| at).collect();
    assert!(
        times
            .iter()
            .all(|at| *at >= before && *at <= Timestamp::now().as_microsecond()),
        "shifted to now"
    );
    assert_eq!(times[29] - times[0], 100_000, "the spacing is divided by the speed");
}

#[tokio::test]
async fn an_invented_city_settles_every_order_and_every_fix() {
    let server = FakeServer::start().await;
    let options = CityOptions {
        drivers: 20,
        orders_per_second: 100.0,
        fix_every: Duration::from_millis(100),
        duration: Duration::from_millis(1_200),
        settle: Duration::from_millis(300),
        ..CityOptions::default()
    };
    let (stats, cancel) = (Arc::new(Stats::default()), CancellationToken::new());
    let report = in_time(run_city(options, &server.target, Arc::clone(&stats), &cancel))
        .await
        .unwrap();

    let (orders, locations) = (report.counts.orders, report.counts.locations);
    assert_eq!(orders.placed, orders.succeeded + orders.refunded + orders.failed);
    assert!(
        orders.succeeded > 50 && orders.refunded >= 1 && orders.failed >= 2,
        "{orders:?}"
    );
    assert!(locations.sent >= 12 * 20, "{locations:?}");
    assert_eq!((locations.acknowledged, report.unsettled_fixes), (locations.sent, 0));
    assert_eq!(
        (
            stats.snapshot().locations.drivers_seen,
            stats.snapshot().orders.in_flight
        ),
        (20, 0)
    );
    server.see(|seen| assert_eq!(seen.stored.len() as u64, report.acknowledged.distinct()));
}

#[tokio::test]
async fn a_cancelled_run_places_no_more_and_settles_what_is_in_flight() {
    let server = FakeServer::start().await;
    server.script.hold_orders.send_replace(true);
    let options = CityOptions {
        orders_per_second: 50.0,
        fix_every: Duration::from_millis(50),
        duration: Duration::from_hours(1),
        ..CityOptions::default()
    };
    let (stats, cancel) = (Arc::new(Stats::default()), CancellationToken::new());
    let interrupt = async {
        server
            .until("orders are in flight", |seen| seen.creates.len() >= 3)
            .await;
        cancel.cancel();
        server.script.hold_orders.send_replace(false);
    };
    let (report, ()) = tokio::join!(in_time(run_city(options, &server.target, stats, &cancel)), interrupt);

    let report = report.unwrap();
    let orders = report.counts.orders;
    assert!(
        orders.placed >= 3 && orders.in_flight == 0 && orders.gave_up == 0,
        "{orders:?}"
    );
    assert_eq!(report.counts.locations.sent, report.counts.locations.acknowledged);
}

#[tokio::test]
async fn a_cancelled_replay_ends_with_every_sent_fix_settled() {
    let server = FakeServer::start().await;
    let cabs = cabs();
    let (stats, cancel) = (Arc::new(Stats::default()), CancellationToken::new());
    let interrupt = async {
        server.until("the first fixes came", |seen| seen.fixes >= 2).await;
        cancel.cancel();
    };
    let run = run_trace(options(&cabs, None, 1.0), &server.target, stats, &cancel);
    let (report, ()) = tokio::join!(in_time(run), interrupt);
    let locations = report.unwrap().counts.locations;
    assert_eq!((locations.sent, locations.acknowledged), (2, 2));
}

#[tokio::test]
async fn what_cannot_run_fails_with_the_reason_at_once() {
    let gone = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let target = crate::Target::new(&gone.to_string(), None).unwrap();
    let (cabs, cancel) = (cabs(), CancellationToken::new());
    let run = async |options| {
        in_time(run_trace(options, &target, Arc::default(), &cancel))
            .await
            .unwrap_err()
    };

    let unreachable = run(options(&cabs, None, 1.0)).await;
    assert_eq!(unreachable.to_string(), format!("no server answers at http://{gone}/"));
    assert!(matches!(run(options(&cabs, None, 0.0)).await, RunError::Speed(_)));
    assert!(matches!(
        run(options(&cabs, Some(&cabs), 1.0)).await,
        RunError::Trace(_)
    ));
    let header = b"recorded_at,driver_id,lat,long\n".to_vec();
    let (empty, broken) = (
        file("empty.csv", &header),
        file("broken.csv", &[&header[..], b"x,a,1,2\n"].concat()),
    );
    let (empty_path, broken_path) = (empty.path.display(), broken.path.display());
    assert_eq!(
        run(options(&empty, None, 1.0)).await.to_string(),
        format!("{empty_path} holds no fix")
    );
    assert_eq!(
        run(options(&broken, None, 1.0)).await.to_string(),
        format!("{broken_path} holds no fix; {broken_path}:2: recorded_at `x` is not a time in Unix seconds")
    );
    let nowhere = TraceOptions {
        locations: "/nowhere/cabs.csv".into(),
        ..options(&cabs, None, 1.0)
    };
    assert_eq!(
        run(nowhere).await.to_string(),
        "cannot open the trace /nowhere/cabs.csv"
    );
}
