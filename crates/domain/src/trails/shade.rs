//! How bright a pixel is.

use super::sketch::Sketch;

/// Fewer drivers than these are not shown: the way of one alone leads to its home.
pub const DRIVERS_MIN: u32 = 2;

/// The opacity, from 0 to 1, of a pixel with so many distinct drivers, 0 to 64: by the logarithm of about how many they are, so
/// that side streets are seen beside motorways.
pub fn opacity(distinct: u32) -> f64 {
    if distinct < DRIVERS_MIN {
        return 0.0;
    }
    let most = drivers(64).ln();
    FAINTEST + (1.0 - FAINTEST) * (drivers(distinct).ln() / most).powf(CONTRAST)
}

/// The faintest pixel that is shown: bright enough for the first streets of a map that is some minutes old.
const FAINTEST: f64 = 0.12;
/// Above 1: what is seldom passed, mostly straight lines over blocks, is darker.
const CONTRAST: f64 = 1.4;

/// About how many drivers make so many of 64 bits, where each takes one at random.
fn drivers(distinct: u32) -> f64 {
    // All 64 may be any number; some 300 make the last half bit.
    let free = (64.0 - f64::from(distinct)).max(0.5) / 64.0;
    -64.0 * free.ln()
}

/// What is shown of a set of drivers, 0 to 64: 0 for those that are not shown.
pub fn shown(sketch: Sketch) -> u32 {
    let distinct = sketch.distinct();
    if distinct < DRIVERS_MIN { 0 } else { distinct }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_one_driver_passed_is_not_shown() {
        assert_eq!((shown(Sketch::from_bits(0)), shown(Sketch::from_bits(4))), (0, 0));
        assert_eq!(
            (shown(Sketch::from_bits(5)), shown(Sketch::from_bits(u64::MAX))),
            (2, 64)
        );
        assert!([0, 1].map(opacity).iter().all(|opacity| *opacity <= 0.0));
    }

    #[test]
    fn the_more_drivers_the_brighter() {
        let shades: Vec<f64> = (1..=64).map(opacity).collect();
        assert!(
            shades.is_sorted_by(|fainter, brighter| fainter < brighter),
            "{shades:?}"
        );
        assert!((opacity(64) - 1.0).abs() < 1e-9);
    }
}
