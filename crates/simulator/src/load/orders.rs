//! The workload `orders`: an order of a new customer, and its completion as soon as it has a driver.
//!
//! Orders go round places that are 27 km or more from each other, with eight drivers at each, as many as the server
//! considers for an order: what is measured is orders, not the struggle for the last driver of a street.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use tokio::time::Instant;
use uuid::Uuid;
use waybill_proto::order::v1 as pb;

use crate::Point;
use crate::client::{Caller, position};
use crate::customers::{OrderClient, OrderCounts};
use crate::drive::{Calls, Unreached};
use crate::recorder::{Recorder, Timeline};

/// Drivers at a place.
const DRIVERS_PER_PLACE: u32 = 8;

/// The places are on a grid of half degrees, 27 km apart or more: between 60 degrees south and 60 north, where a degree
/// of longitude is at least half as long as at the equator.
const PLACES_PER_ROW: u32 = 680;
const PLACES_MAX: u32 = 240 * PLACES_PER_ROW;
const FIRST_PLACE: Point = Point {
    lat_deg: -60.0,
    lon_deg: -170.0,
};
const PLACES_APART_DEG: f64 = 0.5;

/// How far the drivers of a place are from its middle: each 100 m farther than the one before.
const DRIVERS_APART_M: f64 = 100.0;

/// The calls of an order.
#[derive(Debug)]
pub(super) struct Orders {
    client: OrderClient,
    timeline: Timeline,
    places: u32,
    next: AtomicU32,
}

impl Orders {
    pub(super) fn new(caller: &Caller, timeline: &Timeline, drivers: u32) -> Orders {
        Orders {
            client: OrderClient {
                caller: caller.clone(),
                counts: OrderCounts::new(timeline),
            },
            timeline: timeline.clone(),
            places: drivers.div_ceil(DRIVERS_PER_PLACE).clamp(1, PLACES_MAX),
            next: AtomicU32::new(0),
        }
    }
}

impl Calls for Orders {
    fn recorders(&self) -> Vec<Recorder> {
        self.client.counts.all()
    }

    fn recorder(&self) -> &Recorder {
        &self.client.counts.creations
    }

    fn offered(&self, due: Instant) {
        self.client.counts.offered(due);
    }

    async fn call(self: Arc<Self>, due: Instant, (): ()) -> Result<(), Unreached> {
        let place = self.next.fetch_add(1, Ordering::Relaxed) % self.places;
        let order = match self.client.create(create_request(place), due).await {
            Ok(order) => order,
            Err(status) => return Unreached::from_status(&status),
        };
        let (at, whole) = (Instant::now(), &self.client.counts.orders);
        if order.status() != pb::OrderStatus::Succeeded {
            whole.failed(due, order.status().as_str_name());
            return Ok(());
        }
        // The completion is due now. That of an order of the warm-up stays with its order, so that the orders and
        // completions of a report are the same ones.
        let due_next = if due < self.timeline.measured_from() { due } else { at };
        let completed = self.client.complete(order.order_id, due_next, due_next).await;
        whole.concluded(due, Instant::now(), &completed);
        completed.or_else(|status| Unreached::from_status(&status))
    }
}

fn create_request(place: u32) -> pb::CreateOrderRequest {
    pb::CreateOrderRequest {
        idempotency_key: Uuid::now_v7().to_string(),
        user_id: customer(),
        amount: Some(pb::Money {
            currency_code: "USD".to_owned(),
            minor_units: 1_999,
        }),
        payment_method: "pm_card_visa".to_owned(),
        provider_customer_id: String::new(),
        payment_mode: 0,
        required_tags: Vec::new(),
        pickup: Some(position(middle(place))),
        drop_off: None,
    }
}

/// Where the drivers are.
pub(super) fn drivers(count: u32) -> Vec<Point> {
    let place_of = |driver: u32| {
        let north_m = DRIVERS_APART_M * f64::from(driver % DRIVERS_PER_PLACE + 1);
        middle(driver / DRIVERS_PER_PLACE % PLACES_MAX).offset(0.0, north_m)
    };
    (0..count).map(place_of).collect()
}

fn middle(place: u32) -> Point {
    Point {
        lat_deg: FIRST_PLACE.lat_deg + PLACES_APART_DEG * f64::from(place / PLACES_PER_ROW),
        lon_deg: FIRST_PLACE.lon_deg + PLACES_APART_DEG * f64::from(place % PLACES_PER_ROW),
    }
}

/// A customer of its own for each order, for the limit is on what one customer orders. Among those of before it lies
/// anywhere, as an application's customers do: its rows are not all at one end of an index.
fn customer() -> String {
    format!("load-{}", Uuid::new_v4().simple())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The server searches 5 km around a pickup.
    const SEARCH_RADIUS_M: f64 = 5_000.0;

    #[test]
    fn the_drivers_of_a_place_are_near_it_and_of_no_other() {
        let drivers = drivers(8 * 2_000);
        for (place, group) in (0..).zip(drivers.chunks(8)) {
            for driver in group {
                assert!(middle(place).distance_m(*driver) < 1_000.0, "place {place}");
            }
        }
        for place in [0, 1, 679, 680, PLACES_MAX - 1] {
            let others = [place + 1, place + PLACES_PER_ROW].map(|other| middle(other % PLACES_MAX));
            for other in others {
                assert!(middle(place).distance_m(other) > 2.0 * SEARCH_RADIUS_M, "place {place}");
            }
        }
    }

    #[test]
    fn customers_are_found_all_over_an_index_of_customers() {
        let customers: Vec<String> = (0..100).map(|_| customer()).collect();
        assert!(!customers.is_sorted());
    }
}
