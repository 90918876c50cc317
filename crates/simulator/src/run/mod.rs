//! Whole runs: an invented city for a while, or a recorded one to its end, with what came of every fix and order.

mod play;
mod recorded;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tonic::Status;

pub(crate) use self::play::{FleetEnd, Play, Played};
pub(crate) use self::recorded::RecordedCity;
use crate::city::{self, Arrivals, CityOptions};
use crate::client::{Dial, Target};
use crate::customers::{Answer, CustomersOptions};
pub use crate::error::RunError;
use crate::error::reach;
use crate::fleet::{AckLog, FleetOptions};
use crate::stats::{Snapshot, Stats};
use crate::trace::BrokenLines;

/// How long after a stop the orders in flight may take to settle: the assignment window, a refund, and a margin.
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
    /// How long it took.
    pub elapsed: Duration,
    /// All counters at the end.
    pub counts: Snapshot,
    /// Every fix that the server acknowledged as stored, to be compared with what it stored.
    pub acknowledged: AckLog,
    /// Every order that the server answered as settled, to be compared with what it stored.
    pub answers: Vec<Answer>,
    /// Fixes that were sent and neither acknowledged nor rejected when the time was up.
    pub unsettled_fixes: u64,
    /// Why location streams gave up before their end, one for each that did.
    pub stream_failures: Vec<Status>,
    /// Lines of the trace that could not be used.
    pub broken_lines: BrokenLines,
}

/// Runs an invented city for its duration, then until all orders are settled and all fixes are acknowledged or rejected.
/// Cancelling ends it early.
pub async fn run_city(
    options: CityOptions,
    target: &Target,
    stats: Arc<Stats>,
    cancel: &CancellationToken,
) -> Result<RunReport, RunError> {
    reach(target).await?;
    let drivers = city::drivers(options.drivers);
    let streams = drivers.streams(options.fleet.streams);
    let (started, started_at) = (Instant::now(), Timestamp::now());
    let fixes = |stream| {
        let on_stream = (0..options.drivers).zip(&streams).filter(|(_, on)| **on == stream);
        let on_stream = on_stream.map(|(driver, _)| driver).collect();
        city::fixes(&options, on_stream, started, started_at)
    };
    let end = FleetEnd::AfterOrdersAnd(started + options.duration);
    let dial = Dial::from(target);
    let play = play(&dial, &stats, options.fleet, end, options.customers);
    let played = play
        .city(&drivers, fixes, Arrivals::new(&options, started), cancel)
        .await?;
    Ok(report(started, &stats, played, BrokenLines::default()))
}

/// Plays a recorded city: every fix at its time, every ride an order at the time and place of its request. The run ends
/// when the time of the trace is over, every order is settled and every fix is acknowledged or rejected; rides that are
/// still on the road then are left there. Cancelling ends it early.
pub async fn run_trace(
    options: TraceOptions,
    target: &Target,
    stats: Arc<Stats>,
    cancel: &CancellationToken,
) -> Result<RunReport, RunError> {
    let city = RecordedCity::read(options.locations, options.rides, options.speed).await?;
    reach(target).await?;
    let (started, started_at) = (Instant::now(), Timestamp::now());
    let dial = Dial::from(target);
    let play = play(
        &dial,
        &stats,
        options.fleet,
        FleetEnd::AfterItsLastFix,
        options.customers,
    );
    let played = city.play(play, started, started_at, cancel).await?;
    Ok(report(started, &stats, played, city.broken_lines))
}

/// A city whose answers are compared with what the server stored.
fn play<'a>(
    server: &'a Dial,
    stats: &'a Stats,
    fleet: FleetOptions,
    fleet_end: FleetEnd,
    customers: CustomersOptions,
) -> Play<'a> {
    Play {
        server,
        stats,
        fleet,
        fleet_end,
        keeps_log: true,
        customers,
        wind_down: WIND_DOWN,
        last_completions: LAST_COMPLETIONS,
    }
}

fn report(started: Instant, stats: &Stats, played: Played, broken_lines: BrokenLines) -> RunReport {
    let mut counts = stats.snapshot();
    // The same fix twice, as a trace might have it, is stored once.
    counts.locations.acknowledged = played.acknowledged.distinct();
    RunReport {
        elapsed: started.elapsed(),
        counts,
        acknowledged: played.acknowledged,
        answers: played.answers,
        unsettled_fixes: counts.locations.unsettled,
        stream_failures: played.stream_failures,
        broken_lines,
    }
}

#[cfg(test)]
mod tests;
