//! Waits for something that is limited: a turn under a rate limit, a connection of a pool.

use std::sync::atomic::AtomicU64;
use std::time::{Duration, Instant};

use prometheus_client::metrics::counter::Counter;

/// Seconds, summed.
pub(super) type SecondsCounter = Counter<f64, AtomicU64>;

/// Counts the waits for one limited thing.
#[derive(Debug, Clone, Default)]
pub struct WaitMetrics {
    /// Waits that have begun.
    pub waits: Counter,
    /// How long the waits that have ended took together, in seconds.
    pub seconds: SecondsCounter,
    /// Calls that were refused, at once or after a wait.
    pub refusals: Counter,
}

/// A wait, which ends when this is dropped: also when its call is cancelled.
#[derive(Debug)]
#[must_use = "the wait ends as soon as this is dropped"]
pub struct Wait {
    begun: Instant,
    seconds: SecondsCounter,
}

impl WaitMetrics {
    /// A call begins to wait.
    pub fn begin(&self) -> Wait {
        self.waits.inc();
        Wait {
            begun: Instant::now(),
            seconds: self.seconds.clone(),
        }
    }
}

impl Drop for Wait {
    fn drop(&mut self) {
        self.seconds.inc_by(self.begun.elapsed().as_secs_f64());
    }
}

/// Whole milliseconds, as the JSON snapshot shows a sum of seconds.
pub(super) fn whole_ms(seconds: &SecondsCounter) -> u64 {
    let waited = Duration::try_from_secs_f64(seconds.get()).unwrap_or_default();
    u64::try_from(waited.as_millis()).unwrap_or(u64::MAX)
}
