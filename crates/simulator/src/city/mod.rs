//! An invented city for a run without traces: drivers who move about in it, and customers who call at random.
//!
//! All of it is a function of the seed, so that a run can be repeated; times and the number generator are arguments.

mod arrivals;
mod cabs;
mod walks;

use std::sync::Arc;
use std::time::Duration;

pub(crate) use self::arrivals::Arrivals;
pub(crate) use self::cabs::CabFixes;
pub(crate) use self::walks::{Territory, Walks};

use crate::customers::CustomersOptions;
use crate::fleet::FleetOptions;
use crate::{Drivers, Point};

/// Where invented drivers are unless another place is given.
pub(crate) const SAN_FRANCISCO: Territory = Territory {
    centre: Point {
        lat_deg: 37.7749,
        lon_deg: -122.4194,
    },
    radius_m: 5_000.0,
};

/// What the city is like, and how long it runs.
#[derive(Debug, Clone, Copy)]
pub struct CityOptions {
    /// Drivers on the road.
    pub drivers: u32,
    /// Orders a second, on average.
    pub orders_per_second: f64,
    /// The middle of the city.
    pub centre: Point,
    /// How far the city reaches, in metres.
    pub radius_m: f64,
    /// Time between two fixes of a driver.
    pub fix_every: Duration,
    /// How long orders are placed. The run ends when they are settled.
    pub duration: Duration,
    /// How long before the end the last order out of every driver's reach is placed: what the server needs to refund
    /// it, that is a little more than its assignment window.
    pub settle: Duration,
    /// The same seed gives the same drivers and orders.
    pub seed: u64,
    /// How the drivers stream.
    pub fleet: FleetOptions,
    /// How the customers behave.
    pub customers: CustomersOptions,
}

impl Default for CityOptions {
    /// Two hundred cabs in San Francisco for half a minute.
    fn default() -> Self {
        CityOptions {
            drivers: 200,
            orders_per_second: 8.0,
            centre: SAN_FRANCISCO.centre,
            radius_m: SAN_FRANCISCO.radius_m,
            fix_every: Duration::from_secs(1),
            duration: Duration::from_secs(30),
            settle: Duration::from_secs(23),
            seed: 1,
            fleet: FleetOptions::default(),
            customers: CustomersOptions::default(),
        }
    }
}

/// The drivers of a city: `driver-0000` and on.
pub(crate) fn drivers(count: u32) -> Arc<Drivers> {
    Arc::new((0..count).map(|number| format!("driver-{number:04}")).collect())
}
