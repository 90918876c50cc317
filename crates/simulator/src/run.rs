//! Whole runs: an invented city for a while, or a recorded one to its end, with what came of every fix and order.

mod recorded;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::task::JoinError;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tonic::Status;
use tonic::transport::Endpoint;

pub(crate) use self::recorded::RecordedCity;
use crate::Drivers;
use crate::city::{self, Arrivals, CabFixes, CityOptions};
use crate::clock::SpeedError;
use crate::connections;
use crate::customers::{Answer, Customers, CustomersOptions, Order};
use crate::fleet::{AckLog, DueFix, Fleet, FleetOptions};
use crate::stats::{Snapshot, Stats, Summary};
use crate::trace::{BrokenLines, TraceError};

/// How long after a cancellation the orders in flight may take to settle: the assignment window, a refund, and a margin.
const WIND_DOWN: Duration = Duration::from_secs(30);

/// How long to wait, at the end, for completions that were begun.
const LAST_COMPLETIONS: Duration = Duration::from_secs(10);

/// A recorded city to play.
#[derive(Debug, Clone)]
pub struct TraceOptions {
    /// The file of the fixes.
    pub locations: PathBuf,
    /// The file of the rides; without it fixes are streamed and nothing is ordered.
    pub rides: Option<PathBuf>,
    /// How many times faster than it was.
    pub speed: f64,
    /// How the drivers stream.
    pub fleet: FleetOptions,
    /// How the customers behave.
    pub customers: CustomersOptions,
}

/// What a run came to.
#[derive(Debug)]
pub struct RunReport {
    /// The numbers that are reported; `acknowledged` in it are distinct fixes.
    pub summary: Summary,
    /// All counters at the end.
    pub counts: Snapshot,
    /// Every fix that the server acknowledged as stored, to be held against what it stored.
    pub acknowledged: AckLog,
    /// Every order that the server answered as settled, to be held against what it stored.
    pub answers: Vec<Answer>,
    /// Fixes that were sent and neither acknowledged nor rejected when the time was up.
    pub unsettled_fixes: u64,
    /// Why location streams gave up before their end, one for each that did.
    pub stream_failures: Vec<Status>,
    /// Lines of the trace that could not be used.
    pub broken_lines: BrokenLines,
}

/// Why a run could not be made.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// Nothing answers at the address.
    #[error("no server answers at {address}")]
    Unreachable {
        /// Where it was looked for.
        address: String,
        /// What went wrong.
        #[source]
        source: tonic::transport::Error,
    },
    /// The trace cannot be read.
    #[error(transparent)]
    Trace(#[from] TraceError),
    /// The trace has a header and no line that can be used.
    #[error("{} holds no fix{}", file.display(), first_broken.as_ref().map(|line| format!("; {line}")).unwrap_or_default())]
    EmptyTrace {
        /// The file of the fixes.
        file: PathBuf,
        /// What is wrong with its first line, if it has one.
        first_broken: Option<String>,
    },
    /// The speed is not one.
    #[error(transparent)]
    Speed(#[from] SpeedError),
    /// A part of the simulator panicked.
    #[error("the simulator failed")]
    Panicked(#[from] JoinError),
}

/// Runs an invented city for its duration, then until all orders are settled and all fixes are acknowledged or rejected.
/// Cancelling ends it early.
pub async fn run_city(
    options: CityOptions,
    endpoint: &Endpoint,
    stats: Arc<Stats>,
    cancel: &CancellationToken,
) -> Result<RunReport, RunError> {
    reach(endpoint).await?;
    let drivers = city::drivers(options.drivers);
    let streams = drivers.streams(options.fleet.streams);
    let (started, started_at) = (Instant::now(), Timestamp::now());
    let fixes = |stream| {
        let on_stream = (0..)
            .zip(&streams)
            .filter(|(_, on)| **on == stream)
            .map(|(driver, _)| driver);
        CabFixes::new(options, on_stream, started, started_at)
    };
    let run = Run {
        endpoint,
        stats,
        cancel,
        started,
        fleet: options.fleet,
        customers: options.customers,
    };
    let fleet_end = FleetEnd::AfterOrdersAnd(started + options.duration);
    run.finish(&drivers, fixes, Arrivals::new(options, started), fleet_end)
        .await
}

/// Plays a recorded city: every fix at its time, every ride an order at the time and place of its request. The run ends
/// when the time of the trace is over, every order is settled and every fix is acknowledged or rejected; rides that are
/// still on the road then are left there. Cancelling ends it early.
pub async fn run_trace(
    options: TraceOptions,
    endpoint: &Endpoint,
    stats: Arc<Stats>,
    cancel: &CancellationToken,
) -> Result<RunReport, RunError> {
    let city = RecordedCity::read(options.locations, options.rides, options.speed).await?;
    reach(endpoint).await?;

    let started = Instant::now();
    let clock = city.clock(started, Timestamp::now())?;
    let streams: Arc<[usize]> = city.drivers().streams(options.fleet.streams).into();
    let fixes = |stream| city.fixes(&streams, stream, clock);
    let run = Run {
        endpoint,
        stats,
        cancel,
        started,
        fleet: options.fleet,
        customers: options.customers,
    };
    let report = run
        .finish(city.drivers(), fixes, city.orders(clock), FleetEnd::AfterItsLastFix)
        .await?;
    Ok(RunReport {
        broken_lines: city.broken_lines,
        ..report
    })
}

/// When the fleet is sent home.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum FleetEnd {
    /// It drives until this time, and for as long as an order may want a driver.
    AfterOrdersAnd(Instant),
    /// It has an end of its own.
    AfterItsLastFix,
}

struct Run<'a> {
    endpoint: &'a Endpoint,
    stats: Arc<Stats>,
    cancel: &'a CancellationToken,
    started: Instant,
    fleet: FleetOptions,
    customers: CustomersOptions,
}

