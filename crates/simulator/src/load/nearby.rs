//! The workload `nearby`: searches for the nearest drivers, at random points of a city of the load's own.

use std::sync::{Arc, Mutex, PoisonError};

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use tokio::time::Instant;
use waybill_proto::fleet::v1::SearchDriversRequest;
use waybill_proto::fleet::v1::fleet_service_client::FleetServiceClient;

use super::call::{Caller, request};
use super::drive::Calls;
use super::plan::NearbyLoad;
use super::presence::position;
use super::recorder::Recorder;
use super::timeline::Timeline;
use crate::Point;

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
            random: Mutex::new(StdRng::seed_from_u64(seed)),
            searched: Recorder::new("SearchDrivers", "searches", timeline),
        }
    }
}

impl Calls for Nearby {
    fn recorders(&self) -> Vec<Recorder> {
        vec![self.searched.clone()]
    }

    fn recorder(&self) -> &Recorder {
        &self.searched
    }

    async fn call(self: Arc<Self>, due: Instant) {
        // Chance is whole whoever panicked beside it.
        let near = {
            let mut random = self.random.lock().unwrap_or_else(PoisonError::into_inner);
            self.area.anywhere(&mut random)
        };
        self.searched.started(due, Instant::now());
        let answer = self.caller.call(|lease, deadline| {
            let message = SearchDriversRequest {
                near: Some(position(near)),
                radius_meters: self.load.radius_m,
                max_count: i32::try_from(self.load.count).unwrap_or(i32::MAX),
            };
            let request = request(message, deadline);
            async move {
                let mut client = FleetServiceClient::new(lease.channel.clone());
                client.search_drivers(request).await
            }
        });
        match answer.await {
            Ok(_) => self.searched.answered(due, Instant::now()),
            Err(status) => self.searched.ended(due, Instant::now(), status.code()),
        }
    }
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
