//! Whole runs on a server that is reached through memory: nothing waits for the system, so the paused clock of the
//! runtime decides how long everything takes, and every run takes the same.

mod searched;
mod trace;

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tonic::Status;

use self::searched::{Searched, no_server, serve};
use super::Live;
use super::engine::run_on;
use super::plan::{Arrivals, IngestLoad, NearbyLoad, Pace, Plan, Rate, Workload};
use super::report::{LoadReport, Operation};
use crate::drive::Clock;

/// Searches at `pace`, without drivers.
fn searches(pace: Pace) -> Plan {
    let load = NearbyLoad {
        drivers: 0,
        ..NearbyLoad::default()
    };
    Plan {
        warm_up: Duration::from_secs(1),
        duration: Duration::from_secs(5),
        ..Plan::new(Workload::Nearby(load), pace)
    }
}

fn open(rate: Rate) -> Pace {
    Pace::Open {
        arrivals: Arrivals::Constant,
        rate,
    }
}

async fn run(plan: Plan, fleet: &Arc<Searched>) -> LoadReport {
    let never = CancellationToken::new();
    let report = run_on(
        plan,
        &serve(Arc::clone(fleet)),
        Clock::Runtime,
        &Live::default(),
        &never,
    )
    .await;
    report.unwrap()
}

/// The share of answers that took longer than this.
fn slower_than(operation: &Operation, ms: f64) -> f64 {
    let slow = operation
        .histogram
        .iter()
        .filter(|bucket| bucket.up_to_ms > ms)
        .map(|bucket| bucket.count);
    #[expect(clippy::cast_precision_loss, reason = "a few thousand calls")]
    let share = slow.sum::<u64>() as f64 / operation.totals.answered as f64;
    share
}

/// Stalls for a second, two seconds into the measured part.
fn stalling() -> Arc<Searched> {
    let from = Instant::now() + Duration::from_secs(3);
    Arc::new(Searched {
        stall: Some((from, from + Duration::from_secs(1))),
        ..Searched::default()
    })
}

#[tokio::test(start_paused = true)]
async fn an_open_loop_sees_a_stall_that_a_closed_loop_omits() {
    let opened = run(searches(open(Rate::Constant(200.0))), &stalling()).await;
    let closed = run(searches(Pace::Closed { callers: 4 }), &stalling()).await;

    // One call in five was due in the second of the stall; those of its first 0.7 s waited longer than 300 ms.
    let open = &opened.operations[0];
    assert_eq!((open.totals.offered, open.totals.answered), (1_000, 1_000));
    assert!((0.13..0.15).contains(&slower_than(open, 300.0)), "{:?}", open.latency);
    assert!(open.latency.p99_ms > 900.0, "{:?}", open.latency);
    assert!(open.seconds[2].latency.p50_ms > 400.0, "{:?}", open.seconds[2]);

    // Each of the four callers waited once, and made no call meanwhile.
    let closed = &closed.operations[0];
    assert!(closed.totals.answered > 2_000, "{:?}", closed.totals);
    assert!(slower_than(closed, 300.0) < 0.01, "{:?}", closed.latency);
    assert!(
        closed.latency.p99_ms < 10.0 && closed.latency.max_ms > 900.0,
        "{:?}",
        closed.latency
    );
}

#[tokio::test(start_paused = true)]
async fn every_offered_call_ends_in_one_count() {
    let refusals = (0..30).map(|number| match number % 3 {
        0 => Status::resource_exhausted("too many"),
        1 => Status::unavailable("away"),
        _ => Status::internal("broken"),
    });
    let fleet = Arc::new(Searched {
        refusals: Mutex::new(refusals.collect()),
        ..Searched::default()
    });
    let plan = Plan {
        warm_up: Duration::ZERO,
        ..searches(open(Rate::Constant(200.0)))
    };
    let report = run(plan, &fleet).await;

    let operation = &report.operations[0];
    let totals = operation.totals;
    assert_eq!((totals.offered, totals.started), (1_000, 1_000));
    assert_eq!((totals.answered, totals.refused, totals.failed), (970, 10, 20));
    let errors: Vec<_> = operation
        .errors
        .iter()
        .map(|(name, count)| (name.as_str(), *count))
        .collect();
    assert_eq!(
        errors,
        [("INTERNAL", 10), ("RESOURCE_EXHAUSTED", 10), ("UNAVAILABLE", 10)]
    );
    let of_seconds: u64 = operation.seconds.iter().map(|second| second.totals.answered).sum();
    let of_buckets: u64 = operation.histogram.iter().map(|bucket| bucket.count).sum();
    assert_eq!((of_seconds, of_buckets), (970, 970));
    assert_eq!(
        (report.pace, report.workload, report.cut_short),
        ("open", "nearby", false)
    );
    assert!(
        (report.measured_seconds - 5.0).abs() < 0.01,
        "{}",
        report.measured_seconds
    );
}

