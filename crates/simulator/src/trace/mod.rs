//! Reads recorded cities: where the cabs were, and the rides that they made.
//!
//! Both files are CSV with a header, plain or compressed with gzip (recognised by content, not by name); times are Unix
//! seconds, coordinates degrees. Columns are found by name. Real recordings have broken lines: each is named by file
//! and line number and counted, and the rest goes on. Reading blocks: call it off the runtime's threads.

mod locations;
mod rides;
mod rows;

pub(crate) use self::locations::Locations;
pub(crate) use self::rides::{Ride, Rides};

/// How many messages about broken lines are kept; the others are only counted.
const BROKEN_LINES_KEPT: usize = 10;

/// Why a trace cannot be used at all.
#[derive(Debug, thiserror::Error)]
pub enum TraceError {
    /// The file does not exist or may not be read.
    #[error("cannot open the trace {file}")]
    Open {
        /// The path as it was given.
        file: String,
        /// What the operating system returned.
        #[source]
        source: std::io::Error,
    },
    /// The header lacks a column: probably another kind of file.
    #[error("the trace {file} has no column `{column}`; it needs {}", needed.join(","))]
    MissingColumn {
        /// The path as it was given.
        file: String,
        /// The first column that is not there.
        column: &'static str,
        /// All columns that are needed.
        needed: &'static [&'static str],
    },
    /// The file breaks off: a disk error or a damaged gzip.
    #[error("cannot read the trace {file} beyond line {line}")]
    Read {
        /// The path as it was given.
        file: String,
        /// The last line that was read.
        line: u64,
        /// What went wrong.
        #[source]
        source: std::io::Error,
    },
}

/// The lines of a trace that could not be used.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BrokenLines {
    /// How many there were.
    pub count: u64,
    /// The first few, such as ``cabs.csv:17: lat `north` is not a number``.
    pub first: Vec<String>,
}

impl BrokenLines {
    fn add(&mut self, file: &str, line: u64, why: &str) {
        self.count += 1;
        if self.first.len() < BROKEN_LINES_KEPT {
            self.first.push(format!("{file}:{line}: {why}"));
        }
    }

