//! Each transition by itself, then all of them against a model that keeps the whole history.

use super::*;
use proptest::prelude::*;

const MID: f64 = 0.5; // no jitter

fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn call(breaker: &mut Breaker, outcome: CallOutcome, now: Duration) {
    let permit = breaker.admit(now).expect("the breaker lets the call through");
    breaker.record(permit, outcome, now, MID);
}

fn opened_at(now: Duration) -> Breaker {
    let mut breaker = Breaker::new(Policy::default());
    for _ in 0..7 {
        call(&mut breaker, CallOutcome::Failure, now);
    }
    assert_eq!(breaker.state(), State::Open);
    breaker
}

#[test]
fn seven_failures_in_a_row_open_it_and_six_do_not() {
    let mut breaker = Breaker::new(Policy::default());
    for _ in 0..6 {
        call(&mut breaker, CallOutcome::Failure, ms(0));
    }
    assert_eq!(breaker.state(), State::Closed);
    call(&mut breaker, CallOutcome::Failure, ms(0));
    assert_eq!(breaker.state(), State::Open);
    assert_eq!(breaker.admit(ms(400)), Err(Open { retry_after: ms(600) }));
}

/// A store that fails over is away for ten seconds, and would then be left alone for ten more.
#[test]
fn who_is_answered_past_it_ends_its_time_and_the_next_call_decides() {
    let mut breaker = opened_at(ms(0));
    call(&mut breaker, CallOutcome::Failure, ms(1_000));
    call(&mut breaker, CallOutcome::Failure, ms(3_000));
    assert_eq!(breaker.admit(ms(4_000)), Err(Open { retry_after: ms(3_000) }));

    breaker.answered(ms(4_000));

    assert_eq!(breaker.state(), State::Open);
    let probe = breaker.admit(ms(4_000)).expect("a probe");
    breaker.record(probe, CallOutcome::Success, ms(4_001), MID);
    assert_eq!(breaker.state(), State::Closed);
    // Where it is closed there is nothing to end.
    breaker.answered(ms(4_002));
    assert_eq!(breaker.state(), State::Closed);
}

#[test]
fn a_success_ends_the_run_of_failures() {
    let mut breaker = Breaker::new(Policy {
        min_calls: 1000,
        ..Policy::default()
    });
    for _ in 0..50 {
        for _ in 0..6 {
            call(&mut breaker, CallOutcome::Failure, ms(0));
        }
        call(&mut breaker, CallOutcome::Success, ms(0));
    }
    assert_eq!(breaker.state(), State::Closed);
}

#[test]
fn half_of_twenty_calls_failing_opens_it_and_half_of_nineteen_does_not() {
    let mut breaker = Breaker::new(Policy::default());
    for n in 0..19 {
        let outcome = if n % 2 == 0 {
            CallOutcome::Failure
        } else {
            CallOutcome::Success
        };
        call(&mut breaker, outcome, ms(0));
    }
    assert_eq!(breaker.state(), State::Closed);
    call(&mut breaker, CallOutcome::Success, ms(0));
    assert_eq!(breaker.state(), State::Open);
}

#[test]
fn failures_older_than_the_window_do_not_count() {
    let mut breaker = Breaker::new(Policy {
        consecutive_failures: 1000,
        ..Policy::default()
    });
    for _ in 0..19 {
        call(&mut breaker, CallOutcome::Failure, ms(0));
    }
    call(&mut breaker, CallOutcome::Success, ms(10_000));
    assert_eq!(breaker.state(), State::Closed);
}

#[test]
fn neutral_calls_count_neither_way() {
    let mut breaker = Breaker::new(Policy::default());
    for _ in 0..6 {
        call(&mut breaker, CallOutcome::Failure, ms(0));
    }
    for _ in 0..100 {
        call(&mut breaker, CallOutcome::Neutral, ms(0));
    }
    assert_eq!(breaker.state(), State::Closed);
    call(&mut breaker, CallOutcome::Failure, ms(0));
    assert_eq!(breaker.state(), State::Open);
}

/// Else all but one are refused in the moment in which the server says that it is ready again.
#[test]
fn once_someone_was_answered_past_it_several_probes_go_and_the_first_to_end_decides() {
    for outcome in [CallOutcome::Success, CallOutcome::Failure] {
        let mut breaker = opened_at(ms(0));
        breaker.answered(ms(500));
        let mut probes: Vec<Permit> = (0..16).map(|_| breaker.admit(ms(500)).expect("a probe")).collect();
        assert!(breaker.admit(ms(500)).is_err(), "no more of them");
        breaker.record(probes.pop().unwrap(), CallOutcome::Neutral, ms(500), MID);
        probes.push(breaker.admit(ms(500)).expect("one that was cancelled frees its slot"));
        breaker.record(probes.pop().unwrap(), outcome, ms(501), MID);
        let expected = match outcome {
            CallOutcome::Success => State::Closed,
            _ => State::Open,
        };
        assert_eq!(breaker.state(), expected);
        // What the others find says nothing any more.
        for probe in probes {
            breaker.record(probe, CallOutcome::Failure, ms(502), MID);
        }
        assert_eq!(breaker.state(), expected);
        assert_eq!(breaker.opened_count(), if expected == State::Open { 2 } else { 1 });
    }
}