#[tokio::test(start_paused = true)]
async fn a_call_is_made_again_only_where_that_was_asked_for() {
    for (retries, answered, repeated) in [(false, 900, 0), (true, 1_000, 100)] {
        let fleet = Arc::new(Searched {
            refusals: Mutex::new((0..100).map(|_| Status::unavailable("away")).collect()),
            ..Searched::default()
        });
        let plan = Plan {
            warm_up: Duration::ZERO,
            retries,
            ..searches(open(Rate::Constant(200.0)))
        };
        let totals = run(plan, &fleet).await.operations[0].totals;
        assert_eq!(
            (totals.offered, totals.started, totals.answered, totals.repeated),
            (1_000, 1_000, answered, repeated),
            "retries: {retries}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn calls_that_are_never_answered_are_failures_of_their_deadline() {
    let fleet = Arc::new(Searched {
        never_answers: true,
        ..Searched::default()
    });
    let plan = Plan {
        deadline: Duration::from_millis(500),
        ..searches(open(Rate::Constant(100.0)))
    };
    let operation = &run(plan, &fleet).await.operations[0];
    assert_eq!((operation.totals.started, operation.totals.failed), (500, 500));
    assert_eq!(operation.errors["DEADLINE_EXCEEDED"], 500);
    assert!(operation.histogram.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_run_that_is_stopped_reports_what_it_measured() {
    let (fleet, stop) = (Arc::new(Searched::default()), CancellationToken::new());
    let server = serve(fleet);
    let live = Live::default();
    assert_eq!(live.snapshot(), None);
    let plan = searches(open(Rate::Constant(100.0)));
    let run = run_on(plan, &server, Clock::Runtime, &live, &stop);
    let in_the_middle = async {
        tokio::time::sleep(Duration::from_millis(3_005)).await;
        stop.cancel();
    };
    let (report, ()) = tokio::join!(run, in_the_middle);

    let report = report.unwrap();
    assert!(report.cut_short);
    assert!(
        (report.measured_seconds - 2.0).abs() < 0.05,
        "{}",
        report.measured_seconds
    );
    let totals = report.operations[0].totals;
    assert!(
        (198..=202).contains(&totals.offered) && totals.answered == totals.offered,
        "{totals:?}"
    );
    // The warm-up is on the screen.
    let seen = live.snapshot().unwrap().operations[0].totals;
    assert!((298..=302).contains(&seen.answered), "{seen:?}");
}

#[tokio::test(start_paused = true)]
async fn a_run_of_so_many_calls_makes_no_more_and_is_not_cut_short() {
    for pace in [open(Rate::Constant(100.0)), Pace::Closed { callers: 7 }] {
        let plan = Plan {
            count_max: Some(123),
            ..searches(pace)
        };
        let report = run(plan, &Arc::new(Searched::default())).await;
        assert_eq!(report.operations[0].totals.answered, 123, "{pace:?}");
        assert!(
            !report.cut_short && report.measured_seconds < 2.0,
            "{}",
            report.measured_seconds
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_closed_loop_has_never_more_calls_than_callers() {
    let fleet = Arc::new(Searched::default());
    let report = run(searches(Pace::Closed { callers: 3 }), &fleet).await;
    assert_eq!(fleet.under_way_max.load(Ordering::Relaxed), 3);
    assert_eq!((report.pace, report.arrivals), ("closed", None));
    assert!(report.operations[0].stages.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_closed_loop_does_not_spin_while_no_server_is_there() {
    let plan = Plan {
        warm_up: Duration::ZERO,
        // It would take them at once.
        count_max: Some(10_000),
        ..searches(Pace::Closed { callers: 3 })
    };
    let never = CancellationToken::new();
    let report = run_on(plan, &no_server(), Clock::Runtime, &Live::default(), &never).await;

    let totals = report.unwrap().operations[0].totals;
    // Each of them a few times soon, then some twice a second for five seconds.
    assert!((3..100).contains(&totals.failed), "{totals:?}");
    assert_eq!(totals.started, totals.failed);
}

#[tokio::test(start_paused = true)]
async fn a_closed_loop_goes_on_at_once_whatever_it_is_answered() {
    let fleet = Arc::new(Searched {
        refusals: Mutex::new((0..10_000).map(|_| Status::unavailable("busy")).collect()),
        ..Searched::default()
    });
    let totals = run(searches(Pace::Closed { callers: 3 }), &fleet).await.operations[0].totals;
    // 5 ms each, for five seconds.
    assert!((2_900..=3_003).contains(&totals.failed), "{totals:?}");
}

#[tokio::test(start_paused = true)]
async fn each_stage_of_a_staircase_is_reported_by_itself() {
    let step = Duration::from_millis(2_500);
    let rate = Rate::Stairs {
        from: 100.0,
        to: 300.0,
        step,
    };
    let report = run(searches(open(rate)), &Arc::new(Searched::default())).await;
    let stages = &report.operations[0].stages;
    let counts: Vec<_> = stages
        .iter()
        .map(|stage| (stage.totals.offered, stage.totals.answered))
        .collect();
    assert_eq!(counts, [(250, 250), (750, 750)]);
    // The answers of the last 5 ms came after the end.
    assert!(
        (298.0..300.0).contains(&stages[1].answered_per_second),
        "{:?}",
        stages[1]
    );
}

#[tokio::test(start_paused = true)]
async fn a_server_that_does_not_take_the_drivers_is_reported_with_its_reason() {
    let workload = Workload::Nearby(NearbyLoad {
        drivers: 10,
        ..NearbyLoad::default()
    });
    let plan = Plan {
        workload,
        ..searches(open(Rate::Constant(100.0)))
    };
    // It has no location service.
    let server = serve(Arc::new(Searched::default()));
    let never = CancellationToken::new();
    let error = run_on(plan, &server, Clock::Runtime, &Live::default(), &never).await;
    let error = error.unwrap_err();
    assert!(
        std::error::Error::source(&error).is_none(),
        "it would be reported twice"
    );
    let text = error.to_string();
    assert!(text.contains("drivers") && text.contains("not implemented"), "{text}");
}

#[tokio::test(start_paused = true)]
async fn a_server_that_refuses_the_streams_is_reported_with_its_reason() {
    for pace in [open(Rate::Constant(100.0)), Pace::Closed { callers: 0 }] {
        let workload = Workload::Ingest(IngestLoad {
            drivers: 10,
            streams: 2,
            gather: Duration::from_millis(10),
            window: 100,
            batch: 500,
        });
        let plan = Plan {
            workload,
            ..searches(pace)
        };
        let (started, never) = (Instant::now(), CancellationToken::new());
        let server = serve(Arc::new(Searched::default()));
        let ended = run_on(plan, &server, Clock::Runtime, &Live::default(), &never).await;

        let text = ended.unwrap_err().to_string();
        assert!(text.contains("streams") && text.contains("not implemented"), "{text}");
        // There is nothing to wait for.
        let lasted = started.elapsed();
        assert!(lasted < Duration::from_secs(2), "{pace:?}: {lasted:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_run_that_is_stopped_before_it_begins_has_nothing_to_report() {
    let stop = CancellationToken::new();
    stop.cancel();
    let plan = searches(open(Rate::Constant(100.0)));
    let server = serve(Arc::new(Searched::default()));
    let report = run_on(plan, &server, Clock::Runtime, &Live::default(), &stop)
        .await
        .unwrap();
    assert!(report.cut_short);
    assert!(
        report.measured_seconds.abs() < f64::EPSILON,
        "{}",
        report.measured_seconds
    );
    let answered: u64 = report
        .operations
        .iter()
        .map(|operation| operation.totals.answered)
        .sum();
    assert_eq!(answered, 0);
    assert!(crate::report::page(&report).contains("nearby"));
}
