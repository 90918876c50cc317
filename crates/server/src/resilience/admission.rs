//! Admits new work as fast as it is done. What was begun is never held up: it takes its places first, and new work has what is left of
//! them; see [`waybill_domain::admission`] for how many there are and how long new work may wait.

use std::collections::VecDeque;
use std::iter;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::{Instant, timeout};
use waybill_domain::admission::{ConcurrencyLimit, ControlledDelay};
use waybill_domain::tenant::Tenant;

use crate::metrics::AdmissionMetrics;

/// The places. Clones share them.
#[derive(Debug, Clone)]
pub struct Admission {
    shared: Arc<Shared>,
}

/// Work in progress, until it is dropped. How long it took counts if it was [done](Work::done), or took long: what fails at once, as behind an open
/// breaker, says nothing of how long work takes, and what fails for want of time says the most.
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
    metrics: AdmissionMetrics,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    limit: ConcurrencyLimit,
    delay: ControlledDelay,
    in_progress: usize,
    line: Line,
}

/// Who waits, and since when.
type Waiting = (oneshot::Sender<Work>, Duration);

/// Who waits for a place. Each tenant that waits has its turn after the others, so that one that sends too much is refused what it sends too much. A
/// deployment of one tenant has one line.
#[derive(Debug, Default)]
struct Line {
    /// The next turn is that of the first. Of each at least one waits, or gave up meanwhile.
    tenants: VecDeque<(Tenant, VecDeque<Waiting>)>,
}

impl Line {
    fn is_empty(&self) -> bool {
        self.tenants.is_empty()
    }

    /// Whether as many of this tenant wait as have a turn while so many places become free: more would wait in vain.
    fn is_full(&self, tenant: &Tenant, places: usize) -> bool {
        let own = self.tenants.iter().find(|(one, _)| one == tenant);
        own.is_some_and(|(_, waiting)| waiting.len() * self.tenants.len() >= places)
    }

    fn push(&mut self, tenant: &Tenant, waiting: Waiting) {
        match self.tenants.iter_mut().find(|(one, _)| one == tenant) {
            Some((_, line)) => line.push_back(waiting),
            None => self.tenants.push_back((tenant.clone(), VecDeque::from([waiting]))),
        }
    }

    /// Whose turn it is: the first of the tenant that is good. Those before it leave the line.
    fn next(&mut self, is_good: impl Fn(&Waiting) -> bool) -> Option<oneshot::Sender<Work>> {
        while let Some((tenant, mut line)) = self.tenants.pop_front() {
            let first = iter::from_fn(|| line.pop_front()).find(&is_good);
            if let Some((waiting, _)) = first {
                if !line.is_empty() {
                    self.tenants.push_back((tenant, line));
                }
                return Some(waiting);
            }
        }
        None
    }
}

/// What becomes of new work.
#[derive(Debug)]
enum Entry {
    /// It has a place.
    Begins,
    /// It stands in the line for one, for so long at most.
    Waits(oneshot::Receiver<Work>, Duration),
}

impl State {
    fn new(limit: ConcurrencyLimit) -> State {
        State {
            limit,
            delay: ControlledDelay::default(),
            in_progress: 0,
            line: Line::default(),
        }
    }

    /// New work of the tenant comes.
    fn enter(&mut self, tenant: &Tenant, now: Duration) -> Result<Entry, Overloaded> {
        if self.in_progress < self.limit.get() && self.line.is_empty() {
            self.delay.note_free(now);
            self.in_progress += 1;
            return Ok(Entry::Begins);
        }
        self.check(tenant, now)?;
        self.limit.note_full(self.delay.is_controlled(now));
        let (sender, waiting) = oneshot::channel();
        self.line.push(tenant, (sender, now));
        Ok(Entry::Waits(waiting, self.delay.wait_max(now)))
    }

    /// Refuses new work of the tenant that would wait in vain.
    fn check(&mut self, tenant: &Tenant, now: Duration) -> Result<(), Overloaded> {
        if self.delay.is_controlled(now) && self.line.is_full(tenant, self.limit.get()) {
            self.limit.note_full(true);
            self.delay.note_refused(now);
            return Err(Overloaded);
        }
        Ok(())
    }

    /// Work ended that took so long: who begins now.
    fn end(&mut self, took: Duration, is_done: bool, now: Duration) -> Vec<oneshot::Sender<Work>> {
        if is_done || self.limit.is_slow(took) {
            self.limit.record(took, self.in_progress, now);
        }
        self.in_progress -= 1;
        iter::from_fn(|| self.next(now)).collect()
    }

    /// Whose turn it is, who has not waited too long, and has a place now. How long is asked when its turn comes, too: there may be a standing line by then.
    fn next(&mut self, now: Duration) -> Option<oneshot::Sender<Work>> {
        if self.in_progress >= self.limit.get() {
            return None;
        }
        let wait_max = self.delay.wait_max(now);
        // Who gave up meanwhile takes no place. Who is dropped is refused.
        let is_good = |(waiting, since): &Waiting| !waiting.is_closed() && now.saturating_sub(*since) <= wait_max;
        let next = self.line.next(is_good)?;
        self.in_progress += 1;
        Some(next)
    }
}

