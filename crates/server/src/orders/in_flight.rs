//! The orders that this process works on now: where a call waits for the saga of its order, and where the provider's report of a payment finds
//! the saga that waits for the provider.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;
use waybill_domain::id::OrderId;
use waybill_domain::payment_account::PaymentAccount;

use crate::storage::orders::{LeasedOrder, ProviderEvent, StoredAnswer};

type Orders = Arc<Mutex<HashMap<OrderId, InFlight>>>;

/// Reports of one order's charge that wait for its saga, at most. One is usual.
const REPORTS_MAX: usize = 8;

/// One order.
struct InFlight {
    saga: watch::Receiver<Option<StoredAnswer>>,
    /// The account that it is paid into.
    account: PaymentAccount,
    /// The provider's id of its charge, once that is known.
    charge: Option<String>,
    /// What the provider reported of a charge before that. `None`: reports go into the database.
    reported: Option<Vec<ProviderEvent>>,
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
    pub(super) fn begin(&self, order: &LeasedOrder) -> CompletionNotifier {
        let (id, (sender, saga)) = (order.order.id, watch::channel(None));
        let mut orders = lock(&self.orders);
        let earlier = orders.remove(&id).and_then(|earlier| earlier.reported);
        let in_flight = InFlight {
            saga,
            account: order.payment_account.clone(),
            charge: charge_of(order),
            // That a hold was captured is no news of its charge.
            reported: (!order.order.payment_mode.holds()).then(|| earlier.unwrap_or_default()),
        };
        orders.insert(id, in_flight);
        drop(orders);
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

    /// Takes the provider's report that an order was charged, if a saga of this process has the order and the report says nothing else than the
    /// saga knows, or waits to know.
    pub(super) fn take_report(&self, event: &ProviderEvent) -> bool {
        let mut orders = lock(&self.orders);
        let order = event.order.and_then(|id| orders.get_mut(&id));
        match order.filter(|order| order.account == event.account) {
            Some(InFlight {
                charge: Some(charge),
                reported: Some(_),
                ..
            }) => event.payment.as_ref() == Some(charge),
            Some(InFlight {
                reported: Some(reported),
                ..
            }) if reported.len() < REPORTS_MAX => {
                reported.push(event.clone());
                true
            }
            _ => false,
        }
    }
}

/// The provider's id of the order's charge.
fn charge_of(order: &LeasedOrder) -> Option<String> {
    let payment = order.order.payment.as_ref();
    payment.map(|payment| payment.provider_charge_id.clone())
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
    /// Notifies all watchers that the order moved on, to this.
    pub(super) fn moved(&self, order: &LeasedOrder) {
        let mut orders = lock(&self.orders);
        if let Some(own) = orders.get_mut(&self.id).filter(|order| self.is_of(order)) {
            own.charge = charge_of(order);
        }
        drop(orders);
        self.sender.send_modify(|_| {});
    }

    /// The reports that the saga, which is over, does not explain: of another charge than the order's, or of one that it does not know. From now on
    /// it takes none.
    pub(super) fn unexplained(&self) -> Vec<ProviderEvent> {
        let mut orders = lock(&self.orders);
        let Some(own) = orders.get_mut(&self.id).filter(|order| self.is_of(order)) else {
            return Vec::new();
        };
        let mut reported = own.reported.take().unwrap_or_default();
        reported.retain(|event| event.payment.is_none() || event.payment != own.charge);
        reported
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

    use jiff::Timestamp;
    use tokio::time::timeout;
    use waybill_domain::order::{Payment, PaymentMode};

    use super::*;
    use crate::orders::saga::charging as order;

    /// Far more than it takes; a watcher that nothing wakes looks by itself after a while, which hides it end to end.
    const DEADLINE: Duration = Duration::from_secs(10);

    #[tokio::test]
    async fn a_watcher_is_woken_by_what_the_saga_does_from_then_on() {
        let in_flight = InFlightOrders::default();
        let id = order().order.id;
        let saga = in_flight.begin(&order());
        saga.moved(&order());

        let mut progress = in_flight.progress(id);
        let early = timeout(Duration::ZERO, progress.moved()).await;
        assert!(early.is_err(), "what was before is seen by the look that follows");
        saga.moved(&order());
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
        let saga = in_flight.begin(&order());
        let waiter = saga.waiter();
        saga.settled(answer());
        drop(saga);
        assert_eq!(waiter.settled().await, Some(answer()));
    }

    #[tokio::test]
    async fn a_saga_that_stops_without_an_answer_is_not_waited_for() {
        let in_flight = InFlightOrders::default();
        let id = order().order.id;
        let saga = in_flight.begin(&order());
        let waiter = saga.waiter();
        drop(saga);
        assert_eq!(waiter.settled().await, None);
        assert!(!in_flight.has(id));
    }

    #[tokio::test]
    async fn a_call_that_joins_gets_the_answer_of_the_later_saga() {
        let in_flight = InFlightOrders::default();
        let id = order().order.id;
        let (first, second) = (in_flight.begin(&order()), in_flight.begin(&order()));
        drop(first);
        let (answered, ()) = tokio::join!(in_flight.settled(id), async { second.settled(answer()) });
        assert_eq!(answered, Some(answer()));
    }

    fn report(payment: &str) -> ProviderEvent {
        ProviderEvent {
            account: PaymentAccount::default(),
            id: format!("evt_{payment}"),
            kind: "payment_intent.succeeded".to_owned(),
            order: Some(order().order.id),
            payment: Some(payment.to_owned()),
            says_charged: true,
            reconciles: None,
        }
    }

    fn with_charge(id: &str) -> LeasedOrder {
        let mut order = order();
        order.order.payment = Some(Payment {
            charged_at: Timestamp::UNIX_EPOCH,
            provider_charge_id: id.to_owned(),
            to_capture_minor: None,
            captured_minor: Some(1),
            kept_minor: 0,
            refund: None,
        });
        order
    }

    #[test]
    fn a_report_of_the_charge_that_the_saga_makes_says_nothing_new() {
        let in_flight = InFlightOrders::default();
        assert!(!in_flight.take_report(&report("pi_1")), "no saga");
        let saga = in_flight.begin(&order());
        assert!(in_flight.take_report(&report("pi_1")));
        let other = ProviderEvent {
            account: PaymentAccount::stored(Some("acme")).unwrap(),
            ..report("pi_1")
        };
        assert!(!in_flight.take_report(&other), "of another account");
        saga.moved(&with_charge("pi_1"));
        assert!(in_flight.take_report(&report("pi_1")));
        assert!(!in_flight.take_report(&report("pi_2")), "of another charge");
        assert_eq!(saga.unexplained(), []);
        assert!(!in_flight.take_report(&report("pi_1")), "it is over");
    }

    #[test]
    fn a_report_of_a_charge_that_the_saga_did_not_learn_of_is_left_when_it_is_over() {
        let in_flight = InFlightOrders::default();
        let saga = in_flight.begin(&order());
        for payment in ["pi_1", "pi_2"] {
            assert!(in_flight.take_report(&report(payment)));
        }
        // Another saga of this process goes on with the order, and with what was reported.
        let next = in_flight.begin(&order());
        assert_eq!(saga.unexplained(), []);
        next.moved(&with_charge("pi_1"));
        assert_eq!(next.unexplained(), [report("pi_2")]);
    }

    #[test]
    fn reports_of_holds_and_more_of_them_than_usual_are_for_the_database() {
        let in_flight = InFlightOrders::default();
        let saga = in_flight.begin(&order());
        for _ in 0..REPORTS_MAX {
            assert!(in_flight.take_report(&report("pi_1")));
        }
        assert!(!in_flight.take_report(&report("pi_1")));
        drop(saga);
        let mut held = order();
        held.order.payment_mode = PaymentMode::CaptureAtAssignment;
        let _saga = in_flight.begin(&held);
        assert!(!in_flight.take_report(&report("pi_1")));
    }
}
