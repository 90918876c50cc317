//! The drivers of an invented city: each follows the streets of a grid, turns where it likes, and stays in town.

use std::time::Duration;

use jiff::Timestamp;
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use tokio::time::Instant;

use super::CityOptions;
use crate::Point;
use crate::fleet::DueFix;

/// From one crossing to the next. About a block of San Francisco.
const BLOCK_M: f64 = 120.0;

/// How fast a cab drives, in metres a second.
const SPEED_MPS: std::ops::Range<f64> = 6.0..14.0;

/// How often a cab goes straight on where it may turn.
const STRAIGHT_ON: f64 = 0.6;

/// The endless fixes of some drivers of a city, by due time: the drivers take turns, evenly spread over each round.
#[derive(Debug)]
pub struct CabFixes {
    options: CityOptions,
    started: Instant,
    started_at: Timestamp,
    cabs: Vec<Cab>,
    turn: usize,
    round: u32,
}

#[derive(Debug)]
struct Cab {
    driver: u32,
    /// The crossing that lies behind, in blocks east and north of the centre.
    crossing: (i32, i32),
    heading: Heading,
    beyond_crossing_m: f64,
    speed_mps: f64,
    random: StdRng,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Heading {
    North,
    East,
    South,
    West,
}

impl CabFixes {
    /// The fixes of `drivers`, ascending indexes, from `started` on, which is `started_at` by the wall clock.
    pub fn new(
        options: CityOptions,
        drivers: impl IntoIterator<Item = u32>,
        started: Instant,
        started_at: Timestamp,
    ) -> CabFixes {
        let blocks = blocks(options.radius_m);
        let cabs = drivers
            .into_iter()
            .map(|driver| Cab::new(driver, blocks, options.seed))
            .collect();
        CabFixes {
            options,
            started,
            started_at,
            cabs,
            turn: 0,
            round: 0,
        }
    }
}

impl Iterator for CabFixes {
    type Item = DueFix;

    fn next(&mut self) -> Option<DueFix> {
        if self.turn == self.cabs.len() {
            self.turn = 0;
            self.round += 1;
        }
        let cab = self.cabs.get_mut(self.turn)?;
        self.turn += 1;
        if self.round > 0 {
            cab.drive(self.options.fix_every, blocks(self.options.radius_m));
        }
        let phase = self.options.fix_every * cab.driver / self.options.drivers.max(1);
        let after = self.options.fix_every * self.round + phase;
        let place = cab.place(self.options.centre);
        let micros = i64::try_from(after.as_micros()).unwrap_or(i64::MAX);
        Some(DueFix {
            due: self.started + after,
            driver: cab.driver,
            lat_deg: place.lat_deg,
            lon_deg: place.lon_deg,
            recorded_at_micros: self.started_at.as_microsecond().saturating_add(micros),
        })
    }
}

/// How many blocks the city reaches from its centre. At least one, for a cab to have somewhere to go.
#[expect(
    clippy::cast_possible_truncation,
    reason = "a cast saturates, and no city has two thousand million blocks"
)]
fn blocks(radius_m: f64) -> i32 {
    ((radius_m / BLOCK_M) as i32).clamp(1, 10_000)
}

fn is_in_town((east, north): (i32, i32), blocks: i32) -> bool {
    east * east + north * north <= blocks * blocks
}

impl Cab {
    fn new(driver: u32, blocks: i32, seed: u64) -> Cab {
        let mut random = StdRng::seed_from_u64(seed ^ (u64::from(driver) << 32));
        let crossing = loop {
            let crossing = (
                random.random_range(-blocks..=blocks),
                random.random_range(-blocks..=blocks),
            );
            if is_in_town(crossing, blocks) {
                break crossing;
            }
        };
        let speed_mps = random.random_range(SPEED_MPS);
        let mut cab = Cab {
            driver,
            crossing,
            heading: Heading::North,
            beyond_crossing_m: 0.0,
            speed_mps,
            random,
        };
        cab.choose_street(blocks);
        cab
    }

    fn drive(&mut self, time: Duration, blocks: i32) {
        self.beyond_crossing_m += self.speed_mps * time.as_secs_f64();
        while self.beyond_crossing_m >= BLOCK_M {
            self.beyond_crossing_m -= BLOCK_M;
            self.crossing = self.heading.next_crossing(self.crossing);
            self.choose_street(blocks);
        }
    }

