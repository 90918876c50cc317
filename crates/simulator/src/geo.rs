//! Points on the globe and the little geometry that a simulated city needs.

/// The mean radius of the Earth (IUGG), good to 0.5 % for distances within a city.
const EARTH_RADIUS_M: f64 = 6_371_008.8;

/// A point on the globe.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Point {
    /// Degrees north of the equator, -90 to 90.
    pub lat_deg: f64,
    /// Degrees east of Greenwich, -180 to 180.
    pub lon_deg: f64,
}

impl Point {
    /// The point `east_m` metres east and `north_m` metres north of this one. Flat-earth arithmetic: fit for tens of
    /// kilometres, away from the poles.
    #[must_use]
    pub fn offset(self, east_m: f64, north_m: f64) -> Point {
        let lat_deg = self.lat_deg + (north_m / EARTH_RADIUS_M).to_degrees();
        let parallel_radius_m = EARTH_RADIUS_M * self.lat_deg.to_radians().cos();
        Point {
            lat_deg,
            lon_deg: self.lon_deg + (east_m / parallel_radius_m).to_degrees(),
        }
    }

    /// Great-circle distance in metres (haversine).
    pub fn distance_m(self, other: Point) -> f64 {
        let half_lat = (other.lat_deg - self.lat_deg).to_radians() / 2.0;
        let half_lon = (other.lon_deg - self.lon_deg).to_radians() / 2.0;
        let cosines = self.lat_deg.to_radians().cos() * other.lat_deg.to_radians().cos();
        let h = half_lat.sin().powi(2) + cosines * half_lon.sin().powi(2);
        2.0 * EARTH_RADIUS_M * h.sqrt().min(1.0).asin()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_offset_point_is_as_far_away_as_it_was_moved() {
        let centre = Point {
            lat_deg: 37.7749,
            lon_deg: -122.4194,
        };
        let moved = centre.offset(-3_000.0, 4_000.0);
        assert!(
            (centre.distance_m(moved) - 5_000.0).abs() < 5.0,
            "{}",
            centre.distance_m(moved)
        );
        assert!(moved.lon_deg < centre.lon_deg && moved.lat_deg > centre.lat_deg);
    }
}
