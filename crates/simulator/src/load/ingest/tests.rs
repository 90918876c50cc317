//! The load of fixes against a real gRPC server that breaks, rejects and stalls.

use tokio::time::Instant;
use tonic_types::{ErrorDetails, StatusExt as _};

use super::*;
use crate::fake_server::FakeServer;
use crate::load::Live;
use crate::load::engine::run_on;
use crate::load::plan::{Arrivals, MixedLoad, Pace, Plan, Rate, Workload};
use crate::recorder::Operation;

const LOAD: IngestLoad = IngestLoad {
    drivers: 20,
    streams: 2,
    gather: Duration::from_millis(2),
    window: 1_000,
    batch: 500,
};

/// A second and a half at 2,000 fixes a second, none of it warm-up.
fn schedule() -> Schedule {
    Schedule::new(
        Rate::Constant(2_000.0),
        Arrivals::Constant,
        Duration::ZERO,
        Duration::from_millis(1_500),
    )
}

struct Load {
    fixes: IngestLoad,
    schedule: Option<Schedule>,
    count_max: Option<u64>,
    deadline: Duration,
    resend: bool,
    timeline: Timeline,
    counts: FleetCounts,
    stop: CancellationToken,
}

impl Load {
    fn new(fixes: IngestLoad, schedule: Option<Schedule>) -> Load {
        let stages = schedule.as_ref().map_or(&[][..], Schedule::stages);
        let timeline = Timeline::new(Instant::now(), Duration::ZERO, stages);
        Load {
            fixes,
            schedule,
            count_max: None,
            deadline: Duration::from_secs(10),
            resend: false,
            counts: FleetCounts::new(&timeline),
            timeline,
            stop: CancellationToken::new(),
        }
    }

    async fn run(&self, server: &FakeServer) -> (Operation, Vec<Status>) {
        let ingest = Ingest {
            server: &Dial::from(&server.target),
            load: self.fixes,
            schedule: self.schedule.as_ref(),
            clock: Clock::Runtime,
            seed: 1,
            count_max: self.count_max,
            deadline: self.deadline,
            resend: self.resend,
            hopeless: Some(self.stop.clone()),
            timeline: &self.timeline,
            counts: &self.counts,
        };
        let failures = tokio::time::timeout(Duration::from_secs(20), ingest.run(&self.stop)).await;
        let failures = failures.expect("the load ends by itself").unwrap();
        (self.counts.recorder.operation(Duration::from_millis(1_500)), failures)
    }
}

/// Every fix that was sent ended once.
fn adds_up(operation: &Operation) {
    let totals = operation.totals;
    assert_eq!(
        totals.started,
        totals.answered + totals.refused + totals.failed,
        "{totals:?}"
    );
    assert!(totals.offered >= totals.started, "{totals:?}");
    assert_eq!(
        operation.errors.values().sum::<u64>(),
        totals.refused + totals.failed,
        "{operation:?}"
    );
}

#[tokio::test]
async fn every_scheduled_fix_is_stored_with_a_driver_and_a_time_of_its_own() {
    let server = FakeServer::start().await;
    let (operation, failures) = Load::new(LOAD, Some(schedule())).run(&server).await;

    let totals = operation.totals;
    assert_eq!((totals.offered, totals.started, totals.answered), (3_000, 3_000, 3_000));
    adds_up(&operation);
    assert!(failures.is_empty() && operation.errors.is_empty());
    server.see(|seen| {
        assert_eq!((seen.stored.len(), seen.fixes, seen.streams), (3_000, 3_000, 2));
        for driver in 0..20 {
            let of_driver = seen.stored.range((name(driver), 0)..=(name(driver), i64::MAX));
            assert_eq!(of_driver.count(), 150, "the drivers of a stream take turns");
        }
    });
}

#[tokio::test]
async fn drivers_have_the_same_rate_even_where_streams_have_not_as_many() {
    let server = FakeServer::start().await;
    let load = IngestLoad {
        drivers: 10,
        streams: 4,
        ..LOAD
    };
    Load::new(load, Some(schedule())).run(&server).await;

    server.see(|seen| {
        for driver in 0..10 {
            let of_driver = seen.stored.range((name(driver), 0)..=(name(driver), i64::MAX));
            let count = of_driver.count();
            assert!((299..=301).contains(&count), "driver {driver} has {count} of 3,000");
        }
    });
}

