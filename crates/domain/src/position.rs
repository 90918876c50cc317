//! Points on the globe.

use thiserror::Error;

/// Why a point was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum PositionError {
    /// The latitude is not a number from -90 to 90.
    #[error("must be a number from -90 to 90")]
    LatitudeOutOfRange,
    /// The longitude is not a number from -180 to 180.
    #[error("must be a number from -180 to 180")]
    LongitudeOutOfRange,
}

/// A point on the globe. Invariant: both coordinates are finite and in range, and zero has no sign, so that equal
/// coordinates have equal bits.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Position {
    lat_deg: f64,
    lon_deg: f64,
}

impl Position {
    /// A point `lat_deg` degrees north and `lon_deg` degrees east.
    pub fn new(lat_deg: f64, lon_deg: f64) -> Result<Position, PositionError> {
        // `contains` is false for NaN, so NaN is refused here too.
        if !(-90.0..=90.0).contains(&lat_deg) {
            return Err(PositionError::LatitudeOutOfRange);
        }
        if !(-180.0..=180.0).contains(&lon_deg) {
            return Err(PositionError::LongitudeOutOfRange);
        }
        // -0.0 and 0.0 are one number; the sum of the two is 0.0 (IEEE 754), and nothing else changes.
        Ok(Position {
            lat_deg: lat_deg + 0.0,
            lon_deg: lon_deg + 0.0,
        })
    }

    /// Degrees north, -90 to 90.
    pub fn lat_deg(&self) -> f64 {
        self.lat_deg
    }

    /// Degrees east, -180 to 180.
    pub fn lon_deg(&self) -> f64 {
        self.lon_deg
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zero_has_no_sign() {
        let position = Position::new(-0.0, -0.0).unwrap();
        assert_eq!(position.lat_deg().to_bits(), 0.0_f64.to_bits());
        assert_eq!(position.lon_deg().to_bits(), 0.0_f64.to_bits());
    }

    #[test]
    fn the_whole_globe_and_nothing_else() {
        for (lat, lon) in [(0.0, 0.0), (90.0, 180.0), (-90.0, -180.0), (37.7749, -122.4194)] {
            assert!(Position::new(lat, lon).is_ok(), "{lat} {lon}");
        }
        for lat in [90.0001, -90.0001, f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
            assert_eq!(Position::new(lat, 0.0), Err(PositionError::LatitudeOutOfRange), "{lat}");
        }
        for lon in [180.0001, -180.0001, f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
            assert_eq!(
                Position::new(0.0, lon),
                Err(PositionError::LongitudeOutOfRange),
                "{lon}"
            );
        }
    }
}