impl Admission {
    /// Up to so many places.
    pub fn new(max: usize, metrics: AdmissionMetrics) -> Admission {
        let limit = ConcurrencyLimit::new(max);
        metrics.max.set(level(limit.get()));
        Admission {
            shared: Arc::new(Shared {
                origin: Instant::now(),
                metrics,
                state: Mutex::new(State::new(limit)),
            }),
        }
    }

    /// Begins work that goes on with what was begun: at once.
    pub fn go_on(&self) -> Work {
        self.shared.lock().in_progress += 1;
        self.shared.work()
    }

    /// Refuses new work of the tenant if [`admit`](Admission::admit) would at once.
    pub fn check(&self, tenant: &Tenant) -> Result<(), Overloaded> {
        self.shared.lock().check(tenant, self.shared.origin.elapsed())
    }

    /// Begins new work of the tenant, when there is a place.
    pub async fn admit(&self, tenant: &Tenant) -> Result<Work, Overloaded> {
        let entry = {
            let mut state = self.shared.lock();
            state.enter(tenant, self.shared.origin.elapsed())?
        };
        let (waiting, wait_max) = match entry {
            Entry::Begins => return Ok(self.shared.work()),
            Entry::Waits(waiting, wait_max) => (waiting, wait_max),
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
        self.metrics.in_progress.inc();
        Work {
            shared: Arc::clone(self),
            since: self.origin.elapsed(),
            is_done: false,
        }
    }

    /// Work ended.
    fn end(self: &Arc<Self>, since: Duration, is_done: bool) {
        self.metrics.in_progress.dec();
        let admitted = {
            let mut state = self.lock();
            let now = self.origin.elapsed();
            let admitted = state.end(now.saturating_sub(since), is_done, now);
            self.metrics.max.set(level(state.limit.get()));
            admitted
        };
        for waiting in admitted {
            // Not under the lock: what is not taken any more is dropped here, and ends.
            drop(waiting.send(self.work()));
        }
    }

    /// No code under the lock panics; and if it did, that would be no reason to fail a call.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn level(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

impl Work {
    /// It begins only now: what was done since it was admitted is not counted.
    pub fn begin(&mut self) {
        self.since = self.shared.origin.elapsed();
    }

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
    use std::cmp::Reverse;
    use std::collections::BinaryHeap;

    use tokio::sync::oneshot::error::TryRecvError;

    use super::*;

    fn places(max: usize) -> Admission {
        Admission::new(max, AdmissionMetrics::default())
    }

    #[tokio::test]
    async fn new_work_has_what_is_left_of_the_places() {
        let (admission, ours) = (places(2), Tenant::default());
        let (begun, new) = (admission.go_on(), admission.admit(&ours).await.unwrap());
        assert_eq!(admission.admit(&ours).await.unwrap_err(), Overloaded);
        // What was begun is not held up.
        let more = admission.go_on();
        drop((begun, new));
        let next = admission.admit(&ours).await.unwrap();
        drop((more, next));
    }

    /// Else an outage, in which all fails at once, would make all that comes after it look slow.
    #[tokio::test]
    async fn what_was_not_done_says_nothing_of_how_long_work_takes() {
        let admission = places(100);
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

    /// As that whose time is over.
    #[tokio::test]
    async fn what_failed_after_a_long_time_says_that_work_takes_long() {
        let mut admission = places(100);
        let shared = Arc::get_mut(&mut admission.shared).unwrap();
        shared.origin -= Duration::from_secs(10);
        for _ in 0..1_000 {
            admission.go_on().done();
        }
        let before = admission.shared.lock().limit.get();
        for _ in 0..1_000 {
            let mut timed_out = admission.go_on();
            timed_out.since = Duration::ZERO;
            drop(timed_out);
        }
        let places = admission.shared.lock().limit.get();
        assert!(places < before, "{places} of {before}");
    }

    #[tokio::test]
    async fn who_waits_begins_when_a_place_is_free_and_the_first_goes_first() {
        let (admission, ours) = (places(1), Tenant::default());
        let begun = admission.admit(&ours).await.unwrap();
        let (first, second) = (admission.admit(&ours), admission.admit(&ours));
        tokio::pin!(first, second);
        assert!(futures_util::poll!(&mut first).is_pending() && futures_util::poll!(&mut second).is_pending());
        drop(begun);
        let first = first.await.unwrap();
        assert!(futures_util::poll!(&mut second).is_pending());
        drop(first);
        drop(second.await.unwrap());
        drop(admission.admit(&ours).await.unwrap());
    }

    /// Else of who sends a little as large a part would be refused as of who sends too much.
    #[test]
    fn who_floods_the_line_holds_up_and_refuses_no_other_business() {
        let at = Duration::from_millis;
        let [acme, beta] = ["acme", "beta"].map(|name| name.parse::<Tenant>().unwrap());
        let mut state = State::new(ConcurrencyLimit::new(1));
        let wait = |state: &mut State, tenant: &Tenant, now: Duration| match state.enter(tenant, now) {
            Ok(Entry::Waits(waiting, _)) => waiting,
            other => panic!("{other:?}"),
        };
        assert!(matches!(state.enter(&acme, at(1_000)), Ok(Entry::Begins)));
        let mut of_acme = [1, 2, 3].map(|_| wait(&mut state, &acme, at(1_001)));
        let mut of_beta = wait(&mut state, &beta, at(1_002));

        let first = state.end(at(5), true, at(1_005));
        assert_eq!(first.len(), 1, "one place is free");
        drop(first);
        assert_eq!(
            of_acme[0].try_recv().unwrap_err(),
            TryRecvError::Closed,
            "it had the first turn"
        );
        assert_eq!(of_beta.try_recv().unwrap_err(), TryRecvError::Empty);
        drop(state.end(at(5), true, at(1_010)));
        assert_eq!(
            of_beta.try_recv().unwrap_err(),
            TryRecvError::Closed,
            "it had the second turn"
        );
        assert_eq!(of_acme[1].try_recv().unwrap_err(), TryRecvError::Empty);

        // The line stands, and all who have a turn while every place becomes free are of acme.
        assert!(matches!(state.enter(&acme, at(1_200)), Err(Overloaded)));
        assert_eq!(state.check(&acme, at(1_200)), Err(Overloaded));
        assert_eq!(state.check(&beta, at(1_200)), Ok(()));
        let mut of_beta = wait(&mut state, &beta, at(1_200));
        assert!(
            matches!(state.enter(&beta, at(1_200)), Err(Overloaded)),
            "it has its part of the line"
        );
        // Those of acme who began to wait long before are refused at its turn.
        drop(state.end(at(5), true, at(1_201)));
        assert_eq!(of_beta.try_recv().unwrap_err(), TryRecvError::Closed, "it had its turn");
    }

    /// What happens to an order: it comes; and each of its transactions begins and ends, after which so many are left.
    #[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
    enum Event {
        Comes,
        Begins { left: u32 },
        Ends { since: Duration, left: u32 },
    }

    /// 400 orders a second, of which each is accepted, charged and assigned: sixty transactions of 50 ms are in progress, forty of them of what was begun.
    #[test]
    fn a_server_that_stores_all_that_comes_refuses_no_order_however_long_transactions_take() {
        let at = Duration::from_millis;
        let (took, charge, every) = (at(50), at(20), Duration::from_micros(2_500));
        let (mut state, ours) = (State::new(ConcurrencyLimit::new(4_096)), Tenant::default());
        let mut events = BinaryHeap::from([Reverse((at(1_000), Event::Comes))]);
        let mut line = VecDeque::new();
        while let Some(Reverse((now, event))) = events.pop()
            && now < Duration::from_secs(100)
        {
            match event {
                Event::Comes => {
                    events.push(Reverse((now + every, Event::Comes)));
                    match state.enter(&ours, now) {
                        Ok(Entry::Begins) => events.push(Reverse((now + took, Event::Ends { since: now, left: 2 }))),
                        Ok(Entry::Waits(waiting, wait_max)) => line.push_back((waiting, now + wait_max)),
                        Err(Overloaded) => panic!("an order is refused at {now:?}: {state:?}"),
                    }
                }
                Event::Begins { left } => {
                    state.in_progress += 1;
                    events.push(Reverse((now + took, Event::Ends { since: now, left })));
                }
                Event::Ends { since, left } => {
                    if left > 0 {
                        events.push(Reverse((now + charge, Event::Begins { left: left - 1 })));
                    }
                    for _admitted in state.end(now.saturating_sub(since), true, now) {
                        line.pop_front();
                        events.push(Reverse((now + took, Event::Ends { since: now, left: 2 })));
                    }
                }
            }
            for (waiting, until) in &mut line {
                let is_refused = matches!(waiting.try_recv(), Err(TryRecvError::Closed)) || *until < now;
                assert!(!is_refused, "an order waits in vain until {now:?}: {:?}", state.limit);
            }
        }
    }

    /// Else all that began to wait in the first moments of an overload would wait for half a second, and so would what is accepted then.
    #[test]
    fn who_began_to_wait_before_there_was_a_standing_line_has_waited_in_vain_once_there_is_one() {
        let at = Duration::from_millis;
        let mut state = State::new(ConcurrencyLimit::new(1));
        state.delay.note_free(at(1_000));
        let (early, mut of_early) = oneshot::channel();
        let (late, mut of_late) = oneshot::channel();
        state.line.push(&Tenant::default(), (early, at(1_000)));
        state.line.push(&Tenant::default(), (late, at(1_110)));

        let next = state.next(at(1_120));

        assert_eq!(of_early.try_recv().unwrap_err(), TryRecvError::Closed, "it is refused");
        assert_eq!(of_late.try_recv().unwrap_err(), TryRecvError::Empty, "it is admitted");
        assert!(next.is_some());
        assert_eq!(state.in_progress, 1);
        assert!(state.next(at(1_120)).is_none(), "the place is taken");
    }
}
