//! Orders: how they were settled, and every step on the way.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use serde::Serialize;

use super::declare::{Declare as _, count, level};
use super::labelled::Labelled;

/// Counts orders and the steps of their sagas. Its fields are those of the JSON snapshot.
#[derive(Debug, Clone, Serialize)]
pub struct OrderMetrics {
    finished: Labelled<Counter, 1>,
    steps: Labelled<Counter, 2>,
    #[serde(serialize_with = "count")]
    charge_refusals: Counter,
    overload_refusals: Labelled<Counter, 1>,
    #[serde(serialize_with = "count")]
    sweeper_claims: Counter,
    #[serde(serialize_with = "count")]
    driver_liveness_checks: Counter,
    #[serde(serialize_with = "count")]
    keys_expired: Counter,
    #[serde(serialize_with = "count")]
    payment_events_expired: Counter,
    #[serde(serialize_with = "count")]
    links_expired: Counter,
    #[serde(serialize_with = "level")]
    unfinished: Gauge,
    #[serde(serialize_with = "level")]
    needs_attention: Gauge,
    #[serde(serialize_with = "level")]
    watches: Gauge,
    #[serde(serialize_with = "level")]
    link_watches: Gauge,
    #[serde(serialize_with = "level")]
    assignment_watches: Gauge,
    #[serde(serialize_with = "level")]
    transactions: Gauge,
    #[serde(serialize_with = "level")]
    transactions_max: Gauge,
}

/// What [`crate::resilience::Admission`] shows of itself.
#[derive(Debug, Clone, Default)]
pub struct AdmissionMetrics {
    /// Work in progress.
    pub in_progress: Gauge,
    /// How much of it there may be before new work waits.
    pub max: Gauge,
}

impl OrderMetrics {
    pub(super) fn new(registry: &mut Registry) -> OrderMetrics {
        OrderMetrics {
            finished: registry.declare(
                "orders_finished",
                "Orders that this process settled, by terminal status",
                Labelled::new(["status"]),
            ),
            steps: registry.declare(
                "saga_steps",
                "Steps of sagas that this process ran, by step and outcome",
                Labelled::new(["step", "outcome"]),
            ),
            charge_refusals: registry.declare(
                "orders_charge_refusals",
                "New orders that this process refused, since their charge would have waited for longer than \
                 orders.charge_wait_max",
                Counter::default(),
            ),
            overload_refusals: registry.declare(
                "orders_overload_refusals",
                "New orders that this process refused with RESOURCE_EXHAUSTED, since too many were in progress: by what they \
                 were too many for, the transactions that Postgres does at a time, orders.in_flight_max or the share of a tenant",
                Labelled::new(["reason"]),
            ),
            sweeper_claims: registry.declare(
                "sweeper_claims",
                "Orders that the sweeper of this process claimed: their worker was gone, or they had been deferred until \
                 then",
                Counter::default(),
            ),
            driver_liveness_checks: registry.declare(
                "driver_liveness_checks",
                "Checks of the drivers who serve an order",
                Counter::default(),
            ),
            keys_expired: registry.declare(
                "keys_expired",
                "Idempotency keys that this process expired, with their stored answers",
                Counter::default(),
            ),
            payment_events_expired: registry.declare(
                "payment_events_expired",
                "Events of the payment provider that this process expired",
                Counter::default(),
            ),
            links_expired: registry.declare(
                "links_expired",
                "Links to orders that this process deleted, long after they ended",
                Counter::default(),
            ),
            unfinished: registry.declare(
                "orders_unfinished",
                "Unfinished orders in the whole database, when the sweeper last counted",
                Gauge::default(),
            ),
            needs_attention: registry.declare(
                "orders_needing_attention",
                "Orders that an operator should look at: unfinished ones, and settled ones whose payment is disputed or unpaid",
                Gauge::default(),
            ),
            watches: registry.declare(
                "order_watches",
                "Watches of orders that are open at this process",
                Gauge::default(),
            ),
            link_watches: registry.declare(
                "link_watches",
                "Links by which orders are followed at this process",
                Gauge::default(),
            ),
            assignment_watches: registry.declare(
                "assignment_watches",
                "Streams by which apps follow what drivers serve, at this process",
                Gauge::default(),
            ),
            transactions: registry.declare(
                "order_transactions",
                "Transactions of orders that are in progress at this process: to accept one, to commit what became of a step of it, to bind its driver, to complete it",
                Gauge::default(),
            ),
            transactions_max: registry.declare(
                "order_transactions_max",
                "How many there may be before new orders wait, and then are refused; learned from how long they take",
                Gauge::default(),
            ),
        }
    }

    /// The transactions of orders.
    pub fn transactions(&self) -> AdmissionMetrics {
        AdmissionMetrics {
            in_progress: self.transactions.clone(),
            max: self.transactions_max.clone(),
        }
    }

    /// A new order was refused, since too many are in progress.
    pub fn overloaded(&self, reason: &'static str) {
        self.overload_refusals.get([reason]).inc();
    }

    /// An order reached this terminal status.
    pub fn finished(&self, status: &'static str) {
        self.finished.get([status]).inc();
    }

    /// A step came to this outcome, each time that it was tried. The step log has a line only for what was committed.
    pub fn step(&self, step: &'static str, outcome: &'static str) {
        self.steps.get([step, outcome]).inc();
    }

    /// A new order was refused, since its charge would have waited for too long.
    pub fn charge_refused(&self) {
        self.charge_refusals.inc();
    }

    /// So many orders are unfinished, and so many of them need attention.
    pub fn unfinished(&self, unfinished: i64, needs_attention: i64) {
        self.unfinished.set(unfinished);
        self.needs_attention.set(needs_attention);
    }

    /// Orders that are unfinished, and that need attention.
    pub(super) fn open(&self) -> (i64, i64) {
        (self.unfinished.get(), self.needs_attention.get())
    }

    /// Someone follows what a driver serves.
    pub fn assignment_watch_begun(&self) {
        self.assignment_watches.inc();
    }

    /// Someone follows what a driver serves no longer.
    pub fn assignment_watch_ended(&self) {
        self.assignment_watches.dec();
    }

    /// A watch of an order begins.
    pub fn watch_begun(&self) {
        self.watches.inc();
    }

    /// A watch of an order ends.
    pub fn watch_ended(&self) {
        self.watches.dec();
    }

    /// A link is followed.
    pub fn link_watch_begun(&self) {
        self.link_watches.inc();
    }

    /// A link is followed no more.
    pub fn link_watch_ended(&self) {
        self.link_watches.dec();
    }

    /// The sweeper claimed `orders`.
    pub fn swept(&self, orders: u64) {
        self.sweeper_claims.inc_by(orders);
    }

    /// The drivers who serve an order were checked.
    pub fn driver_liveness_checked(&self) {
        self.driver_liveness_checks.inc();
    }

    /// So many keys, events of the provider and links were expired.
    pub fn expired(&self, keys: u64, events: u64, links: u64) {
        self.keys_expired.inc_by(keys);
        self.payment_events_expired.inc_by(events);
        self.links_expired.inc_by(links);
    }
}
