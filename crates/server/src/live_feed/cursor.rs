//! Where a watcher of drivers goes on, at any server: what it watched, and up to when it knows.
//!
//! Servers number the changes of a fleet each for itself, so a cursor is a time: all that its server had read of the stores by then is
//! known. The server that takes it up looks for what it did not know itself by a while before that ([`MARGIN`]), and sends all that it
//! learned since. Something may come twice, which changes nothing; nothing is missed.

use std::collections::VecDeque;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use jiff::{SignedDuration, Timestamp};
use sha2::{Digest as _, Sha256};
use waybill_domain::live::Version;
use waybill_domain::tenant::Tenant;

use super::WatchedDrivers;

/// By how much the clocks of two servers may differ, with what one of them learns a second later than the other.
const MARGIN: SignedDuration = SignedDuration::from_secs(5);
/// How long a cursor is good. Departures are known for no longer.
const GOOD_FOR: SignedDuration = SignedDuration::from_mins(1);
/// How often a moment is kept.
const KEPT_EVERY: SignedDuration = SignedDuration::from_millis(500);

/// Where a watcher goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Cursor {
    /// What it watches.
    view: [u8; 8],
    /// All that was so then is known to it, in milliseconds of Unix time.
    known_ms: i64,
}

/// What one watcher watches: what its cursors are for while it is sent drivers, and while it is sent counts.
#[derive(Debug, Clone, Copy)]
pub(super) struct Views {
    drivers: [u8; 8],
    counts: [u8; 8],
}

/// Which version the map had when, in the last minute and a little more.
#[derive(Debug, Default)]
pub(super) struct Moments(VecDeque<(Timestamp, Version)>);

impl Views {
    /// Of one who watches these; `None`: it has no cursors.
    pub(super) fn new(tenant: &Tenant, drivers: &WatchedDrivers) -> Option<Views> {
        Some(Views {
            drivers: view(tenant, drivers, false)?,
            counts: view(tenant, drivers, true)?,
        })
    }

    /// While it is sent counts, or drivers.
    pub(super) fn of(&self, are_counts: bool) -> [u8; 8] {
        if are_counts { self.counts } else { self.drivers }
    }
}

fn view(tenant: &Tenant, drivers: &WatchedDrivers, are_counts: bool) -> Option<[u8; 8]> {
    let mut hash = Sha256::new();
    let mut field = |bytes: &[u8]| {
        hash.update((bytes.len() as u64).to_be_bytes());
        hash.update(bytes);
    };
    field(tenant.as_str().as_bytes());
    match drivers {
        WatchedDrivers::Area(area) => {
            field(if are_counts { b"cells" } else { b"area" });
            area.corners()
                .iter()
                .flat_map(|corner| [corner.lat_deg(), corner.lon_deg()])
                .for_each(|degrees| field(&degrees.to_be_bytes()));
        }
        WatchedDrivers::Drivers(drivers) => drivers.iter().for_each(|driver| field(driver.as_str().as_bytes())),
        // One driver: there is little to spare.
        WatchedDrivers::Order(_) => return None,
    }
    hash.finalize().first_chunk().copied()
}

impl Cursor {
    /// Of one who watches this, and knows what was so then.
    pub(super) fn new(view: [u8; 8], known: Timestamp) -> Cursor {
        Cursor {
            view,
            known_ms: known.as_millisecond(),
        }
    }

    /// What a client sent; `None`: it is none of ours.
    pub(super) fn parse(text: &str) -> Option<Cursor> {
        let mut bytes = [0; 16];
        let length = BASE64_URL_SAFE_NO_PAD.decode_slice(text, &mut bytes).ok()?;
        let (view, known_ms) = bytes.split_first_chunk()?;
        (length == bytes.len()).then_some(Cursor {
            view: *view,
            known_ms: i64::from_be_bytes(*known_ms.first_chunk()?),
        })
    }

    /// As it is sent.
    pub(super) fn text(self) -> String {
        BASE64_URL_SAFE_NO_PAD.encode([self.view, self.known_ms.to_be_bytes()].concat())
    }

    /// Up to when one who watches this knows all; `None`: it knows nothing, or of too long ago.
    pub(super) fn known(self, view: [u8; 8], now: Timestamp) -> Option<Timestamp> {
        let known = Timestamp::from_millisecond(self.known_ms).ok()?;
        // One of a clock that is ahead would pass over what changed meanwhile.
        let is_good = (-MARGIN..=GOOD_FOR).contains(&now.duration_since(known));
        (self.view == view && is_good).then_some(known)
    }
}

