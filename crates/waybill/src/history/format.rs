//! Fixes as other programs read them, written as they come.

use std::io::{self, Write};

use serde_json::json;
use waybill_domain::fix::Fix;

use crate::cli::history::Format;

/// An export that is being written.
pub(super) struct Export<W> {
    format: Format,
    to: W,
    is_first: bool,
}

impl<W: Write> Export<W> {
    pub(super) fn new(format: Format, to: W) -> Export<W> {
        Export {
            format,
            to,
            is_first: true,
        }
    }

    /// What comes before the first fix. The names of drivers have no characters that one of the formats would have to escape.
    pub(super) fn begin(&mut self, driver: &str) -> io::Result<()> {
        match self.format {
            Format::Csv => writeln!(self.to, "driver_id,recorded_at,latitude,longitude"),
            Format::Geojson => write!(self.to, r#"{{"type":"FeatureCollection","features":["#),
            Format::Gpx => write!(
                self.to,
                "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n\
                 <gpx version=\"1.1\" creator=\"waybill\" xmlns=\"http://www.topografix.com/GPX/1/1\">\n\
                 <trk><name>{driver}</name><trkseg>\n"
            ),
        }
    }

    /// One fix.
    pub(super) fn fix(&mut self, driver: &str, fix: &Fix) -> io::Result<()> {
        let (lat, lon) = (fix.position.lat_deg(), fix.position.lon_deg());
        let at = fix.recorded_at;
        match self.format {
            Format::Csv => writeln!(self.to, "{driver},{at},{lat},{lon}"),
            Format::Geojson => {
                let feature = json!({
                    "type": "Feature",
                    // Longitude first, as in the standard.
                    "geometry": { "type": "Point", "coordinates": [lon, lat] },
                    "properties": { "driver_id": driver, "recorded_at": at.to_string() },
                });
                let separator = if std::mem::take(&mut self.is_first) {
                    "\n"
                } else {
                    ",\n"
                };
                write!(self.to, "{separator}{feature}")
            }
            Format::Gpx => writeln!(self.to, r#"<trkpt lat="{lat}" lon="{lon}"><time>{at}</time></trkpt>"#),
        }
    }

    /// What comes after the last fix.
    pub(super) fn end(&mut self) -> io::Result<()> {
        match self.format {
            Format::Csv => {}
            Format::Geojson => writeln!(self.to, "\n]}}")?,
            Format::Gpx => writeln!(self.to, "</trkseg></trk>\n</gpx>")?,
        }
        self.to.flush()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;
    use waybill_domain::position::Position;

    use super::*;

    fn exported(format: Format, count: i64) -> String {
        let mut export = Export::new(format, Vec::new());
        export.begin("cab-1").unwrap();
        for second in 0..count {
            let fix = Fix {
                driver: "cab-1".parse().unwrap(),
                position: Position::new(37.5, -122.25).unwrap(),
                recorded_at: jiff::Timestamp::from_second(second).unwrap(),
            };
            export.fix("cab-1", &fix).unwrap();
        }
        export.end().unwrap();
        String::from_utf8(export.to).unwrap()
    }

    #[test]
    fn lines_have_a_header() {
        let header = "driver_id,recorded_at,latitude,longitude\n";
        assert_eq!(exported(Format::Csv, 0), header);
        let lines =
            format!("{header}cab-1,1970-01-01T00:00:00Z,37.5,-122.25\ncab-1,1970-01-01T00:00:01Z,37.5,-122.25\n");
        assert_eq!(exported(Format::Csv, 2), lines);
    }

    #[test]
    fn features_are_json_however_many_there_are() {
        for count in 0..3 {
            let read: Value = serde_json::from_str(&exported(Format::Geojson, count)).unwrap();
            let features = read["features"].as_array().unwrap();
            assert_eq!(read["type"], "FeatureCollection");
            assert_eq!(i64::try_from(features.len()), Ok(count));
            for feature in features {
                assert_eq!(feature["geometry"]["coordinates"], json!([-122.25, 37.5]));
            }
        }
    }

    #[test]
    fn a_track_is_opened_and_closed() {
        for count in 0..3_usize {
            let text = exported(Format::Gpx, i64::try_from(count).unwrap());
            assert!(
                text.starts_with("<?xml") && text.trim_end().ends_with("</gpx>"),
                "{text}"
            );
            assert_eq!(text.matches("<trkpt lat=\"37.5\" lon=\"-122.25\">").count(), count);
            for tag in ["gpx", "trk", "trkseg"] {
                assert_eq!(text.matches(&format!("</{tag}>")).count(), 1, "{tag}");
            }
        }
    }
}
