//! The customers: each order is placed at its own time, whatever became of the one before, and asked for until it is
//! settled. An order that got a driver is completed when its ride is over.

mod order_client;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::task::JoinError;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use uuid::Uuid;
use waybill_proto::order::v1 as pb;
use waybill_proto::order::v1::OrderStatus;

pub(crate) use self::order_client::{OrderClient, OrderCounts};
use crate::Point;
pub use crate::client::RetryPolicy;
use crate::client::{Caller, Dial, position};
use crate::drive::{Calls, Clock, Limits, Unreached, make_when_due};
use crate::recorder::{Recorder, Timeline};

/// Far beyond the end of any run: customers order until there are no more orders, or they are stopped.
const NO_END: Duration = Duration::from_hours(365 * 24);

/// How customers behave.
#[derive(Debug, Clone, Copy)]
pub struct CustomersOptions {
    /// Orders without an answer at one time. One more waits until there is room.
    pub in_flight_max: usize,
    /// How a call is repeated.
    pub retry: RetryPolicy,
}

impl Default for CustomersOptions {
    fn default() -> Self {
        CustomersOptions {
            in_flight_max: 2_000,
            retry: RetryPolicy::default(),
        }
    }
}

/// An order to place.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct PlannedOrder {
    /// When it is to be placed. Its latency counts from here, however late it really goes out.
    pub(crate) due: Instant,
    /// Who orders.
    pub(crate) user_id: String,
    /// What it costs, in cents of a US dollar.
    pub(crate) amount_cents: i64,
    /// The payment provider's name of the means of payment.
    pub(crate) payment_method: &'static str,
    /// Where the ride begins.
    pub(crate) pickup: Point,
    /// Where it ends.
    pub(crate) drop_off: Point,
    /// How long it takes.
    pub(crate) ride: Duration,
}

/// A settled answer of the server, to be compared with what it stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The server's name of the order.
    pub order_id: String,
    /// The status that it was answered with, as in the database: `succeeded`, `refunded`, `failed`.
    pub status: &'static str,
}

/// Places orders and sees them through.
#[derive(Debug)]
pub(crate) struct Customers {
    client: Arc<OrderClient>,
    timeline: Timeline,
    in_flight_max: usize,
    rides: TaskTracker,
    /// Leaves the rides that are not over yet on the road.
    rides_over: CancellationToken,
    answers: Mutex<Vec<Answer>>,
}

impl Customers {
    /// Customers of `server`, whose orders `counts` counts. Nothing is connected yet.
    pub(crate) fn new(
        server: &Dial,
        options: CustomersOptions,
        counts: &OrderCounts,
        timeline: &Timeline,
    ) -> Arc<Customers> {
        let client = OrderClient {
            caller: Caller::new(server, options.in_flight_max, options.retry),
            counts: counts.clone(),
        };
        Arc::new(Customers {
            client: Arc::new(client),
            timeline: timeline.clone(),
            in_flight_max: options.in_flight_max,
            rides: TaskTracker::new(),
            rides_over: CancellationToken::new(),
            answers: Mutex::default(),
        })
    }

    /// Places each order when it is due, until there are no more or `stop` is cancelled, and waits until every one is
    /// settled or given up. The error is a panic in one of them.
    pub(crate) async fn place_all(
        self: &Arc<Self>,
        orders: impl IntoIterator<Item = PlannedOrder>,
        stop: &CancellationToken,
    ) -> Result<(), JoinError> {
        let limits = Limits {
            timeline: self.timeline.clone(),
            ends_at: Instant::now() + NO_END,
            over: stop.clone(),
            left: None,
            spent: CancellationToken::new(),
            in_flight_max: self.in_flight_max,
            clock: Clock::Machine,
        };
        let arrivals = orders.into_iter().map(|order| (order.due, order));
        make_when_due(&limits, arrivals, self).await
    }

    /// Gives up all that is not settled.
    pub(crate) fn abandon(&self) {
        self.client.caller.abandon();
    }

    /// Leaves the rides that are still on the road there, and waits for the completions that were begun.
    pub(crate) async fn end_rides(&self) {
        self.rides_over.cancel();
        self.rides.close();
        self.rides.wait().await;
    }

    /// Every settled answer so far.
    pub(crate) fn answers(&self) -> Vec<Answer> {
        self.answers.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn keep(&self, order_id: String, status: &'static str) {
        // A list that is only ever pushed to is whole, whoever panicked.
        let mut answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        answers.push(Answer { order_id, status });
    }
}

impl Calls<PlannedOrder> for Customers {
    fn recorder(&self) -> &Recorder {
        &self.client.counts.creations
    }

    fn offered(&self, due: Instant) {
        self.client.counts.offered(due);
    }

    async fn call(self: Arc<Self>, due: Instant, order: PlannedOrder) -> Result<(), Unreached> {
        let answer = self.client.create(create_request(&order), due).await;
        let answered_at = Instant::now();
        let settled = match answer {
            Ok(settled) => settled,
            Err(status) => {
                tracing::warn!(code = ?status.code(), message = status.message(), "gave up an order");
                return Unreached::from_status(&status);
            }
        };
        let orders = &self.client.counts.orders;
        match settled.status() {
            OrderStatus::Succeeded => {
                orders.answered([due], answered_at);
                self.keep(settled.order_id.clone(), "succeeded");
                let ride = ride(
                    Arc::clone(&self.client),
                    settled.order_id,
                    answered_at + order.ride,
                    self.rides_over.clone(),
                );
                self.rides.spawn(ride);
            }
            status => {
                orders.failed(due, status.as_str_name());
                let refunded = status == OrderStatus::Refunded;
                self.keep(settled.order_id, if refunded { "refunded" } else { "failed" });
            }
        }
        Ok(())
    }
}

/// Brings a ride to its end at `ends_at`, unless the run is over before.
async fn ride(client: Arc<OrderClient>, order_id: String, ends_at: Instant, rides_over: CancellationToken) {
    if !arrives(ends_at, &rides_over).await {
        return;
    }
    let at = Instant::now();
    client.counts.completions.late([ends_at], at);
    if let Err(status) = client.complete(order_id.clone(), ends_at, at).await {
        tracing::warn!(order_id, code = ?status.code(), message = status.message(), "gave up completing a ride");
    }
}

/// Waits for the end of a ride; false when the run is over before it.
async fn arrives(ends_at: Instant, rides_over: &CancellationToken) -> bool {
    rides_over
        .run_until_cancelled(tokio::time::sleep_until(ends_at))
        .await
        .is_some()
}

/// The key is made once: each repetition of the call is the same request.
fn create_request(order: &PlannedOrder) -> pb::CreateOrderRequest {
    pb::CreateOrderRequest {
        idempotency_key: Uuid::now_v7().to_string(),
        user_id: order.user_id.clone(),
        amount: Some(pb::Money {
            currency_code: "USD".to_owned(),
            minor_units: order.amount_cents,
        }),
        payment_method: order.payment_method.to_owned(),
        provider_customer_id: String::new(),
        payment_mode: 0,
        required_tags: Vec::new(),
        pickup: Some(position(order.pickup)),
        drop_off: Some(position(order.drop_off)),
    }
}

#[cfg(test)]
mod tests;
