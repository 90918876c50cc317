//! A part of the map that is watched, in whole cells.

use thiserror::Error;

use crate::position::Position;

/// Cells in a degree: one is 0.01 degrees high and wide, some 1.1 km from south to north.
const CELLS_A_DEGREE: f64 = 100.0;
/// How high and how wide an area may be, in degrees.
pub const AREA_SIDE_MAX_DEG: f64 = 2.0;
/// What the difference of two edges may be off by.
const ROUNDING_DEG: f64 = 1e-9;

/// A cell of the grid, counted from the equator and the meridian of Greenwich: south to north, and west to east.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Cell {
    row: i32,
    column: i32,
}

/// A box on the map. It may cross the 180th meridian.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Area {
    south_west: Position,
    north_east: Position,
}

/// Why a box was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum AreaError {
    /// Its southern edge is north of its northern one.
    #[error("must not be north of the northern edge")]
    UpsideDown,
    /// It is too high.
    #[error("must be at most {AREA_SIDE_MAX_DEG} degrees from the northern edge")]
    TooHigh,
    /// It is too wide, eastwards from its western edge.
    #[error("must be at most {AREA_SIDE_MAX_DEG} degrees west of the eastern edge")]
    TooWide,
}

impl Cell {
    /// The cell of a place.
    pub(super) fn of(place: Position) -> Cell {
        Cell {
            row: index(place.lat_deg()),
            // 180 degrees east are 180 degrees west.
            column: index(if place.lon_deg() >= 180.0 {
                -180.0
            } else {
                place.lon_deg()
            }),
        }
    }
}

impl Cell {
    /// Its middle, in degrees north and east.
    pub(super) fn centre(self) -> (f64, f64) {
        let middle = |index: i32| (f64::from(index) + 0.5) / CELLS_A_DEGREE;
        // Of the row that begins at the pole the middle would lie beyond it.
        (middle(self.row).min(90.0), middle(self.column))
    }
}

/// Both coordinates are at most 180 degrees, so that this is a small number.
#[expect(clippy::cast_possible_truncation, reason = "at most 18,000, rounded down before")]
fn index(degrees: f64) -> i32 {
    (degrees * CELLS_A_DEGREE).floor() as i32
}

impl Area {
    /// The box from its south-western to its north-eastern corner. Where the first is east of the second it crosses the 180th
    /// meridian.
    pub fn new(south_west: Position, north_east: Position) -> Result<Area, AreaError> {
        let high = north_east.lat_deg() - south_west.lat_deg();
        let wide = north_east.lon_deg() - south_west.lon_deg();
        let wide = if wide < 0.0 { wide + 360.0 } else { wide };
        if high < 0.0 {
            Err(AreaError::UpsideDown)
        } else if high > AREA_SIDE_MAX_DEG + ROUNDING_DEG {
            Err(AreaError::TooHigh)
        } else if wide > AREA_SIDE_MAX_DEG + ROUNDING_DEG {
            Err(AreaError::TooWide)
        } else {
            Ok(Area { south_west, north_east })
        }
    }

    /// Its south-western and its north-eastern corner.
    pub fn corners(&self) -> [Position; 2] {
        [self.south_west, self.north_east]
    }

    /// Whether the cell of this place is one that the box touches. Nothing is closer: who draws a map draws its edge, too.
    pub fn touches_cell_of(&self, place: Position) -> bool {
        let (first, last, cell) = (Cell::of(self.south_west), Cell::of(self.north_east), Cell::of(place));
        let mut runs = columns(first, last).into_iter().flatten();
        (first.row..=last.row).contains(&cell.row) && runs.any(|(from, to)| (from..=to).contains(&cell.column))
    }

    /// Its cells, row by row: the first and the last of each run from west to east. Beyond the 180th meridian a run of its own
    /// begins.
    pub(super) fn rows(&self) -> impl Iterator<Item = (Cell, Cell)> {
        let (first, last) = (Cell::of(self.south_west), Cell::of(self.north_east));
        let runs = columns(first, last);
        (first.row..=last.row).flat_map(move |row| {
            let runs = runs.into_iter().flatten();
            runs.map(move |(from, to)| (Cell { row, column: from }, Cell { row, column: to }))
        })
    }
}

/// The runs of columns from one to the other, eastwards.
fn columns(first: Cell, last: Cell) -> [Option<(i32, i32)>; 2] {
    if first.column <= last.column {
        return [Some((first.column, last.column)), None];
    }
    let (west, east) = (index(-180.0), index(180.0) - 1);
    [Some((first.column, east)), Some((west, last.column))]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(lat: f64, lon: f64) -> Position {
        Position::new(lat, lon).unwrap()
    }

    #[test]
    fn boxes_are_the_right_way_up_and_not_too_large() {
        for (south_west, north_east, expected) in [
            ((37.0, -122.5), (38.0, -122.0), Ok(())),
            ((37.0, -122.5), (37.0, -122.5), Ok(())),
            ((37.0, 179.0), (38.0, -179.0), Ok(())),
            ((38.0, -122.5), (37.0, -122.0), Err(AreaError::UpsideDown)),
            ((36.0, -122.5), (38.1, -122.0), Err(AreaError::TooHigh)),
            ((37.0, -124.1), (38.0, -122.0), Err(AreaError::TooWide)),
            ((37.0, -122.0), (38.0, -122.5), Err(AreaError::TooWide)),
            ((-90.0, -180.0), (-89.0, -179.0), Ok(())),
            ((15.9, 63.3), (17.9, 65.3), Ok(())),
        ] {
            let area = Area::new(at(south_west.0, south_west.1), at(north_east.0, north_east.1));
            assert_eq!(area.map(drop), expected, "{south_west:?} {north_east:?}");
        }
    }

    #[test]
    fn an_area_is_of_whole_cells() {
        let area = Area::new(at(37.005, -122.005), at(37.015, -121.995)).unwrap();
        for (lat, lon, is_in) in [
            (37.0, -122.01, true),
            (37.019, -121.991, true),
            (37.02, -122.0, false),
            (36.999, -122.0, false),
            (37.01, -121.989, false),
        ] {
            assert_eq!(area.touches_cell_of(at(lat, lon)), is_in, "{lat} {lon}");
        }
        assert_eq!(area.rows().count(), 2);
    }

    #[test]
    fn an_area_may_cross_the_180th_meridian() {
        let area = Area::new(at(-17.0, 179.5), at(-16.5, -179.5)).unwrap();
        for (lon, is_in) in [
            (179.6, true),
            (180.0, true),
            (-180.0, true),
            (-179.6, true),
            (179.4, false),
            (0.0, false),
        ] {
            assert_eq!(area.touches_cell_of(at(-16.8, lon)), is_in, "{lon}");
        }
    }

    /// The edge of the map is one meridian.
    #[test]
    fn an_area_that_ends_at_the_180th_meridian_has_it() {
        let (west, east) = (at(-17.0, -180.0), at(-17.0, 180.0));
        for area in [
            Area::new(at(-17.0, 179.5), at(-16.5, 180.0)).unwrap(),
            Area::new(at(-17.0, -180.0), at(-16.5, -179.5)).unwrap(),
        ] {
            assert!(area.touches_cell_of(west) && area.touches_cell_of(east), "{area:?}");
            assert!(area.rows().all(|(first, last)| first <= last));
        }
    }
}