/// One that was sent before may wait for a connection that is dead.
#[test]
fn a_probe_that_waits_keeps_no_other_from_going_once_someone_was_answered() {
    let mut breaker = opened_at(ms(0));
    let _stuck = breaker.admit(ms(1_000)).expect("a probe");
    assert!(breaker.admit(ms(1_000)).is_err());
    breaker.answered(ms(1_001));
    let second = breaker.admit(ms(1_001)).expect("another one");
    breaker.record(second, CallOutcome::Success, ms(1_002), MID);
    assert_eq!(breaker.state(), State::Closed);
}

#[test]
fn when_the_open_time_is_over_one_probe_goes_and_no_second() {
    let mut breaker = opened_at(ms(0));
    assert!(breaker.admit(ms(999)).is_err());
    let probe = breaker.admit(ms(1000)).unwrap();
    assert_eq!(breaker.state(), State::HalfOpen);
    assert_eq!(breaker.admit(ms(1000)), Err(Open { retry_after: ms(1000) }));
    breaker.record(probe, CallOutcome::Success, ms(1100), MID);
    assert_eq!(breaker.state(), State::Closed);
}

#[test]
fn a_failed_probe_opens_it_for_twice_as_long_up_to_the_cap() {
    let mut breaker = opened_at(ms(0));
    let mut now = ms(1000);
    for expected_s in [2, 4, 8, 15, 15] {
        call(&mut breaker, CallOutcome::Failure, now);
        assert_eq!(breaker.retry_after(now), Some(Duration::from_secs(expected_s)));
        now += Duration::from_secs(expected_s);
    }
    assert_eq!(breaker.opened_count(), 6);
}

#[test]
fn after_it_closed_the_next_opening_is_short_again() {
    let mut breaker = opened_at(ms(0));
    call(&mut breaker, CallOutcome::Failure, ms(1000));
    call(&mut breaker, CallOutcome::Success, ms(3000));
    assert_eq!(breaker.state(), State::Closed);
    for _ in 0..7 {
        call(&mut breaker, CallOutcome::Failure, ms(3000));
    }
    assert_eq!(breaker.retry_after(ms(3000)), Some(ms(1000)));
}

#[test]
fn a_cancelled_probe_frees_the_slot_for_the_next() {
    let mut breaker = opened_at(ms(0));
    let probe = breaker.admit(ms(1000)).unwrap();
    breaker.record(probe, CallOutcome::Neutral, ms(1500), MID);
    assert_eq!(breaker.state(), State::HalfOpen);
    assert!(breaker.admit(ms(1500)).is_ok());
}

#[test]
fn a_late_result_from_before_the_opening_changes_nothing() {
    let mut breaker = Breaker::new(Policy::default());
    let late: Vec<Permit> = (0..3).map(|_| breaker.admit(ms(0)).unwrap()).collect();
    for _ in 0..7 {
        call(&mut breaker, CallOutcome::Failure, ms(0));
    }
    let probe = breaker.admit(ms(1000)).unwrap();
    for (permit, outcome) in late
        .into_iter()
        .zip([CallOutcome::Success, CallOutcome::Failure, CallOutcome::Neutral])
    {
        breaker.record(permit, outcome, ms(1000), MID);
        assert_eq!(breaker.state(), State::HalfOpen);
        assert!(breaker.admit(ms(1000)).is_err(), "the probe slot is still taken");
    }
    breaker.record(probe, CallOutcome::Success, ms(1000), MID);
    assert_eq!(breaker.state(), State::Closed);
}

#[test]
fn jitter_is_one_half_around_and_never_above_the_cap() {
    for (unit, expected) in [(0.0, ms(500)), (1.0, ms(1500)), (f64::NAN, ms(15_000)), (9.0, ms(1500))] {
        let mut breaker = Breaker::new(Policy {
            consecutive_failures: 1,
            ..Policy::default()
        });
        let permit = breaker.admit(ms(0)).unwrap();
        breaker.record(permit, CallOutcome::Failure, ms(0), unit);
        assert_eq!(breaker.retry_after(ms(0)), Some(expected), "{unit}");
    }
    let capped = Policy {
        consecutive_failures: 1,
        open_max: ms(1200),
        ..Policy::default()
    };
    let mut breaker = Breaker::new(capped);
    let permit = breaker.admit(ms(0)).unwrap();
    breaker.record(permit, CallOutcome::Failure, ms(0), 1.0);
    assert_eq!(breaker.retry_after(ms(0)), Some(ms(1200)));
}

