//! What a recorder reports of calls whose ends are known.

use std::thread;

use super::*;

const WARM_UP: Duration = Duration::from_secs(2);

fn recorder(stages: &[StageSpan]) -> (Recorder, Instant) {
    let started = Instant::now();
    let timeline = Timeline::new(started, WARM_UP, stages);
    (Recorder::new("CreateOrder", "orders", &timeline), started + WARM_UP)
}

fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn stage(from: u64, until: u64, rate: f64) -> StageSpan {
    StageSpan {
        from: WARM_UP + ms(from),
        until: WARM_UP + ms(until),
        rate,
    }
}

/// One call, from its schedule to its answer after `latency`.
fn call(recorder: &Recorder, due: Instant, latency: Duration) {
    recorder.offered([due]);
    recorder.started([due], due);
    recorder.answered([due], due + latency);
}

#[test]
fn every_call_is_in_exactly_one_count() {
    let (recorder, start) = recorder(&[]);
    recorder.offered([start; 6]);
    recorder.started([start; 5], start);
    recorder.answered([start; 2], start + ms(10));
    recorder.ended(start, Code::ResourceExhausted);
    recorder.ended(start, Code::DeadlineExceeded);
    recorder.failed(start, "ORDER_STATUS_REFUNDED");
    recorder.repeated([start; 7]);

    let operation = recorder.operation(ms(1_000));
    let expected = Totals {
        offered: 6,
        started: 5,
        answered: 2,
        refused: 1,
        failed: 2,
        repeated: 7,
    };
    assert_eq!(operation.totals, expected);
    assert_eq!(operation.seconds[0].totals, expected);
    let errors: Vec<(&str, u64)> = operation
        .errors
        .iter()
        .map(|(name, count)| (name.as_str(), *count))
        .collect();
    assert_eq!(
        errors,
        [
            ("DEADLINE_EXCEEDED", 1),
            ("ORDER_STATUS_REFUNDED", 1),
            ("RESOURCE_EXHAUSTED", 1)
        ]
    );
    assert_eq!(operation.histogram.iter().map(|bucket| bucket.count).sum::<u64>(), 2);
}

#[test]
fn the_warm_up_is_seen_live_and_is_not_in_the_report() {
    let (recorder, start) = recorder(&[]);
    call(&recorder, start - ms(500), ms(700));
    recorder.ended(start - ms(400), Code::Unavailable);
    recorder.late([start - ms(300)], start);
    call(&recorder, start, ms(5));

    let operation = recorder.operation(ms(1_000));
    assert_eq!((operation.totals.offered, operation.totals.answered), (1, 1));
    assert!(
        operation.errors.is_empty() && operation.latency.max_ms < 6.0,
        "{operation:?}"
    );
    assert!(recorder.lateness().latency().max_ms < 1.0);
    assert_eq!(recorder.live(start + ms(1_500)).totals.answered, 2);
}

#[test]
fn a_late_answer_counts_in_the_second_and_the_stage_of_its_intended_time() {
    let (recorder, start) = recorder(&[stage(0, 1_500, 2.0), stage(1_500, 3_000, 4.0)]);
    recorder.inner.timeline.end(start + ms(2_000));
    call(&recorder, start + ms(900), ms(2_000));
    call(&recorder, start + ms(1_600), ms(1));

    let operation = recorder.operation(ms(2_000));
    let answered: Vec<u64> = operation.seconds.iter().map(|second| second.totals.answered).collect();
    assert_eq!(answered, [1, 1]);
    assert!(operation.seconds[0].latency.p50_ms > 1_900.0, "{operation:?}");
    let stages: Vec<_> = operation
        .stages
        .iter()
        .map(|stage| (stage.totals.answered, stage.duration_seconds))
        .collect();
    // The second one was cut short after half a second.
    assert_eq!(stages, [(1, 1.5), (1, 0.5)]);
    assert!(
        (operation.stages[1].answered_per_second - 2.0).abs() < 1e-9,
        "{operation:?}"
    );
    assert_eq!(
        (operation.totals.answered, operation.latency.max_ms > 1_900.0),
        (2, true)
    );
}

