//! Clients that watch the drivers of an area, each its own: a phone's view of a city, a cell of the live map.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::task::JoinSet;
use tonic::Streaming;
use waybill_proto::fleet::v1::fleet_service_client::FleetServiceClient;
use waybill_proto::fleet::v1::watch_drivers_request::Scope;
use waybill_proto::fleet::v1::{Area, WatchDriversRequest, WatchDriversResponse};
use waybill_proto::location::v1::LatLng;

use crate::server::Server;

/// As many streams as a connection may have by default.
const STREAMS_PER_CONNECTION: usize = 100;
/// Within a cell of 0.01 degrees, this far from its edges.
const WITHIN_DEG: f64 = 0.001;
/// What has to come well within this time.
const IN_TIME: Duration = Duration::from_mins(1);

/// Open watches. Dropped, they end.
pub struct Watchers {
    reading: JoinSet<()>,
    stalled: Vec<Streaming<WatchDriversResponse>>,
    seen: Arc<AtomicU64>,
}

impl Watchers {
    /// One for the cell of each of these places. The first `stalled` of them read their first message and no other.
    pub async fn open(server: &Server, places: &[LatLng], stalled: usize) -> Watchers {
        let mut watchers = Watchers {
            reading: JoinSet::new(),
            stalled: Vec::new(),
            seen: Arc::default(),
        };
        for (number, part) in places.chunks(STREAMS_PER_CONNECTION).enumerate() {
            let channel = server.channel();
            for (within, place) in part.iter().enumerate() {
                let request = WatchDriversRequest {
                    scope: Some(Scope::Area(cell_of(place))),
                    ..WatchDriversRequest::default()
                };
                let is_stalled = number * STREAMS_PER_CONNECTION + within < stalled;
                // What one does not read fills the connection of all that share it.
                let channel = if is_stalled { server.channel() } else { channel.clone() };
                let answer = FleetServiceClient::new(channel).watch_drivers(request).await;
                let mut stream = answer.expect("the watch begins").into_inner();
                let first = stream.message().await.unwrap().expect("a first message");
                assert!(first.reset && !first.drivers.is_empty(), "there are drivers to see");
                if is_stalled {
                    watchers.stalled.push(stream);
                    continue;
                }
                let seen = Arc::clone(&watchers.seen);
                watchers.reading.spawn(async move {
                    while let Some(message) = stream.message().await.unwrap() {
                        seen.fetch_add(message.drivers.len() as u64, Ordering::Relaxed);
                    }
                });
            }
        }
        watchers
    }

    /// How often those who read saw a driver that came or moved, since the last time.
    pub fn seen(&self) -> u64 {
        self.seen.swap(0, Ordering::Relaxed)
    }

    /// Those who stopped reading read again: each sees the driver of its number, who came while it did not.
    pub async fn wake(&mut self, driver_of: impl Fn(usize) -> String) {
        for (number, stream) in self.stalled.iter_mut().enumerate() {
            let driver = driver_of(number);
            let found = async {
                while let Some(message) = stream.message().await.unwrap() {
                    if message.drivers.iter().any(|seen| seen.driver_id == driver) {
                        return;
                    }
                }
                panic!("the watch of one that does not read ended");
            };
            tokio::time::timeout(IN_TIME, found).await.expect("it sees the driver");
        }
    }
}

/// The inside of the cell of this place.
fn cell_of(place: &LatLng) -> Area {
    let (south, west) = (
        (place.latitude() * 100.0).floor() / 100.0,
        (place.longitude() * 100.0).floor() / 100.0,
    );
    let corner = |beyond: f64| LatLng {
        latitude: Some(south + beyond),
        longitude: Some(west + beyond),
    };
    Area {
        south_west: Some(corner(WITHIN_DEG)),
        north_east: Some(corner(0.01 - WITHIN_DEG)),
    }
}
