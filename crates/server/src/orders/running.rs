//! Where the calls and the workers of one process meet: a call waits here for the order that a worker has in hand.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::watch;
use waybill_domain::id::OrderId;

use crate::storage::orders::StoredAnswer;

type Orders = Arc<Mutex<HashMap<OrderId, watch::Receiver<Option<StoredAnswer>>>>>;

/// The orders that this process works on.
#[derive(Default)]
pub(super) struct Running {
    orders: Orders,
}

/// A worker's side. Dropped, it tells all who wait that this worker is done with the order, settled or not.
pub(super) struct Announcer {
    id: OrderId,
    sender: watch::Sender<Option<StoredAnswer>>,
    orders: Orders,
}

/// A watcher's side: what wakes it. Without a worker in this process, nothing does.
#[derive(Default)]
pub(super) struct Progress {
    worker: Option<watch::Receiver<Option<StoredAnswer>>>,
}

/// A caller's side.
pub(super) struct Settling(watch::Receiver<Option<StoredAnswer>>);

impl Running {
    /// A worker begins.
    pub(super) fn begin(&self, id: OrderId) -> Announcer {
        let (sender, receiver) = watch::channel(None);
        lock(&self.orders).insert(id, receiver);
        Announcer {
            id,
            sender,
            orders: Arc::clone(&self.orders),
        }
    }

    /// Whether a worker of this process has the order in hand.
    pub(super) fn has(&self, id: OrderId) -> bool {
        lock(&self.orders).contains_key(&id)
    }

    /// The order's answer, as soon as this process settles it. `None`: nobody here works on it, or they stopped before
    /// it was settled.
    pub(super) async fn settled(&self, id: OrderId) -> Option<StoredAnswer> {
        let receiver = lock(&self.orders).get(&id)?.clone();
        Settling(receiver).settled().await
    }

    /// The progress of the order from now on.
    pub(super) fn progress(&self, id: OrderId) -> Progress {
        let mut worker = lock(&self.orders).get(&id).cloned();
        if let Some(worker) = &mut worker {
            worker.mark_unchanged();
        }
        Progress { worker }
    }
}

impl Progress {
    /// The worker moved the order on, or is done with it.
    pub(super) async fn made(&mut self) {
        match &mut self.worker {
            // An error: the worker is done.
            Some(worker) => drop(worker.changed().await),
            None => std::future::pending().await,
        }
    }
}

impl Announcer {
    /// Tells all who watch that the order moved on.
    pub(super) fn moved(&self) {
        self.sender.send_modify(|_| {});
    }

    /// For the call that began the order: taken before the worker runs, it misses nothing, however soon the order ends.
    pub(super) fn settling(&self) -> Settling {
        Settling(self.sender.subscribe())
    }

    /// Tells all who wait that the order is settled, and what is answered.
    pub(super) fn settled(&self, answer: StoredAnswer) {
        self.sender.send_replace(Some(answer));
    }
}

impl Settling {
    /// The order's answer. `None`: the worker stopped before the order was settled.
    pub(super) async fn settled(mut self) -> Option<StoredAnswer> {
        let settled = self.0.wait_for(Option::is_some).await.ok()?;
        settled.clone()
    }
}

impl Drop for Announcer {
    fn drop(&mut self) {
        let mut orders = lock(&self.orders);
        // Another worker of this process may have begun in the meantime; its entry is not ours to remove.
        if orders
            .get(&self.id)
            .is_some_and(|receiver| receiver.same_channel(&self.sender.subscribe()))
        {
            orders.remove(&self.id);
        }
    }
}

/// The map is never left half changed, so a panic elsewhere does not spoil it.
fn lock(orders: &Orders) -> std::sync::MutexGuard<'_, HashMap<OrderId, watch::Receiver<Option<StoredAnswer>>>> {
    orders.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::timeout;
    use uuid::Uuid;

    use super::*;

    /// Far more than it takes; a watcher that nothing wakes looks by itself after a while, which hides it end to end.
    const DEADLINE: Duration = Duration::from_secs(10);

    #[tokio::test]
    async fn a_watcher_is_woken_by_what_its_worker_does_from_then_on() {
        let running = Running::default();
        let id = OrderId::new(Uuid::from_u128(1));
        let worker = running.begin(id);
        worker.moved();

        let mut progress = running.progress(id);
        let early = timeout(Duration::ZERO, progress.made()).await;
        assert!(early.is_err(), "what was before is seen by the look that follows");
        worker.moved();
        timeout(DEADLINE, progress.made()).await.expect("woken by a move");

        let mut progress = running.progress(id);
        drop(worker);
        timeout(DEADLINE, progress.made()).await.expect("woken by the end");
    }

    fn answer() -> StoredAnswer {
        StoredAnswer {
            code: 0,
            message: String::new(),
            details: Vec::new(),
            body: b"settled".to_vec(),
        }
    }

    #[tokio::test]
    async fn an_order_that_ends_before_its_call_looks_is_not_missed() {
        let running = Running::default();
        let worker = running.begin(OrderId::new(Uuid::from_u128(1)));
        let settling = worker.settling();
        worker.settled(answer());
        drop(worker);
        assert_eq!(settling.settled().await, Some(answer()));
    }

    #[tokio::test]
    async fn a_worker_that_stops_without_an_answer_is_not_waited_for() {
        let running = Running::default();
        let id = OrderId::new(Uuid::from_u128(1));
        let worker = running.begin(id);
        let settling = worker.settling();
        drop(worker);
        assert_eq!(settling.settled().await, None);
        assert!(!running.has(id));
    }

    #[tokio::test]
    async fn a_call_that_joins_hears_the_answer_of_the_later_worker() {
        let running = Running::default();
        let id = OrderId::new(Uuid::from_u128(1));
        let (first, second) = (running.begin(id), running.begin(id));
        drop(first);
        let (heard, ()) = tokio::join!(running.settled(id), async { second.settled(answer()) });
        assert_eq!(heard, Some(answer()));
    }
}
