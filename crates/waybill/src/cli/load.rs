//! The flags of `waybill load`.

use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};

use super::values::{A_YEAR, duration, duration_or_none, number, rate};
use super::{RecordedCityFlags, ServerFlags};

/// What scripts need to know of a run of load.
const STATUSES: &str = "\
Exit status: 0 when the run was made and something was answered, whatever failed beside it; 1 when nothing was answered \
at all, or when a trace had lines that could not be used; 64 for a flag that cannot be used; 69 when no server answers. Ctrl-C ends a run early: what was measured is \
reported, marked as cut short. A run whose numbers are those of the generator is marked on standard error and in the JSON \
(`generator.limited_by_generator`).";

#[derive(Debug, Args)]
#[command(after_help = STATUSES)]
pub struct LoadArgs {
    #[command(subcommand)]
    pub workload: LoadCommand,
}

#[derive(Debug, Subcommand)]
pub enum LoadCommand {
    /// Orders from creation to completion, by new customers, with drivers of their own
    #[command(after_help = STATUSES)]
    Orders(OrdersFlags),
    /// Fixes of drivers on streams
    #[command(after_help = STATUSES)]
    Ingest(IngestFlags),
    /// Searches for the nearest drivers; the server's limit on a caller's reads may be what answers
    #[command(after_help = STATUSES)]
    Nearby(NearbyFlags),
    /// Fixes, searches and orders at once
    #[command(after_help = STATUSES)]
    Mixed(MixedFlags),
    /// A recorded city: its fixes and rides when they were
    #[command(after_help = STATUSES)]
    Trace(TraceFlags),
}

#[derive(Debug, Args)]
pub struct OrdersFlags {
    #[command(flatten)]
    pub run: RunFlags,
    #[command(flatten)]
    pub pace: PaceFlags,
    #[command(flatten)]
    pub callers: CallersFlag,
    /// Drivers, eight to a place; by default enough for orders of two seconds
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=DRIVERS_MAX))]
    pub drivers: Option<u32>,
}

#[derive(Debug, Args)]
pub struct IngestFlags {
    #[command(flatten)]
    pub run: RunFlags,
    #[command(flatten)]
    pub pace: PaceFlags,
    #[command(flatten)]
    pub fixes: FixFlags,
}

#[derive(Debug, Args)]
pub struct NearbyFlags {
    #[command(flatten)]
    pub run: RunFlags,
    #[command(flatten)]
    pub pace: PaceFlags,
    #[command(flatten)]
    pub callers: CallersFlag,
    /// Drivers put onto the map first, and kept fresh; 0 searches what is there
    #[arg(long, value_name = "N", default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(0..=DRIVERS_MAX))]
    pub drivers: u32,
    /// The radius of a search in metres, 1 to 50000
    #[arg(long, value_name = "M", default_value_t = 5_000.0, value_parser = number(1.0, 50_000.0))]
    pub radius: f64,
}

#[derive(Debug, Args)]
pub struct MixedFlags {
    #[command(flatten)]
    pub run: RunFlags,
    #[command(flatten)]
    pub pace: PaceFlags,
    #[command(flatten)]
    pub fixes: FixFlags,
    /// Orders for each fix
    #[arg(long, value_name = "N", default_value_t = 0.005, value_parser = number(0.0, 1.0))]
    pub orders_share: f64,
    /// Searches for each fix
    #[arg(long, value_name = "N", default_value_t = 0.02, value_parser = number(0.0, 1.0))]
    pub nearby_share: f64,
}

#[derive(Debug, Args)]
pub struct TraceFlags {
    #[command(flatten)]
    pub run: RunFlags,
    #[command(flatten)]
    pub city: RecordedCityFlags,
    #[command(flatten)]
    pub streams: StreamsFlag,
}

