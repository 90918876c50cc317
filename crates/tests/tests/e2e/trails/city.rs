//! A history and who draws it, without a server: each round of the drawer is the test's to make.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp, ToSpan as _};
use testkit::chance::Chance;
use testkit::{Rig, until};
use waybill_domain::fix::Fix;
use waybill_domain::id::DriverId;
use waybill_domain::position::Position;
use waybill_domain::trails::{Drawing, Drawn, Pixels, TileId};
use waybill_server::metrics::Metrics;
use waybill_server::resilience::{BreakerPolicy, Guard};
use waybill_server::storage::history::{HistoryStore, Written, day_of};
use waybill_server::storage::postgres::{Postgres, PostgresSettings};
use waybill_server::storage::trails::TrailStore;
use waybill_server::trails::Trails;
use waybill_server::trails::draw::{Drawer, Round};

/// What is on the tiles: who passed each pixel, by tile and day.
pub type Map = BTreeMap<(TileId, Date), Pixels>;

/// The parts of the history that a test fills are entries of this stream.
const STREAM: &str = "of the test";

pub struct City {
    pub rig: Rig,
    postgres: Postgres,
    history: HistoryStore,
}

impl City {
    pub async fn start() -> City {
        let rig = Rig::builder().no_server().start().await;
        let timeout = Duration::from_secs(10);
        let settings = PostgresSettings {
            url: rig.config().postgres.url,
            password_file: None,
            tls: None,
            pool_max: 8,
            acquire_timeout: timeout,
            statement_timeout: timeout,
            lock_timeout: timeout,
            may_be_standby: false,
        };
        let guard = Arc::new(Guard::new("postgres", 3 * timeout, BreakerPolicy::default()));
        let postgres = Postgres::new(&settings, guard).expect("a pool");
        let history = HistoryStore::new(postgres.clone(), "writer".to_owned());
        City { rig, postgres, history }
    }

    /// Stores fixes as the history's writer does, in one commit.
    pub async fn store(&self, fixes: &[Fix]) {
        let days: BTreeSet<Date> = fixes.iter().map(|fix| day_of(fix.recorded_at)).collect();
        self.history.ensure_partitions(&days).await.expect("partitions");
        let cursor = self.history.claim_cursor(STREAM).await.expect("Postgres answers");
        let (cursor, _) = cursor.expect("the only writer");
        let next = format!("{}-0", cursor.split('-').next().unwrap().parse::<u64>().unwrap() + 1);
        let written = self.history.write(STREAM, &cursor, &next, fixes).await;
        let expected = Written::Yes {
            inserted: fixes.len() as u64,
        };
        assert_eq!(written.expect("Postgres answers"), expected);
    }

    pub fn trail_store(&self, instance: &str) -> TrailStore {
        TrailStore::new(self.postgres.clone(), instance.to_owned())
    }

    /// One who draws, and keeps so many days before today.
    pub fn drawer(&self, instance: &str, days: u16) -> Drawer {
        Drawer::new(self.trail_store(instance), Arc::new(Metrics::new(&[])), days)
    }

    /// The tiles, as they are asked for.
    pub fn trails(&self, days: u16) -> Trails {
        Trails::new(self.trail_store("reader"), days)
    }

    /// Draws all that is there, once no transaction of another test is in the way: their databases are of one cluster.
    pub async fn draw(&self) {
        let (mut drawer, store) = (self.drawer("drawer", 7), self.trail_store("drawer"));
        until("all is drawn", async || {
            draw_all(&mut drawer).await;
            let cursor = store
                .claim_cursor()
                .await
                .expect("Postgres answers")
                .expect("the lease");
            match store.first_waiting(&cursor).await.expect("Postgres answers") {
                None => Ok(()),
                waiting => Err(waiting),
            }
        })
        .await;
    }

