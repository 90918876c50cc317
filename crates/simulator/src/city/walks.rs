//! Drivers who move about near their homes in a city: a few additions a fix.

use std::f64::consts::TAU;

use jiff::Timestamp;
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use tokio::time::Instant;

use crate::Point;
use crate::fleet::DueFix;

/// Where the homes of drivers are.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Territory {
    pub(crate) centre: Point,
    /// How far from the centre homes are.
    pub(crate) radius_m: f64,
}

/// How far from its home a driver goes, north or east, before it turns.
const AWAY_MAX_M: f64 = 500.0;

/// How fast it is.
const SPEED_MPS: std::ops::Range<f64> = 6.0..14.0;

/// A driver without a fix for longer stood still in between: a stall of the load is no journey.
const MOVES_MAX_S: f64 = 10.0;

/// The drivers of one stream, who take turns.
#[derive(Debug)]
pub(crate) struct Walks {
    walkers: Vec<Walker>,
    turn: usize,
    started: Instant,
    started_at_micros: i64,
}

#[derive(Debug)]
struct Walker {
    driver: u32,
    /// Degrees north and east: where it lives, how far from there it is, and how far it goes in a second.
    home: (f64, f64),
    away: (f64, f64),
    per_second: (f64, f64),
    /// How far away it turns.
    away_max: (f64, f64),
    at: Instant,
    recorded_at_micros: i64,
}

impl Walks {
    /// `drivers` at home at `started`, which is `started_at` by the wall clock. The same seed gives the same ways.
    pub(crate) fn new(
        territory: Territory,
        drivers: impl IntoIterator<Item = u32>,
        seed: u64,
        started: Instant,
        started_at: Timestamp,
    ) -> Walks {
        let walkers = drivers
            .into_iter()
            .map(|driver| Walker::new(territory, driver, seed, started))
            .collect();
        Walks {
            walkers,
            turn: 0,
            started,
            started_at_micros: started_at.as_microsecond(),
        }
    }

    /// The fix of the driver whose turn it is; none without drivers. Its time is that at which it is due, and one µs
    /// later than its driver's last one where both are the same.
    pub(crate) fn next(&mut self, due: Instant) -> Option<DueFix> {
        let micros = due.saturating_duration_since(self.started).as_micros();
        let recorded_at = self
            .started_at_micros
            .saturating_add(i64::try_from(micros).unwrap_or(i64::MAX));
        let walkers = self.walkers.len();
        let walker = self.walkers.get_mut(self.turn)?;
        self.turn = if self.turn + 1 == walkers { 0 } else { self.turn + 1 };
        walker.walk(due);
        walker.recorded_at_micros = recorded_at.max(walker.recorded_at_micros.saturating_add(1));
        Some(DueFix {
            due,
            driver: walker.driver,
            lat_deg: walker.home.0 + walker.away.0,
            lon_deg: walker.home.1 + walker.away.1,
            recorded_at_micros: walker.recorded_at_micros,
        })
    }
}

impl Walker {
    fn new(territory: Territory, driver: u32, seed: u64, at: Instant) -> Walker {
        let mut random = StdRng::seed_from_u64(seed ^ (u64::from(driver) << 32));
        let mut toward = |distance_m: f64| {
            let (sin, cos) = random.random_range(0.0..TAU).sin_cos();
            (distance_m * sin, distance_m * cos)
        };
        let home = toward(territory.radius_m);
        let heading = toward(1.0);
        // The root spreads homes evenly over the disc.
        let out = random.random::<f64>().sqrt();
        let mps = random.random_range(SPEED_MPS);
        let home = territory.centre.offset(home.0 * out, home.1 * out);
        let degrees = |east_m: f64, north_m: f64| {
            let there = home.offset(east_m, north_m);
            (there.lat_deg - home.lat_deg, there.lon_deg - home.lon_deg)
        };
        Walker {
            driver,
            home: (home.lat_deg, home.lon_deg),
            away: (0.0, 0.0),
            per_second: degrees(heading.0 * mps, heading.1 * mps),
            away_max: degrees(AWAY_MAX_M, AWAY_MAX_M),
            at,
            recorded_at_micros: 0,
        }
    }

    fn walk(&mut self, until: Instant) {
        let seconds = until.saturating_duration_since(self.at).as_secs_f64().min(MOVES_MAX_S);
        self.at = until;
        go(&mut self.away.0, &mut self.per_second.0, self.away_max.0, seconds);
        go(&mut self.away.1, &mut self.per_second.1, self.away_max.1, seconds);
    }
}

/// Goes along one axis, and turns where it ends.
fn go(away: &mut f64, per_second: &mut f64, away_max: f64, seconds: f64) {
    *away += *per_second * seconds;
    if away.abs() > away_max {
        *away = away.clamp(-away_max, away_max);
        *per_second = -*per_second;
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::time::Duration;

    use super::*;
    use crate::city::SAN_FRANCISCO;

    fn walks(seed: u64, started: Instant) -> Walks {
        let started_at = Timestamp::from_second(1_700_000_000).unwrap();
        Walks::new(SAN_FRANCISCO, [3, 7, 11], seed, started, started_at)
    }

    #[test]
    fn drivers_take_turns_move_as_fast_as_cars_and_stay_near_home() {
        let started = Instant::now();
        let mut walks = walks(1, started);
        let mut last = [None; 3];
        for number in 0..3_000 {
            let fix = walks.next(started + Duration::from_secs(number)).unwrap();
            let turn = usize::try_from(number % 3).unwrap();
            assert_eq!(fix.driver, [3, 7, 11][turn]);
            let place = Point {
                lat_deg: fix.lat_deg,
                lon_deg: fix.lon_deg,
            };
            assert!(
                place.distance_m(SAN_FRANCISCO.centre) < SAN_FRANCISCO.radius_m + 2.0 * AWAY_MAX_M,
                "{place:?}"
            );
            if let Some(last) = last[turn].replace(place) {
                // Three seconds; where it turns it goes less.
                assert!(place.distance_m(last) < 3.0 * 14.2, "{}", place.distance_m(last));
                assert!(place != last);
            }
        }
    }

    #[test]
    fn the_times_of_a_driver_grow_even_where_its_fixes_are_due_at_once() {
        let started = Instant::now();
        let mut walks = walks(1, started);
        let fixes: Vec<DueFix> = (0..300)
            .map(|number| walks.next(started + Duration::from_micros(number / 30)).unwrap())
            .collect();
        let distinct: BTreeSet<_> = fixes.iter().map(|fix| (fix.driver, fix.recorded_at_micros)).collect();
        assert_eq!(distinct.len(), 300);
        for driver in [3, 7, 11] {
            let times = fixes.iter().filter(|fix| fix.driver == driver);
            assert!(times.map(|fix| fix.recorded_at_micros).is_sorted());
        }
        assert_eq!(fixes[0].recorded_at_micros, 1_700_000_000_000_000);
    }

    #[test]
    fn the_same_seed_gives_the_same_ways() {
        let started = Instant::now();
        let way = |seed| {
            let mut walks = walks(seed, started);
            (0..50)
                .map(|number| walks.next(started + Duration::from_secs(number)).unwrap())
                .collect::<Vec<_>>()
        };
        assert_eq!(way(5), way(5));
        assert_ne!(way(5), way(6));
    }
}