impl Run<'_> {
    async fn finish<I>(
        self,
        drivers: &Arc<Drivers>,
        fixes: impl Fn(usize) -> I,
        orders: impl IntoIterator<Item = Order>,
        fleet_end: FleetEnd,
    ) -> Result<RunReport, RunError>
    where
        I: Iterator<Item = DueFix> + Send + 'static,
    {
        let send_home = CancellationToken::new();
        let _send_home_if_dropped = send_home.clone().drop_guard();
        let fleet = Fleet::start(self.endpoint, self.fleet, drivers, &self.stats, &send_home, fixes);
        let customers = Customers::new(self.endpoint, self.customers, Arc::clone(&self.stats));

        customers.place_all(orders, self.cancel).await;
        self.settle(&customers).await;
        if let FleetEnd::AfterOrdersAnd(end) = fleet_end {
            self.cancel.run_until_cancelled(tokio::time::sleep_until(end)).await;
            send_home.cancel();
        }
        let mut fleet = std::pin::pin!(fleet.finished());
        let report = tokio::select! {
            report = &mut fleet => report?,
            () = self.cancel.cancelled() => {
                send_home.cancel();
                fleet.await?
            }
        };
        if tokio::time::timeout(LAST_COMPLETIONS, customers.end_rides())
            .await
            .is_err()
        {
            customers.abandon();
            customers.end_rides().await;
        }

        let mut summary = self.stats.summary(self.started.elapsed());
        summary.locations.acknowledged = report.acknowledged.distinct();
        Ok(RunReport {
            summary,
            counts: self.stats.snapshot(),
            acknowledged: report.acknowledged,
            answers: customers.answers(),
            unsettled_fixes: report.unsettled,
            stream_failures: report.failures,
            broken_lines: BrokenLines::default(),
        })
    }

    /// Waits until every order is settled; after a cancellation not for ever.
    async fn settle(&self, customers: &Customers) {
        let time_is_up = async {
            self.cancel.cancelled().await;
            tokio::time::sleep(WIND_DOWN).await;
        };
        tokio::select! {
            () = customers.settled() => {}
            () = time_is_up => {
                customers.abandon();
                customers.settled().await;
            }
        }
    }
}

/// One clear error now instead of two minutes of retries.
async fn reach(endpoint: &Endpoint) -> Result<(), RunError> {
    let reached = connections::reach(endpoint).await;
    reached.map_err(|source| RunError::Unreachable {
        address: endpoint.uri().to_string(),
        source,
    })
}

#[cfg(test)]
mod tests;
