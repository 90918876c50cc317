//! The customers: each order is placed at its own time, whatever became of the one before, and asked for until it is
//! settled. An order that got a driver is completed when its ride is over.

mod observer;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::transport::Endpoint;
use tonic::{Request, Status};
use uuid::Uuid;
use waybill_proto::location::v1::LatLng;
use waybill_proto::order::v1 as pb;
use waybill_proto::order::v1::order_service_client::OrderServiceClient;

use crate::Point;
use crate::connections::{Connections, Dial, Lease};
pub use crate::retry::RetryPolicy;
use crate::stats::Stats;
pub(crate) use observer::Observer;

/// How customers behave.
#[derive(Debug, Clone, Copy)]
pub struct CustomersOptions {
    /// Orders without an answer at one time. One more waits until there is room, and is counted as delayed.
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
pub struct Order {
    /// When it is meant to be placed. Its latency counts from here, however late it really goes out.
    pub due: Instant,
    /// Who orders.
    pub user_id: String,
    /// What it costs, in cents of a US dollar.
    pub amount_cents: i64,
    /// The payment provider's name of the means of payment.
    pub payment_method: &'static str,
    /// Where the ride begins.
    pub pickup: Point,
    /// Where it ends.
    pub drop_off: Point,
    /// How long it takes.
    pub ride: Duration,
}

/// What became of an order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// Paid, and this driver serves it.
    Succeeded {
        /// The server's name of the order.
        order_id: String,
        /// Who serves it.
        driver_id: String,
    },
    /// Charged, and refunded in full.
    Refunded {
        /// The server's name of the order.
        order_id: String,
    },
    /// Never charged.
    Failed {
        /// The server's name of the order.
        order_id: String,
    },
    /// There was no settled answer in time, or the server refused the order for good.
    GaveUp,
}

/// A settled answer of the server, to be held against what it stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The server's name of the order.
    pub order_id: String,
    /// The status that it was answered with, as in the database: `succeeded`, `refunded`, `failed`.
    pub status: &'static str,
}

/// Places orders and sees them through.
#[derive(Debug)]
pub struct Customers {
    shared: Arc<Shared>,
    room: Arc<Semaphore>,
    orders: TaskTracker,
    rides: TaskTracker,
}

#[derive(Debug)]
struct Shared {
    connections: Connections,
    retry: RetryPolicy,
    observer: Arc<dyn Observer>,
    /// Ends every call at once: the orders count as given up.
    abandon: CancellationToken,
    /// Leaves the rides that are not over yet on the road.
    rides_over: CancellationToken,
    answers: Mutex<Vec<Answer>>,
}

impl Customers {
    /// Customers of the server at `endpoint`. Nothing is connected yet.
    pub fn new(endpoint: &Endpoint, options: CustomersOptions, stats: Arc<Stats>) -> Customers {
        Customers::watched(&Dial::from(endpoint), options, stats)
    }

    /// The same, for whoever wants to hear of their orders.
    pub(crate) fn watched(server: &Dial, options: CustomersOptions, observer: Arc<dyn Observer>) -> Customers {
        let shared = Shared {
            connections: Connections::to(server, options.in_flight_max),
            retry: options.retry,
            observer,
            abandon: CancellationToken::new(),
            rides_over: CancellationToken::new(),
            answers: Mutex::default(),
        };
        Customers {
            shared: Arc::new(shared),
            room: Arc::new(Semaphore::new(options.in_flight_max)),
            orders: TaskTracker::new(),
            rides: TaskTracker::new(),
        }
    }

    /// Places each order when it is due, until there are no more or `stop` is cancelled.
    pub async fn place_all(&self, orders: impl IntoIterator<Item = Order>, stop: &CancellationToken) {
        let mut orders = orders.into_iter();
        let mut held_until = None;
        for order in orders.by_ref() {
            let due = order.due;
            let came_due = stop.run_until_cancelled(tokio::time::sleep_until(due)).await.is_some();
            if came_due || due <= Instant::now() {
                self.shared.observer.scheduled(due);
            }
            if !came_due
                || stop
                    .run_until_cancelled(self.place(order, &mut held_until))
                    .await
                    .is_none()
            {
                break;
            }
        }
        let stopped_at = Instant::now();
        let missed = orders.map(|order| order.due).take_while(|due| *due <= stopped_at);
        missed.for_each(|due| self.shared.observer.scheduled(due));
    }

    /// Waits until every order is settled or given up.
    pub async fn settled(&self) {
        self.orders.close();
        self.orders.wait().await;
    }

    /// Gives up all that is not settled.
    pub fn abandon(&self) {
        self.shared.abandon.cancel();
    }

    /// Leaves the rides that are still on the road there, and waits for the completions that were begun.
    pub async fn end_rides(&self) {
        self.shared.rides_over.cancel();
        self.rides.close();
        self.rides.wait().await;
    }

    /// Every settled answer so far.
    pub fn answers(&self) -> Vec<Answer> {
        self.shared.answers().clone()
    }

