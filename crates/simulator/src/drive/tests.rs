//! Open and closed loops of calls that are slow, broken or reach no server, on the runtime's paused clock.

use std::sync::Mutex;

use super::*;

/// Calls that take a second.
struct Slow(Recorder);

impl Calls for Slow {
    fn recorder(&self) -> &Recorder {
        &self.0
    }

    async fn call(self: Arc<Self>, due: Instant, (): ()) -> Result<(), Unreached> {
        self.0.started([due], Instant::now());
        tokio::time::sleep(Duration::from_secs(1)).await;
        self.0.answered([due], Instant::now());
        Ok(())
    }
}

/// Slow calls, four at once, for two seconds.
fn four_at_once() -> (Limits, Recorder) {
    let timeline = Timeline::new(Instant::now(), Duration::ZERO, &[]);
    let recorder = Recorder::new("Slow", "calls", &timeline);
    let limits = Limits {
        ends_at: timeline.started() + Duration::from_secs(2),
        timeline,
        over: CancellationToken::new(),
        left: None,
        spent: CancellationToken::new(),
        in_flight_max: 4,
        clock: Clock::Runtime,
    };
    (limits, recorder)
}

/// Ten a second for two seconds.
fn dues() -> impl Iterator<Item = Duration> {
    (0..20).map(|number| Duration::from_millis(100 * number))
}

#[tokio::test(start_paused = true)]
async fn what_was_due_before_a_stop_was_scheduled_even_where_there_was_no_room_for_it() {
    let (limits, recorder) = four_at_once();
    let stop = async {
        tokio::time::sleep(Duration::from_millis(950)).await;
        limits.over.cancel();
    };
    let slow = Arc::new(Slow(recorder.clone()));
    let (ended, ()) = tokio::join!(open(&limits, dues(), &slow), stop);
    ended.unwrap();

    let totals = recorder.operation(Duration::from_millis(950)).totals;
    assert_eq!((totals.offered, totals.started, totals.answered), (10, 4, 4));
}

#[tokio::test(start_paused = true)]
async fn a_closed_loop_of_so_many_calls_is_measured_until_the_last_is_answered() {
    let (limits, recorder) = four_at_once();
    let started = limits.timeline.started();
    let limits = Limits {
        left: Some(Arc::new(AtomicU64::new(5))),
        ends_at: started + Duration::from_hours(1),
        ..limits
    };
    let ended = closed(&limits, 4, &Arc::new(Slow(recorder.clone()))).await.unwrap();

    let measured = ended - started;
    assert_eq!(recorder.operation(measured).totals.answered, 5);
    // Four at once take a second, and the fifth another one.
    assert!(measured >= Duration::from_secs(2), "{measured:?}");
}

/// Calls of which the third panics.
struct Broken(Recorder, AtomicU64);

impl Broken {
    fn new(recorder: Recorder) -> Arc<Broken> {
        Arc::new(Broken(recorder, AtomicU64::new(0)))
    }
}

impl Calls for Broken {
    fn recorder(&self) -> &Recorder {
        &self.0
    }

    async fn call(self: Arc<Self>, due: Instant, (): ()) -> Result<(), Unreached> {
        self.0.started([due], Instant::now());
        let number = self.1.fetch_add(1, Ordering::Relaxed);
        tokio::time::sleep(Duration::from_millis(150)).await;
        assert!(number != 2, "the third is broken");
        Ok(())
    }
}

#[tokio::test(start_paused = true)]
async fn a_call_that_panics_ends_the_run() {
    for is_open in [true, false] {
        let (limits, recorder) = four_at_once();
        let calls = Broken::new(recorder);
        let ended = if is_open {
            open(&limits, dues(), &calls).await
        } else {
            closed(&limits, 4, &calls).await
        };
        assert!(ended.unwrap_err().is_panic());
        assert!(Instant::now() < limits.ends_at - Duration::from_secs(1), "it goes on");
        assert!(limits.over.is_cancelled(), "what is driven beside it goes on");
    }
}

/// Calls that reach no server, and when the last of them ended.
struct Missing(Recorder, Mutex<Instant>);

impl Calls for Missing {
    fn recorder(&self) -> &Recorder {
        &self.0
    }

    async fn call(self: Arc<Self>, _: Instant, (): ()) -> Result<(), Unreached> {
        tokio::time::sleep(Duration::from_millis(1)).await;
        *self.1.lock().unwrap() = Instant::now();
        Err(Unreached)
    }
}

#[tokio::test(start_paused = true)]
async fn no_caller_waits_for_a_server_when_no_call_is_left() {
    let (limits, recorder) = four_at_once();
    let limits = Limits {
        ends_at: limits.timeline.started() + Duration::from_hours(1),
        left: Some(Arc::new(AtomicU64::new(9))),
        ..limits
    };
    let calls = Arc::new(Missing(recorder.clone(), Mutex::new(Instant::now())));
    let ended = closed(&limits, 4, &calls).await.unwrap();

    assert_eq!(recorder.operation(Duration::ZERO).totals.offered, 9);
    assert_eq!(ended, *calls.1.lock().unwrap());
}

#[tokio::test(start_paused = true)]
async fn calls_above_the_bound_wait_and_the_generator_is_not_blamed() {
    let (limits, recorder) = four_at_once();
    let ended = open(&limits, dues(), &Arc::new(Slow(recorder.clone()))).await.unwrap();

    assert_eq!(ended, limits.ends_at);
    let operation = recorder.operation(Duration::from_secs(2));
    let totals = operation.totals;
    // Four at once, then again after a second, and after two there was no more time.
    assert_eq!((totals.offered, totals.started, totals.answered), (20, 8, 8));
    assert!(
        operation.latency.max_ms > 1_500.0,
        "a wait for room is part of it: {:?}",
        operation.latency
    );
    assert!(recorder.lateness().latency().max_ms < 2.0);
}
