//! When calls are due: a [`Rate`] over time turned into moments, by chance or evenly, before any call is made.
//!
//! A rate that changes is integrated: `n(t)` is how many calls are due until `t`. A constant spacing puts call `k` at
//! the `t` where `n(t) = k`. A Poisson process of any rate is one of rate 1 seen through the inverse of `n` (Lewis and
//! Shedler, 1979, time-scale transformation): exact for ramps too, and each draw of chance is one arrival.

use std::collections::VecDeque;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};

use super::plan::{Arrivals, Rate, STAGES_MAX};
use crate::recorder::StageSpan;

/// The arrivals of a run, all times from its start, at which the warm-up begins.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Schedule {
    arrivals: Arrivals,
    segments: Vec<Segment>,
    stages: Vec<StageSpan>,
}

/// A time in which the rate goes evenly from one value to another.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Segment {
    starts_s: f64,
    lasts_s: f64,
    rate_from: f64,
    rate_to: f64,
    /// The integral up to its start and up to its end.
    count_from: f64,
    count_until: f64,
}

/// The due times of a schedule, or of one stream's share of it, in order.
#[derive(Debug)]
pub(crate) struct Dues {
    /// Those that are not over, the present one first.
    segments: VecDeque<Segment>,
    arrivals: Arrivals,
    random: StdRng,
    /// The value of the integral at which the next one is due, and how far they are apart: 1 for a schedule by itself.
    next: f64,
    apart: f64,
}

impl Schedule {
    /// `rate` over `duration`, after a warm-up at its first value.
    pub(crate) fn new(rate: Rate, arrivals: Arrivals, warm_up: Duration, duration: Duration) -> Schedule {
        let mut schedule = Schedule {
            arrivals,
            segments: Vec::new(),
            stages: Vec::new(),
        };
        let first = match rate {
            Rate::Constant(rate) => rate,
            Rate::Ramp { from, .. } | Rate::Stairs { from, .. } => from,
        };
        schedule.then(warm_up, first, first);
        match rate {
            Rate::Constant(rate) => schedule.then_stage(warm_up, warm_up + duration, rate),
            Rate::Ramp { from, to } => schedule.then(duration, from, to),
            Rate::Stairs { from, to, step } => {
                let stages = stages_in(duration, step);
                for stage in 0..stages {
                    let start = |number: u32| warm_up + duration.mul_f64(f64::from(number) / f64::from(stages));
                    let rate = from + (to - from) * f64::from(stage) / f64::from(stages - 1);
                    schedule.then_stage(start(stage), start(stage + 1), rate);
                }
            }
        }
        schedule
    }

    /// When each call is due. The same seed draws the same times.
    pub(crate) fn dues(&self, seed: u64) -> Dues {
        self.share(seed, 0, 1.0)
    }

    /// The share of one driver stream of many: one in `apart` calls, such as 2.5, is its own. All shares together are
    /// the schedule.
    pub(crate) fn share(&self, seed: u64, stream: u32, apart: f64) -> Dues {
        // Each stream has a generator of its own; the golden ratio keeps neighbouring seeds apart from each other.
        let mut random = StdRng::seed_from_u64(seed ^ u64::from(stream).wrapping_mul(0x9E37_79B9_7F4A_7C15));
        let next = match self.arrivals {
            Arrivals::Constant => f64::from(stream),
            Arrivals::Poisson => exponential(&mut random) * apart,
        };
        Dues {
            segments: self.segments.iter().copied().collect(),
            arrivals: self.arrivals,
            random,
            next,
            apart,
        }
    }

    /// The times of constant rate: a single one for a constant rate, the stages of a staircase, none of a ramp. The
    /// warm-up is in none.
    pub(crate) fn stages(&self) -> &[StageSpan] {
        &self.stages
    }

    fn then_stage(&mut self, from: Duration, until: Duration, rate: f64) {
        self.stages.push(StageSpan { from, until, rate });
        self.then(until.saturating_sub(from), rate, rate);
    }

    fn then(&mut self, lasts: Duration, rate_from: f64, rate_to: f64) {
        let (starts_s, count_from) = self
            .segments
            .last()
            .map_or((0.0, 0.0), |last| (last.starts_s + last.lasts_s, last.count_until));
        let lasts_s = lasts.as_secs_f64();
        self.segments.push(Segment {
            starts_s,
            lasts_s,
            rate_from,
            rate_to,
            count_from,
            count_until: count_from + lasts_s * f64::midpoint(rate_from, rate_to),
        });
    }
}

