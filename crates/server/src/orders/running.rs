//! Where the calls and the workers of one process meet: a call waits here for the order that a worker has in hand.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::watch;
use waybill_domain::id::OrderId;
use waybill_domain::order::Order;

type Orders = Arc<Mutex<HashMap<OrderId, watch::Receiver<Option<Order>>>>>;

/// The orders that this process works on.
#[derive(Default)]
pub(super) struct Running {
    orders: Orders,
}

/// A worker's side. Dropped, it tells all who wait that this worker is done with the order, settled or not.
pub(super) struct Announcer {
    id: OrderId,
    sender: watch::Sender<Option<Order>>,
    orders: Orders,
}

/// A watcher's side: what wakes it. Without a worker in this process, nothing does.
#[derive(Default)]
pub(super) struct Progress {
    worker: Option<watch::Receiver<Option<Order>>>,
}

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

    /// The settled order, as soon as this process settles it. `None`: nobody here works on it, or they stopped before
    /// it was settled.
    pub(super) async fn settled(&self, id: OrderId) -> Option<Order> {
        let mut receiver = lock(&self.orders).get(&id)?.clone();
        let settled = receiver.wait_for(Option::is_some).await.ok()?;
        settled.clone()
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

    /// Tells all who wait that the order is settled.
    pub(super) fn settled(&self, order: Order) {
        self.sender.send_replace(Some(order));
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
fn lock(orders: &Orders) -> std::sync::MutexGuard<'_, HashMap<OrderId, watch::Receiver<Option<Order>>>> {
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
}