    /// Straight on or into a side street, as long as it does not lead out of town; else back.
    fn choose_street(&mut self, blocks: i32) {
        let straight = self.heading;
        let (mut one, mut other) = (straight.right(), straight.right().right().right());
        if self.random.random() {
            std::mem::swap(&mut one, &mut other);
        }
        let first = if self.random.random_bool(STRAIGHT_ON) {
            [straight, one, other]
        } else {
            [one, other, straight]
        };
        let open = |heading: &Heading| is_in_town(heading.next_crossing(self.crossing), blocks);
        self.heading = first.into_iter().find(open).unwrap_or(straight.right().right());
    }

    fn place(&self, centre: Point) -> Point {
        let (east, north) = self.heading.step();
        let along = |crossing: i32, step: i32| f64::from(crossing) * BLOCK_M + f64::from(step) * self.beyond_crossing_m;
        centre.offset(along(self.crossing.0, east), along(self.crossing.1, north))
    }
}

impl Heading {
    fn right(self) -> Heading {
        match self {
            Heading::North => Heading::East,
            Heading::East => Heading::South,
            Heading::South => Heading::West,
            Heading::West => Heading::North,
        }
    }

    /// Blocks east and north.
    fn step(self) -> (i32, i32) {
        match self {
            Heading::North => (0, 1),
            Heading::East => (1, 0),
            Heading::South => (0, -1),
            Heading::West => (-1, 0),
        }
    }

    fn next_crossing(self, (east, north): (i32, i32)) -> (i32, i32) {
        let step = self.step();
        (east + step.0, north + step.1)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn options() -> CityOptions {
        CityOptions {
            drivers: 40,
            ..CityOptions::default()
        }
    }

    fn fixes(options: &CityOptions, rounds: usize) -> Vec<DueFix> {
        let started_at = Timestamp::from_second(1_700_000_000).unwrap();
        let all = CabFixes::new(*options, 0..options.drivers, Instant::now(), started_at);
        all.take(rounds * options.drivers as usize).collect()
    }

    fn place(fix: &DueFix) -> Point {
        Point {
            lat_deg: fix.lat_deg,
            lon_deg: fix.lon_deg,
        }
    }

    #[test]
    fn every_driver_sends_one_fix_a_second_and_all_are_spread_evenly() {
        let fixes = fixes(&options(), 10);
        for pair in fixes.windows(2) {
            assert_eq!(pair[1].due - pair[0].due, Duration::from_millis(25));
            assert_eq!(pair[1].recorded_at_micros - pair[0].recorded_at_micros, 25_000);
        }
        let distinct: BTreeSet<_> = fixes.iter().map(|fix| (fix.driver, fix.recorded_at_micros)).collect();
        assert_eq!(distinct.len(), 400);
    }

    #[test]
    fn drivers_move_along_streets_at_the_speed_of_a_cab_and_stay_in_town() {
        let options = CityOptions {
            radius_m: 600.0,
            ..options()
        };
        let fixes = fixes(&options, 300);
        for driver in 0..options.drivers {
            let path: Vec<Point> = fixes.iter().filter(|fix| fix.driver == driver).map(place).collect();
            assert!(
                path.iter().all(|at| at.distance_m(options.centre) <= 601.0),
                "driver {driver} left the town"
            );
            let steps: Vec<f64> = path.windows(2).map(|pair| pair[0].distance_m(pair[1])).collect();
            assert!(steps.iter().all(|step| *step < 14.1), "driver {driver} jumped");
            assert!(steps.iter().sum::<f64>() > 299.0 * 5.0, "driver {driver} stood still");
        }
    }

    #[test]
    fn a_driver_takes_the_same_way_whoever_else_is_on_its_stream() {
        let started_at = Timestamp::from_second(1_700_000_000).unwrap();
        let alone: Vec<Point> = CabFixes::new(options(), [7], Instant::now(), started_at)
            .take(50)
            .map(|fix| place(&fix))
            .collect();
        let among: Vec<Point> = fixes(&options(), 50)
            .iter()
            .filter(|fix| fix.driver == 7)
            .map(place)
            .collect();
        assert_eq!(alone, among);
        let other = fixes(&CityOptions { seed: 2, ..options() }, 50);
        assert_ne!(
            among,
            other
                .iter()
                .filter(|fix| fix.driver == 7)
                .map(place)
                .collect::<Vec<_>>()
        );
    }

    #[test]
    fn a_city_without_drivers_has_no_fixes() {
        assert_eq!(
            fixes(
                &CityOptions {
                    drivers: 0,
                    ..options()
                },
                1
            ),
            []
        );
        assert_eq!(
            CabFixes::new(options(), [], Instant::now(), Timestamp::UNIX_EPOCH).count(),
            0
        );
    }
}
