//! From the globe to the map: Web Mercator, in pixels of the finest zoom.

use std::f64::consts::PI;

use super::tile::{SIDE, TileId, ZOOM_MAX};
use crate::position::Position;

/// Where the square map ends, north and south.
const LATITUDE_MAX_DEG: f64 = 85.051_128_779_806_59;
/// Pixels from west to east, and from north to south.
pub const WORLD: u32 = SIDE << ZOOM_MAX;

/// A pixel of the whole world at the finest zoom, from the north-western corner. Invariant: both are below [`WORLD`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct WorldPixel {
    x: u32,
    y: u32,
}

impl WorldPixel {
    /// The pixel of a position. What is nearer to a pole than the map reaches is on its edge.
    pub fn of(position: Position) -> WorldPixel {
        let latitude = position
            .lat_deg()
            .clamp(-LATITUDE_MAX_DEG, LATITUDE_MAX_DEG)
            .to_radians();
        let northwards = latitude.tan().asinh() / PI;
        // 180 degrees east are 180 degrees west.
        let eastwards = (position.lon_deg() + 180.0) / 360.0 % 1.0;
        WorldPixel {
            x: pixel(eastwards),
            y: pixel((1.0 - northwards) / 2.0),
        }
    }

    /// The pixel at these coordinates, of which the first runs round the world.
    pub(super) fn wrapped(x: i64, y: i64) -> WorldPixel {
        let on_map = |value: i64| u32::try_from(value).unwrap_or_default();
        WorldPixel {
            x: on_map(x.rem_euclid(i64::from(WORLD))),
            y: on_map(y.clamp(0, i64::from(WORLD) - 1)),
        }
    }

    /// The tile that it is on.
    pub(super) fn tile(self) -> TileId {
        TileId::around(self.x, self.y)
    }

    /// From the west.
    pub fn x(self) -> u32 {
        self.x
    }

    /// From the north.
    pub fn y(self) -> u32 {
        self.y
    }
}

/// The pixel at a share of the way over the map.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "clamped to the map before"
)]
fn pixel(share: f64) -> u32 {
    (share * f64::from(WORLD)).floor().clamp(0.0, f64::from(WORLD) - 1.0) as u32
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(lat: f64, lon: f64) -> WorldPixel {
        WorldPixel::of(Position::new(lat, lon).unwrap())
    }

    #[test]
    fn known_places_are_where_every_web_map_has_them() {
        // San Francisco, Berlin, the middle of the map, Sydney.
        for (lat, lon, tile) in [
            (37.7749, -122.4194, (5241, 12665)),
            (52.52, 13.405, (17604, 10746)),
            (0.0, 0.0, (16384, 16384)),
            (-33.8688, 151.2093, (30147, 19663)),
        ] {
            let pixel = at(lat, lon);
            assert_eq!((pixel.x() / SIDE, pixel.y() / SIDE), tile, "{lat} {lon}");
        }
    }

    #[test]
    fn the_ends_of_the_world_are_on_the_map() {
        let last = WORLD - 1;
        assert_eq!(at(90.0, -180.0), WorldPixel { x: 0, y: 0 });
        assert_eq!(at(85.06, 180.0), WorldPixel { x: 0, y: 0 });
        assert_eq!(at(-90.0, 179.999_999_9), WorldPixel { x: last, y: last });
        assert_eq!(WorldPixel::wrapped(-1, -1), WorldPixel { x: last, y: 0 });
        assert_eq!(WorldPixel::wrapped(i64::from(WORLD) + 2, 5), WorldPixel { x: 2, y: 5 });
    }

    proptest! {
        /// The edges of the pixel, back on the globe, are round the position.
        #[test]
        fn a_position_lies_within_its_pixel(lat in -85.05..85.05, lon in -180.0..180.0) {
            let pixel = at(lat, lon);
            let longitude = |x: u32| f64::from(x) / f64::from(WORLD) * 360.0 - 180.0;
            let latitude = |y: u32| ((1.0 - 2.0 * f64::from(y) / f64::from(WORLD)) * PI).sinh().atan().to_degrees();
            let rounding = 1e-9;
            prop_assert!((longitude(pixel.x) - rounding..longitude(pixel.x + 1) + rounding).contains(&lon));
            prop_assert!((latitude(pixel.y + 1) - rounding..latitude(pixel.y) + rounding).contains(&lat));
        }
    }
}