#[tokio::test]
async fn a_broken_stream_loses_exactly_what_was_not_acknowledged() {
    let server = FakeServer::start().await;
    server.script.streams_break_after.lock().unwrap().extend([4, 3, 2, 2]);
    let (operation, _) = Load::new(LOAD, Some(schedule())).run(&server).await;

    let totals = operation.totals;
    assert_eq!((totals.offered, totals.started), (3_000, 3_000));
    adds_up(&operation);
    assert!(
        totals.failed >= 4,
        "at least the message at which each broke: {totals:?}"
    );
    assert_eq!(operation.errors.keys().collect::<Vec<_>>(), ["UNAVAILABLE"]);
    server.see(|seen| {
        assert!(seen.stored.values().all(|times| *times == 1), "nothing goes out again");
        assert_eq!(totals.answered, seen.acknowledged);
        assert!(seen.stored.len() as u64 <= totals.started);
        assert_eq!(seen.streams, 6);
    });
}

#[tokio::test]
async fn what_a_broken_stream_left_goes_out_again_where_that_was_asked_for_and_is_counted() {
    let server = FakeServer::start().await;
    server.script.streams_break_after.lock().unwrap().extend([4, 3, 2, 2]);
    let mut load = Load::new(LOAD, Some(schedule()));
    load.resend = true;
    let (operation, _) = load.run(&server).await;

    let totals = operation.totals;
    assert_eq!((totals.started, totals.answered, totals.failed), (3_000, 3_000, 0));
    server.see(|seen| {
        let twice: usize = seen.stored.values().map(|times| times - 1).sum();
        // What the server never read went out again, too.
        assert!(twice >= 4 && totals.repeated >= twice as u64, "{twice} of {totals:?}");
    });
}

#[tokio::test]
async fn a_server_that_stops_reading_is_seen_in_the_latency_and_loses_nothing() {
    let server = FakeServer::start().await;
    // The first stream waits for as long as it takes the other one to bring in half of its fixes.
    server.script.unread_stream.send_replace(Some(1));
    let load = Load::new(IngestLoad { window: 100, ..LOAD }, Some(schedule()));
    let release = async {
        server.until("half of the other stream", |seen| seen.fixes >= 750).await;
        let unread_for = load.timeline.started().elapsed();
        server.script.unread_stream.send_replace(None);
        unread_for
    };
    let ((operation, _), unread_for) = tokio::join!(load.run(&server), release);

    let totals = operation.totals;
    assert_eq!((totals.offered, totals.answered), (3_000, 3_000));
    adds_up(&operation);
    let unread_ms = unread_for.as_secs_f64() * 1_000.0;
    assert!(unread_ms > 700.0, "{unread_ms}");
    assert!(
        operation.latency.max_ms > unread_ms - 100.0 && operation.latency.p90_ms > unread_ms / 4.0,
        "{unread_ms} ms unread: {:?}",
        operation.latency
    );
    let own = load.counts.recorder.lateness().latency();
    assert!(
        own.max_ms < unread_ms / 2.0,
        "the server's stall is not our lateness: {own:?}"
    );
}

#[tokio::test]
async fn what_did_not_fit_until_the_end_was_scheduled_and_not_made() {
    let server = FakeServer::start().await;
    server.script.unread_stream.send_replace(Some(1));
    let mut load = Load::new(IngestLoad { window: 200, ..LOAD }, Some(schedule()));
    load.deadline = Duration::from_millis(50);
    let end = async {
        server.until("the other stream goes on", |seen| seen.fixes >= 500).await;
        load.stop.cancel();
    };
    let ((operation, _), ()) = tokio::join!(load.run(&server), end);

    let totals = operation.totals;
    assert_eq!((totals.started, totals.failed), (totals.answered + 200, 200));
    assert!(totals.offered + 1 >= 2 * totals.answered, "a half each: {totals:?}");
    adds_up(&operation);
    assert_eq!(operation.errors.keys().collect::<Vec<_>>(), ["DEADLINE_EXCEEDED"]);
    server.see(|seen| assert_eq!(seen.fixes as u64, totals.answered));
}

#[tokio::test]
async fn a_closed_loop_keeps_its_windows_full_until_its_count_is_reached() {
    let server = FakeServer::start().await;
    let mut load = Load::new(LOAD, None);
    load.count_max = Some(25_001);
    server.script.hold_acknowledgements.send_replace(true);
    let release = async {
        server.until("both windows are full", |seen| seen.fixes == 2_000).await;
        server.script.hold_acknowledgements.send_replace(false);
    };
    let ((operation, _), ()) = tokio::join!(load.run(&server), release);

    let totals = operation.totals;
    assert_eq!((totals.offered, totals.answered), (25_001, 25_001));
    adds_up(&operation);
    server.see(|seen| {
        assert_eq!(seen.stored.len(), 25_001);
        assert_eq!(seen.unacknowledged_max, 1_000);
    });
}

