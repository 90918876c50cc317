//! The orders that this process works on now: where a call waits for the saga of its order, and where the provider's report of a payment finds
//! the saga that waits for the provider.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;
use waybill_domain::id::OrderId;
use waybill_domain::payment_account::PaymentAccount;

use crate::storage::orders::StoredAnswer;

type Orders = Arc<Mutex<HashMap<OrderId, InFlight>>>;

/// One order.
struct InFlight {
    saga: watch::Receiver<Option<StoredAnswer>>,
    /// The account that it is paid into.
    account: PaymentAccount,
    /// Whether its payment was reported since the saga began. `None`: the saga has looked, and will not look again.
    reported: Option<bool>,
}

/// The orders that this process works on now.
#[derive(Default)]
pub(super) struct InFlightOrders {
    orders: Orders,
}

/// The saga's side. Dropped, it notifies all waiters that this saga is done with the order, settled or not.
pub(super) struct CompletionNotifier {
    id: OrderId,
    sender: watch::Sender<Option<StoredAnswer>>,
    orders: Orders,
}

/// A watcher's side: it is woken by the saga's progress. Without a saga in this process, nothing wakes it.
#[derive(Default)]
pub(super) struct ProgressSignal {
    saga: Option<watch::Receiver<Option<StoredAnswer>>>,
}

/// A call's side: it waits for the answer.
pub(super) struct Waiter(watch::Receiver<Option<StoredAnswer>>);

impl InFlightOrders {
    /// A saga begins.
    pub(super) fn begin(&self, id: OrderId, account: PaymentAccount) -> CompletionNotifier {
        let (sender, saga) = watch::channel(None);
        let order = InFlight {
            saga,
            account,
            reported: Some(false),
        };
        lock(&self.orders).insert(id, order);
        CompletionNotifier {
            id,
            sender,
            orders: Arc::clone(&self.orders),
        }
    }

    /// Whether a saga of this process holds the order.
    pub(super) fn has(&self, id: OrderId) -> bool {
        lock(&self.orders).contains_key(&id)
    }

    /// The order's answer, as soon as this process settles it. `None`: no saga of this process holds it, or it stopped
    /// before the order was settled.
    pub(super) async fn settled(&self, id: OrderId) -> Option<StoredAnswer> {
        let saga = lock(&self.orders).get(&id)?.saga.clone();
        Waiter(saga).settled().await
    }

    /// The progress of the order from now on.
    pub(super) fn progress(&self, id: OrderId) -> ProgressSignal {
        let mut saga = lock(&self.orders).get(&id).map(|order| order.saga.clone());
        if let Some(saga) = &mut saga {
            saga.mark_unchanged();
        }
        ProgressSignal { saga }
    }

    /// The provider reported the payment of this order into that account. Whether a saga of this process has the order, and will look.
    pub(super) fn report_payment(&self, id: OrderId, into: &PaymentAccount) -> bool {
        match lock(&self.orders).get_mut(&id) {
            Some(InFlight {
                account,
                reported: Some(reported),
                ..
            }) if account == into => {
                *reported = true;
                true
            }
            _ => false,
        }
    }
}

impl ProgressSignal {
    /// Waits until the saga moves the order on, or is done with it.
    pub(super) async fn moved(&mut self) {
        match &mut self.saga {
            // An error: the saga is done.
            Some(saga) => drop(saga.changed().await),
            None => std::future::pending().await,
        }
    }
}

impl CompletionNotifier {
    /// Notifies all watchers that the order moved on.
    pub(super) fn moved(&self) {
        self.sender.send_modify(|_| {});
    }

    /// Whether the payment was reported. Asked once, by a saga that is about to leave the order for later.
    pub(super) fn was_reported(&self) -> bool {
        let mut orders = lock(&self.orders);
        let own = orders.get_mut(&self.id).filter(|order| self.is_of(order));
        own.and_then(|order| order.reported.take()).unwrap_or_default()
    }

    fn is_of(&self, order: &InFlight) -> bool {
        order.saga.same_channel(&self.sender.subscribe())
    }

