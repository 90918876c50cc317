//! One call to a tonic server that answers at once, with no one else on the line: what no call is faster than.

use std::time::{Duration, Instant};

use tonic::transport::Endpoint;
use waybill_proto::order::v1::CreateOrderRequest;
use waybill_proto::order::v1::order_service_client::OrderServiceClient;

use testkit::benchmark::arithmetic::millis;

/// Calls one after the other for so long; how long each took, in milliseconds.
pub async fn round_trips(endpoint: &Endpoint, time: Duration) -> Vec<f64> {
    let mut orders = OrderServiceClient::new(endpoint.connect().await.unwrap());
    let until = Instant::now() + time;
    let mut taken = Vec::new();
    while Instant::now() < until {
        let began_at = Instant::now();
        orders.create_order(CreateOrderRequest::default()).await.unwrap_err();
        taken.push(millis(began_at.elapsed()));
    }
    taken
}
