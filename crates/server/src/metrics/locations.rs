//! Fixes: each ends in exactly one of three counted outcomes, and those stored make their way into the history.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use serde::Serialize;

use super::declare::{Declare as _, count, level};
use super::labelled::Labelled;

/// How much of each stream waits for the history: entries, and the age of the oldest.
type Lags = HashMap<Box<str>, (u64, Duration)>;

/// Counts fixes and history rows. Its fields are those of the JSON snapshot.
#[derive(Debug, Clone, Serialize)]
pub struct LocationMetrics {
    #[serde(serialize_with = "count")]
    stored: Counter,
    #[serde(serialize_with = "count")]
    refused: Counter,
    rejected: Labelled<Counter, 1>,
    #[serde(serialize_with = "count")]
    foreign_keys: Counter,
    #[serde(serialize_with = "count")]
    clocks_off: Counter,
    #[serde(serialize_with = "count")]
    history_rows: Counter,
    #[serde(serialize_with = "count")]
    history_duplicates: Counter,
    /// Of the streams that this process writes.
    #[serde(skip)]
    lags: Arc<Mutex<Lags>>,
    #[serde(serialize_with = "level")]
    history_lag_entries: Gauge,
    #[serde(serialize_with = "level")]
    history_lag_sec: Gauge,
    history_rereads: Labelled<Counter, 1>,
    #[serde(serialize_with = "level")]
    fleet_watches: Gauge,
}

impl LocationMetrics {
    pub(super) fn new(registry: &mut Registry) -> LocationMetrics {
        let fixes = registry.declare(
            "fixes",
            "Fixes by outcome: stored; refused (no room or no store, to be sent again)",
            Labelled::<Counter, 1>::new(["outcome"]),
        );
        LocationMetrics {
            stored: fixes.get(["stored"]),
            refused: fixes.get(["refused"]),
            rejected: registry.declare(
                "fixes_rejected",
                "Fixes that can never be stored, by reason",
                Labelled::new(["reason"]),
            ),
            foreign_keys: registry.declare(
                "foreign_keys",
                "Fixes that were stored while another program holds the key of their driver in Redis: such a driver is not on the map",
                Counter::default(),
            ),
            clocks_off: registry.declare(
                "clocks_off",
                "Drivers in messages whose newest fix was more than 5 s off from our clock: the device's clock is wrong, or the fix waited on its way",
                Counter::default(),
            ),
            history_rows: registry.declare(
                "history_rows",
                "Rows that this process added to the history",
                Counter::default(),
            ),
            history_duplicates: registry.declare(
                "history_duplicates",
                "Stored fixes whose driver and time the history held already: nothing was added",
                Counter::default(),
            ),
            lags: Arc::default(),
            history_lag_entries: registry.declare(
                "history_lag_entries",
                "Entries that are stored and not yet in the history, in all streams that this process writes, when it last counted",
                Gauge::default(),
            ),
            history_lag_sec: registry.declare(
                "history_lag_seconds",
                "Age of the oldest entry that is stored and not yet in the history, in all streams that this process writes, when it last counted",
                Gauge::default(),
            ),
            history_rereads: registry.declare(
                "history_rereads",
                "Streams that were read anew from their beginning, by reason: lost (Redis had less than the history), failed_over (another Redis, or \
                 the same after a restart)",
                Labelled::<Counter, 1>::new(["reason"]),
            ),
            fleet_watches: registry.declare(
                "fleet_watches",
                "Watches of drivers at this server: of an area, by their ids, or by order",
                Gauge::default(),
            ),
        }
    }

    /// Fixes that were stored, and that were refused.
    pub(super) fn fixes(&self) -> (u64, u64) {
        (self.stored.get(), self.refused.get())
    }

    /// Entries that wait for the history.
    pub(super) fn lag(&self) -> i64 {
        self.history_lag_entries.get()
    }

    /// Watches of drivers.
    pub(super) fn watches(&self) -> i64 {
        self.fleet_watches.get()
    }

    /// Someone watches drivers.
    pub fn fleet_watch_begun(&self) {
        self.fleet_watches.inc();
    }

    /// Someone watches drivers no longer.
    pub fn fleet_watch_ended(&self) {
        self.fleet_watches.dec();
    }

    /// `fixes` were stored.
    pub fn stored(&self, fixes: u64) {
        self.stored.inc_by(fixes);
    }

    /// `fixes` were refused, and should be sent again.
    pub fn refused(&self, fixes: u64) {
        self.refused.inc_by(fixes);
    }

    /// `fixes` can never be stored, for this reason.
    pub fn rejected(&self, reason: &'static str, fixes: u64) {
        self.rejected.get([reason]).inc_by(fixes);
    }

    /// Drivers in a message whose clocks seem to be off.
    pub fn clocks_off(&self, drivers: u64) {
        self.clocks_off.inc_by(drivers);
    }

    /// Of so many drivers another program holds the key.
    pub fn foreign_keys(&self, drivers: u64) {
        self.foreign_keys.inc_by(drivers);
    }

    /// Of `fixes` read from the stream, `rows` were new to the history.
    pub fn history_written(&self, rows: u64, fixes: u64) {
        self.history_rows.inc_by(rows);
        self.history_duplicates.inc_by(fixes.saturating_sub(rows));
    }

    /// So many entries of this stream wait for the history, the oldest for so long.
    pub fn history_lag(&self, stream: &str, entries: u64, age: Duration) {
        let mut lags = self.lags.lock().unwrap_or_else(PoisonError::into_inner);
        // There are a few, one for each shard, so the name is new only once.
        match lags.get_mut(stream) {
            Some(lag) => *lag = (entries, age),
            None => drop(lags.insert(stream.into(), (entries, age))),
        }
        let all = lags.values().fold((0, Duration::ZERO), |(entries, oldest), lag| {
            (entries + lag.0, oldest.max(lag.1))
        });
        self.history_lag_entries.set(i64::try_from(all.0).unwrap_or(i64::MAX));
        self.history_lag_sec
            .set(i64::try_from(all.1.as_secs()).unwrap_or(i64::MAX));
    }

    /// A stream is read anew, for this reason.
    pub fn history_reread(&self, reason: &'static str) {
        self.history_rereads.get([reason]).inc();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_that_is_written_does_not_hide_one_that_is_not() {
        let metrics = LocationMetrics::new(&mut Registry::default());
        metrics.history_lag("location_events:{0}", 300_000, Duration::from_mins(1));
        metrics.history_lag("location_events:{1}", 5, Duration::from_secs(2));
        metrics.history_lag("location_events:{2}", 0, Duration::ZERO);
        let lag = || (metrics.history_lag_entries.get(), metrics.history_lag_sec.get());
        assert_eq!(lag(), (300_005, 60));
        metrics.history_lag("location_events:{0}", 0, Duration::ZERO);
        assert_eq!(lag(), (5, 2));
    }
}