    /// What is stored, with the parts of each tile merged, and how many parts there are of each tile's day at most.
    pub async fn stored(&self) -> (Map, usize) {
        let query = "select zoom, x, y, day, array_agg(pixels) from trails group by zoom, x, y, day";
        let rows = self.rig.sql().await.query(query, &[]).await.unwrap();
        let (mut map, mut most) = (Map::new(), 0);
        for row in rows {
            let (zoom, x, y): (i16, i32, i32) = (row.get(0), row.get(1), row.get(2));
            let tile = TileId::new(zoom.try_into().unwrap(), x.try_into().unwrap(), y.try_into().unwrap());
            let parts: Vec<Vec<u8>> = row.get(4);
            most = most.max(parts.len());
            let pixels = parts.iter().map(|part| Pixels::decode(part).expect("pixels"));
            let marks = pixels.flat_map(|part| part.iter().collect::<Vec<_>>()).collect();
            map.insert((tile.expect("a tile"), row.get(3)), Pixels::from_marks(marks));
        }
        (map, most)
    }

    /// Fails unless the tiles are just what these tracks draw.
    pub async fn assert_drawn(&self, tracks: &[Vec<Fix>]) {
        let (found, expected) = (self.stored().await.0, map(tracks));
        let tiles = |map: &Map| map.keys().copied().collect::<Vec<_>>();
        assert_eq!(tiles(&found), tiles(&expected));
        assert!(found == expected, "the same tiles, and other pixels");
    }
}

/// Makes rounds until one has nothing left to draw.
pub async fn draw_all(drawer: &mut Drawer) {
    while drawer.round().await.expect("Postgres answers") == Round::Busy {}
}

/// What these tracks draw, by the plain rules.
pub fn drawn(tracks: &[Vec<Fix>]) -> Vec<Drawn> {
    let mut drawing = Drawing::default();
    for pair in tracks.iter().flat_map(|track| track.windows(2)) {
        drawing.join(&pair[0], &pair[1]);
    }
    drawing.finish()
}

/// The same as a map.
pub fn map(tracks: &[Vec<Fix>]) -> Map {
    let drawn = drawn(tracks).into_iter();
    drawn.map(|drawn| ((drawn.tile, drawn.day), drawn.pixels)).collect()
}

/// Noon of a day (UTC) that was so many days ago.
pub fn noon(days_ago: i64) -> Timestamp {
    let day = day_of(Timestamp::now()).saturating_sub(days_ago.days());
    day.at(12, 0, 0, 0).to_zoned(TimeZone::UTC).unwrap().timestamp()
}

pub fn fix(driver: &str, lat: f64, lon: f64, recorded_at: Timestamp) -> Fix {
    Fix {
        driver: DriverId::stored(driver).unwrap(),
        position: Position::new(lat, lon).unwrap(),
        recorded_at,
    }
}

/// A driver along a street, from west to east, ten seconds and some 90 m from one fix to the next.
pub fn street(driver: &str, from: Timestamp) -> Vec<Fix> {
    let at = |step: i32| {
        let time = from + SignedDuration::from_secs(10) * step;
        fix(driver, 37.7749, -122.42 + 0.001 * f64::from(step), time)
    };
    (0..20).map(at).collect()
}

/// Drivers who go about, over the end of yesterday; some of their steps are too long to be drawn.
pub fn walks(chance: &mut Chance, drivers: i32, steps: i32) -> Vec<Vec<Fix>> {
    let midnight = noon(1) + SignedDuration::from_hours(12);
    let first = midnight - SignedDuration::from_secs(30) * (steps / 2);
    let mut walk = |driver: i32| {
        let (mut lat, mut lon) = (37.77 + 0.02 * chance.unit(), -122.42 + 0.02 * chance.unit());
        let mut step = |number: i32| {
            lat += 0.006 * (chance.unit() - 0.5);
            lon += 0.006 * (chance.unit() - 0.5);
            let time = first + SignedDuration::from_secs(30) * number + SignedDuration::from_millis(driver.into());
            fix(&format!("cab-{driver}"), lat, lon, time)
        };
        (0..steps).map(&mut step).collect()
    };
    (0..drivers).map(&mut walk).collect()
}

/// The fixes of all, by time.
pub fn by_time(tracks: &[Vec<Fix>]) -> Vec<Fix> {
    let mut fixes = tracks.concat();
    fixes.sort_by_key(|fix| fix.recorded_at);
    fixes
}
