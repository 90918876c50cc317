//! Wakes tasks at their times, far closer to them than the runtime's timer does.
//!
//! Tokio's timer counts in milliseconds and rounds up: by itself it makes each call some 0.7 ms late, and the answers
//! that are to be measured come after about as long. So the last few milliseconds are slept by a thread of the alarm's
//! own, which the kernel wakes within some 60 µs. A task that asks for a time that has passed is not put to sleep, so
//! at high rates one waking makes many calls.

use std::collections::BTreeMap;
use std::io;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
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

/// A time, and the task that is to be woken at it.
type Wish = (SystemInstant, oneshot::Sender<()>);

/// An alarm for any number of tasks. Its thread ends with its last clone.
#[derive(Debug, Clone)]
pub(crate) struct Alarm {
    /// To the thread. Absent where a thread cannot be had: then the runtime's timer is what there is.
    wishes: Option<Sender<Wish>>,
}

impl Alarm {
    pub(crate) fn new(clock: Clock) -> Alarm {
        let wishes = match clock {
            Clock::Machine => start().ok(),
            #[cfg(test)]
            Clock::Runtime => None,
        };
        Alarm { wishes }
    }

    /// Returns at `at`, or at once if that has passed.
    pub(crate) async fn until(&self, at: Instant) {
        let Some(wishes) = &self.wishes else {
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
        // The thread listens for as long as there is an alarm, so it always answers.
        let _ = wishes.send((at.into_std(), wake));
        let _ = woken.await;
    }
}

fn start() -> io::Result<Sender<Wish>> {
    let (wishes, received) = mpsc::channel();
    let thread = thread::Builder::new().name("load-alarm".to_owned());
    thread.spawn(move || wake_each(&received))?;
    Ok(wishes)
}

/// Sleeps until the next time, or the next wish, and wakes whoever is due; until no one can have a wish any more.
fn wake_each(received: &Receiver<Wish>) {
    // By time; the number keeps those of the same time apart.
    let mut wishes: BTreeMap<(SystemInstant, u64), oneshot::Sender<()>> = BTreeMap::new();
    for number in 0.. {
        let next = wishes.first_key_value().map(|((at, _), _)| *at);
        let wish = match next {
            Some(at) => received.recv_timeout(at.saturating_duration_since(SystemInstant::now())),
            None => received.recv().map_err(RecvTimeoutError::from),
        };
        match wish {
            Ok((at, wake)) => drop(wishes.insert((at, number), wake)),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
        let now = SystemInstant::now();
        while let Some(due) = wishes.first_entry()
            && due.key().0 <= now
        {
            // A task that does not wait any more was cancelled.
            let _ = due.remove().send(());
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
        let (wake, _later) = oneshot::channel();
        let in_an_hour = SystemInstant::now() + Duration::from_hours(1);
        alarm.wishes.as_ref().unwrap().send((in_an_hour, wake)).unwrap();
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
    }

    #[test]
    fn the_thread_ends_with_the_last_alarm_though_a_task_waits() {
        let (wishes, received) = mpsc::channel();
        let thread = thread::spawn(move || wake_each(&received));
        let (wake, _waits) = oneshot::channel();
        let in_an_hour = SystemInstant::now() + Duration::from_hours(1);
        wishes.send((in_an_hour, wake)).unwrap();
        drop(wishes);
        thread.join().unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_paused_runtime_has_its_own_time() {
        let alarm = Alarm::new(Clock::Runtime);
        let at = Instant::now() + Duration::from_hours(1);
        alarm.until(at).await;
        assert!(Instant::now() >= at);
    }
}
