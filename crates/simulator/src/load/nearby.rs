//! The workload `nearby`: searches for the nearest drivers, at random points of a city of the load's own.

use std::sync::{Arc, Mutex, PoisonError};

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use tokio::time::Instant;
use waybill_proto::fleet::v1::SearchDriversRequest;
use waybill_proto::fleet::v1::fleet_service_client::FleetServiceClient;

use super::plan::NearbyLoad;
use crate::Point;
use crate::client::{Caller, position};
use crate::drive::{Calls, Unreached};
use crate::recorder::{Recorder, Timeline};

/// A square on the map.
#[derive(Debug, Clone, Copy)]
pub(super) struct Area {
    pub(super) middle: Point,
    pub(super) side_m: f64,
}

/// The city: out at sea, and as large as a large town.
pub(super) const CITY: Area = Area {
    middle: Point {
        lat_deg: 0.25,
        lon_deg: -120.25,
    },
    side_m: 20_000.0,
};

/// The searches.
#[derive(Debug)]
pub(super) struct Nearby {
    caller: Caller,
    load: NearbyLoad,
    area: Area,
    random: Mutex<StdRng>,
    searched: Recorder,
}

impl Nearby {
    pub(super) fn new(caller: &Caller, timeline: &Timeline, load: NearbyLoad, area: Area, seed: u64) -> Nearby {
        Nearby {
            caller: caller.clone(),
            load,
            area,
            random: Mutex::new(searches(seed)),
            searched: Recorder::new("SearchDrivers", "searches", timeline),
        }
    }
}

impl Calls for Nearby {
    fn recorder(&self) -> &Recorder {
        &self.searched
    }

    async fn call(self: Arc<Self>, due: Instant, (): ()) -> Result<(), Unreached> {
        // Chance is whole whoever panicked beside it.
        let near = {
            let mut random = self.random.lock().unwrap_or_else(PoisonError::into_inner);
            self.area.anywhere(&mut random)
        };
        self.searched.started([due], Instant::now());
        let message = SearchDriversRequest {
            near: Some(position(near)),
            radius_meters: self.load.radius_m,
            max_count: i32::try_from(self.load.count).unwrap_or(i32::MAX),
        };
        let repeated = || self.searched.repeated([due]);
        let search = |channel, request| async move { FleetServiceClient::new(channel).search_drivers(request).await };
        let answer = self.caller.call(message, repeated, search).await;
        self.searched.concluded(due, Instant::now(), &answer);
        answer.map_or_else(|status| Unreached::from_status(&status), |_| Ok(()))
    }
}

/// Neither the chance that places the drivers nor that which spaces the arrivals, or each search would begin at a driver.
const SEARCHES: u64 = 0x5EA2_C4E5;

/// The chance of the places that are searched.
fn searches(seed: u64) -> StdRng {
    StdRng::seed_from_u64(seed ^ SEARCHES)
}

/// Where the drivers are.
pub(super) fn drivers(count: u32, seed: u64) -> Vec<Point> {
    let mut random = StdRng::seed_from_u64(seed);
    (0..count).map(|_| CITY.anywhere(&mut random)).collect()
}

impl Area {
    fn anywhere(&self, random: &mut StdRng) -> Point {
        let mut within = || self.side_m * (random.random::<f64>() - 0.5);
        self.middle.offset(within(), within())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn searches_are_not_where_the_drivers_are() {
        let (seed, mut searches) = (1, searches(1));
        let drivers = drivers(1_000, seed);
        let least_m = (0..100)
            .map(|_| CITY.anywhere(&mut searches))
            .flat_map(|search| drivers.iter().map(move |driver| driver.distance_m(search)))
            .fold(f64::INFINITY, f64::min);
        // 100 searches and 1,000 drivers in 400 km²: chance brings no pair within 10 cm.
        assert!(least_m > 0.1, "{least_m} m");
    }
}
