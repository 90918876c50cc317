//! A circuit breaker as a plain state machine: when to stop calling a dependency, and when to try it again.
//!
//! ```text
//!            too many failures                    open time is over, one probe goes
//!   closed -------------------------> open <--------------------------------------> half-open
//!     ^                                         probe fails: twice as long            |
//!     +---------------------------- probe succeeds -----------------------------------+
//! ```
//!
//! Two rules open it: a share of failures among enough calls of the last seconds (a dependency that is half broken),
//! and a run of failures without one success (a dependency that is down, seen before `min_calls` is reached). The run
//! of 7, the first second and the jitter of one half are those of linkerd2-proxy's `consecutive_failures.rs`; the share is
//! that of Envoy's and resilience4j's defaults. The cap is 15 s and not linkerd's 60: an order has 60 s from the end of a
//! fault to its own end, and a probe each 15 s is no load.
//!
//! Where someone who asked past it was answered, as readiness does, its open time is over, and up to 16 probes go at once: the server calls itself
//! ready then, and one slow probe must not refuse all others.
//!
//! Time is a [`Duration`] since any fixed origin and the random number is an argument, so that each transition can be
//! tested. The caller brings the lock, and makes sure that each [`Permit`] comes back, also when its call is cancelled.

use std::collections::VecDeque;
use std::time::Duration;

/// The window is counted in this many slices, so that its memory does not grow with the rate of calls.
const SLICES: u64 = 10;
/// Probes at a time, once someone who asked past it was answered.
const PROBES_ONCE_ANSWERED: u32 = 16;

/// When a breaker opens and for how long.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Policy {
    /// Opens when this share of the calls in the window failed, 0 to 1.
    pub failure_ratio: f64,
    /// The share says nothing before so many calls are in the window.
    pub min_calls: u32,
    /// How far back the share looks; counted in tenths of it.
    pub window: Duration,
    /// Opens after so many failures with no success between them.
    pub consecutive_failures: u32,
    /// The first time that it stays open, before jitter.
    pub open_min: Duration,
    /// It never stays open longer than this, with jitter.
    pub open_max: Duration,
}

impl Default for Policy {
    fn default() -> Self {
        Policy {
            failure_ratio: 0.5,
            min_calls: 20,
            window: Duration::from_secs(10),
            consecutive_failures: 7,
            open_min: Duration::from_secs(1),
            open_max: Duration::from_secs(15),
        }
    }
}

/// What a call showed about the health of the dependency.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CallOutcome {
    /// It answered, be the answer pleasant or not: a declined card is a success.
    Success,
    /// It did not answer, or answered that it is broken.
    Failure,
    /// Nothing was learned: the caller gave up, or another limit refused the call.
    Neutral,
}

/// The state by name, for metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Calls pass.
    Closed,
    /// Calls are refused.
    Open,
    /// One call, or a few, may find out whether the dependency is back.
    HalfOpen,
}

/// The call is refused; another try before `retry_after` will be refused too.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the circuit breaker is open for another {retry_after:?}")]
pub struct Open {
    /// How long to wait.
    pub retry_after: Duration,
}

/// The right to make one call, given back with [`Breaker::record`].
///
/// It carries the generation in which it was given. A transition starts a new generation, so that the late result of
/// a call from before the opening neither closes the breaker nor opens it for longer.
#[derive(Debug, PartialEq, Eq)]
#[must_use = "a permit that is not recorded leaves a half-open breaker waiting for its probe for ever"]
pub struct Permit {
    generation: u64,
}

/// The breaker of one dependency.
#[derive(Debug)]
pub struct Breaker {
    policy: Policy,
    phase: Phase,
    generation: u64,
    opened_count: u64,
}

#[derive(Debug)]
enum Phase {
    Closed {
        window: Window,
        failures_in_a_row: u32,
    },
    Open {
        until: Duration,
        length: Duration,
        probes_max: u32,
    },
    HalfOpen {
        probes: u32,
        probes_max: u32,
        length: Duration,
    },
}

impl Breaker {
    /// A closed breaker.
    pub fn new(policy: Policy) -> Self {
        Breaker {
            policy,
            phase: Phase::closed(),
            generation: 0,
            opened_count: 0,
        }
    }

    /// Lets one call through, or says how long to stay away.
    pub fn admit(&mut self, now: Duration) -> Result<Permit, Open> {
        if let Some(retry_after) = self.retry_after(now) {
            return Err(Open { retry_after });
        }
        match &mut self.phase {
            Phase::Closed { .. } => {}
            Phase::HalfOpen { probes, .. } => *probes += 1,
            Phase::Open { length, probes_max, .. } => {
                let (length, probes_max) = (*length, *probes_max);
                self.enter(Phase::HalfOpen {
                    probes: 1,
                    probes_max,
                    length,
                });
            }
        }
        Ok(Permit {
            generation: self.generation,
        })
    }

