//! Admits new work as fast as it is done. What was begun is never held up: it takes its places first, and new work has what is left of
//! them; see [`waybill_domain::admission`] for how many there are and how long new work may wait.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::{Instant, timeout};
use waybill_domain::admission::{ConcurrencyLimit, ControlledDelay};

/// The places. Clones share them.
#[derive(Debug, Clone)]
pub struct Admission {
    shared: Arc<Shared>,
}

/// Work in progress, until it is dropped. How long it took counts if it was [done](Work::done): what fails at once, as behind an open
/// breaker, says nothing of how long work takes.
#[derive(Debug)]
#[must_use = "the place is free again as soon as it is dropped"]
pub struct Work {
    shared: Arc<Shared>,
    since: Duration,
    is_done: bool,
}

/// There is more work than is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("there is more work than is done")]
pub struct Overloaded;

#[derive(Debug)]
struct Shared {
    origin: Instant,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    limit: ConcurrencyLimit,
    delay: ControlledDelay,
    in_progress: usize,
    line: VecDeque<oneshot::Sender<Work>>,
}

impl Admission {
    /// Up to so many places.
    pub fn new(max: usize) -> Admission {
        Admission {
            shared: Arc::new(Shared {
                origin: Instant::now(),
                state: Mutex::new(State {
                    limit: ConcurrencyLimit::new(max),
                    delay: ControlledDelay::default(),
                    in_progress: 0,
                    line: VecDeque::new(),
                }),
            }),
        }
    }

    /// Begins work that goes on with what was begun: at once.
    pub fn go_on(&self) -> Work {
        let mut state = self.shared.lock();
        state.in_progress += 1;
        self.shared.work()
    }

    /// Begins new work, when there is a place.
    pub async fn admit(&self) -> Result<Work, Overloaded> {
        let (waiting, wait_max) = {
            let mut state = self.shared.lock();
            let now = self.shared.origin.elapsed();
            if state.in_progress < state.limit.get() && state.line.is_empty() {
                state.delay.note_free(now);
                state.in_progress += 1;
                return Ok(self.shared.work());
            }
            state.limit.note_full();
            // As many as could begin if all ended: more would wait in vain.
            if state.line.len() >= state.limit.get() && state.delay.is_controlled(now) {
                state.delay.note_refused(now);
                return Err(Overloaded);
            }
            let (sender, waiting) = oneshot::channel();
            state.line.push_back(sender);
            (waiting, state.delay.wait_max(now))
        };
        if let Ok(Ok(work)) = timeout(wait_max, waiting).await {
            return Ok(work);
        }
        // What is sent in this moment is dropped with its receiver, and frees its place by that.
        let now = self.shared.origin.elapsed();
        self.shared.lock().delay.note_refused(now);
        Err(Overloaded)
    }
}

impl Shared {
    fn work(self: &Arc<Self>) -> Work {
        Work {
            shared: Arc::clone(self),
            since: self.origin.elapsed(),
            is_done: false,
        }
    }

    /// Work ended.
    fn end(self: &Arc<Self>, since: Duration, is_done: bool) {
        let mut next = Vec::new();
        {
            let mut state = self.lock();
            if is_done {
                let now = self.origin.elapsed();
                state.limit.record(now.saturating_sub(since), now);
            }
            state.in_progress -= 1;
            while state.in_progress < state.limit.get()
                && let Some(waiting) = state.line.pop_front()
            {
                // Who gave up meanwhile takes no place.
                if !waiting.is_closed() {
                    state.in_progress += 1;
                    next.push(waiting);
                }
            }
        }
        for waiting in next {
            // Not under the lock: what is not taken any more is dropped here, and ends.
            drop(waiting.send(self.work()));
        }
    }

    /// No code under the lock panics; and if it did, that would be no reason to fail a call.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Work {
    /// It ended as it should: the number of places is learned from how long it took.
    pub fn done(mut self) {
        self.is_done = true;
    }
}

impl Drop for Work {
    fn drop(&mut self) {
        self.shared.end(self.since, self.is_done);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn new_work_has_what_is_left_of_the_places() {
        let admission = Admission::new(2);
        let (begun, new) = (admission.go_on(), admission.admit().await.unwrap());
        assert_eq!(admission.admit().await.unwrap_err(), Overloaded);
        // What was begun is not held up.
        let more = admission.go_on();
        drop((begun, new));
        let next = admission.admit().await.unwrap();
        drop((more, next));
    }

    /// Else an outage, in which all fails at once, would make all that comes after it look slow.
    #[tokio::test]
    async fn what_was_not_done_says_nothing_of_how_long_work_takes() {
        let admission = Admission::new(100);
        for _ in 0..1_000 {
            drop(admission.go_on());
        }
        let learned = format!("{:?}", admission.shared.lock().limit);
        assert!(learned.contains("best: None"), "{learned}");
        for _ in 0..1_000 {
            admission.go_on().done();
        }
        let learned = format!("{:?}", admission.shared.lock().limit);
        assert!(learned.contains("best: Some"), "{learned}");
    }

    #[tokio::test]
    async fn who_waits_begins_when_a_place_is_free_and_the_first_goes_first() {
        let admission = Admission::new(1);
        let begun = admission.admit().await.unwrap();
        let (first, second) = (admission.admit(), admission.admit());
        tokio::pin!(first, second);
        assert!(futures_util::poll!(&mut first).is_pending() && futures_util::poll!(&mut second).is_pending());
        drop(begun);
        let first = first.await.unwrap();
        assert!(futures_util::poll!(&mut second).is_pending());
        drop(first);
        drop(second.await.unwrap());
        drop(admission.admit().await.unwrap());
    }
}