#[tokio::test]
async fn a_stopped_closed_loop_settles_what_it_took() {
    let server = FakeServer::start().await;
    let load = Load::new(LOAD, None);
    let stop = async {
        server.until("it goes", |seen| seen.fixes > 5_000).await;
        load.stop.cancel();
    };
    let ((operation, _), ()) = tokio::join!(load.run(&server), stop);

    let totals = operation.totals;
    assert_eq!((totals.offered, totals.started), (totals.answered, totals.answered));
    server.see(|seen| assert_eq!(seen.stored.len() as u64, totals.answered));
}

#[tokio::test]
async fn a_stream_that_is_refused_for_good_fails_what_was_sent_and_counts_the_rest() {
    let server = FakeServer::start().await;
    let refusal = Status::unimplemented("no such service");
    server.script.stream_refusals.lock().unwrap().push_back(refusal);
    let (operation, failures) = Load::new(LOAD, Some(schedule())).run(&server).await;

    let totals = operation.totals;
    assert_eq!((totals.offered, totals.answered, failures.len()), (3_000, 1_500, 1));
    assert!(totals.failed > 0 && totals.failed < 1_500, "{totals:?}");
    adds_up(&operation);
}

#[tokio::test]
async fn a_load_without_the_service_ends_when_no_stream_is_left() {
    let an_hour = Schedule::new(
        Rate::Constant(2_000.0),
        Arrivals::Constant,
        Duration::ZERO,
        Duration::from_hours(1),
    );
    for schedule in [Some(an_hour), None] {
        let server = FakeServer::start().await;
        let refusals = [(); 2].map(|()| Status::unimplemented("no such service"));
        server.script.stream_refusals.lock().unwrap().extend(refusals);
        let load = Load::new(LOAD, schedule);
        let (operation, failures) = load.run(&server).await;

        adds_up(&operation);
        assert_eq!((operation.totals.answered, failures.len()), (0, 2));
    }
}

#[tokio::test]
async fn fixes_whose_streams_are_refused_are_counted_while_something_else_is_measured() {
    let server = FakeServer::start().await;
    let refusals = [(); 2].map(|()| Status::unimplemented("no such service"));
    server.script.stream_refusals.lock().unwrap().extend(refusals);
    let load = MixedLoad {
        ingest: LOAD,
        orders_share: 0.1,
        nearby_share: 0.1,
    };
    let pace = Pace::Open {
        arrivals: Arrivals::Constant,
        rate: Rate::Constant(100.0),
    };
    let plan = Plan {
        duration: Duration::from_secs(1),
        ..Plan::new(Workload::Mixed(load), pace)
    };
    let never = CancellationToken::new();
    let dial = Dial::from(&server.target);
    let report = run_on(plan, &dial, Clock::Machine, &Live::default(), &never).await;

    let operations = report.unwrap().operations;
    let offered = |name: &str| {
        let found = operations.iter().find(|operation| operation.name == name);
        found.unwrap().totals.offered
    };
    assert_eq!(
        (offered("fix"), offered("CreateOrder"), offered("SearchDrivers")),
        (100, 10, 10)
    );
}

#[tokio::test]
async fn a_stop_is_acted_on_while_a_broken_stream_waits_to_be_opened_again() {
    let server = FakeServer::start().await;
    let refusals = [(); 2].map(|()| {
        let later = ErrorDetails::with_retry_info(Some(Duration::from_secs(5)));
        Status::with_error_details(tonic::Code::ResourceExhausted, "later", later)
    });
    server.script.stream_refusals.lock().unwrap().extend(refusals);
    let schedule = Schedule::new(
        Rate::Constant(2_000.0),
        Arrivals::Constant,
        Duration::ZERO,
        Duration::from_secs(10),
    );
    let mut load = Load::new(LOAD, Some(schedule));
    load.deadline = Duration::from_millis(50);
    let stop = async {
        while load.counts.recorder.operation(Duration::from_secs(1)).totals.refused == 0 {
            tokio::task::yield_now().await;
        }
        load.stop.cancel();
    };
    let ((operation, _), ()) = tokio::join!(load.run(&server), stop);

    adds_up(&operation);
    // Those of five seconds more would be 10,000.
    assert!(operation.totals.offered < 5_000, "{:?}", operation.totals);
}