/// The flags of every run.
#[derive(Debug, Args)]
pub struct RunFlags {
    #[command(flatten)]
    pub server: ServerFlags,
    /// How long a call may take; sent to the server as its deadline
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = duration(DEADLINE_MAX))]
    pub deadline: Duration,
    /// Make a call that failed again, within its deadline, and count that; else its failure is counted
    #[arg(long)]
    pub retries: bool,
    /// The seed of what is random in the run
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub seed: u64,
    /// Write all that was measured as JSON; `-` for standard output, in place of the table
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Write a page with charts
    #[arg(long, value_name = "FILE")]
    pub report: Option<PathBuf>,
}

/// When calls are made.
#[derive(Debug, Args)]
pub struct PaceFlags {
    /// Calls (or fixes) a second, as many as there are, whatever the server does: `500`, or from one to another over
    /// the run: `100..5000`. Without it the next call is made when the one before is answered
    #[arg(long, value_name = "N", value_parser = RateFlag::from_str)]
    pub rate: Option<RateFlag>,
    /// Go from one rate to the other in stages of this length and not evenly
    #[arg(long, value_name = "TIME", value_parser = duration(A_YEAR), requires = "rate")]
    pub step: Option<Duration>,
    /// How arrivals are spaced
    #[arg(long, value_name = "HOW", default_value = "poisson")]
    pub arrivals: ArrivalsName,
    /// How long is measured [default: 30s, or an hour with --count]
    #[arg(long = "for", value_name = "TIME", value_parser = duration(A_YEAR))]
    pub duration: Option<Duration>,
    /// How long the load goes before anything is counted
    #[arg(long, value_name = "TIME", default_value = "2s", value_parser = duration_or_none)]
    pub warm_up: Duration,
    /// End after so many calls (or fixes) that are measured
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub count: Option<u64>,
}

#[derive(Debug, Args)]
pub struct CallersFlag {
    /// Without a rate: calls at a time. While the server is away each of them waits up to a second before its next
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..=CALLERS_MAX), conflicts_with = "rate")]
    pub callers: u32,
}

#[derive(Debug, Args)]
pub struct FixFlags {
    /// Drivers, spread over the streams
    #[arg(long, value_name = "N", default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..=DRIVERS_MAX))]
    pub drivers: u32,
    #[command(flatten)]
    pub streams: StreamsFlag,
    /// Fixes that fall due within this time go out in one message
    #[arg(long, value_name = "TIME", default_value = "10ms", value_parser = duration_or_none)]
    pub gather: Duration,
}

#[derive(Debug, Args)]
pub struct StreamsFlag {
    /// Streams, each on a connection of its own
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=STREAMS_MAX))]
    pub streams: u32,
}

/// One rate, or two.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum RateFlag {
    Constant(f64),
    Range { from: f64, to: f64 },
}

/// How arrivals are spaced.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum ArrivalsName {
    /// Independent of each other, as those of many customers are
    Poisson,
    /// Evenly
    Constant,
}

/// Far above what one machine makes; a typing error of a few digits should not fill its memory.
const RATE_MAX: f64 = 1_000_000.0;
const DRIVERS_MAX: i64 = 1_000_000;
const CALLERS_MAX: i64 = 10_000;
const STREAMS_MAX: i64 = 1_000;

/// Latencies above this are all the same to a report.
const DEADLINE_MAX: &str = "10m";

impl FromStr for RateFlag {
    type Err = String;

    fn from_str(text: &str) -> Result<RateFlag, String> {
        match text.split_once("..") {
            None => rate(RATE_MAX)(text).map(RateFlag::Constant),
            Some((from, to)) => Ok(RateFlag::Range {
                from: rate(RATE_MAX)(from)?,
                to: rate(RATE_MAX)(to)?,
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_one_number_or_two() {
        assert_eq!("20000".parse(), Ok(RateFlag::Constant(20_000.0)));
        let range = RateFlag::Range { from: 100.0, to: 0.5 };
        assert_eq!("100..0.5".parse(), Ok(range));
        for bad in [
            "", "0", "-1", "NaN", "inf", "1e9", "many", "1..", "..1", "0..5", "1..2..3", "5..NaN",
        ] {
            assert!(RateFlag::from_str(bad).is_err(), "{bad:?}");
        }
    }
}
