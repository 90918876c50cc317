//! How far a search looks. The index reads every driver of the boxes around a circle and sorts those within, so a search for a few in a
//! crowded city looks close by first, and further only where too few are found. How close, others who searched there have learned.

use std::f64::consts::PI;
use std::sync::atomic::{AtomicU32, Ordering};

use waybill_domain::position::Position;

use crate::storage::keys::fnv1a;

/// No circle is smaller, in metres.
const RADIUS_MIN_M: f64 = 50.0;
/// Where nothing is known, the first circle's radius is the whole one's through this.
const FIRST_PART: f64 = 8.0;
/// A circle grows at least so much, or the next one would find as little; and at most so much, since what little is known may be wrong.
const GROWTH: (f64, f64) = (2.0, 4.0);
/// Places whose density is remembered. Two that fall together mislead each other, which costs a circle more.
const PLACES: usize = 4_096;
/// Places in a degree: one is some 2 km high.
const PLACES_A_DEGREE: f64 = 50.0;

/// How many drivers there are on a square metre, by place and by how many are wanted (a few at a rank say nothing of the suburb around it):
/// as whoever searched there last found it.
#[derive(Debug)]
pub(super) struct Densities(Box<[AtomicU32]>);

impl Default for Densities {
    fn default() -> Densities {
        // Not a number: nothing is known.
        Densities((0..PLACES).map(|_| AtomicU32::new(f32::NAN.to_bits())).collect())
    }
}

impl Densities {
    /// The radius of the first circle of a search for so many within `max_m`.
    pub(super) fn first_radius(&self, index: &str, centre: Position, wanted: usize, max_m: f64) -> f64 {
        let density = self
            .place(index, centre, wanted)
            .map_or(f32::NAN, |place| f32::from_bits(place.load(Ordering::Relaxed)));
        first_radius(density, wanted, max_m)
    }

    /// Where so many were wanted, so many were found within this radius.
    pub(super) fn learn(&self, index: &str, centre: Position, wanted: usize, (found, radius_m): (usize, f64)) {
        if let Some(place) = self.place(index, centre, wanted) {
            place.store(density(found, radius_m).to_bits(), Ordering::Relaxed);
        }
    }

    fn place(&self, index: &str, centre: Position, wanted: usize) -> Option<&AtomicU32> {
        let number = |degrees: f64| (degrees * PLACES_A_DEGREE).floor().to_le_bytes();
        let size = wanted.next_power_of_two().to_le_bytes();
        let name = [
            index.as_bytes(),
            &number(centre.lat_deg()),
            &number(centre.lon_deg()),
            &size,
        ]
        .concat();
        self.0.get(fnv1a(&name) as usize % PLACES)
    }
}

/// The radius of the circle after one in which only so many were found, and `before` in the one before that; `None` if it was the whole
/// one.
pub(super) fn next_radius(
    radius_m: f64,
    (before, found): (Option<usize>, usize),
    wanted: usize,
    max_m: f64,
) -> Option<f64> {
    if radius_m >= max_m {
        return None;
    }
    // What lies around a crowd is not as crowded.
    let least = if before == Some(found) { GROWTH.1 } else { GROWTH.0 };
    let guess = first_radius(density(found, radius_m), wanted, max_m);
    Some(whole_if_near(guess.clamp(radius_m * least, radius_m * GROWTH.1), max_m))
}

fn first_radius(density: f32, wanted: usize, max_m: f64) -> f64 {
    if !density.is_finite() {
        return whole_if_near((max_m / FIRST_PART).max(RADIUS_MIN_M), max_m);
    }
    #[allow(clippy::cast_precision_loss, reason = "a search is for some thousands at most")]
    let wanted = wanted as f64;
    // Drivers are not laid out evenly: where so many more are expected, too few are seldom found.
    let expected = wanted + 2.0 * wanted.sqrt() + 1.0;
    whole_if_near((expected / (PI * f64::from(density))).sqrt().max(RADIUS_MIN_M), max_m)
}

