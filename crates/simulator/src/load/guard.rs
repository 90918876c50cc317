//! Watches the generator itself: numbers that are its own and not the server's are not passed off as the server's.

use std::time::Duration;

use nix::sys::resource::{UsageWho, getrusage};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::report::{Generator, Latency};
use crate::recorder::Timeline;

/// Above this share of a core the generator may be what is slow: the runtime's threads wait for each other, and answers
/// lie in its sockets while the clock runs. The busiest second counts, since a p99 is made by the worst hundredth.
const CPU_CORES_MAX: f64 = 0.9;

/// Lateness is a part of every latency, which counts from the intended time. It matters where it is a share of what is
/// reported that a reader would act on; below 2 ms it is the noise of any machine that does other things too.
const LATE_SHARE_MAX: f64 = 0.1;
const LATE_MS_MIN: f64 = 2.0;

/// How often the processor time is read. A shorter rest at the end is too short to be a second.
const SAMPLE: Duration = Duration::from_secs(1);
const SAMPLE_MIN: Duration = Duration::from_millis(500);

/// Processor time of this process, in cores. NaN where the system has no number.
#[derive(Debug, Clone, Copy)]
pub(super) struct Cpu {
    pub(super) cores_max: f64,
    pub(super) cores_mean: f64,
}

/// Samples the measured part, until `ends_at` or `over`: the wait for the last answers would dilute the mean.
pub(super) async fn watch(timeline: Timeline, ends_at: Instant, over: CancellationToken) -> Cpu {
    let unknown = Cpu {
        cores_max: f64::NAN,
        cores_mean: f64::NAN,
    };
    let mut next = timeline.measured_from();
    let warm = over.run_until_cancelled(tokio::time::sleep_until(next)).await;
    let (Some(()), Some(used_first)) = (warm, processor_time()) else {
        return unknown;
    };
    let first = Instant::now();
    let (mut last, mut used_last) = (first, used_first);
    let mut cores_max = f64::NAN;
    loop {
        next = ends_at.min(next + SAMPLE);
        let goes_on = over.run_until_cancelled(tokio::time::sleep_until(next)).await.is_some() && next < ends_at;
        let (now, Some(used)) = (Instant::now(), processor_time()) else {
            return unknown;
        };
        if now.saturating_duration_since(last) >= SAMPLE_MIN {
            // A maximum with NaN is the other one.
            cores_max = cores_max.max(cores(used.saturating_sub(used_last), now - last));
            (last, used_last) = (now, used);
        }
        if !goes_on {
            let cores_mean = cores(used.saturating_sub(used_first), now - first);
            return Cpu { cores_max, cores_mean };
        }
    }
}

/// What the generator's part was, next to the latency of the most important operation.
pub(super) fn generator(cpu: Cpu, late: &Latency, operation: &Latency) -> Generator {
    let mut reasons = Vec::new();
    // A comparison with NaN is false: what is not known is no reason.
    if cpu.cores_max > CPU_CORES_MAX {
        reasons.push(format!(
            "it used {:.2} of a core in its busiest second, more than {CPU_CORES_MAX}",
            cpu.cores_max
        ));
    }
    if late.p99_ms > LATE_MS_MIN && late.p99_ms > LATE_SHARE_MAX * operation.p99_ms {
        reasons.push(format!(
            "it made one call in a hundred {:.1} ms late or later, of a p99 of {:.1} ms",
            late.p99_ms, operation.p99_ms
        ));
    }
    Generator {
        cpu_cores_max: cpu.cores_max,
        cpu_cores_mean: cpu.cores_mean,
        late_p99_ms: late.p99_ms,
        limited_by_generator: (!reasons.is_empty()).then(|| reasons.join("; ")),
    }
}

fn cores(used: Duration, elapsed: Duration) -> f64 {
    used.as_secs_f64() / elapsed.as_secs_f64()
}

/// User and system time of all threads of this process.
fn processor_time() -> Option<Duration> {
    let usage = getrusage(UsageWho::RUSAGE_SELF).ok()?;
    let (user, system) = (usage.user_time(), usage.system_time());
    let seconds = u64::try_from(user.tv_sec() + system.tv_sec()).ok()?;
    let micros = u64::try_from(user.tv_usec() + system.tv_usec()).ok()?;
    Some(Duration::from_secs(seconds) + Duration::from_micros(micros))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reason(cores_max: f64, late_p99_ms: f64, operation_p99_ms: f64) -> Option<String> {
        let cpu = Cpu {
            cores_max,
            cores_mean: 0.1,
        };
        let latency = |p99_ms| Latency {
            p99_ms,
            ..Latency::default()
        };
        generator(cpu, &latency(late_p99_ms), &latency(operation_p99_ms)).limited_by_generator
    }

    #[test]
    fn a_generator_with_time_to_spare_is_no_limit() {
        assert_eq!(reason(0.89, 0.3, 1.0), None);
        assert_eq!(reason(0.2, 9.0, 100.0), None, "a small part of what is reported");
        assert_eq!(reason(f64::NAN, 0.0, 0.0), None, "what is not known is no reason");
    }

    #[test]
    fn a_generator_that_is_busy_or_late_is_the_limit() {
        assert!(reason(0.91, 0.3, 1.0).unwrap().contains("0.91 of a core"));
        assert!(reason(0.2, 30.0, 100.0).unwrap().contains("30.0 ms late"));
        let both = reason(1.7, 30.0, 100.0).unwrap();
        assert!(
            both.contains("1.70 of a core") && both.contains("30.0 ms late"),
            "{both}"
        );
    }

    #[test]
    fn the_processor_time_of_this_process_grows() {
        let before = processor_time().unwrap();
        let mut sum = 0_u64;
        while processor_time().unwrap() == before {
            sum = std::hint::black_box(sum.wrapping_add(1));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_wait_for_the_last_answers_is_not_watched() {
        let started = Instant::now();
        let timeline = Timeline::new(started, Duration::from_secs(2), &[]);
        let over = CancellationToken::new();
        let ends_at = started + Duration::from_millis(5_700);
        let cpu = tokio::time::timeout(Duration::from_mins(1), watch(timeline, ends_at, over)).await;
        let cpu = cpu.expect("it ends by itself");
        assert_eq!(started.elapsed(), Duration::from_millis(5_700));
        assert!(cpu.cores_mean.is_finite(), "{cpu:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_never_measured_is_not_known() {
        let timeline = Timeline::new(Instant::now(), Duration::from_secs(2), &[]);
        let over = CancellationToken::new();
        over.cancel();
        let ends_at = timeline.measured_from() + Duration::from_secs(5);
        let cpu = watch(timeline, ends_at, over).await;
        assert!(cpu.cores_max.is_nan() && cpu.cores_mean.is_nan(), "{cpu:?}");
    }
}