impl Moments {
    /// The map has this version now.
    pub(super) fn keep(&mut self, now: Timestamp, version: Version) {
        if self
            .0
            .back()
            .is_some_and(|(at, _)| now.duration_since(*at) < KEPT_EVERY)
        {
            return;
        }
        self.0.push_back((now, version));
        let oldest = GOOD_FOR + MARGIN + KEPT_EVERY;
        while self.0.front().is_some_and(|(at, _)| now.duration_since(*at) > oldest) {
            self.0.pop_front();
        }
    }

    /// A version that had nothing which one who knows up to then does not know; `None`: that was too long ago.
    pub(super) fn version_before(&self, known: Timestamp) -> Option<Version> {
        let kept = self.0.iter().rev();
        let mut before = kept.skip_while(|(at, _)| known.duration_since(*at) < MARGIN);
        before.next().map(|(_, version)| *version)
    }
}

#[cfg(test)]
mod tests {
    use waybill_domain::fix::{Fix, LatestFix};
    use waybill_domain::live::{Area, LiveMap};
    use waybill_domain::position::Position;

    use super::*;

    fn at(secs: i64) -> Timestamp {
        Timestamp::from_second(1_795_800_000 + secs).unwrap()
    }

    fn area(north: f64) -> WatchedDrivers {
        let corner = |lat, lon| Position::new(lat, lon).unwrap();
        WatchedDrivers::Area(Area::new(corner(37.0, -122.5), corner(north, -122.0)).unwrap())
    }

    #[test]
    fn a_cursor_is_good_for_what_it_was_made_for_and_for_a_minute() {
        let tenant = Tenant::default();
        let own = view(&tenant, &area(38.0), false).unwrap();
        let cursor = Cursor::parse(&Cursor::new(own, at(0)).text()).unwrap();
        assert_eq!(cursor.known(own, at(0)), Some(at(0)));
        assert_eq!(cursor.known(own, at(60)), Some(at(0)));
        assert_eq!(cursor.known(own, at(61)), None);
        assert_eq!(cursor.known(own, at(-5)), Some(at(0)));
        assert_eq!(cursor.known(own, at(-6)), None);
        let acme = "acme".parse().unwrap();
        let ids = |names: &[&str]| WatchedDrivers::Drivers(names.iter().map(|name| name.parse().unwrap()).collect());
        for other in [
            view(&tenant, &area(37.5), false),
            view(&tenant, &area(38.0), true),
            view(&acme, &area(38.0), false),
            view(&tenant, &ids(&["a", "b"]), false),
            view(&tenant, &ids(&["ab"]), false),
        ] {
            assert_eq!(cursor.known(other.unwrap(), at(1)), None);
        }
    }

    #[test]
    fn what_is_no_cursor_is_none() {
        let long = "A".repeat(1_000);
        for text in [
            "",
            "A",
            "garbage!",
            "AAAAAAAAAAAAAAAAAAAA",
            long.as_str(),
            "AAAAAAAAAAAAAAAAAAAAAA==",
        ] {
            assert_eq!(Cursor::parse(text), None, "{text:?}");
        }
        // Whatever time it names.
        let forged = Cursor {
            view: [0; 8],
            known_ms: i64::MAX,
        };
        assert_eq!(Cursor::parse(&forged.text()).unwrap().known([0; 8], at(0)), None);
    }

    #[test]
    fn a_server_goes_on_from_what_it_knew_a_while_before() {
        let mut moments = Moments::default();
        let mut map = LiveMap::default();
        let mut versions = Vec::new();
        for second in 0..100 {
            let fix = Fix {
                driver: "cab-1".parse().unwrap(),
                position: Position::new(37.0, -122.0).unwrap(),
                recorded_at: at(second),
            };
            let arrived_at = at(second);
            map.apply(LatestFix { fix, arrived_at }, at(second));
            versions.push(map.version());
            moments.keep(at(second), map.version());
        }
        for (known, expected) in [
            (99, Some(94)),
            (60, Some(55)),
            (39, Some(34)),
            (30, None),
            (200, Some(99)),
        ] {
            let expected = expected.map(|second: usize| versions[second]);
            assert_eq!(moments.version_before(at(known)), expected, "{known}");
        }
        assert_eq!(Moments::default().version_before(at(0)), None);
    }
}