    /// Takes over the broken lines of another file.
    pub(crate) fn append(&mut self, other: BrokenLines) {
        self.count += other.count;
        self.first.extend(other.first);
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::fmt::Write as _;
    use std::io::Write as _;
    use std::path::PathBuf;

    use super::locations::RecordedFix;
    use super::*;

    /// A folder that holds one file of a trace, gone with its value.
    pub(crate) struct TraceFile {
        _folder: tempfile::TempDir,
        pub(crate) path: PathBuf,
    }

    pub(crate) fn file(name: &str, content: &[u8]) -> TraceFile {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(name);
        std::fs::write(&path, content).unwrap();
        TraceFile { _folder: folder, path }
    }

    /// 2008-05-24 01:00 UTC.
    pub(crate) const START: i64 = 1_211_590_800;

    /// Two cabs that send a fix every ten seconds for five minutes, and a line that is broken.
    pub(crate) fn cabs() -> TraceFile {
        let mut content = "recorded_at,driver_id,lat,long,occupied\n".to_owned();
        for second in (0..300).step_by(10) {
            for cab in ["arphaud", "aslagni"] {
                writeln!(content, "{},{cab},37.79{second:03},-122.42697,0", START + second).unwrap();
            }
        }
        content.push_str("later,arphaud,37.7,-122.4,0\n");
        file("locations.csv", content.as_bytes())
    }

    /// Three rides: one that is short, one in the middle of the ocean, one that outlives the trace; and a broken line.
    pub(crate) fn rides() -> TraceFile {
        let header = "requested_at,driver_id,pickup_lat,pickup_long,completed_at,dropoff_lat,dropoff_long";
        let ride =
            |from: i64, to: i64, lat: f64| format!("{},x,{lat},-122.42,{},{lat},-122.40\n", START + from, START + to);
        let rides = [
            ride(60, 90, 37.79),
            ride(120, 200, 0.0),
            ride(150, 90_000, 37.79),
            ride(160, 150, 37.79),
        ];
        file("rides.csv", format!("{header}\n{}", rides.concat()).as_bytes())
    }

    fn gzip(content: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(content).unwrap();
        encoder.finish().unwrap()
    }

    const CABS: &[u8] = b"recorded_at,driver_id,lat,long,occupied\n\
        1211590800,arphaud,37.79712,-122.42697,0\n\
        1211590800,aslagni,37.61433,-122.39190,1\n\
        1211590861,arphaud,37.79700,-122.42600,0\n";

    #[test]
    fn gzip_is_recognised_by_content_whatever_the_file_is_called() {
        for (name, content) in [
            ("cabs.csv", CABS.to_vec()),
            ("cabs.csv", gzip(CABS)),
            ("cabs.csv.gz", CABS.to_vec()),
        ] {
            let cabs = file(name, &content);
            let locations = Locations::read(&cabs.path).unwrap();
            assert_eq!(locations.fixes.len(), 3);
            assert_eq!(locations.broken_lines, BrokenLines::default());
        }
    }

    #[test]
    fn fixes_keep_their_driver_time_and_place() {
        let cabs = file("cabs.csv", CABS);
        let locations = Locations::read(&cabs.path).unwrap();
        let drivers = &locations.drivers;
        assert_eq!(drivers.len(), 2);
        let last = locations.fixes[2];
        assert_eq!(drivers.name(last.driver), "arphaud");
        assert_eq!(
            (last.recorded_at, last.lat_deg, last.lon_deg),
            (1_211_590_861, 37.797, -122.426)
        );
    }

    #[test]
    fn a_broken_line_is_named_and_the_rest_goes_on() {
        let cabs = file(
            "cabs.csv",
            b"driver_id,recorded_at,long,lat\r\n\
            a,100,-122.1,37.1\r\n\
            a,soon,-122.1,37.1\r\n\
            \r\n\
            a,102,-122.1,north\r\n\
            a,103,-122.1\r\n\
            \"a,104,-122.1,37.1\r\n\
            a,105,-122.1,97.1\r\n\
            a,106,NaN,37.1\r\n\
            ,107,-122.1,37.1\r\n\
            \xff\xfe,108,-122.1,37.1\r\n\
            a,109,-122.1,37.9\r\n\
            the end",
        );
        let locations = Locations::read(&cabs.path).unwrap();
        let times: Vec<i64> = locations.fixes.iter().map(|fix| fix.recorded_at).collect();
        assert_eq!(
            times,
            [100, 104, 109],
            "a stray quote must not swallow the lines after it"
        );

        let broken = &locations.broken_lines;
        assert_eq!(broken.count, 8);
        let file = cabs.path.display();
        assert_eq!(
            broken.first[0],
            format!("{file}:3: recorded_at `soon` is not a time in Unix seconds")
        );
        assert_eq!(
            broken.first[1],
            format!("{file}:5: lat `north` is not a number from -90 to 90")
        );
        assert_eq!(broken.first[2], format!("{file}:6: 3 fields where the header has 4"));
        assert_eq!(
            broken.first[3],
            format!("{file}:8: lat `97.1` is not a number from -90 to 90")
        );
        assert_eq!(broken.first[6], format!("{file}:11: not UTF-8"));
        assert_eq!(broken.first[7], format!("{file}:13: 1 fields where the header has 4"));
    }

    #[test]
    fn messages_about_broken_lines_are_bounded() {
        let mut content = b"recorded_at,driver_id,lat,long\n".to_vec();
        (0..1_000).for_each(|_| content.extend_from_slice(b"x,a,1,2\n"));
        let cabs = file("cabs.csv", &content);
        let locations = Locations::read(&cabs.path).unwrap();
        assert_eq!(locations.broken_lines.count, 1_000);
        assert_eq!(locations.broken_lines.first.len(), BROKEN_LINES_KEPT);
    }

    #[test]
    fn a_missing_file_column_or_end_is_one_clear_error() {
        let missing = Locations::read("/nowhere/cabs.csv".as_ref()).unwrap_err();
        assert_eq!(missing.to_string(), "cannot open the trace /nowhere/cabs.csv");

        let rides = file("rides.csv", CABS);
        let wrong = Rides::read(&rides.path).unwrap_err();
        assert!(
            matches!(
                wrong,
                TraceError::MissingColumn {
                    column: "requested_at",
                    ..
                }
            ),
            "{wrong}"
        );

        let whole = gzip(&CABS.repeat(1_000));
        let cut = file("cabs.csv.gz", &whole[..whole.len() - 20]);
        assert!(matches!(Locations::read(&cut.path), Err(TraceError::Read { .. })));
    }

    #[test]
    fn one_driver_has_one_fix_at_one_time_and_times_ascend() {
        let cabs = file(
            "cabs.csv",
            b"recorded_at,driver_id,lat,long\n9,b,1,1\n7,a,1,1\n7,b,2,2\n7,a,3,3\n9,b,1,1\n",
        );
        let locations = Locations::read(&cabs.path).unwrap();
        let seen: Vec<_> = locations
            .fixes
            .iter()
            .map(|f| (f.recorded_at, locations.drivers.name(f.driver)))
            .collect();
        assert_eq!(seen, [(7, "b"), (7, "a"), (9, "b")]);
    }

    #[test]
    fn rides_are_read_and_an_impossible_one_is_a_broken_line() {
        let content = b"requested_at,driver_id,pickup_lat,pickup_long,completed_at,dropoff_lat,dropoff_long\n\
            1211590802,eglohabs,37.79183,-122.39803,1211591267,37.80388,-122.40168\n\
            1211590802,eglohabs,37.79183,-122.39803,1211590801,37.80388,-122.40168\n";
        let rides = Rides::read(&file("rides.csv", content).path).unwrap();
        assert_eq!(rides.broken_lines.count, 1);
        let [ride] = &rides.rides[..] else {
            panic!("one ride expected")
        };
        assert_eq!((ride.requested_at, ride.completed_at), (1_211_590_802, 1_211_591_267));
        assert_eq!((ride.pickup.lat_deg, ride.drop_off.lon_deg), (37.79183, -122.40168));
    }

    #[test]
    fn half_a_million_fixes_fit_into_16_megabytes() {
        assert!(size_of::<RecordedFix>() <= 32, "{}", size_of::<RecordedFix>());
    }
}
