//! An invented city for a run without traces: drivers who move about in it, and customers who call at random.
//!
//! All of it is a function of the seed, so that a run can be repeated; times and the number generator are arguments.

mod arrivals;
mod walks;

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::time::Instant;

pub(crate) use self::arrivals::Arrivals;
pub(crate) use self::walks::{Territory, Walks};

use crate::customers::CustomersOptions;
use crate::fleet::{DueFix, FleetOptions};
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

/// The endless fixes of some drivers of a city, by due time, from `started` on, which is `started_at` by the wall clock:
/// one of each in a round, spread evenly over it. `drivers` are ascending indexes.
pub(crate) fn fixes(
    options: &CityOptions,
    drivers: Vec<u32>,
    started: Instant,
    started_at: Timestamp,
) -> impl Iterator<Item = DueFix> + Send + use<> {
    let (fix_every, count) = (options.fix_every, options.drivers.max(1));
    let territory = Territory {
        centre: options.centre,
        radius_m: options.radius_m,
    };
    let mut walks = Walks::new(territory, drivers.iter().copied(), options.seed, started, started_at);
    let rounds = if drivers.is_empty() { 0..0 } else { 0..u32::MAX };
    let dues = rounds.flat_map(move |round| {
        let phase = move |driver| fix_every * driver / count;
        let due = move |driver| started + fix_every * round + phase(driver);
        drivers.clone().into_iter().map(due)
    });
    dues.map_while(move |due| walks.next(due))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn some_fixes(drivers: Vec<u32>, count: usize) -> Vec<DueFix> {
        let options = CityOptions {
            drivers: 40,
            ..CityOptions::default()
        };
        let started_at = Timestamp::from_second(1_700_000_000).unwrap();
        fixes(&options, drivers, Instant::now(), started_at)
            .take(count)
            .collect()
    }

    #[test]
    fn every_driver_sends_one_fix_a_second_and_all_are_spread_evenly() {
        let fixes = some_fixes((0..40).collect(), 400);
        for pair in fixes.windows(2) {
            assert_eq!(pair[1].due - pair[0].due, Duration::from_millis(25));
            assert_eq!(pair[1].recorded_at_micros - pair[0].recorded_at_micros, 25_000);
        }
        let distinct: BTreeSet<_> = fixes.iter().map(|fix| (fix.driver, fix.recorded_at_micros)).collect();
        assert_eq!(distinct.len(), 400);
    }

    #[test]
    fn a_driver_takes_the_same_way_whoever_else_is_on_its_stream() {
        let place = |fix: &DueFix| (fix.lat_deg, fix.lon_deg);
        let alone: Vec<_> = some_fixes(vec![7], 50).iter().map(place).collect();
        let all = some_fixes((0..40).collect(), 50 * 40);
        let among: Vec<_> = all.iter().filter(|fix| fix.driver == 7).map(place).collect();
        assert_eq!(alone, among);
    }

    #[test]
    fn a_stream_without_drivers_has_no_fixes() {
        assert_eq!(some_fixes(Vec::new(), 1), []);
    }
}