    /// Takes a permit back with what its call taught. `jitter_unit`: a random number from 0 to 1, used when this
    /// outcome opens the breaker; it spreads the probes of many processes.
    #[expect(
        clippy::needless_pass_by_value,
        reason = "a permit is used up: one call has one outcome"
    )]
    pub fn record(&mut self, permit: Permit, outcome: CallOutcome, now: Duration, jitter_unit: f64) {
        if permit.generation != self.generation {
            return;
        }
        let policy = self.policy;
        match (&mut self.phase, outcome) {
            (
                Phase::Closed {
                    window,
                    failures_in_a_row,
                },
                CallOutcome::Success,
            ) => {
                *failures_in_a_row = 0;
                window.count(now, policy.window, false);
                // A success completes `min_calls` as well as a failure does.
                if window.is_bad(&policy) {
                    self.open(policy.open_min, now, jitter_unit);
                }
            }
            (
                Phase::Closed {
                    window,
                    failures_in_a_row,
                },
                CallOutcome::Failure,
            ) => {
                *failures_in_a_row = failures_in_a_row.saturating_add(1);
                window.count(now, policy.window, true);
                if *failures_in_a_row >= policy.consecutive_failures || window.is_bad(&policy) {
                    self.open(policy.open_min, now, jitter_unit);
                }
            }
            (Phase::HalfOpen { probes, .. }, CallOutcome::Neutral) => *probes = probes.saturating_sub(1),
            (Phase::HalfOpen { .. }, CallOutcome::Success) => self.enter(Phase::closed()),
            (Phase::HalfOpen { length, .. }, CallOutcome::Failure) => {
                let twice = length.saturating_mul(2);
                self.open(twice, now, jitter_unit);
            }
            // No permit is given while it is open, and each opening starts a generation.
            (Phase::Closed { .. }, CallOutcome::Neutral) | (Phase::Open { .. }, _) => {}
        }
    }

    /// Someone who asked past it was answered. So the next calls may find out whether the dependency is back, however long it was to stay
    /// open, and whether or not a probe waits that was sent before.
    pub fn answered(&mut self, now: Duration) {
        match &mut self.phase {
            Phase::Closed { .. } => {}
            Phase::Open { until, probes_max, .. } => {
                *until = now.min(*until);
                *probes_max = PROBES_ONCE_ANSWERED;
            }
            Phase::HalfOpen { probes_max, .. } => *probes_max = PROBES_ONCE_ANSWERED,
        }
    }

    /// How long calls will still be refused; `None` if the next one would pass. Takes no permit.
    pub fn retry_after(&self, now: Duration) -> Option<Duration> {
        match &self.phase {
            Phase::Closed { .. } => None,
            Phase::HalfOpen { probes, probes_max, .. } if probes < probes_max => None,
            // It is unknown how long a probe takes; the shortest opening is the hint.
            Phase::HalfOpen { .. } => Some(self.policy.open_min),
            Phase::Open { until, .. } if now >= *until => None,
            Phase::Open { until, .. } => Some(until.saturating_sub(now)),
        }
    }

    /// The state by name. An open breaker whose time is over is still open: the next call makes it half-open.
    pub fn state(&self) -> State {
        match self.phase {
            Phase::Closed { .. } => State::Closed,
            Phase::Open { .. } => State::Open,
            Phase::HalfOpen { .. } => State::HalfOpen,
        }
    }

    /// How often it opened, failed probes included.
    pub fn opened_count(&self) -> u64 {
        self.opened_count
    }

    fn open(&mut self, length: Duration, now: Duration, jitter_unit: f64) {
        let length = length.min(self.policy.open_max);
        let factor = 0.5 + jitter_unit.clamp(0.0, 1.0);
        // Only NaN and a time near the end of the range do not fit, and then the cap is right.
        let jittered = Duration::try_from_secs_f64(length.as_secs_f64() * factor).unwrap_or(self.policy.open_max);
        let jittered = jittered.min(self.policy.open_max);
        self.opened_count += 1;
        self.enter(Phase::Open {
            until: now.saturating_add(jittered),
            length,
            probes_max: 1,
        });
    }

    fn enter(&mut self, phase: Phase) {
        self.generation += 1;
        self.phase = phase;
    }
}

impl Phase {
    fn closed() -> Phase {
        Phase::Closed {
            window: Window::default(),
            failures_in_a_row: 0,
        }
    }
}

/// Calls and failures of the last [`SLICES`] slices of time; the oldest first, only slices that saw a call.
#[derive(Debug, Default)]
struct Window {
    slices: VecDeque<Slice>,
}

#[derive(Debug)]
struct Slice {
    index: u64,
    calls: u32,
    failures: u32,
}

impl Window {
    fn count(&mut self, now: Duration, length: Duration, failed: bool) {
        let slice_nanos = (length.as_nanos() / u128::from(SLICES)).max(1);
        let index = u64::try_from(now.as_nanos() / slice_nanos).unwrap_or(u64::MAX);
        // Two threads can read the clock in one order and get the lock in the other: time does not go back here.
        let index = self.slices.back().map_or(index, |last| index.max(last.index));
        while self.slices.front().is_some_and(|first| first.index + SLICES <= index) {
            self.slices.pop_front();
        }
        match self.slices.back_mut() {
            Some(last) if last.index == index => last.add(failed),
            _ => {
                let mut slice = Slice {
                    index,
                    calls: 0,
                    failures: 0,
                };
                slice.add(failed);
                self.slices.push_back(slice);
            }
        }
    }

    fn is_bad(&self, policy: &Policy) -> bool {
        let calls: u32 = self.slices.iter().map(|slice| slice.calls).sum();
        let failures: u32 = self.slices.iter().map(|slice| slice.failures).sum();
        calls >= policy.min_calls && f64::from(failures) >= policy.failure_ratio * f64::from(calls)
    }
}

impl Slice {
    fn add(&mut self, failed: bool) {
        self.calls += 1;
        self.failures += u32::from(failed);
    }
}

#[cfg(test)]
mod tests;