#[test]
fn what_is_answered_a_second_goes_by_the_time_of_the_answers() {
    let (recorder, start) = recorder(&[stage(0, 1_000, 10.0), stage(1_000, 2_000, 10.0)]);
    recorder.inner.timeline.end(start + ms(2_000));
    // A call of the warm-up, and twenty calls of which a server answers one each 200 ms.
    call(&recorder, start - ms(50), ms(150));
    for n in 0..20 {
        call(&recorder, start + ms(100 * n), ms(100 * n + 200));
    }

    let operation = recorder.operation(ms(2_000));
    assert_eq!(operation.totals.answered, 20);
    // Ten were answered in time: at 200 ms to 1,800 ms, which are nine, and one of the warm-up.
    let rates: Vec<f64> = operation.stages.iter().map(|stage| stage.answered_per_second).collect();
    assert_eq!((rates, operation.answered_per_second), (vec![5.0, 5.0], 5.0));
    let seconds = &operation.seconds[..2];
    let completed: Vec<u64> = seconds.iter().map(|second| second.completed).collect();
    let due: Vec<u64> = seconds.iter().map(|second| second.totals.answered).collect();
    assert_eq!((completed, due), (vec![5, 5], vec![10, 10]));
}

#[test]
fn a_long_run_is_not_kept_once_for_each_thread() {
    let (recorder, start) = recorder(&[]);
    let work = || {
        let recorder = recorder.clone();
        move || (0..300).for_each(|n| call(&recorder, start + ms(1_000 * n), ms(5)))
    };
    let threads: Vec<_> = (0..4).map(|_| thread::spawn(work())).collect();
    for thread in threads {
        thread.join().unwrap();
    }

    assert_eq!(recorder.counts().seconds.len(), 300, "one for all threads");
    let operation = recorder.operation(ms(300_000));
    assert_eq!(operation.seconds.len(), 300);
    for (number, second) in (0..).zip(&operation.seconds) {
        assert_eq!(
            (second.second, second.totals.offered, second.totals.answered),
            (number, 4, 4)
        );
        assert!((second.latency.p50_ms - 5.0).abs() < 0.1, "{second:?}");
    }
    // It is read while it goes on, too, and nothing is counted twice.
    assert_eq!(recorder.operation(ms(300_000)), operation);
}

#[test]
fn many_threads_lose_no_record() {
    let (recorder, start) = recorder(&[]);
    let work = |thread: u64| {
        let recorder = recorder.clone();
        move || (0..1_000).for_each(|n| call(&recorder, start + ms(n), ms(thread + 1)))
    };
    let threads: Vec<_> = (0..20).map(|thread| thread::spawn(work(thread))).collect();
    for thread in threads {
        thread.join().unwrap();
    }

    let operation = recorder.operation(ms(1_000));
    assert_eq!((operation.totals.offered, operation.totals.answered), (20_000, 20_000));
    assert_eq!(
        operation.histogram.iter().map(|bucket| bucket.count).sum::<u64>(),
        20_000
    );
    assert!((operation.latency.min_ms - 1.0).abs() < 0.01 && (operation.latency.max_ms - 20.0).abs() < 0.1);
}

#[test]
fn the_screen_sees_the_last_whole_seconds() {
    let (recorder, start) = recorder(&[]);
    for second in 0..10 {
        let due = start + ms(1_000 * second);
        (0..100).for_each(|n| call(&recorder, due + ms(n), ms(second + 1)));
    }
    recorder.offered([start + ms(9_500)]);
    recorder.started([start + ms(9_500)], start + ms(9_700));

    let live = recorder.live(start + ms(10_200));
    assert!((live.answered_per_second - 100.0).abs() < 0.1, "{live:?}");
    assert!((9.0..=9.2).contains(&live.p50_ms) && live.p99_ms < 10.2, "{live:?}");
    assert_eq!((live.in_flight, live.behind_max), (1, ms(200)));
    let later = recorder.live(start + ms(60_000));
    assert!(
        later.answered_per_second.abs() < f64::EPSILON && later.p99_ms.abs() < f64::EPSILON,
        "{later:?}"
    );
}

#[test]
fn the_late_ones_are_those_that_were_recorded() {
    let (recorder, start) = recorder(&[]);
    recorder.late([start; 99], start + ms(1));
    recorder.late([start], start + ms(50));
    let late = recorder.lateness().latency();
    assert!(
        (late.p50_ms - 1.0).abs() < 0.01 && (late.max_ms - 50.0).abs() < 0.1,
        "{late:?}"
    );
}

#[test]
fn a_timeline_without_seconds_counts_all_but_keeps_none_of_them() {
    let timeline = Timeline::without_seconds();
    let recorder = Recorder::new("fix", "fixes", &timeline);
    (0..300).for_each(|n| call(&recorder, timeline.started() + ms(1_000 * n), ms(5)));
    let operation = recorder.operation(ms(300_000));
    assert_eq!((operation.totals.answered, operation.seconds.len()), (300, 0));
    assert!((recorder.latency().p50_ms - 5.0).abs() < 0.1);
}