    /// For the call that made the order: taken before the saga runs, it misses nothing, however soon the order ends.
    pub(super) fn waiter(&self) -> Waiter {
        Waiter(self.sender.subscribe())
    }

    /// Notifies all waiters that the order is settled, with its answer.
    pub(super) fn settled(&self, answer: StoredAnswer) {
        self.sender.send_replace(Some(answer));
    }
}

impl Waiter {
    /// The order's answer. `None`: the saga stopped before the order was settled.
    pub(super) async fn settled(mut self) -> Option<StoredAnswer> {
        let settled = self.0.wait_for(Option::is_some).await.ok()?;
        settled.clone()
    }
}

impl Drop for CompletionNotifier {
    fn drop(&mut self) {
        let mut orders = lock(&self.orders);
        // Another saga of this process may have begun in the meantime; its entry is not ours to remove.
        if orders.get(&self.id).is_some_and(|order| self.is_of(order)) {
            orders.remove(&self.id);
        }
    }
}

/// The map is never left half changed, so a panic elsewhere does not spoil it.
fn lock(orders: &Orders) -> MutexGuard<'_, HashMap<OrderId, InFlight>> {
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
    async fn a_watcher_is_woken_by_what_the_saga_does_from_then_on() {
        let in_flight = InFlightOrders::default();
        let id = OrderId::new(Uuid::from_u128(1));
        let saga = in_flight.begin(id, PaymentAccount::default());
        saga.moved();

        let mut progress = in_flight.progress(id);
        let early = timeout(Duration::ZERO, progress.moved()).await;
        assert!(early.is_err(), "what was before is seen by the look that follows");
        saga.moved();
        timeout(DEADLINE, progress.moved()).await.expect("woken by a move");

        let mut progress = in_flight.progress(id);
        drop(saga);
        timeout(DEADLINE, progress.moved()).await.expect("woken by the end");
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
        let in_flight = InFlightOrders::default();
        let saga = in_flight.begin(OrderId::new(Uuid::from_u128(1)), PaymentAccount::default());
        let waiter = saga.waiter();
        saga.settled(answer());
        drop(saga);
        assert_eq!(waiter.settled().await, Some(answer()));
    }

    #[tokio::test]
    async fn a_saga_that_stops_without_an_answer_is_not_waited_for() {
        let in_flight = InFlightOrders::default();
        let id = OrderId::new(Uuid::from_u128(1));
        let saga = in_flight.begin(id, PaymentAccount::default());
        let waiter = saga.waiter();
        drop(saga);
        assert_eq!(waiter.settled().await, None);
        assert!(!in_flight.has(id));
    }

    #[tokio::test]
    async fn a_call_that_joins_gets_the_answer_of_the_later_saga() {
        let in_flight = InFlightOrders::default();
        let id = OrderId::new(Uuid::from_u128(1));
        let (first, second) = (
            in_flight.begin(id, PaymentAccount::default()),
            in_flight.begin(id, PaymentAccount::default()),
        );
        drop(first);
        let (answered, ()) = tokio::join!(in_flight.settled(id), async { second.settled(answer()) });
        assert_eq!(answered, Some(answer()));
    }

    #[test]
    fn a_report_is_heard_once_by_the_saga_of_its_account_until_it_has_looked() {
        let in_flight = InFlightOrders::default();
        let id = OrderId::new(Uuid::from_u128(1));
        let (own, other) = (PaymentAccount::default(), PaymentAccount::stored(Some("acme")).unwrap());
        assert!(!in_flight.report_payment(id, &own), "no saga");

        let (first, second) = (in_flight.begin(id, own.clone()), in_flight.begin(id, own.clone()));
        assert!(!in_flight.report_payment(id, &other));
        assert!(in_flight.report_payment(id, &own));
        assert!(!first.was_reported(), "the later saga has it");
        assert!(second.was_reported());
        assert!(!in_flight.report_payment(id, &own), "no one would look");

        let third = in_flight.begin(id, own.clone());
        assert!(!third.was_reported());
        assert!(!in_flight.report_payment(id, &own));
    }
}
