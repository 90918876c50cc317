//! Which two fixes of a driver are a piece of a street: the next after each other, and near in place and time. Between others
//! it may have gone anywhere.

use jiff::SignedDuration;

use crate::fix::Fix;
use crate::position::Position;

/// How far apart in time: fleets that report once a minute draw, too.
pub const TIME_MAX: SignedDuration = SignedDuration::from_secs(70);
/// How far apart in place. A straight line that is longer leaves the streets.
const DISTANCE_MAX_M: f64 = 400.0;
const METRES_A_DEGREE: f64 = 111_195.0;

/// Whether the way from one fix of a driver to its next one is drawn.
pub fn joins(from: &Fix, to: &Fix) -> bool {
    let time = to.recorded_at.duration_since(from.recorded_at);
    let is_near_in_time = time > SignedDuration::ZERO && time <= TIME_MAX;
    from.driver == to.driver && is_near_in_time && distance_m(from.position, to.position) <= DISTANCE_MAX_M
}

/// As on a flat map of the place, which is exact enough for so short a way.
fn distance_m(from: Position, to: Position) -> f64 {
    let north = to.lat_deg() - from.lat_deg();
    let east = (to.lon_deg() - from.lon_deg() + 540.0) % 360.0 - 180.0;
    let shrink = f64::midpoint(from.lat_deg(), to.lat_deg()).to_radians().cos();
    north.hypot(east * shrink) * METRES_A_DEGREE
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;

    fn fix(driver: &str, lat: f64, lon: f64, second: i64) -> Fix {
        Fix {
            driver: driver.parse().unwrap(),
            position: Position::new(lat, lon).unwrap(),
            recorded_at: Timestamp::from_second(1_700_000_000 + second).unwrap(),
        }
    }

    #[test]
    fn fixes_near_in_place_and_time_are_joined() {
        let from = fix("cab-1", 37.77, -122.42, 0);
        for (to, is_joined) in [
            (fix("cab-1", 37.77, -122.42, 1), true),
            (fix("cab-1", 37.77, -122.42, 70), true),
            (fix("cab-1", 37.77, -122.42, 71), false),
            (fix("cab-1", 37.77, -122.42, 0), false),
            (fix("cab-1", 37.77, -122.42, -1), false),
            (fix("cab-2", 37.77, -122.42, 1), false),
            // 0.0035 degrees are 389 m from south to north, and 308 m from west to east.
            (fix("cab-1", 37.7735, -122.42, 60), true),
            (fix("cab-1", 37.7737, -122.42, 60), false),
            (fix("cab-1", 37.77, -122.4155, 60), true),
            (fix("cab-1", 37.77, -122.4153, 60), false),
        ] {
            assert_eq!(joins(&from, &to), is_joined, "{to:?}");
        }
    }

    #[test]
    fn the_180th_meridian_parts_nothing() {
        assert!(joins(
            &fix("cab-1", -16.8, 179.999, 0),
            &fix("cab-1", -16.8, -179.999, 30)
        ));
        assert!(!joins(&fix("cab-1", -16.8, 179.0, 0), &fix("cab-1", -16.8, -179.0, 30)));
    }
}
