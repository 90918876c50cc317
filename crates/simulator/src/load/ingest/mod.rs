//! Fixes on streams: the workload `ingest`, and the fixes of `mixed`.
//!
//! Driver `d` is always on stream `d` modulo the streams, and the drivers of a stream take turns, so that each has an
//! even rate. In an open loop each stream has its part of the schedule: a Poisson process is split into Poisson
//! processes, and even arrivals into even ones. Nothing of it is kept but the next time; while flow control holds
//! a stream back its fixes wait in the schedule, and their latency counts. In a closed loop the windows are always full,
//! and a fix is due when it is taken.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinError;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tonic::Status;

use super::nearby::Area;
use super::plan::IngestLoad;
use super::rate::Schedule;
use crate::Drivers;
use crate::city::{SAN_FRANCISCO, Walks};
use crate::client::Dial;
use crate::drive::{Alarm, Clock, RECONNECT};
use crate::fleet::{DueFix, Fleet, FleetCounts, FleetOptions, Scheduled, Source};
use crate::recorder::Timeline;

/// Fixes on streams, and who counts them.
pub(crate) struct Ingest<'a> {
    /// The server.
    pub(crate) server: &'a Dial,
    /// How many drivers, on how many streams.
    pub(crate) load: IngestLoad,
    /// When fixes are due; without it the loop is closed.
    pub(crate) schedule: Option<&'a Schedule>,
    /// What waits for the times of the schedule.
    pub(crate) clock: Clock,
    /// Where the chances of the arrivals and the drivers come from.
    pub(crate) seed: u64,
    /// How many fixes at most, the warm-up not counted.
    pub(crate) count_max: Option<u64>,
    /// How long the last acknowledgements are waited for.
    pub(crate) deadline: Duration,
    /// Whether what a broken stream left unacknowledged is sent again.
    pub(crate) resend: bool,
    /// Cancelled when every stream is refused for good and nothing was answered; else their time is sat out.
    pub(crate) hopeless: Option<CancellationToken>,
    /// The times of the run.
    pub(crate) timeline: &'a Timeline,
    /// Who counts.
    pub(crate) counts: &'a FleetCounts,
}

impl Ingest<'_> {
    /// Streams until the schedule is over or `stop` is cancelled, and all that was sent is acknowledged, rejected or
    /// lost. What was due until then and not taken is counted as scheduled and not made. Returns why streams gave up
    /// early, one for each that did; the error is a panic in one of them.
    pub(crate) async fn run(&self, stop: &CancellationToken) -> Result<Vec<Status>, JoinError> {
        let load = self.load;
        let count = load.drivers.max(1);
        let drivers: Drivers = (0..count).map(name).collect();
        // A stream without a driver would have a part of the rate and no driver to report it.
        let streams = load.streams.clamp(1, drivers.len());
        let (started, started_at) = (self.timeline.started(), self.timeline.started_at());
        let options = FleetOptions {
            window: load.window,
            batch: load.batch,
            // A full window is not to wait for company.
            gather: self.schedule.map_or(Duration::ZERO, |_| load.gather),
            ..options(streams, self.resend, self.deadline)
        };
        let walks = |stream: usize| {
            let on_stream = (0..count).skip(stream).step_by(streams);
            Walks::new(SAN_FRANCISCO, on_stream, self.seed, started, started_at)
        };
        // As many of all fixes as it has of the drivers, who thus all have the same rate.
        let apart = |stream| f64::from(count) / f64::from((count - number(stream)).div_ceil(number(streams)));
        // Each stream has its part of the count.
        let left = |stream: usize| {
            let (stream, streams) = (stream as u64, streams as u64);
            let part = |max: u64| max / streams + u64::from(stream < max % streams);
            self.count_max.map_or(u64::MAX, part)
        };
        let fleet = Fleet {
            server: self.server,
            options,
            drivers: &Arc::new(drivers),
            counts: self.counts,
            keeps_log: false,
            hopeless: self.hopeless.clone(),
        };
        let streams = match self.schedule {
            Some(schedule) => {
                let alarm = Alarm::new(self.clock);
                let counts_from = self.timeline.measured_from();
                fleet.start(stop, |stream| {
                    let dues = schedule.share(self.seed, number(stream), apart(stream));
                    let (mut walks, mut left) = (walks(stream), left(stream));
                    let fixes = dues.map_while(move |due| {
                        let due = started + due;
                        if due >= counts_from {
                            left = left.checked_sub(1)?;
                        }
                        walks.next(due)
                    });
                    Scheduled::new(fixes, &alarm)
                })
            }
            None => fleet.start(stop, |stream| Closed {
                from: started,
                counts_from: self.timeline.measured_from(),
                walks: walks(stream),
                left: left(stream),
            }),
        };
        Ok(streams.ended().await?.failures)
    }
}

/// A fix whenever there is room for one.
struct Closed {
    from: Instant,
    /// How many there may still be that are due from then on.
    counts_from: Instant,
    left: u64,
    walks: Walks,
}

impl Source for Closed {
    fn next_due(&mut self) -> Option<Instant> {
        (self.left > 0).then_some(self.from)
    }

    fn take(&mut self, now: Instant) -> Option<DueFix> {
        if self.left == 0 || now < self.from {
            return None;
        }
        if now >= self.counts_from {
            self.left -= 1;
        }
        self.walks.next(now)
    }

    fn until(&self, at: Instant) -> impl Future<Output = ()> + Send + use<> {
        async move {
            // The timer would make even a time that has passed wait for its next tick.
            if at > Instant::now() {
                tokio::time::sleep_until(at).await;
            }
        }
    }

    fn miss(&mut self, _: Instant) -> Option<Instant> {
        // What was not taken was never due.
        None
    }
}

/// Where the drivers are.
pub(super) const CITY: Area = Area {
    middle: SAN_FRANCISCO.centre,
    side_m: 2.0 * SAN_FRANCISCO.radius_m,
};

fn number(of: usize) -> u32 {
    u32::try_from(of).unwrap_or(u32::MAX)
}

/// How streams of load go on when they break.
pub(super) fn options(streams: usize, resend: bool, drain: Duration) -> FleetOptions {
    FleetOptions {
        streams,
        resend,
        drain,
        retry: RECONNECT,
        ..FleetOptions::default()
    }
}

fn name(driver: u32) -> String {
    format!("load-driver-{driver:06}")
}

#[cfg(test)]
mod tests;
