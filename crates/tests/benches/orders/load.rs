//! The load over gRPC: callers who place an order and complete it, then the next one, as fast as they are answered.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use tokio::task::JoinSet;
use tonic::transport::Channel;
use uuid::Uuid;
use waybill_proto::location::v1::location_service_client::LocationServiceClient;
use waybill_proto::location::v1::{Fix, LatLng, ReportLocationsRequest};
use waybill_proto::order::v1::order_service_client::OrderServiceClient;
use waybill_proto::order::v1::{CompleteOrderRequest, CreateOrderRequest, Money, Order, OrderStatus};

use super::world::World;

/// Drivers of each caller, as many as a search proposes. Callers are 55 km from each other: nobody waits for another's.
const DRIVERS: usize = 8;
/// Calls share connections, as those of an application's servers do.
const CHANNELS: usize = 4;

/// What the names of the drivers of a caller begin with.
pub fn drivers_of(caller: usize) -> String {
    format!("cab-of-{caller}-")
}

/// The callers.
pub struct Load {
    callers: usize,
    channels: Vec<Channel>,
}

fn place_of(caller: usize, north: f64) -> LatLng {
    LatLng {
        latitude: -60.0 + north,
        #[allow(clippy::cast_precision_loss, reason = "hundreds of callers")]
        longitude: -170.0 + caller as f64,
    }
}

/// An order of a new user.
pub fn request(caller: usize) -> CreateOrderRequest {
    CreateOrderRequest {
        idempotency_key: Uuid::now_v7().to_string(),
        user_id: format!("user-{}", Uuid::now_v7().simple()),
        amount: Some(Money {
            currency_code: "USD".to_owned(),
            minor_units: 1_999,
        }),
        payment_method: "pm_card_visa".to_owned(),
        pickup: Some(place_of(caller, 0.0)),
        drop_off: None,
    }
}

/// Places an order and completes it.
pub async fn serve(channel: &Channel, request: CreateOrderRequest) -> Order {
    let mut orders = OrderServiceClient::new(channel.clone());
    let order = orders.create_order(request).await.expect("the order is placed");
    let order = order.into_inner().order.unwrap();
    assert_eq!(order.status(), OrderStatus::Succeeded, "{order:?}");
    let order_id = order.order_id.clone();
    let completed = orders
        .complete_order(CompleteOrderRequest {
            order_id,
            ..CompleteOrderRequest::default()
        })
        .await;
    completed.expect("the order is completed");
    order
}

impl Load {
    /// Callers with their drivers around them.
    pub async fn prepare(world: &World, callers: usize) -> Load {
        let channels: Vec<Channel> = (0..CHANNELS).map(|_| world.channel()).collect();
        let mut locations = LocationServiceClient::new(channels[0].clone());
        let now = Timestamp::now();
        for caller in 0..callers {
            let drivers = (0..DRIVERS).map(|driver| Fix {
                driver_id: format!("{}{driver}", drivers_of(caller)),
                #[allow(clippy::cast_precision_loss, reason = "eight drivers")]
                position: Some(place_of(caller, 0.001 * (driver + 1) as f64)),
                recorded_at: Some(prost_types::Timestamp {
                    seconds: now.as_second(),
                    nanos: now.subsec_nanosecond(),
                }),
            });
            let fixes = drivers.collect();
            let answer = locations.report_locations(ReportLocationsRequest { fixes }).await;
            let answer = answer.unwrap().into_inner();
            assert_eq!(answer.accepted_count as usize, DRIVERS, "{:?}", answer.rejections);
        }
        Load { callers, channels }
    }

    /// One of the connections.
    pub fn channel(&self) -> &Channel {
        &self.channels[0]
    }

    /// Lets all callers order for so long; how many orders were placed and completed in that time.
    pub async fn run(&self, time: Duration) -> u64 {
        let until = Instant::now() + time;
        let served = Arc::new(AtomicU64::new(0));
        let mut callers = JoinSet::new();
        for caller in 0..self.callers {
            let (channel, served) = (self.channels[caller % CHANNELS].clone(), Arc::clone(&served));
            callers.spawn(async move {
                while Instant::now() < until {
                    serve(&channel, request(caller)).await;
                    if Instant::now() < until {
                        served.fetch_add(1, Ordering::Relaxed);
                    }
                }
            });
        }
        callers.join_all().await;
        served.load(Ordering::Relaxed)
    }
}
