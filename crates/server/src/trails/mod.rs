//! The map that the fleet draws by driving: its tracks, as the tiles of a web map.
//!
//! [`draw`] reads the history behind a cursor of its own and adds what it finds to the stored tiles; [`tiles`] serves them as
//! pictures ([`picture`]), over HTTP by [`http`]. What is drawn and what is shown are rules of `waybill_domain::trails`.

pub mod draw;
pub mod http;
mod picture;
pub mod tiles;

pub use self::tiles::Trails;

use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan as _};

/// The first day (UTC) that is shown now, where `days` before today are.
fn first_day(days: u16) -> Date {
    let today = Timestamp::now().to_zoned(TimeZone::UTC).date();
    today.saturating_sub(i64::from(days).days())
}
