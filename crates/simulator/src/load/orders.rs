//! The workload `orders`: an order of a new customer, and its completion as soon as it has a driver.
//!
//! Orders go round places that are 27 km or more from each other, with eight drivers at each, as many as the server
//! looks at for an order: what is measured is orders, not the struggle for the last driver of a street.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use tokio::time::Instant;
use tonic::Status;
use uuid::Uuid;
use waybill_proto::order::v1 as pb;
use waybill_proto::order::v1::order_service_client::OrderServiceClient;

use super::call::{Caller, request};
use super::drive::{Away, Calls};
use super::presence::position;
use super::recorder::Recorder;
use super::timeline::Timeline;
use crate::Point;

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
    caller: Caller,
    timeline: Timeline,
    places: u32,
    next: AtomicU32,
    created: Recorder,
    completed: Recorder,
    whole: Recorder,
}

impl Orders {
    pub(super) fn new(caller: &Caller, timeline: &Timeline, drivers: u32) -> Orders {
        Orders {
            caller: caller.clone(),
            timeline: timeline.clone(),
            places: drivers.div_ceil(DRIVERS_PER_PLACE).clamp(1, PLACES_MAX),
            next: AtomicU32::new(0),
            created: Recorder::new("CreateOrder", "orders", timeline),
            completed: Recorder::new("CompleteOrder", "orders", timeline),
            whole: Recorder::new("order", "orders", timeline),
        }
    }

    async fn create(&self, due: Instant) -> Result<pb::Order, Status> {
        let place = self.next.fetch_add(1, Ordering::Relaxed) % self.places;
        // Made once: a call that is repeated is the same order.
        let message = pb::CreateOrderRequest {
            idempotency_key: Uuid::now_v7().to_string(),
            user_id: customer(),
            amount: Some(pb::Money {
                currency_code: "USD".to_owned(),
                minor_units: 1_999,
            }),
            payment_method: "pm_card_visa".to_owned(),
            pickup: Some(position(middle(place))),
            drop_off: None,
        };
        let repeated = || self.created.repeated_all([due]);
        let answer = self.caller.call(repeated, |lease, deadline| {
            let request = request(message.clone(), deadline);
            async move {
                let mut client = OrderServiceClient::new(lease.channel.clone());
                client.create_order(request).await
            }
        });
        Ok(answer.await?.into_inner().order.unwrap_or_default())
    }

    async fn complete(&self, order_id: &str, meant: Instant) -> Result<(), Status> {
        let repeated = || self.completed.repeated_all([meant]);
        let answer = self.caller.call(repeated, |lease, deadline| {
            let message = pb::CompleteOrderRequest {
                order_id: order_id.to_owned(),
                ..Default::default()
            };
            let request = request(message, deadline);
            async move {
                let mut client = OrderServiceClient::new(lease.channel.clone());
                client.complete_order(request).await
            }
        });
        answer.await.map(drop)
    }
}

impl Calls for Orders {
    fn recorders(&self) -> Vec<Recorder> {
        vec![self.whole.clone(), self.created.clone(), self.completed.clone()]
    }

    fn recorder(&self) -> &Recorder {
        &self.created
    }

    fn offered(&self, due: Instant) {
        self.created.offered(due, 1);
        self.whole.offered(due, 1);
    }

    async fn call(self: Arc<Self>, due: Instant) -> Result<(), Away> {
        let at = Instant::now();
        self.created.started(due, at);
        self.whole.started(due, at);
        let created = self.create(due).await;
        let at = Instant::now();
        let order = match created {
            Ok(order) => order,
            Err(status) => {
                self.created.ended(due, at, status.code());
                self.whole.ended(due, at, status.code());
                return Away::unless_met(&status);
            }
        };
        self.created.answered(due, at);
        if order.status() != pb::OrderStatus::Succeeded {
            self.whole.failed(due, at, order.status().as_str_name());
            return Ok(());
        }
        // The completion is meant for now. That of an order of the warm-up stays with its order, so that the orders
        // and completions of a report are the same ones.
        let meant = if due < self.timeline.measured_from() { due } else { at };
        self.completed.offered(meant, 1);
        self.completed.started(meant, meant);
        let completed = self.complete(&order.order_id, meant).await;
        let at = Instant::now();
        match completed {
            Ok(()) => {
                self.completed.answered(meant, at);
                self.whole.answered(due, at);
            }
            Err(status) => {
                self.completed.ended(meant, at, status.code());
                self.whole.ended(due, at, status.code());
                return Away::unless_met(&status);
            }
        }
        Ok(())
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

    /// The server looks 5 km around a pickup.
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
