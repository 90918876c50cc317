//! Fixes: each ends in exactly one of three counted outcomes, and those stored make their way into the history.

use std::collections::BTreeMap;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use serde::Serialize;

use super::declare::Declare as _;
use super::labelled::Labelled;

/// Counts fixes and history rows.
#[derive(Debug)]
pub struct LocationMetrics {
    stored: Counter,
    refused: Counter,
    rejected: Labelled<Counter, 1>,
    history_rows: Counter,
    history_duplicates: Counter,
    history_lag_entries: Gauge,
}

/// Fixes at one moment, as this process saw them.
#[derive(Debug, Serialize)]
pub struct LocationSnapshot {
    /// Fixes stored.
    pub stored: u64,
    /// Fixes refused, since there was no room or no store; the client sends them again.
    pub refused: u64,
    /// Fixes that can never be stored, by reason.
    pub rejected: BTreeMap<&'static str, u64>,
    /// Rows that this process added to the history.
    pub history_rows: u64,
    /// Stored fixes whose driver and time the history held already: nothing was added.
    pub history_duplicates: u64,
    /// Entries that are stored and not yet in the history, when the history writer last counted.
    pub history_lag_entries: i64,
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
            history_lag_entries: registry.declare(
                "history_lag_entries",
                "Entries that are stored and not yet in the history, when the history writer last counted",
                Gauge::default(),
            ),
        }
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

    /// Of `fixes` read from the stream, `rows` were new to the history.
    pub fn history_written(&self, rows: u64, fixes: u64) {
        self.history_rows.inc_by(rows);
        self.history_duplicates.inc_by(fixes.saturating_sub(rows));
    }

    /// So many entries wait for the history.
    pub fn history_lag(&self, entries: u64) {
        self.history_lag_entries.set(i64::try_from(entries).unwrap_or(i64::MAX));
    }

    pub(super) fn snapshot(&self) -> LocationSnapshot {
        LocationSnapshot {
            stored: self.stored.get(),
            refused: self.refused.get(),
            rejected: self.rejected.counts(),
            history_rows: self.history_rows.get(),
            history_duplicates: self.history_duplicates.get(),
            history_lag_entries: self.history_lag_entries.get(),
        }
    }
}