impl Segment {
    /// The time, in seconds since the start of the run, at which the integral reaches `count`.
    fn time_of(&self, count: f64) -> f64 {
        let count = count - self.count_from;
        let slope = (self.rate_to - self.rate_from) / self.lasts_s;
        // The root of slope/2 t² + rate t - count in the form that holds for a slope of 0, too.
        let root = (self.rate_from * self.rate_from + 2.0 * slope * count).max(0.0).sqrt();
        let rates = self.rate_from + root;
        // Both are nothing only at the start of a ramp from nothing.
        let after_s = if rates > 0.0 { 2.0 * count / rates } else { 0.0 };
        self.starts_s + after_s
    }
}

impl Iterator for Dues {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        let count = self.next;
        while self.segments.front()?.count_until <= count {
            self.segments.pop_front();
        }
        let segment = self.segments.front()?;
        self.next += match self.arrivals {
            Arrivals::Constant => self.apart,
            Arrivals::Poisson => exponential(&mut self.random) * self.apart,
        };
        Duration::try_from_secs_f64(segment.time_of(count)).ok()
    }
}

/// How many stages of at least `step` fit, up to [`STAGES_MAX`]; a staircase has two, or it is none. They share the
/// duration equally.
fn stages_in(duration: Duration, step: Duration) -> u32 {
    let fit = duration.as_nanos().checked_div(step.as_nanos()).unwrap_or(2);
    u32::try_from(fit).unwrap_or(u32::MAX).clamp(2, STAGES_MAX)
}

/// A gap with mean 1. Chance is in [0, 1), so the logarithm is that of a number above zero.
fn exponential(random: &mut StdRng) -> f64 {
    -(1.0 - random.random::<f64>()).ln()
}

#[cfg(test)]
mod tests {
    use super::*;

    const WARM_UP: Duration = Duration::from_secs(2);
    const DURATION: Duration = Duration::from_secs(20);

    fn counts(dues: impl Iterator<Item = Duration>, seconds: usize) -> Vec<f64> {
        let mut counts = vec![0.0; seconds];
        let mut last = Duration::ZERO;
        for due in dues {
            assert!(due >= last, "{due:?} is before {last:?}");
            last = due;
            counts[usize::try_from(due.as_secs()).unwrap()] += 1.0;
        }
        counts
    }

    #[test]
    fn constant_arrivals_are_evenly_spaced_and_as_many_as_the_rate_says() {
        let schedule = Schedule::new(Rate::Constant(250.0), Arrivals::Constant, WARM_UP, DURATION);
        let dues: Vec<Duration> = schedule.dues(1).collect();
        assert_eq!((dues.len(), dues[0]), (22 * 250, Duration::ZERO));
        for pair in dues.windows(2) {
            let gap = pair[1].as_secs_f64() - pair[0].as_secs_f64();
            assert!((gap - 0.004).abs() < 1e-6, "{gap}");
        }
    }

    #[test]
    fn poisson_arrivals_have_the_mean_and_the_variance_of_their_rate() {
        let duration = Duration::from_secs(2_000);
        let schedule = Schedule::new(Rate::Constant(50.0), Arrivals::Poisson, Duration::ZERO, duration);
        let counts = counts(schedule.dues(7), 2_000);
        let mean = counts.iter().sum::<f64>() / 2_000.0;
        let variance = counts.iter().map(|count| (count - mean).powi(2)).sum::<f64>() / 1_999.0;
        // The standard errors over 2,000 seconds are 0.16 and 1.6; these bounds are four of them.
        assert!((mean - 50.0).abs() < 0.64, "mean {mean}");
        assert!((variance - 50.0).abs() < 6.4, "variance {variance}");
    }