#[test]
fn a_clock_read_before_another_threads_does_not_turn_time_back() {
    let mut breaker = Breaker::new(Policy {
        consecutive_failures: 1000,
        ..Policy::default()
    });
    call(&mut breaker, CallOutcome::Success, ms(20_000));
    for _ in 0..19 {
        call(&mut breaker, CallOutcome::Failure, ms(19_000));
    }
    assert_eq!(breaker.state(), State::Open);
}

/// The same rules, written as slowly and plainly as possible: the whole history, no slices, no generations.
struct Model {
    history: Vec<(u64, bool)>,
    open: Option<(Duration, Duration)>,
    probe: Option<usize>,
    valid: Vec<usize>,
}

impl Model {
    fn may_pass(&self, now: Duration) -> bool {
        self.probe.is_none() && self.open.is_none_or(|(until, _)| now >= until)
    }

    fn trip(&mut self, length: Duration, now: Duration, jitter: f64) {
        let length = length.min(Policy::default().open_max);
        let until = now + length.mul_f64(0.5 + jitter).min(Policy::default().open_max);
        *self = Model {
            history: vec![],
            open: Some((until, length)),
            probe: None,
            valid: vec![],
        };
    }

    fn record(&mut self, call: usize, outcome: CallOutcome, now: Duration, jitter: f64) {
        if self.probe == Some(call) {
            let (_, length) = self.open.unwrap();
            match outcome {
                CallOutcome::Success => {
                    *self = Model {
                        history: vec![],
                        open: None,
                        probe: None,
                        valid: vec![],
                    }
                }
                CallOutcome::Failure => self.trip(length * 2, now, jitter),
                CallOutcome::Neutral => self.probe = None,
            }
            return;
        }
        if !self.valid.contains(&call) || outcome == CallOutcome::Neutral {
            return;
        }
        let second = now.as_secs();
        self.history.push((second, outcome == CallOutcome::Failure));
        let recent = self.history.iter().filter(|(at, _)| at + 10 > second);
        let (failed, passed): (Vec<&(u64, bool)>, Vec<_>) = recent.partition(|(_, failed)| *failed);
        let share_is_bad = failed.len() + passed.len() >= 20 && failed.len() >= passed.len();
        let run = self.history.iter().rev().take_while(|(_, failed)| *failed).count();
        if share_is_bad || run >= 7 {
            self.trip(Duration::from_secs(1), now, jitter);
        }
    }
}

#[derive(Debug, Clone)]
enum Act {
    Wait(u64),
    Call,
    Finish(usize, CallOutcome, f64),
}

fn act() -> impl Strategy<Value = Act> {
    let outcome =
        prop_oneof![5 => Just(CallOutcome::Failure), 4 => Just(CallOutcome::Success), 1 => Just(CallOutcome::Neutral)];
    prop_oneof![
        1 => (0_u64..2_500).prop_map(Act::Wait),
        6 => Just(Act::Call),
        5 => (any::<usize>(), outcome, 0.0..1.0).prop_map(|(n, outcome, jitter)| Act::Finish(n, outcome, jitter)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn it_agrees_with_the_plain_model(acts in prop::collection::vec(act(), 1..400)) {
        let mut breaker = Breaker::new(Policy::default());
        let mut model = Model { history: vec![], open: None, probe: None, valid: vec![] };
        let mut now = Duration::ZERO;
        let mut in_flight: Vec<(usize, Permit)> = vec![];
        for (number, act) in acts.into_iter().enumerate() {
            match act {
                Act::Wait(millis) => now += ms(millis),
                Act::Call => {
                    let admitted = breaker.admit(now);
                    prop_assert_eq!(admitted.is_ok(), model.may_pass(now));
                    if let Ok(permit) = admitted {
                        match model.open {
                            Some(_) => model.probe = Some(number),
                            None => model.valid.push(number),
                        }
                        in_flight.push((number, permit));
                    }
                }
                Act::Finish(_, _, _) if in_flight.is_empty() => {}
                Act::Finish(n, outcome, jitter) => {
                    let (call, permit) = in_flight.remove(n % in_flight.len());
                    breaker.record(permit, outcome, now, jitter);
                    model.record(call, outcome, now, jitter);
                }
            }
            prop_assert_eq!(breaker.state() == State::Closed, model.open.is_none());
            prop_assert_eq!(breaker.retry_after(now).is_none(), model.may_pass(now));
        }
    }
}
