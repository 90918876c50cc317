//! What a search for drivers counts as among other reads.

use std::num::NonZeroU32;

/// Up to this radius, in metres, a search is one read.
pub const RADIUS_OF_ONE_M: f64 = 5_000.0;
/// The largest radius that is searched, in metres: about a city.
pub const RADIUS_MAX_M: f64 = 50_000.0;
/// What the largest search counts as.
pub const WEIGHT_MAX: u32 = 100;

/// How many reads a search within this radius counts as. It grows with the area: the index reads all who are in its boxes around the circle, on the one core
/// that Redis has, and how many are wanted only decides how soon a smaller circle is enough.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "it is from 1 to 100; what is no number is cast to 0"
)]
pub fn search_weight(radius_m: f64) -> NonZeroU32 {
    let areas = (radius_m / RADIUS_OF_ONE_M).powi(2).ceil();
    NonZeroU32::new(areas.clamp(1.0, f64::from(WEIGHT_MAX)) as u32).unwrap_or(NonZeroU32::MIN)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn it_grows_with_the_area_from_one_read_to_what_the_largest_circle_costs() {
        for (radius_m, weight) in [
            (0.0, 1),
            (1.0, 1),
            (4_999.0, 1),
            (RADIUS_OF_ONE_M, 1),
            (5_001.0, 2),
            (10_000.0, 4),
            (10_001.0, 5),
            (15_000.0, 9),
            (25_000.0, 25),
            (49_749.0, 99),
            (49_750.0, 100),
            (RADIUS_MAX_M, WEIGHT_MAX),
            // None of these is searched.
            (50_001.0, WEIGHT_MAX),
            (f64::INFINITY, WEIGHT_MAX),
            (f64::NAN, 1),
            (-1.0, 1),
        ] {
            assert_eq!(search_weight(radius_m).get(), weight, "{radius_m} m");
        }
    }

    proptest! {
        /// No larger circle is cheaper, and none costs less than its share of the largest one's area.
        #[test]
        fn a_larger_circle_never_costs_less(one in 0.0..=RADIUS_MAX_M, other in 0.0..=RADIUS_MAX_M) {
            let (small, large) = if one < other { (one, other) } else { (other, one) };
            prop_assert!(search_weight(small) <= search_weight(large));
            let share = (large / RADIUS_MAX_M).powi(2) * f64::from(WEIGHT_MAX);
            prop_assert!(f64::from(search_weight(large).get()) >= share - 1e-6);
        }
    }
}