/// A last circle that is hardly larger is not worth one before it.
fn whole_if_near(radius_m: f64, max_m: f64) -> f64 {
    if radius_m * 1.5 >= max_m { max_m } else { radius_m }
}

/// Drivers on a square metre. Of none found, one half might have been.
fn density(found: usize, radius_m: f64) -> f32 {
    #[allow(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        reason = "a guess: a few digits are enough"
    )]
    let density = ((found as f64).max(0.5) / (PI * radius_m.max(1.0).powi(2))) as f32;
    density
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn here() -> Position {
        Position::new(37.77, -122.42).unwrap()
    }

    fn metres(radius_m: f64) -> u32 {
        format!("{radius_m:.0}").parse().unwrap()
    }

    #[test]
    fn where_nothing_is_known_it_looks_at_a_part_first() {
        let first = |max_m| metres(Densities::default().first_radius("geo", here(), 16, max_m));
        assert_eq!(first(5_000.0), 625);
        // A small circle is the first one and the last.
        assert_eq!(first(60.0), 60);
    }

    #[test]
    fn what_was_learned_holds_for_the_place_and_the_index() {
        let densities = Densities::default();
        let first = |index: &str, place, wanted| metres(densities.first_radius(index, place, wanted, 5_000.0));
        let elsewhere = Position::new(37.97, -122.42).unwrap();
        // 25 are expected where 16 are wanted, and 81 for 64.
        densities.learn("geo", here(), 16, (16, 100.0));
        densities.learn("geo", here(), 64, (16, 100.0));
        assert_eq!((first("geo", here(), 16), first("geo", here(), 64)), (125, 225));
        assert_eq!(
            (first("geo:{acme}", here(), 16), first("geo", elsewhere, 16)),
            (625, 625)
        );
        // What a search for a few learned at a rank says nothing to one for many.
        densities.learn("geo", here(), 2, (2, 5.0));
        assert_eq!((first("geo", here(), 2), first("geo", here(), 16)), (50, 125));
        densities.learn("geo", here(), 16, (0, 5_000.0));
        assert_eq!(first("geo", here(), 16), 5_000);
    }

    #[test]
    fn around_a_crowd_that_is_too_small_circles_grow_fast() {
        let mut radius = 50.0;
        let mut before = None;
        let mut circles = vec![metres(radius)];
        while let Some(next) = next_radius(radius, (before, 20), 48, 5_000.0) {
            (radius, before) = (next, Some(20));
            circles.push(metres(radius));
        }
        assert_eq!(circles, [50, 100, 400, 1_600, 5_000]);
    }

    proptest! {
        /// Whatever was found, and wherever, circles grow until they are the whole one, which is the last; and they are few.
        #[test]
        fn circles_grow_to_the_whole_one(
            max_m in 1.0_f64..50_000.0,
            wanted in 1_usize..2_048,
            learned in proptest::option::of((0_usize..5_000, 0.0_f64..60_000.0)),
            found in proptest::collection::vec(0_usize..2_048, 32),
        ) {
            let densities = Densities::default();
            if let Some((found, radius_m)) = learned {
                densities.learn("geo", here(), wanted, (found, radius_m));
            }
            let mut radius = densities.first_radius("geo", here(), wanted, max_m);
            prop_assert!(radius > 0.0 && radius <= max_m);
            let (mut circles, mut before) = (1, None);
            for found in found {
                let found = found.min(wanted - 1);
                let Some(next) = next_radius(radius, (before, found), wanted, max_m) else { break };
                before = Some(found);
                prop_assert!(next > radius && next <= max_m);
                radius = next;
                circles += 1;
            }
            prop_assert!(radius >= max_m, "{} of {}", radius, max_m);
            prop_assert!(circles <= 11, "{} circles", circles);
        }
    }
}