    /// Begins an order in a task of its own; waits only for room. `held_until`: the end of the last such wait.
    async fn place(&self, order: Order, held_until: &mut Option<Instant>) {
        let permit = if let Ok(permit) = Arc::clone(&self.room).try_acquire_owned() {
            permit
        } else {
            self.shared.observer.delayed(order.due);
            // The semaphore is never closed; if it were, no order could be placed.
            let Ok(permit) = Arc::clone(&self.room).acquire_owned().await else {
                return;
            };
            *held_until = Some(Instant::now());
            permit
        };
        let waited = held_until.is_some_and(|until| order.due < until);
        self.shared.observer.placed(order.due, Instant::now(), waited);
        let (shared, rides) = (Arc::clone(&self.shared), self.rides.clone());
        self.orders.spawn(async move {
            let outcome = shared.settle(&order).await;
            let answered = Instant::now();
            if let Some(answer) = outcome.as_ref().ok().and_then(Outcome::answer) {
                shared.answers().push(answer);
            }
            shared.observer.settled(order.due, answered, outcome.as_ref());
            drop(permit);
            if let Ok(Outcome::Succeeded { order_id, .. }) = outcome {
                rides.spawn(async move { shared.ride(order_id, answered + order.ride).await });
            }
        });
    }
}

impl Outcome {
    fn answer(&self) -> Option<Answer> {
        let (order_id, status) = match self {
            Outcome::Succeeded { order_id, .. } => (order_id, "succeeded"),
            Outcome::Refunded { order_id } => (order_id, "refunded"),
            Outcome::Failed { order_id } => (order_id, "failed"),
            Outcome::GaveUp => return None,
        };
        Some(Answer {
            order_id: order_id.clone(),
            status,
        })
    }
}

impl Shared {
    /// A list that is only ever pushed to is whole, whoever panicked.
    fn answers(&self) -> MutexGuard<'_, Vec<Answer>> {
        self.answers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks for one order until it is settled. The key is made once: however often the call is repeated, it is the
    /// same order, and the customer pays once.
    async fn settle(&self, order: &Order) -> Result<Outcome, Status> {
        let request = create_request(order, Uuid::now_v7());
        let create = |deadline| {
            let (lease, request) = (self.connections.lease(), request.clone());
            async move {
                let (mut client, request) = call(&lease, request, deadline);
                outcome(
                    client
                        .create_order(request)
                        .await?
                        .into_inner()
                        .order
                        .unwrap_or_default(),
                )
            }
        };
        let answer = self
            .retry
            .until_answered(&self.abandon, || self.observer.placed_again(order.due), create)
            .await;
        answer.inspect_err(|status| {
            tracing::warn!(code = ?status.code(), message = status.message(), "gave up an order");
        })
    }

    /// Brings a ride to its end at `ends_at`, unless the run is over before.
    async fn ride(&self, order_id: String, ends_at: Instant) {
        if !arrives(ends_at, &self.rides_over).await {
            return;
        }
        let complete = |deadline| {
            let (lease, request) = (
                self.connections.lease(),
                pb::CompleteOrderRequest {
                    order_id: order_id.clone(),
                    ..Default::default()
                },
            );
            async move {
                let (mut client, request) = call(&lease, request, deadline);
                client.complete_order(request).await
            }
        };
        self.observer.completing(ends_at, Instant::now());
        let answer = self
            .retry
            .until_answered(&self.abandon, || self.observer.completing_again(ends_at), complete)
            .await;
        if let Err(status) = &answer {
            tracing::warn!(order_id, code = ?status.code(), message = status.message(), "gave up completing a ride");
        }
        let answer = answer.as_ref().map(|_| ());
        self.observer.completed(ends_at, Instant::now(), answer);
    }
}

/// Waits for the end of a ride; false when the run is over before it.
async fn arrives(ends_at: Instant, rides_over: &CancellationToken) -> bool {
    rides_over
        .run_until_cancelled(tokio::time::sleep_until(ends_at))
        .await
        .is_some()
}

fn call<T>(
    lease: &Lease,
    message: T,
    deadline: Duration,
) -> (OrderServiceClient<tonic::transport::Channel>, Request<T>) {
    let mut request = Request::new(message);
    request.set_timeout(deadline);
    (OrderServiceClient::new(lease.channel.clone()), request)
}

fn create_request(order: &Order, key: Uuid) -> pb::CreateOrderRequest {
    let point = |point: Point| LatLng {
        latitude: point.lat_deg,
        longitude: point.lon_deg,
    };
    pb::CreateOrderRequest {
        idempotency_key: key.to_string(),
        user_id: order.user_id.clone(),
        amount: Some(pb::Money {
            currency_code: "USD".to_owned(),
            minor_units: order.amount_cents,
        }),
        payment_method: order.payment_method.to_owned(),
        pickup: Some(point(order.pickup)),
        drop_off: Some(point(order.drop_off)),
    }
}

/// The contract answers with settled orders only; another state is asked for again, as if it were still running.
fn outcome(order: pb::Order) -> Result<Outcome, Status> {
    match order.status() {
        pb::OrderStatus::Succeeded => {
            let driver_id = order.assignment.unwrap_or_default().driver_id;
            Ok(Outcome::Succeeded {
                order_id: order.order_id,
                driver_id,
            })
        }
        pb::OrderStatus::Refunded => Ok(Outcome::Refunded {
            order_id: order.order_id,
        }),
        pb::OrderStatus::Failed => Ok(Outcome::Failed {
            order_id: order.order_id,
        }),
        status => Err(Status::aborted(format!(
            "answered with an order that is not settled: {}",
            status.as_str_name()
        ))),
    }
}

#[cfg(test)]
mod tests;
