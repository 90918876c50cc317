//! Creates and completes orders, and counts both calls.

use tokio::time::Instant;
use tonic::Status;
use waybill_proto::order::v1 as pb;
use waybill_proto::order::v1::order_service_client::OrderServiceClient;

use crate::client::Caller;
use crate::recorder::{Recorder, Timeline};

/// What becomes of orders.
#[derive(Debug, Clone)]
pub(crate) struct OrderCounts {
    /// Orders, each as a whole. One without a driver failed, by the name of its status.
    pub(crate) orders: Recorder,
    /// The calls that create them: answered with whatever became of the order.
    pub(crate) creations: Recorder,
    /// The calls that complete them.
    pub(crate) completions: Recorder,
}

impl OrderCounts {
    pub(crate) fn new(timeline: &Timeline) -> OrderCounts {
        OrderCounts {
            orders: Recorder::new("order", "orders", timeline),
            creations: Recorder::new("CreateOrder", "orders", timeline),
            completions: Recorder::new("CompleteOrder", "orders", timeline),
        }
    }

    /// The most important first.
    pub(crate) fn all(&self) -> Vec<Recorder> {
        [&self.orders, &self.creations, &self.completions]
            .map(Recorder::clone)
            .into()
    }

    /// An order was scheduled.
    pub(crate) fn offered(&self, due: Instant) {
        self.orders.offered([due]);
        self.creations.offered([due]);
    }
}

/// Makes the calls of orders.
#[derive(Debug)]
pub(crate) struct OrderClient {
    pub(crate) caller: Caller,
    pub(crate) counts: OrderCounts,
}

impl OrderClient {
    /// The order that `message` asks for, settled. However often the call is repeated, its key makes it the same order,
    /// and the customer pays once. Counts the order as a whole only where it got no answer: else its end may be later.
    pub(crate) async fn create(&self, message: pb::CreateOrderRequest, due: Instant) -> Result<pb::Order, Status> {
        let counts = &self.counts;
        let at = Instant::now();
        counts.orders.started([due], at);
        counts.creations.started([due], at);
        let repeated = || counts.creations.repeated([due]);
        let create = |channel, request| async move {
            let answer = OrderServiceClient::new(channel).create_order(request).await?;
            settled(answer.into_inner().order.unwrap_or_default())
        };
        let answer = self.caller.call(message, repeated, create).await;
        counts.creations.concluded(due, Instant::now(), &answer);
        if let Err(status) = &answer {
            counts.orders.ended(due, status.code());
        }
        answer
    }

    /// Completes an order at `at`; this was due at `due`.
    pub(crate) async fn complete(&self, order_id: String, due: Instant, at: Instant) -> Result<(), Status> {
        let completions = &self.counts.completions;
        completions.offered([due]);
        completions.started([due], at);
        let message = pb::CompleteOrderRequest {
            order_id,
            ..Default::default()
        };
        let repeated = || completions.repeated([due]);
        let complete = |channel, request| async move {
            let answer = OrderServiceClient::new(channel).complete_order(request).await;
            answer.map(drop)
        };
        let answer = self.caller.call(message, repeated, complete).await;
        completions.concluded(due, Instant::now(), &answer);
        answer
    }
}

/// The contract answers with settled orders only; another state is asked for again, as if it were still running.
fn settled(order: pb::Order) -> Result<pb::Order, Status> {
    match order.status() {
        pb::OrderStatus::Succeeded | pb::OrderStatus::Refunded | pb::OrderStatus::Failed => Ok(order),
        status => Err(Status::aborted(format!(
            "answered with an order that is not settled: {}",
            status.as_str_name()
        ))),
    }
}
