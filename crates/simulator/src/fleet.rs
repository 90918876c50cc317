//! The fleet: streams fixes when they are due until the server has acknowledged or rejected every one of them.
//!
//! The drivers are spread over a few streams. Each stream pulls its fixes from an iterator as they fall due, so that
//! nothing is buffered but its window of unacknowledged fixes: when the window is full the fleet falls behind, and
//! catches up later. Fixes are numbered for life; after a disconnect exactly the unacknowledged ones go out again.

mod ack_log;
mod lane;
mod observer;
mod source;
mod streams;
mod window;

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinError;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tonic::Status;
use tonic::transport::Endpoint;

pub use ack_log::AckLog;
pub(crate) use lane::is_refused_for_good;
use observer::Counted;
pub(crate) use observer::Observer;
pub(crate) use source::{Scheduled, Source};
pub(crate) use streams::Streams;

use crate::Drivers;
use crate::connections::Dial;
use crate::retry::RetryPolicy;
use crate::stats::Stats;

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
pub struct DueFix {
    /// When it is to be sent.
    pub due: Instant,
    /// Who is there: an index into the [`Drivers`] of the fleet.
    pub driver: u32,
    /// Where: degrees north.
    pub lat_deg: f64,
    /// Where: degrees east.
    pub lon_deg: f64,
    /// When, as the device says: Unix time in microseconds.
    pub recorded_at_micros: i64,
}

/// What a fleet came to.
#[derive(Debug)]
pub struct FleetReport {
    /// Every fix that the server acknowledged as stored.
    pub acknowledged: AckLog,
    /// Fixes that were sent and neither acknowledged nor rejected: the time was up.
    pub unsettled: u64,
    /// Why streams gave up before their end, one for each that did.
    pub failures: Vec<Status>,
}

/// The streams of a fleet, under way.
#[derive(Debug)]
pub struct Fleet {
    drivers: Arc<Drivers>,
    streams: Streams<Counted>,
}

impl Fleet {
    /// Begins to stream. `fixes` gives each stream, by number, the fixes of its drivers, by due time; a driver must not
    /// be on two streams. The fleet ends by itself after the last fix, or when `stop` is cancelled.
    pub fn start<I>(
        endpoint: &Endpoint,
        options: FleetOptions,
        drivers: &Arc<Drivers>,
        stats: &Arc<Stats>,
        stop: &CancellationToken,
        fixes: impl Fn(usize) -> I,
    ) -> Fleet
    where
        I: Iterator<Item = DueFix> + Send + 'static,
    {
        let of_stream = |number| {
            let counted = Counted::new(Arc::clone(stats), drivers.len());
            (Scheduled::new(fixes(number)), counted)
        };
        Fleet {
            drivers: Arc::clone(drivers),
            streams: Streams::start(&Dial::from(endpoint), options, drivers, stop, of_stream),
        }
    }

    /// Waits for the end of every stream. The error is a panic in one of them.
    pub async fn finished(self) -> Result<FleetReport, JoinError> {
        let ended = self.streams.ended().await?;
        let mut acknowledged = AckLog::new(self.drivers);
        let mut unsettled = 0;
        for counted in ended.observers {
            acknowledged.extend(counted.acknowledged);
            unsettled += counted.unsettled;
        }
        acknowledged.seal();
        Ok(FleetReport {
            acknowledged,
            unsettled,
            failures: ended.failures,
        })
    }
}

#[cfg(test)]
mod tests;
