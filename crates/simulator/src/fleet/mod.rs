//! The fleet: streams fixes when they are due until the server has acknowledged or rejected every one of them.
//!
//! The drivers are spread over a few streams. Each stream pulls its fixes from a source as they fall due, so that
//! nothing is buffered but its window of unacknowledged fixes: when the window is full the fleet falls behind, and
//! catches up later. Fixes are numbered for life; after a disconnect exactly the unacknowledged ones go out again.

mod ack_log;
mod counts;
mod driver_stream;
mod source;
mod window;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::{JoinError, JoinSet};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tonic::Status;

pub use self::ack_log::AckLog;
pub(crate) use self::counts::FleetCounts;
use self::counts::StreamCounts;
use self::driver_stream::DriverStream;
pub(crate) use self::driver_stream::is_refused_for_good;
pub(crate) use self::source::{Scheduled, Source};
use crate::Drivers;
use crate::client::{Dial, RetryPolicy};

/// How a fleet streams.
#[derive(Debug, Clone, Copy)]
pub struct FleetOptions {
    /// Streams, each on a connection of its own.
    pub streams: usize,
    /// Unacknowledged fixes that a stream keeps. It takes no more until some are acknowledged.
    pub window: usize,
    /// Fixes in one message. A message of the contract holds some 700.
    pub batch: usize,
    /// Fixes that fall due within this time go out in one message: a wake-up a fix would cost more than the fix.
    pub gather: Duration,
    /// Whether what a broken stream left unacknowledged goes out again on the next one. If not, it is lost.
    pub resend: bool,
    /// How long to wait for the last acknowledgements once there are no more fixes.
    pub drain: Duration,
    /// How long to wait before a stream is opened again, and when to give up for want of any acknowledgement.
    pub retry: RetryPolicy,
}

impl Default for FleetOptions {
    fn default() -> Self {
        FleetOptions {
            streams: 4,
            window: 2_000,
            batch: 100,
            gather: Duration::from_millis(10),
            resend: true,
            drain: Duration::from_secs(30),
            retry: RetryPolicy::default(),
        }
    }
}

/// A fix to send, and when.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct DueFix {
    /// When it is to be sent.
    pub(crate) due: Instant,
    /// Who is there: an index into the [`Drivers`] of the fleet.
    pub(crate) driver: u32,
    /// Where: degrees north.
    pub(crate) lat_deg: f64,
    /// Where: degrees east.
    pub(crate) lon_deg: f64,
    /// When, by the device's clock: Unix time in microseconds.
    pub(crate) recorded_at_micros: i64,
}

/// A fleet, before it starts.
pub(crate) struct Fleet<'a> {
    pub(crate) server: &'a Dial,
    pub(crate) options: FleetOptions,
    pub(crate) drivers: &'a Arc<Drivers>,
    pub(crate) counts: &'a FleetCounts,
    /// Whether every acknowledged fix is kept.
    pub(crate) keeps_log: bool,
    /// Cancelled when every stream is refused for good and nothing was answered; else their time is sat out.
    pub(crate) hopeless: Option<CancellationToken>,
}

/// The streams of a fleet, under way.
#[derive(Debug)]
pub(crate) struct Streams {
    drivers: Arc<Drivers>,
    tasks: JoinSet<(usize, driver_stream::StreamReport)>,
}

/// What a fleet came to.
#[derive(Debug)]
pub(crate) struct FleetReport {
    /// Every fix that the server acknowledged as stored, where a log was kept.
    pub(crate) acknowledged: AckLog,
    /// Why streams gave up before their end, one for each that did.
    pub(crate) failures: Vec<Status>,
}

impl Fleet<'_> {
    /// Begins to stream. `source` gives each stream, by number, the fixes of its drivers; a driver must not be on two
    /// streams. They end after the last fix, or when `stop` is cancelled.
    pub(crate) fn start<S: Source>(self, stop: &CancellationToken, source: impl Fn(usize) -> S) -> Streams {
        let mut tasks = JoinSet::new();
        for number in 0..self.options.streams.max(1) {
            let counts = StreamCounts::new(self.counts, self.keeps_log.then_some(self.drivers.len()));
            let (server, hopeless) = (self.server.clone(), self.hopeless.clone());
            let stream = DriverStream::new(server, self.options, self.drivers, source(number), counts, hopeless);
            let stop = stop.clone();
            tasks.spawn(async move { (number, stream.run(stop).await) });
        }
        Streams {
            drivers: Arc::clone(self.drivers),
            tasks,
        }
    }
}

impl Streams {
    /// Waits for the end of every stream. The error is a panic in one of them, which ends all.
    pub(crate) async fn ended(mut self) -> Result<FleetReport, JoinError> {
        let mut reports = BTreeMap::new();
        while let Some(ended) = self.tasks.join_next().await {
            let (number, report) = ended?;
            reports.insert(number, report);
        }
        let (mut acknowledged, mut failures) = (AckLog::new(self.drivers), Vec::new());
        for report in reports.into_values() {
            acknowledged.extend(report.acknowledged);
            failures.extend(report.failure);
        }
        acknowledged.seal();
        Ok(FleetReport { acknowledged, failures })
    }
}

#[cfg(test)]
mod tests;
