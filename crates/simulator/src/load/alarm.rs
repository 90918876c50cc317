//! Wakes a task at a time, far closer to it than the runtime's timer does.
//!
//! Tokio's timer counts in milliseconds and rounds up: by itself it makes each call some 0.7 ms late, and the answers
//! that are to be measured come after about as long. So the last few milliseconds are slept by a thread of the alarm's
//! own, which the kernel wakes within some 60 µs. A task that asks for a time that has passed is not put to sleep, so
//! at high rates one waking makes many calls.

use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::Instant;

/// What is left to the thread; the rest the runtime's timer waits for, so that the thread never sleeps for long.
const LAST_STRETCH: Duration = Duration::from_millis(3);

/// How the time is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Clock {
    /// The machine's.
    Machine,
    /// The runtime's, which tests may pause.
    #[cfg(test)]
    Runtime,
}

/// An alarm of one task.
#[derive(Debug)]
pub(super) struct Alarm {
    /// Absent where a thread cannot be had: then the runtime's timer is what there is.
    sleeper: Option<mpsc::Sender<Wish>>,
}

#[derive(Debug)]
struct Wish {
    at: std::time::Instant,
    wake: oneshot::Sender<()>,
}

impl Alarm {
    pub(super) fn new(clock: Clock) -> Alarm {
        let sleeper = match clock {
            Clock::Machine => sleeper().ok(),
            #[cfg(test)]
            Clock::Runtime => None,
        };
        Alarm { sleeper }
    }

    /// Returns at `at`, or at once if that has passed.
    pub(super) async fn until(&self, at: Instant) {
        let Some(sleeper) = &self.sleeper else {
            return tokio::time::sleep_until(at).await;
        };
        let left = at.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return;
        }
        if left > LAST_STRETCH {
            tokio::time::sleep(left.saturating_sub(LAST_STRETCH)).await;
        }
        let (wake, woken) = oneshot::channel();
        let wish = Wish {
            at: at.into_std(),
            wake,
        };
        // A sleeper that is gone wakes at once; the calls would be early, so the timer has the rest.
        if sleeper.send(wish).is_err() || woken.await.is_err() {
            tokio::time::sleep_until(at).await;
        }
    }
}

/// A thread that sleeps for the alarm, until the alarm is dropped.
#[expect(
    clippy::disallowed_methods,
    reason = "a thread of its own, not a worker of the runtime"
)]
fn sleeper() -> std::io::Result<mpsc::Sender<Wish>> {
    let (sender, wishes) = mpsc::channel::<Wish>();
    let sleep = move || {
        for wish in wishes {
            thread::sleep(wish.at.saturating_duration_since(std::time::Instant::now()));
            // A task that does not wait any more was cancelled.
            let _ = wish.wake.send(());
        }
    };
    thread::Builder::new().name("load-alarm".to_owned()).spawn(sleep)?;
    Ok(sender)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_alarm_is_never_early_and_does_not_wait_for_what_has_passed() {
        let alarm = Alarm::new(Clock::Machine);
        for millis in [0, 1, 2, 10] {
            let at = Instant::now() + Duration::from_millis(millis);
            alarm.until(at).await;
            assert!(Instant::now() >= at);
        }
        alarm.until(Instant::now() - Duration::from_secs(1)).await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_paused_runtime_has_its_own_time() {
        let alarm = Alarm::new(Clock::Runtime);
        let at = Instant::now() + Duration::from_hours(1);
        alarm.until(at).await;
        assert!(Instant::now() >= at);
    }
}
