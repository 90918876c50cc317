//! A recorded city: its files read, and its fixes and rides put onto the present.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::play::{Play, Played};
use crate::clock::{SpeedError, TraceClock};
use crate::customers::PlannedOrder;
use crate::error::RunError;
use crate::fleet::DueFix;
use crate::trace::{BrokenLines, Locations, Ride, Rides};

/// What a ride costs: a fare to start with, and so much for each metre as the crow flies.
const FARE_CENTS: f64 = 350.0;
const FARE_CENTS_PER_M: f64 = 0.25;

/// The fixes, at least one, and the rides of a trace.
#[derive(Debug)]
pub(crate) struct RecordedCity {
    locations: Arc<Locations>,
    rides: Rides,
    /// Lines that could not be used, of both files.
    pub(crate) broken_lines: BrokenLines,
    first_second: i64,
    speed: f64,
}

impl RecordedCity {
    /// Reads the file of the fixes, and that of the rides if there is one, to play them at `speed`.
    pub(crate) async fn read(locations: PathBuf, rides: Option<PathBuf>, speed: f64) -> Result<RecordedCity, RunError> {
        // Refused before the work of reading.
        TraceClock::new(0, Timestamp::UNIX_EPOCH, Instant::now(), speed)?;
        let file = locations.clone();
        let read = move || {
            let locations = Locations::read(&locations)?;
            let rides = rides.map(|file| Rides::read(&file)).transpose()?.unwrap_or_default();
            Ok::<_, RunError>((Arc::new(locations), rides))
        };
        let (locations, rides) = TaskTracker::new().spawn_blocking(read).await??;
        let mut broken_lines = locations.broken_lines.clone();
        broken_lines.append(rides.broken_lines.clone());
        let Some(first_fix) = locations.fixes.first() else {
            return Err(RunError::EmptyTrace {
                file,
                first_broken: broken_lines.first.into_iter().next(),
            });
        };
        let first_ride = rides.rides.first();
        let first_second = first_ride.map_or(first_fix.recorded_at, |ride| {
            ride.requested_at.min(first_fix.recorded_at)
        });
        Ok(RecordedCity {
            locations,
            rides,
            broken_lines,
            first_second,
            speed,
        })
    }

    /// Plays it from `started` on, which is `started_at` by the wall clock.
    pub(crate) async fn play(
        &self,
        play: Play<'_>,
        started: Instant,
        started_at: Timestamp,
        stop: &CancellationToken,
    ) -> Result<Played, RunError> {
        let clock = self.clock(started, started_at)?;
        let drivers = &self.locations.drivers;
        let streams: Arc<[usize]> = drivers.streams(play.fleet.streams).into();
        let fixes = |stream| self.fixes(&streams, stream, clock);
        Ok(play.city(drivers, fixes, self.orders(clock), stop).await?)
    }

    /// The clock on which the first fix or ride is at `started`, which is `started_at` by the wall clock.
    fn clock(&self, started: Instant, started_at: Timestamp) -> Result<TraceClock, SpeedError> {
        TraceClock::new(self.first_second, started_at, started, self.speed)
    }

    /// How long it is from the first fix or ride to the last one, played at its speed.
    pub(crate) fn lasts(&self) -> Duration {
        let last_fix = self.locations.fixes.last().map(|fix| fix.recorded_at);
        let last_ride = self.rides.rides.last().map(|ride| ride.requested_at);
        let seconds = last_fix.max(last_ride).unwrap_or(self.first_second) - self.first_second;
        // The speed was found to be one when the files were read.
        let clock = self.clock(Instant::now(), Timestamp::UNIX_EPOCH);
        clock.map_or(Duration::ZERO, |clock| clock.span(seconds))
    }

    /// The fixes of the drivers that `stream` carries; `streams` has the stream of each driver.
    fn fixes(
        &self,
        streams: &Arc<[usize]>,
        stream: usize,
        clock: TraceClock,
    ) -> impl Iterator<Item = DueFix> + Send + use<> {
        let (locations, streams) = (Arc::clone(&self.locations), Arc::clone(streams));
        let mut next = 0;
        std::iter::from_fn(move || {
            let left = locations.fixes.get(next..)?;
            let ahead = left
                .iter()
                .position(|fix| streams.get(fix.driver as usize) == Some(&stream))?;
            let fix = left.get(ahead)?;
            next += ahead + 1;
            Some(DueFix {
                due: clock.due(fix.recorded_at),
                driver: fix.driver,
                lat_deg: fix.lat_deg,
                lon_deg: fix.lon_deg,
                recorded_at_micros: clock.unix_micros(fix.recorded_at),
            })
        })
    }

    /// Whether anything is ordered.
    pub(crate) fn has_rides(&self) -> bool {
        !self.rides.rides.is_empty()
    }

    /// The rides, as orders.
    fn orders(&self, clock: TraceClock) -> impl Iterator<Item = PlannedOrder> {
        (1..)
            .zip(&self.rides.rides)
            .map(move |(number, ride)| order(number, ride, clock))
    }
}

/// A ride as an order. Each has a rider of its own: at 720 times its pace, a real rider would be stopped as a flood.
fn order(number: usize, ride: &Ride, clock: TraceClock) -> PlannedOrder {
    PlannedOrder {
        due: clock.due(ride.requested_at),
        user_id: format!("rider-{number:06}"),
        amount_cents: fare_cents(ride),
        payment_method: "pm_card_visa",
        pickup: ride.pickup,
        drop_off: ride.drop_off,
        ride: clock.span(ride.completed_at - ride.requested_at),
    }
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "half way round the Earth costs 50,000 dollars"
)]
fn fare_cents(ride: &Ride) -> i64 {
    (FARE_CENTS + FARE_CENTS_PER_M * ride.pickup.distance_m(ride.drop_off)) as i64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Point;

    #[test]
    fn a_longer_ride_costs_more() {
        let at = Point {
            lat_deg: 37.7,
            lon_deg: -122.4,
        };
        let to = |east_m| Ride {
            requested_at: 0,
            completed_at: 60,
            pickup: at,
            drop_off: at.offset(east_m, 0.0),
        };
        assert_eq!(fare_cents(&to(0.0)), 350);
        assert!(
            (1_590..1_610).contains(&fare_cents(&to(5_000.0))),
            "{}",
            fare_cents(&to(5_000.0))
        );
    }
}
