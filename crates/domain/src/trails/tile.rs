//! Tiles: squares of the map of the world, by zoom, as all web maps count them.

/// The zoom at which segments are drawn: a pixel is 4.8 m wide at the equator, some 3.8 m in San Francisco.
pub const ZOOM_MAX: u8 = 15;
/// The coarsest zoom that is kept: a tile is a city with what is round it.
pub const ZOOM_MIN: u8 = 10;
/// Pixels along the side of a tile.
pub const SIDE: u32 = 256;
/// Pixels of a tile.
pub const AREA: usize = (SIDE * SIDE) as usize;

/// A tile. Invariant: its zoom is one that is kept, and it is on the map.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TileId {
    zoom: u8,
    x: u32,
    y: u32,
}

impl TileId {
    /// The tile at column `x` (from the west) and row `y` (from the north) of a zoom; `None` where there is none.
    pub fn new(zoom: u8, x: u32, y: u32) -> Option<TileId> {
        let is_kept = (ZOOM_MIN..=ZOOM_MAX).contains(&zoom);
        (is_kept && x >> zoom == 0 && y >> zoom == 0).then_some(TileId { zoom, x, y })
    }

    /// Its zoom.
    pub fn zoom(self) -> u8 {
        self.zoom
    }

    /// Its column.
    pub fn x(self) -> u32 {
        self.x
    }

    /// Its row.
    pub fn y(self) -> u32 {
        self.y
    }

    /// The tile of the finest zoom with the pixel of the world at these coordinates, which are on the map.
    pub(super) fn around(x: u32, y: u32) -> TileId {
        TileId {
            zoom: ZOOM_MAX,
            x: x / SIDE,
            y: y / SIDE,
        }
    }

    /// The tile of the next coarser zoom that has this one as a quarter; `None` where none is kept.
    pub fn parent(self) -> Option<TileId> {
        TileId::new(self.zoom.checked_sub(1)?, self.x / 2, self.y / 2)
    }

    /// The pixel of the parent that a pixel of this tile lies in.
    pub(super) fn in_parent(self, at: u16) -> u16 {
        let (column, row) = (u32::from(at) % SIDE, u32::from(at) / SIDE);
        let half = |quarter: u32, pixel: u32| quarter % 2 * (SIDE / 2) + pixel / 2;
        place(half(self.x, column), half(self.y, row))
    }
}

/// The number of a pixel within its tile, row by row.
#[expect(clippy::cast_possible_truncation, reason = "both are below 256 after the remainder")]
pub(super) fn place(x: u32, y: u32) -> u16 {
    (y % SIDE * SIDE + x % SIDE) as u16
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tiles_are_those_of_the_kept_zooms_that_are_on_the_map() {
        for (zoom, x, y, is_one) in [
            (10, 0, 0, true),
            (10, 1023, 1023, true),
            (10, 1024, 0, false),
            (10, 0, 1024, false),
            (15, 32_767, 32_767, true),
            (15, 32_768, 0, false),
            (15, u32::MAX, u32::MAX, false),
            (9, 0, 0, false),
            (16, 0, 0, false),
            (255, 0, 0, false),
        ] {
            assert_eq!(TileId::new(zoom, x, y).is_some(), is_one, "{zoom}/{x}/{y}");
        }
    }

    #[test]
    fn four_pixels_are_one_of_the_parent() {
        let tile = TileId::new(15, 7, 4).unwrap();
        assert_eq!(tile.parent(), TileId::new(14, 3, 2));
        // The second column of tiles is the right half of the parent, the first row its upper one.
        for (at, expected) in [((0, 0), (128, 0)), ((1, 1), (128, 0)), ((255, 255), (255, 127))] {
            assert_eq!(
                tile.in_parent(place(at.0, at.1)),
                place(expected.0, expected.1),
                "{at:?}"
            );
        }
        assert_eq!(TileId::new(10, 3, 4).unwrap().parent(), None);
    }
}
