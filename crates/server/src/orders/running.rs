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
}

impl Announcer {
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
