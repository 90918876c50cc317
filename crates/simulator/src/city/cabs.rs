//! The fixes of the drivers of an invented city: one each round, spread evenly over it.

use jiff::Timestamp;
use tokio::time::Instant;

use super::{CityOptions, Territory, Walks};
use crate::fleet::DueFix;

/// The endless fixes of some drivers of a city, by due time: the drivers take turns.
#[derive(Debug)]
pub(crate) struct CabFixes {
    options: CityOptions,
    started: Instant,
    drivers: Vec<u32>,
    walks: Walks,
    turn: usize,
    round: u32,
}

impl CabFixes {
    /// The fixes of `drivers`, ascending indexes, from `started` on, which is `started_at` by the wall clock.
    pub(crate) fn new(
        options: CityOptions,
        drivers: impl IntoIterator<Item = u32>,
        started: Instant,
        started_at: Timestamp,
    ) -> CabFixes {
        let drivers: Vec<u32> = drivers.into_iter().collect();
        let territory = Territory {
            centre: options.centre,
            radius_m: options.radius_m,
        };
        CabFixes {
            options,
            started,
            walks: Walks::new(territory, drivers.iter().copied(), options.seed, started, started_at),
            drivers,
            turn: 0,
            round: 0,
        }
    }
}

impl Iterator for CabFixes {
    type Item = DueFix;

    fn next(&mut self) -> Option<DueFix> {
        if self.turn == self.drivers.len() {
            self.turn = 0;
            self.round += 1;
        }
        let driver = *self.drivers.get(self.turn)?;
        self.turn += 1;
        let phase = self.options.fix_every * driver / self.options.drivers.max(1);
        self.walks
            .next(self.started + self.options.fix_every * self.round + phase)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::time::Duration;

    use super::*;
    use crate::Point;

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
