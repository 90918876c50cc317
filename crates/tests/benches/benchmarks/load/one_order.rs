//! One order, from its placement to its completion: to record what it says to the stores, and to have its rows.

use testkit::wire::{a_ride, complete};
use tonic::transport::Channel;
use uuid::Uuid;
use waybill_proto::location::v1::location_service_client::LocationServiceClient;
use waybill_proto::location::v1::{Fix, LatLng, ReportLocationsRequest};
use waybill_proto::order::v1::order_service_client::OrderServiceClient;
use waybill_proto::order::v1::{CreateOrderRequest, Order, OrderStatus};

use super::city;

/// As many drivers as a search proposes.
const DRIVERS: usize = 8;
/// What their names begin with.
pub const DRIVERS_PREFIX: &str = "cab-of-0-";
/// Far from where the load orders.
const PICKUP: LatLng = LatLng {
    latitude: Some(45.0),
    longitude: Some(10.0),
};

/// Puts drivers around the place of the order.
pub async fn bring_drivers(channel: &Channel) {
    let drivers = (0..DRIVERS).map(|driver| {
        #[allow(clippy::cast_precision_loss, reason = "eight drivers")]
        let north = 0.001 * (driver + 1) as f64;
        Fix {
            driver_id: format!("{DRIVERS_PREFIX}{driver}"),
            position: Some(LatLng {
                latitude: Some(PICKUP.latitude() + north),
                ..PICKUP
            }),
            ..city::fix(driver, DRIVERS)
        }
    });
    let fixes = drivers.collect();
    let mut locations = LocationServiceClient::new(channel.clone());
    let answer = locations.report_locations(ReportLocationsRequest { fixes }).await;
    let answer = answer.unwrap().into_inner();
    assert_eq!(answer.accepted_count as usize, DRIVERS, "{:?}", answer.rejections);
}

/// An order of a new user.
pub fn request() -> CreateOrderRequest {
    CreateOrderRequest {
        user_id: format!("load-{}", Uuid::new_v4().simple()),
        pickup: Some(PICKUP),
        ..a_ride()
    }
}

/// Places an order and completes it.
pub async fn serve(channel: &Channel, request: CreateOrderRequest) -> Order {
    let mut orders = OrderServiceClient::new(channel.clone());
    let order = orders.create_order(request).await.expect("the order is placed");
    let order = order.into_inner().order.unwrap();
    assert_eq!(order.status(), OrderStatus::Succeeded, "{order:?}");
    let completed = orders.complete_order(complete(&order.order_id)).await;
    completed.expect("the order is completed");
    order
}
