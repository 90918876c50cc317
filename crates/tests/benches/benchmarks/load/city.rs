//! Drivers who are there and stay where they are: in the city in which the load searches.

use jiff::Timestamp;
use testkit::wire;
use tokio_postgres::Client;
use tonic::transport::Channel;
use waybill_proto::fleet::v1::SearchDriversRequest;
use waybill_proto::fleet::v1::fleet_service_client::FleetServiceClient;
use waybill_proto::location::v1::location_service_client::LocationServiceClient;
use waybill_proto::location::v1::{Fix, LatLng, ReportLocationsRequest};

use super::{RADIUS_M, WANTED};

/// The city of the load's searches: a square of 20 km, out at sea.
const MIDDLE_DEG: (f64, f64) = (0.25, -120.25);
const SIDE_DEG: f64 = 0.18;
/// How the names of those that are put there begin.
pub const NAMES: &str = "driver-";
/// The contract takes 500.
const FIXES_PER_CALL: usize = 500;

/// Puts so many drivers onto the map.
pub async fn populate(channel: Channel, drivers: usize) {
    let mut locations = LocationServiceClient::new(channel);
    for first in (0..drivers).step_by(FIXES_PER_CALL) {
        let fixes: Vec<Fix> = (first..drivers.min(first + FIXES_PER_CALL))
            .map(|driver| fix(driver, drivers))
            .collect();
        let count = fixes.len();
        let answer = locations.report_locations(ReportLocationsRequest { fixes }).await;
        let answer = answer.unwrap().into_inner();
        assert_eq!(answer.accepted_count as usize, count, "{:?}", answer.rejections);
    }
}

/// Gives Postgres a row of each of them, as it has of drivers who were candidates before, and none is busy.
pub async fn make_known_to_postgres(sql: &Client, drivers: usize) {
    let insert =
        format!("insert into drivers (driver_id) select 'driver-' || n from generate_series(0, {drivers} - 1) n");
    sql.batch_execute(&insert).await.unwrap();
}

/// Searches as the load does find as many as they want: an empty answer is the fastest of all.
pub async fn assert_found(channel: Channel, drivers: usize) {
    let mut fleet = FleetServiceClient::new(channel);
    // From the middle half of the city: at its border a circle is half empty.
    for driver in (drivers / 4..drivers * 3 / 4).step_by((drivers / 40).max(1)) {
        let request = SearchDriversRequest {
            near: Some(place_of(driver, drivers)),
            radius_meters: RADIUS_M,
            max_count: i32::try_from(WANTED).unwrap(),
        };
        let found = fleet.search_drivers(request).await.unwrap().into_inner().drivers;
        assert_eq!(found.len(), WANTED as usize, "drivers near driver {driver}");
    }
}

/// One of so many drivers, now.
pub fn fix(driver: usize, drivers: usize) -> Fix {
    let place = place_of(driver, drivers);
    let name = format!("driver-{driver}");
    wire::fix(&name, place.latitude(), place.longitude(), Timestamp::now())
}

/// Where a driver is: every number of them fills the same city evenly.
pub fn place_of(driver: usize, drivers: usize) -> LatLng {
    // The multiples of the golden ratio spread any number of points evenly (Weyl, 1916).
    #[allow(clippy::cast_precision_loss, reason = "100,000 drivers")]
    let (row, column) = (
        driver as f64 / drivers as f64,
        (driver as f64 * 0.618_033_988_749_894_9).fract(),
    );
    LatLng {
        latitude: Some(MIDDLE_DEG.0 + SIDE_DEG * (row - 0.5)),
        longitude: Some(MIDDLE_DEG.1 + SIDE_DEG * (column - 0.5)),
    }
}
