//! Fixes from the stream to the history.
//!
//! [`ingest`] gathers what all callers send into batches and stores each in Redis: then a fix is acknowledged. [`buffer_shares`] leaves room for
//! every caller where the history is behind.
//! [`history`] moves the stream of fixes into Postgres, in the background. [`stale_drivers`] evicts stale drivers
//! from the index.

pub mod buffer_shares;
pub mod history;
pub mod ingest;
pub mod replay;
pub mod stale_drivers;

use std::time::Duration;

use self::buffer_shares::BufferSize;

/// How fixes are taken in and kept. See `[locations]` in `config/waybill.toml`.
#[derive(Debug, Clone)]
pub struct LocationSettings {
    /// Fixes stored at once, at most.
    pub batch_max: usize,
    /// How large the buffer of fixes is that are not in the history.
    pub buffer: BufferSize,
    /// Submissions that wait for their batch, at most; callers above that wait to submit.
    pub queue_max: usize,
    /// Rows written to the history at once, at most.
    pub history_batch_max: usize,
    /// How long the history writer waits when it has caught up.
    pub history_poll: Duration,
    /// How many entries that are in the history the stream keeps, for replay.
    pub keep_stored: u64,
    /// For how long the history is kept.
    pub retention_days: i32,
}
