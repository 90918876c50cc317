//! The bulkhead: at most so many calls in flight to one dependency, and a line of those that wait for a slot.
//!
//! It sits inside the breaker, and around everything that takes time. The line is served by [`Turn`] and not by arrival. One
//! call at a time stands at its [`Head`], and takes its turn under the rate limit there: so the order of the line is the
//! order in which calls are sent, and a call that waits for the rate limit holds no slot.
//!
//! The line itself has no limit: who stands in it is bounded by the work that was accepted. [`Bulkhead::expect`] refuses new
//! work whose call would wait for too long.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::oneshot;
use tokio::time::Instant;
use waybill_domain::charge_wait::{Capacity, Load, RecentMean, charge_wait};

use crate::metrics::BulkheadMetrics;

/// Which of the calls that wait goes first: the smallest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Turn {
    /// Before all others: a call that ends what was begun.
    First,
    /// The oldest work goes first: since when it waits.
    Since(Timestamp),
}

/// Slots, and the line before them. Clones share both.
#[derive(Debug, Clone)]
pub struct Bulkhead {
    shared: Arc<Shared>,
}

/// The head of the line: a slot is free for this call, and no other takes one meanwhile. Dropped, the next in the line has
/// it.
#[derive(Debug)]
#[must_use = "the next in the line stands at its head as soon as this is dropped"]
pub struct Head {
    shared: Arc<Shared>,
    since: Duration,
}

/// One call in flight, until it is dropped.
#[derive(Debug)]
#[must_use = "the slot is free again as soon as it is dropped"]
pub struct Slot {
    shared: Arc<Shared>,
    since: Duration,
    is_used: AtomicBool,
}

/// A call that is going to stand in the line: it is counted as waiting until this is dropped.
#[derive(Debug)]
pub struct ExpectedCall {
    shared: Arc<Shared>,
}

/// The call would wait for so long.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the call would wait for {} ms", .0.as_millis())]
pub struct WaitsTooLong(pub Duration);

#[derive(Debug)]
struct Shared {
    slots: usize,
    origin: Instant,
    state: Mutex<State>,
    metrics: BulkheadMetrics,
}

#[derive(Debug, Default)]
struct State {
    in_flight: usize,
    has_head: bool,
    line: BTreeMap<Ticket, oneshot::Sender<Head>>,
    /// Calls that ever stood in the line: of two with the same turn, the first goes first.
    tickets: u64,
    expected: usize,
    /// When the calls in flight took their slots, summed: their mean age is known without a look at each.
    in_flight_since: Duration,
    service: RecentMean,
    turn: RecentMean,
}

/// Where a call stands in the line.
type Ticket = (Turn, u64);

/// Stands in the line, until it is dropped.
struct Waiting<'a> {
    shared: &'a Shared,
    ticket: Ticket,
}

impl Bulkhead {
    /// Room for so many calls.
    pub fn new(in_flight_max: usize, metrics: BulkheadMetrics) -> Self {
        Bulkhead {
            shared: Arc::new(Shared {
                slots: in_flight_max.max(1),
                origin: Instant::now(),
                state: Mutex::default(),
                metrics,
            }),
        }
    }

    /// Waits until a slot is free and this call is the next. Dropped meanwhile, it leaves the line.
    pub async fn head(&self, turn: Turn) -> Head {
        loop {
            let (_waiting, head) = match self.shared.line_up(turn) {
                Ok(()) => return self.shared.head(),
                Err(waiting) => waiting,
            };
            // The sender is in the line, and leaves it only to send.
            if let Ok(head) = head.await {
                return head;
            }
        }
    }

    /// Counts a call that is going to stand in the line, unless it would wait there for longer than `wait_max`.
    pub fn expect(&self, per_second: NonZeroU32, wait_max: Duration) -> Result<ExpectedCall, WaitsTooLong> {
        let mut state = self.shared.lock();
        let capacity = Capacity {
            places: self.shared.slots,
            per_second,
        };
        let wait = charge_wait(capacity, state.load(self.shared.origin.elapsed()));
        if wait > wait_max {
            return Err(WaitsTooLong(wait));
        }
        state.expected += 1;
        Ok(ExpectedCall {
            shared: Arc::clone(&self.shared),
        })
    }
}

impl Head {
    /// Takes the slot.
    pub fn enter(self) -> Slot {
        let now = self.shared.origin.elapsed();
        let mut state = self.shared.lock();
        state.turn.record(now.saturating_sub(self.since));
        state.in_flight += 1;
        state.in_flight_since += now;
        drop(state);
        self.shared.metrics.in_flight.inc();
        Slot {
            shared: Arc::clone(&self.shared),
            since: now,
            is_used: AtomicBool::new(false),
        }
    }
}

impl Slot {
    /// The call is sent: how long it takes counts.
    pub fn used(&self) {
        self.is_used.store(true, Ordering::Relaxed);
    }
}

impl Shared {
    /// `Ok`: this call has the head. Else where it stands in the line.
    fn line_up(&self, turn: Turn) -> Result<(), (Waiting<'_>, oneshot::Receiver<Head>)> {
        let mut state = self.lock();
        // Not past those that wait: between a slot that is given back and the next that it is for.
        if !state.has_head && state.line.is_empty() && state.in_flight < self.slots {
            state.has_head = true;
            return Ok(());
        }
        let ticket = (turn, state.tickets);
        state.tickets += 1;
        let (sender, receiver) = oneshot::channel();
        state.line.insert(ticket, sender);
        self.metrics.waiting.inc();
        Err((Waiting { shared: self, ticket }, receiver))
    }

    fn head(self: &Arc<Self>) -> Head {
        Head {
            shared: Arc::clone(self),
            since: self.origin.elapsed(),
        }
    }

    /// Lets the next in the line to its head, if a slot is free and no other has it.
    fn serve(self: &Arc<Self>) {
        let next = {
            let mut state = self.lock();
            if state.has_head || state.in_flight >= self.slots {
                return;
            }
            let Some((_, next)) = state.line.pop_first() else {
                return;
            };
            state.has_head = true;
            next
        };
        // Its call may have been dropped in this moment: then the head is dropped here, and serves the one after it.
        drop(next.send(self.head()));
    }

    /// No code under the lock panics; and if it did, that would be no reason to fail a call.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn load(&self, now: Duration) -> Load {
        let count = u32::try_from(self.in_flight).unwrap_or(u32::MAX);
        Load {
            waiting: self.line.len() + usize::from(self.has_head) + self.expected,
            in_flight: self.in_flight,
            age: now.saturating_sub(self.in_flight_since.checked_div(count).unwrap_or(now)),
            service: self.service.get(),
            turn: self.turn.get(),
        }
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.shared.lock().line.remove(&self.ticket);
        self.shared.metrics.waiting.dec();
    }
}

impl Drop for Head {
    fn drop(&mut self) {
        self.shared.lock().has_head = false;
        self.shared.serve();
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        state.in_flight -= 1;
        state.in_flight_since = state.in_flight_since.saturating_sub(self.since);
        if self.is_used.load(Ordering::Relaxed) {
            let now = self.shared.origin.elapsed();
            state.service.record(now.saturating_sub(self.since));
        }
        drop(state);
        self.shared.metrics.in_flight.dec();
        self.shared.serve();
    }
}

impl Drop for ExpectedCall {
    fn drop(&mut self) {
        self.shared.lock().expected -= 1;
    }
}

#[cfg(test)]
mod tests;
