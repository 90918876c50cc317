//! Orders: how they ended, and every step on the way.

use std::collections::BTreeMap;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use serde::Serialize;

use super::labelled::Labelled;

/// Counts orders and the steps of their sagas.
#[derive(Debug)]
pub struct OrderMetrics {
    finished: Labelled<Counter, 1>,
    steps: Labelled<Counter, 2>,
    sweeper_claims: Counter,
    patrols: Counter,
    keys_forgotten: Counter,
    payment_events_forgotten: Counter,
    unfinished: Gauge,
    needs_attention: Gauge,
    watches: Gauge,
}

/// Orders at one moment, as this process saw them.
#[derive(Debug, Serialize)]
pub struct OrderSnapshot {
    /// Orders that this process brought to an end, by their terminal status.
    pub finished: BTreeMap<&'static str, u64>,
    /// Steps of sagas, by step, then by outcome.
    pub steps: BTreeMap<&'static str, BTreeMap<&'static str, u64>>,
    /// Orders that this process took up: their owner was gone, or they had been put off until then.
    pub sweeper_claims: u64,
    /// Looks for drivers who fell silent while they serve an order.
    pub patrols: u64,
    /// Idempotency keys that this process forgot, with their answers: their time was over.
    pub keys_forgotten: u64,
    /// Events of the payment provider that this process forgot.
    pub payment_events_forgotten: u64,
    /// Orders that are not at rest, in the whole database, when the sweeper last counted.
    pub unfinished: i64,
    /// Those of them that a person should look at.
    pub needs_attention: i64,
    /// Watches of orders that are open at this process.
    pub watches: i64,
}

impl OrderMetrics {
    pub(super) fn new(registry: &mut Registry) -> OrderMetrics {
        let metrics = OrderMetrics {
            finished: Labelled::new(["status"]),
            steps: Labelled::new(["step", "outcome"]),
            sweeper_claims: Counter::default(),
            patrols: Counter::default(),
            keys_forgotten: Counter::default(),
            payment_events_forgotten: Counter::default(),
            unfinished: Gauge::default(),
            needs_attention: Gauge::default(),
            watches: Gauge::default(),
        };
        registry.register(
            "orders_finished",
            "Orders that this process brought to an end, by terminal status",
            metrics.finished.clone(),
        );
        registry.register(
            "saga_steps",
            "Steps of sagas that this process ran, by step and outcome",
            metrics.steps.clone(),
        );
        registry.register(
            "sweeper_claims",
            "Orders that this process took up: their owner was gone, or they had been put off until then",
            metrics.sweeper_claims.clone(),
        );
        registry.register(
            "patrols",
            "Looks for drivers who fell silent while they serve an order",
            metrics.patrols.clone(),
        );
        registry.register(
            "keys_forgotten",
            "Idempotency keys that this process forgot, with their answers: their time was over",
            metrics.keys_forgotten.clone(),
        );
        registry.register(
            "payment_events_forgotten",
            "Events of the payment provider that this process forgot: their time was over",
            metrics.payment_events_forgotten.clone(),
        );
        registry.register(
            "orders_unfinished",
            "Orders that are not at rest, in the whole database, when the sweeper last counted",
            metrics.unfinished.clone(),
        );
        registry.register(
            "orders_needing_attention",
            "Those of the unfinished orders that a person should look at; they are still retried",
            metrics.needs_attention.clone(),
        );
        registry.register(
            "order_watches",
            "Watches of orders that are open at this process",
            metrics.watches.clone(),
        );
        metrics
    }

    /// An order reached this terminal status.
    pub fn finished(&self, status: &'static str) {
        self.finished.get([status]).inc();
    }

    /// A step was committed with this outcome, both named as in the step log.
    pub fn step(&self, step: &'static str, outcome: &'static str) {
        self.steps.get([step, outcome]).inc();
    }

    /// So many orders are not at rest, and so many of them need a person.
    pub fn waiting(&self, unfinished: i64, needs_attention: i64) {
        self.unfinished.set(unfinished);
        self.needs_attention.set(needs_attention);
    }

    /// Somebody follows an order from now on.
    pub fn watch_begun(&self) {
        self.watches.inc();
    }

    /// And does no longer.
    pub fn watch_ended(&self) {
        self.watches.dec();
    }

    /// The sweeper took over `orders`.
    pub fn swept(&self, orders: u64) {
        self.sweeper_claims.inc_by(orders);
    }

    /// The patrol looked at all drivers who serve an order.
    pub fn patrolled(&self) {
        self.patrols.inc();
    }

    /// So many keys and events of the provider were forgotten.
    pub fn forgot(&self, keys: u64, events: u64) {
        self.keys_forgotten.inc_by(keys);
        self.payment_events_forgotten.inc_by(events);
    }

    pub(super) fn snapshot(&self) -> OrderSnapshot {
        let mut steps = BTreeMap::<_, BTreeMap<_, _>>::new();
        for ([step, outcome], count) in self.steps.all() {
            steps.entry(step).or_default().insert(outcome, count.get());
        }
        let finished = self.finished.all();
        OrderSnapshot {
            finished: finished
                .into_iter()
                .map(|([status], count)| (status, count.get()))
                .collect(),
            steps,
            sweeper_claims: self.sweeper_claims.get(),
            patrols: self.patrols.get(),
            keys_forgotten: self.keys_forgotten.get(),
            payment_events_forgotten: self.payment_events_forgotten.get(),
            unfinished: self.unfinished.get(),
            needs_attention: self.needs_attention.get(),
            watches: self.watches.get(),
        }
    }
}
