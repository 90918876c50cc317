//! Wakes tasks at their times, far closer to them than the runtime's timer does.
//!
//! Tokio's timer counts in milliseconds and rounds up: by itself it makes each call some 0.7 ms late, and the answers
//! that are to be measured come after about as long. So the last few milliseconds are slept by a thread of the alarm's
//! own, which the kernel wakes within some 60 µs. A task that asks for a time that has passed is not put to sleep, so
//! at high rates one waking makes many calls.

use std::collections::BTreeMap;
use std::mem;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant as SystemInstant};

use tokio::sync::oneshot;
use tokio::time::Instant;

/// What is left to the thread; the rest the runtime's timer waits for, so that a task that was cancelled meanwhile is not
/// remembered for long.
const LAST_STRETCH: Duration = Duration::from_millis(3);

/// How the time is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Clock {
    /// The machine's.
    Machine,
    /// The runtime's, which tests may pause.
    #[cfg(test)]
    Runtime,
}

/// An alarm for any number of tasks. Its thread ends with its last clone.
#[derive(Debug, Clone)]
pub(crate) struct Alarm {
    /// Absent where a thread cannot be had: then the runtime's timer is what there is.
    sleeper: Option<Arc<Sleeper>>,
}

impl Alarm {
    pub(crate) fn new(clock: Clock) -> Alarm {
        let sleeper = match clock {
            Clock::Machine => Sleeper::start().ok(),
            #[cfg(test)]
            Clock::Runtime => None,
        };
        Alarm {
            sleeper: sleeper.map(Arc::new),
        }
    }

    /// Returns at `at`, or at once if that has passed.
    pub(crate) async fn until(&self, at: Instant) {
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
        // It sleeps for as long as there is an alarm, so it always answers.
        let _ = sleeper.wake_at(at.into_std()).await;
    }
}

/// A thread that sleeps for tasks, until it is dropped.
#[derive(Debug)]
struct Sleeper(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    wishes: Mutex<Wishes>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Wishes {
    /// By time; the number keeps those of the same time apart.
    by_time: BTreeMap<(SystemInstant, u64), oneshot::Sender<()>>,
    number: u64,
    is_over: bool,
}

impl Sleeper {
    fn start() -> std::io::Result<Sleeper> {
        let shared = Arc::new(Shared::default());
        let slept = Arc::clone(&shared);
        thread::Builder::new()
            .name("load-alarm".to_owned())
            .spawn(move || slept.sleep())?;
        Ok(Sleeper(shared))
    }

    fn wake_at(&self, at: SystemInstant) -> oneshot::Receiver<()> {
        let (wake, woken) = oneshot::channel();
        let mut wishes = self.0.lock();
        wishes.number += 1;
        let number = wishes.number;
        wishes.by_time.insert((at, number), wake);
        let is_first = wishes.by_time.first_key_value().is_some_and(|(key, _)| key.1 == number);
        drop(wishes);
        if is_first {
            self.0.changed.notify_one();
        }
        woken
    }
}

impl Drop for Sleeper {
    fn drop(&mut self) {
        self.0.lock().is_over = true;
        self.0.changed.notify_one();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Wishes> {
        self.wishes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn sleep(&self) {
        let mut wishes = self.lock();
        while !wishes.is_over {
            let now = SystemInstant::now();
            let later = wishes.by_time.split_off(&(now, u64::MAX));
            let due = mem::replace(&mut wishes.by_time, later);
            if !due.is_empty() {
                // Not under the lock: who is woken may have the next wish at once.
                drop(wishes);
                for wake in due.into_values() {
                    // A task that does not wait any more was cancelled.
                    let _ = wake.send(());
                }
                wishes = self.lock();
                continue;
            }
            let next = wishes.by_time.first_key_value().map(|((at, _), _)| *at - now);
            wishes = match next {
                Some(left) => {
                    let woken = self.changed.wait_timeout(wishes, left);
                    woken.unwrap_or_else(PoisonError::into_inner).0
                }
                None => self.changed.wait(wishes).unwrap_or_else(PoisonError::into_inner),
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::task::JoinSet;

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

    #[tokio::test]
    async fn one_alarm_wakes_many_tasks_and_none_too_early() {
        let (alarm, began_at) = (Alarm::new(Clock::Machine), Instant::now());
        // The later ones first, and each time twice.
        let mut waits = JoinSet::new();
        for step in (0..100).rev() {
            let (alarm, at) = (alarm.clone(), began_at + Duration::from_micros(step / 2 * 100));
            waits.spawn(async move {
                alarm.until(at).await;
                Instant::now() >= at
            });
        }
        assert_eq!(waits.join_all().await, [true; 100]);
    }

    #[tokio::test]
    async fn who_comes_last_may_be_woken_first() {
        let alarm = Alarm::new(Clock::Machine);
        let in_an_hour = SystemInstant::now() + Duration::from_hours(1);
        let _later = alarm.sleeper.as_ref().unwrap().wake_at(in_an_hour);
        // After the first of these its thread sleeps for the hour.
        for _ in 0..10 {
            let soon = alarm.until(Instant::now() + Duration::from_millis(1));
            tokio::time::timeout(Duration::from_secs(20), soon).await.unwrap();
        }
    }

    #[tokio::test]
    async fn a_task_that_waits_no_more_holds_up_no_other() {
        let alarm = Alarm::new(Clock::Machine);
        let soon = Instant::now() + Duration::from_millis(1);
        tokio::select! {
            biased;
            () = alarm.until(soon) => {}
            () = std::future::ready(()) => {}
        }
        let after = soon + Duration::from_millis(1);
        alarm.until(after).await;
        assert!(Instant::now() >= after);
        let sleeper = Arc::downgrade(&alarm.sleeper.as_ref().unwrap().0);
        drop(alarm);
        // Its thread has ended, and with it its list.
        while sleeper.strong_count() > 0 {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_paused_runtime_has_its_own_time() {
        let alarm = Alarm::new(Clock::Runtime);
        let at = Instant::now() + Duration::from_hours(1);
        alarm.until(at).await;
        assert!(Instant::now() >= at);
    }
}