    #[test]
    fn a_ramp_integrates_to_its_mean_and_grows_evenly() {
        let rate = Rate::Ramp { from: 100.0, to: 300.0 };
        for arrivals in [Arrivals::Constant, Arrivals::Poisson] {
            let schedule = Schedule::new(rate, arrivals, WARM_UP, DURATION);
            assert!(schedule.stages().is_empty());
            let counts = counts(schedule.dues(3), 22);
            let total: f64 = counts.iter().sum();
            // 2 s at 100 and 20 s at 200 on average; six standard deviations for the draw of chance.
            let tolerance = if arrivals == Arrivals::Constant { 1.0 } else { 400.0 };
            assert!((total - 4_200.0).abs() <= tolerance, "{arrivals:?}: {total}");
            if arrivals == Arrivals::Constant {
                for (second, count) in (0_u32..).zip(&counts).skip(2) {
                    let expected = 105.0 + 10.0 * f64::from(second - 2);
                    assert!(
                        (count - expected).abs() <= 1.0,
                        "second {second}: {count} of {expected}"
                    );
                }
            }
        }
    }

    #[test]
    fn a_ramp_may_begin_or_end_at_nothing() {
        let rate = Rate::Ramp { from: 100.0, to: 0.0 };
        let schedule = Schedule::new(rate, Arrivals::Constant, Duration::ZERO, DURATION);
        assert_eq!(schedule.dues(3).count(), 1_000);
        let rate = Rate::Ramp { from: 0.0, to: 100.0 };
        let schedule = Schedule::new(rate, Arrivals::Constant, Duration::ZERO, DURATION);
        assert_eq!(schedule.dues(3).count(), 1_000);
    }

    #[test]
    fn a_staircase_has_equal_stages_from_the_first_rate_to_the_last() {
        let step = Duration::from_secs(6);
        let rate = Rate::Stairs {
            from: 100.0,
            to: 300.0,
            step,
        };
        let schedule = Schedule::new(rate, Arrivals::Constant, WARM_UP, DURATION);
        let stages: Vec<_> = schedule.stages().iter().map(|stage| stage.rate).collect();
        assert_eq!(stages, [100.0, 200.0, 300.0]);
        let dues: Vec<Duration> = schedule.dues(1).collect();
        for stage in schedule.stages() {
            let within = |due: &&Duration| (stage.from..stage.until).contains(*due);
            let count = u32::try_from(dues.iter().filter(within).count()).unwrap();
            let expected = stage.rate * (stage.until.as_secs_f64() - stage.from.as_secs_f64());
            assert!((f64::from(count) - expected).abs() <= 1.0, "{count} of {expected}");
        }
        assert_eq!(schedule.stages()[0].from, WARM_UP);
        assert_eq!(schedule.stages()[2].until, WARM_UP + DURATION);
    }

    #[test]
    fn a_staircase_has_a_bounded_number_of_stages() {
        let rate = Rate::Stairs {
            from: 100.0,
            to: 300.0,
            step: Duration::from_millis(1),
        };
        let schedule = Schedule::new(rate, Arrivals::Constant, WARM_UP, DURATION);
        assert_eq!(schedule.stages().len(), 1_000);
        assert_eq!(schedule.dues(1).count(), 200 + 4_000);
    }

    #[test]
    fn streams_share_the_schedule() {
        for arrivals in [Arrivals::Constant, Arrivals::Poisson] {
            let schedule = Schedule::new(Rate::Constant(1_000.0), arrivals, WARM_UP, DURATION);
            let shares: Vec<usize> = (0..4).map(|stream| schedule.share(5, stream, 4.0).count()).collect();
            let total: usize = shares.iter().sum();
            assert!(shares.iter().all(|share| (5_100..5_900).contains(share)), "{shares:?}");
            assert!((21_100..22_900).contains(&total), "{total}");
        }
        let schedule = Schedule::new(Rate::Constant(1_000.0), Arrivals::Constant, WARM_UP, DURATION);
        let mut together: Vec<Duration> = (0..4).flat_map(|stream| schedule.share(5, stream, 4.0)).collect();
        together.sort();
        assert_eq!(together, schedule.dues(5).collect::<Vec<_>>());
    }

    #[test]
    fn the_same_seed_draws_the_same_times() {
        let schedule = Schedule::new(Rate::Constant(100.0), Arrivals::Poisson, WARM_UP, DURATION);
        let draw = |seed| schedule.dues(seed).collect::<Vec<_>>();
        assert_eq!(draw(9), draw(9));
        assert_ne!(draw(9), draw(10));
    }
}
