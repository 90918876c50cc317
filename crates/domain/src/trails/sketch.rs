//! A set of drivers in 64 bits: each driver is one of them, by a hash of its id.
//!
//! The trade. Two drivers with one bit count as one, so a set is never larger than it seems: what shows two bits was passed by
//! at least two drivers, and that is the promise. The price is that one pair in 64 counts as one, and that sets above some
//! 250 drivers all look alike; for streets on a map neither matters. Exact sets would take memory without bound, and counters
//! would count a driver again when a batch is drawn again, in each pixel that is merged into a coarser one, and on each day:
//! whoever goes home every day would soon be seen there.

use std::ops::BitOr;

use sha2::{Digest as _, Sha256};

use crate::id::DriverId;

/// A set of drivers, as far as 64 bits can tell.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Sketch(u64);

impl Sketch {
    /// The set of one driver. The same bit everywhere and always, so that sets of different days and places can be merged.
    pub fn of(driver: &DriverId) -> Sketch {
        let hash = Sha256::digest(driver.as_str().as_bytes());
        Sketch(1 << (hash.first().copied().unwrap_or_default() % 64))
    }

    pub(super) fn from_bits(bits: u64) -> Sketch {
        Sketch(bits)
    }

    pub(super) fn bits(self) -> u64 {
        self.0
    }

    /// How many drivers are certainly distinct, 0 to 64: as many passed, or more.
    pub fn distinct(self) -> u32 {
        self.0.count_ones()
    }
}

/// The drivers of both.
impl BitOr for Sketch {
    type Output = Sketch;

    fn bitor(self, other: Sketch) -> Sketch {
        Sketch(self.0 | other.0)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn sketch(numbers: &BTreeSet<u16>) -> Sketch {
        let drivers = numbers.iter().map(|number| format!("cab-{number}").parse().unwrap());
        drivers.fold(Sketch::default(), |all, driver: DriverId| all | Sketch::of(&driver))
    }

    /// Bits are stored: they must be those of all versions.
    #[test]
    fn the_bit_of_a_driver_stays() {
        let bits = |driver: &str| Sketch::of(&driver.parse().unwrap()).bits().trailing_zeros();
        assert_eq!(["cab-1", "cab-2", "cab-3", "driver-7"].map(bits), [20, 7, 51, 49]);
    }

    #[test]
    fn drivers_are_spread_over_the_bits() {
        assert_eq!(sketch(&(0..1_000).collect()).distinct(), 64);
    }

    proptest! {
        #[test]
        fn a_set_never_has_fewer_drivers_than_it_shows(
            one in proptest::collection::btree_set(any::<u16>(), 0..40),
            other in proptest::collection::btree_set(any::<u16>(), 0..40),
        ) {
            let both: BTreeSet<u16> = one.union(&other).copied().collect();
            let merged = sketch(&one) | sketch(&other);
            prop_assert_eq!(merged, sketch(&both));
            prop_assert!(merged.distinct() as usize <= both.len());
            prop_assert_eq!(merged | sketch(&one), merged);
        }
    }
}
