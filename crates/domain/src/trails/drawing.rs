//! Segments on the tiles of all zooms that they cross.

use std::collections::BTreeMap;

use jiff::civil::Date;
use jiff::tz::TimeZone;

use super::line::line;
use super::pixels::Pixels;
use super::projection::WorldPixel;
use super::segment::joins;
use super::sketch::Sketch;
use super::tile::{TileId, ZOOM_MAX, ZOOM_MIN, place};
use crate::fix::Fix;

/// Segments, as marks on the finest tiles and on the days (UTC) on which they ended.
#[derive(Debug, Default)]
pub struct Drawing {
    marks: BTreeMap<(TileId, Date), Vec<(u16, Sketch)>>,
    segments: u64,
}

/// What was drawn on one tile on one day.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Drawn {
    /// The tile, of any zoom that is kept.
    pub tile: TileId,
    /// The day (UTC).
    pub day: Date,
    /// Who passed where.
    pub pixels: Pixels,
}

impl Drawing {
    /// Draws the way from one fix to the next, if it is one. Whoever stays within a pixel draws nothing: it drew that pixel
    /// when it came.
    pub fn join(&mut self, from: &Fix, to: &Fix) {
        let (start, end) = (WorldPixel::of(from.position), WorldPixel::of(to.position));
        if !joins(from, to) || start == end {
            return;
        }
        self.segments += 1;
        let day = to.recorded_at.to_zoned(TimeZone::UTC).date();
        let sketch = Sketch::of(&to.driver);
        let pixels: Vec<WorldPixel> = line(start, end).collect();
        for run in pixels.chunk_by(|one, next| one.tile() == next.tile()) {
            let Some(first) = run.first() else { continue };
            let marks = self.marks.entry((first.tile(), day)).or_default();
            marks.extend(run.iter().map(|pixel| (place(pixel.x(), pixel.y()), sketch)));
        }
    }

    /// How many segments there are.
    pub fn segments(&self) -> u64 {
        self.segments
    }

    /// How many tiles of the finest zoom they cross, those of each day.
    pub fn finest_tiles(&self) -> usize {
        self.marks.len()
    }

    /// Every tile of every zoom that they cross. A pixel of a coarser zoom was passed by whoever passed one of its four.
    pub fn finish(self) -> Vec<Drawn> {
        let (mut drawn, mut marks) = (Vec::new(), self.marks);
        for _ in ZOOM_MIN..=ZOOM_MAX {
            let mut coarser: BTreeMap<_, Vec<_>> = BTreeMap::new();
            for ((tile, day), marks) in marks {
                let pixels = Pixels::from_marks(marks);
                if let Some(parent) = tile.parent() {
                    let marks: &mut Vec<_> = coarser.entry((parent, day)).or_default();
                    marks.extend(pixels.in_parent_of(tile));
                }
                drawn.push(Drawn { tile, day, pixels });
            }
            marks = coarser;
        }
        drawn
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use jiff::Timestamp;
    use proptest::prelude::*;

    use super::*;
    use crate::position::Position;

    fn fix(driver: u8, lat: f64, lon: f64, second: i64) -> Fix {
        Fix {
            driver: format!("cab-{driver}").parse().unwrap(),
            position: Position::new(lat, lon).unwrap(),
            // The first minutes of a day, and the last ones of the day before.
            recorded_at: Timestamp::from_second(1_700_006_400 + second).unwrap(),
        }
    }

    /// The plain slow version: who passed each pixel of each zoom, as a set of names.
    fn plain(tracks: &[Vec<Fix>]) -> BTreeMap<(TileId, Date, u16), BTreeSet<String>> {
        let mut passed: BTreeMap<_, BTreeSet<_>> = BTreeMap::new();
        for pair in tracks.iter().flat_map(|track| track.windows(2)) {
            let (from, to) = (WorldPixel::of(pair[0].position), WorldPixel::of(pair[1].position));
            if !joins(&pair[0], &pair[1]) || from == to {
                continue;
            }
            for pixel in line(from, to) {
                for zoom in ZOOM_MIN..=ZOOM_MAX {
                    let (x, y) = (pixel.x() >> (ZOOM_MAX - zoom), pixel.y() >> (ZOOM_MAX - zoom));
                    let tile = TileId::new(zoom, x / 256, y / 256).unwrap();
                    let day = pair[1].recorded_at.to_zoned(TimeZone::UTC).date();
                    let drivers = passed.entry((tile, day, place(x, y))).or_default();
                    drivers.insert(pair[1].driver.to_string());
                }
            }
        }
        passed
    }

    /// Tracks of a few drivers through a small place, which may be the corner of four tiles on the edge of the map.
    fn tracks() -> impl Strategy<Value = Vec<Vec<Fix>>> {
        let places = prop_oneof![Just((37.77, -122.42)), Just((0.0, 180.0)), Just((85.05, 0.0))];
        let step = (0..4_u8, -0.004..0.004, -0.004..0.004, 1..90_i64);
        (places, proptest::collection::vec(step, 0..40)).prop_map(|((lat, lon), steps)| {
            let mut tracks = vec![Vec::new(); 4];
            let mut second = -1_200;
            for (driver, north, east, after) in steps {
                second += after;
                let east = f64::rem_euclid(lon + east + 180.0, 360.0) - 180.0;
                tracks[usize::from(driver)].push(fix(driver, lat + north, east, second));
            }
            tracks
        })
    }

    proptest! {
        #[test]
        fn a_drawing_is_who_passed_each_pixel(tracks in tracks()) {
            let mut drawing = Drawing::default();
            for pair in tracks.iter().flat_map(|track| track.windows(2)) {
                drawing.join(&pair[0], &pair[1]);
            }
            let mut drawn = BTreeMap::new();
            for Drawn { tile, day, pixels } in drawing.finish() {
                for (at, sketch) in pixels.iter() {
                    prop_assert!(drawn.insert((tile, day, at), sketch).is_none());
                }
            }
            let sketch = |drivers: BTreeSet<String>| {
                drivers.iter().fold(Sketch::default(), |all, driver| all | Sketch::of(&driver.parse().unwrap()))
            };
            let expected = plain(&tracks).into_iter().map(|(at, drivers)| (at, sketch(drivers)));
            prop_assert_eq!(drawn, expected.collect::<BTreeMap<_, _>>());
        }
    }

    #[test]
    fn whoever_stays_draws_nothing() {
        let mut drawing = Drawing::default();
        drawing.join(&fix(1, 37.77, -122.42, 0), &fix(1, 37.77, -122.42, 10));
        assert_eq!((drawing.segments(), drawing.finest_tiles()), (0, 0));
        assert_eq!(drawing.finish(), []);
    }
}
