//! The recorded rides: each becomes an order.

use std::path::Path;

use super::rows::{degrees, unix_seconds, walk};
use super::{BrokenLines, TraceError};
use crate::Point;

/// `driver_id` is in the files too: who really drove. Waybill chooses anew.
const COLUMNS: [&str; 6] = [
    "requested_at",
    "pickup_lat",
    "pickup_long",
    "completed_at",
    "dropoff_lat",
    "dropoff_long",
];

/// One recorded ride.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Ride {
    /// Unix seconds.
    pub(crate) requested_at: i64,
    /// Unix seconds, not before `requested_at`.
    pub(crate) completed_at: i64,
    /// Where it began.
    pub(crate) pickup: Point,
    /// Where it ended.
    pub(crate) drop_off: Point,
}

/// All rides of a trace, by the time of the request.
#[derive(Debug, Default)]
pub(crate) struct Rides {
    /// By the time of the request.
    pub(crate) rides: Vec<Ride>,
    /// Lines that could not be used.
    pub(crate) broken_lines: BrokenLines,
}

impl Rides {
    /// Reads a file with at least the columns
    /// `requested_at,pickup_lat,pickup_long,completed_at,dropoff_lat,dropoff_long`.
    pub(crate) fn read(path: &Path) -> Result<Rides, TraceError> {
        let mut rides = Vec::new();
        let broken_lines = walk(
            path,
            &COLUMNS,
            |[requested_at, from_lat, from_long, completed_at, to_lat, to_long]| {
                let ride = Ride {
                    requested_at: unix_seconds("requested_at", requested_at)?,
                    completed_at: unix_seconds("completed_at", completed_at)?,
                    pickup: Point {
                        lat_deg: degrees("pickup_lat", from_lat, 90.0)?,
                        lon_deg: degrees("pickup_long", from_long, 180.0)?,
                    },
                    drop_off: Point {
                        lat_deg: degrees("dropoff_lat", to_lat, 90.0)?,
                        lon_deg: degrees("dropoff_long", to_long, 180.0)?,
                    },
                };
                if ride.completed_at < ride.requested_at {
                    return Err("completed_at is before requested_at".to_owned());
                }
                rides.push(ride);
                Ok(())
            },
        )?;
        rides.sort_by_key(|ride: &Ride| ride.requested_at);
        Ok(Rides { rides, broken_lines })
    }
}
