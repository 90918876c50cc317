//! The pixels under a straight line: one in each column of a flat line, one in each row of a steep one, so that it has no gap.

use super::projection::{WORLD, WorldPixel};

/// No segment is longer at the edge of the map. Beyond it, near a pole, few metres may be half of the world.
const LENGTH_MAX: i64 = 1_000;

/// The pixels from one to the other, both included, the shorter way round the world; none of a line that is too long. The same
/// both ways: who drives a street to and fro draws one line.
pub fn line(from: WorldPixel, to: WorldPixel) -> impl Iterator<Item = WorldPixel> {
    let (x, y) = (i64::from(from.x()), i64::from(from.y()));
    let (across, down) = (eastwards(from, to), i64::from(to.y()) - y);
    let steps = across.abs().max(down.abs());
    let last = if steps <= LENGTH_MAX { steps } else { -1 };
    (0..=last).map(move |step| WorldPixel::wrapped(x + share(across, step, steps), y + share(down, step, steps)))
}

/// How far it is eastwards the shorter way; westwards is negative.
fn eastwards(from: WorldPixel, to: WorldPixel) -> i64 {
    let (world, plain) = (i64::from(WORLD), i64::from(to.x()) - i64::from(from.x()));
    (plain + world / 2).rem_euclid(world) - world / 2
}

/// `step / steps` of a distance, rounded to the nearest pixel, halves up.
fn share(distance: i64, step: i64, steps: i64) -> i64 {
    (2 * distance * step + steps).div_euclid((2 * steps).max(1))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn at(x: i64, y: i64) -> WorldPixel {
        WorldPixel::wrapped(x, y)
    }

    /// The plain slow version: of all pixels between two corners, those that the line passes nearest to the middle of, in
    /// their column, or in their row if it is steep.
    fn nearest(across: i64, down: i64) -> BTreeSet<(i64, i64)> {
        let is_steep = down.abs() > across.abs();
        let (long, short) = if is_steep { (down, across) } else { (across, down) };
        let mut found = BTreeSet::new();
        for a in long.min(0)..=long.max(0) {
            for b in short.min(0)..=short.max(0) {
                // b - 1/2 <= a * short / long < b + 1/2, in whole numbers.
                let (sign, long) = (long.signum(), long.abs());
                let middle = 2 * a * sign * short;
                if long == 0 || (2 * b * long - long <= middle && middle < 2 * b * long + long) {
                    found.insert(if is_steep { (b, a) } else { (a, b) });
                }
            }
        }
        found
    }

    proptest! {
        #[test]
        fn a_line_has_the_pixels_that_it_passes_nearest(across in -40_i64..40, down in -40_i64..40) {
            let start = (1_000, 2_000);
            let drawn: Vec<_> = line(at(start.0, start.1), at(start.0 + across, start.1 + down)).collect();
            let expected = nearest(across, down).into_iter().map(|(x, y)| at(start.0 + x, start.1 + y));
            prop_assert_eq!(drawn.iter().copied().collect::<BTreeSet<_>>(), expected.collect::<BTreeSet<_>>());
        }

        /// Anywhere, across the edge of the map too: from one end to the other by steps to a neighbour.
        #[test]
        fn a_line_has_no_gap_and_is_the_same_both_ways(
            x in 0..i64::from(WORLD), y in 0..i64::from(WORLD), across in -700_i64..700, down in -700_i64..700
        ) {
            let (from, to) = (at(x, y), at(x + across, y + down));
            let drawn: Vec<_> = line(from, to).collect();
            prop_assert_eq!((drawn.first(), drawn.last()), (Some(&from), Some(&to)));
            for pair in drawn.windows(2) {
                let (step_x, step_y) = (eastwards(pair[0], pair[1]), i64::from(pair[1].y()) - i64::from(pair[0].y()));
                prop_assert!(step_x.abs().max(step_y.abs()) == 1, "{:?}", pair);
            }
            let back: BTreeSet<_> = line(to, from).collect();
            prop_assert_eq!(drawn.into_iter().collect::<BTreeSet<_>>(), back);
        }
    }

    #[test]
    fn a_line_over_the_180th_meridian_is_short() {
        let drawn: Vec<_> = line(at(-2, 7), at(1, 7)).map(WorldPixel::x).collect();
        assert_eq!(drawn, [WORLD - 2, WORLD - 1, 0, 1]);
    }

    #[test]
    fn a_place_is_a_line_and_what_is_too_long_is_none() {
        assert_eq!(line(at(5, 5), at(5, 5)).count(), 1);
        assert_eq!(line(at(0, 0), at(LENGTH_MAX, 0)).count(), 1_001);
        assert_eq!(line(at(0, 0), at(LENGTH_MAX + 1, 0)).count(), 0);
        assert_eq!(
            line(at(0, 0), at(i64::from(WORLD) / 2, i64::from(WORLD) - 1)).count(),
            0
        );
    }
}
