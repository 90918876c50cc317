//! The recorded positions, kept compact: 32 bytes a fix, so a day of 500 cabs takes 16 MB.

use std::path::Path;
use std::sync::Arc;

use super::rows::{degrees, unix_seconds, walk};
use super::{BrokenLines, TraceError};
use crate::Drivers;

/// `occupied` is in the files too, and nothing here needs it.
const COLUMNS: [&str; 4] = ["recorded_at", "driver_id", "lat", "long"];

/// One recorded position.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct RecordedFix {
    /// Unix seconds.
    pub(crate) recorded_at: i64,
    /// Index into [`Locations::drivers`].
    pub(crate) driver: u32,
    /// Degrees north, -90 to 90.
    pub(crate) lat_deg: f64,
    /// Degrees east, -180 to 180.
    pub(crate) lon_deg: f64,
}

/// All positions of a trace, by time, one for each driver and time.
#[derive(Debug)]
pub(crate) struct Locations {
    /// By time; no two of one driver at one time.
    pub(crate) fixes: Vec<RecordedFix>,
    /// Who was there.
    pub(crate) drivers: Arc<Drivers>,
    /// Lines that could not be used.
    pub(crate) broken_lines: BrokenLines,
}

impl Locations {
    /// Reads a file with at least the columns `recorded_at,driver_id,lat,long`.
    pub(crate) fn read(path: &Path) -> Result<Locations, TraceError> {
        let mut fixes = Vec::new();
        let mut drivers = Drivers::default();
        let broken_lines = walk(path, &COLUMNS, |[recorded_at, driver_id, lat, long]| {
            let recorded_at = unix_seconds("recorded_at", recorded_at)?;
            let lat_deg = degrees("lat", lat, 90.0)?;
            let lon_deg = degrees("long", long, 180.0)?;
            if driver_id.is_empty() {
                return Err("driver_id is empty".to_owned());
            }
            fixes.push(RecordedFix {
                recorded_at,
                driver: drivers.intern(driver_id),
                lat_deg,
                lon_deg,
            });
            Ok(())
        })?;

        // The server stores one fix a driver and time, the first that it gets; so does this. The sort is stable.
        fixes.sort_by_key(|fix| (fix.recorded_at, fix.driver));
        fixes.dedup_by_key(|fix| (fix.recorded_at, fix.driver));
        fixes.shrink_to_fit();
        Ok(Locations {
            fixes,
            drivers: Arc::new(drivers),
            broken_lines,
        })
    }
}
