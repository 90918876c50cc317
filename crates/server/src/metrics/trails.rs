//! The map that the fleet draws.

use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use serde::Serialize;

use super::declare::{Declare as _, count, level};

/// Counts what is drawn.
#[derive(Debug, Clone, Serialize)]
pub struct TrailMetrics {
    #[serde(serialize_with = "count")]
    segments: Counter,
    #[serde(serialize_with = "count")]
    tiles: Counter,
    #[serde(serialize_with = "level")]
    lag_sec: Gauge,
}

impl TrailMetrics {
    pub(super) fn new(registry: &mut Registry) -> TrailMetrics {
        TrailMetrics {
            segments: registry.declare(
                "trail_segments",
                "Ways between two fixes of a driver that this process drew on the map of trails",
                Counter::default(),
            ),
            tiles: registry.declare(
                "trail_tiles",
                "Tiles of all zooms that this process added a part to, once for each batch that touched one",
                Counter::default(),
            ),
            lag_sec: registry.declare_seconds(
                "trail_lag",
                "How long ago the first fix of the history was recorded that is not drawn; 0 if all are, or another process draws",
                Gauge::default(),
            ),
        }
    }

    /// So many segments were drawn, on so many tiles.
    pub fn drawn(&self, segments: u64, tiles: u64) {
        self.segments.inc_by(segments);
        self.tiles.inc_by(tiles);
    }

    /// The first fix that is not drawn is so old.
    pub fn lag(&self, age: Duration) {
        self.lag_sec.set(i64::try_from(age.as_secs()).unwrap_or(i64::MAX));
    }
}
