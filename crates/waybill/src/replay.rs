//! `waybill replay`: a recorded city into any running server.

use std::sync::Arc;

use waybill_simulator::customers::CustomersOptions;
use waybill_simulator::fleet::FleetOptions;
use waybill_simulator::run::{RunError, RunReport, TraceOptions, run_trace};
use waybill_simulator::stats::Stats;
use waybill_simulator::{Endpoint, endpoint};

use crate::cli::ReplayArgs;
use crate::screen::Screen;
use crate::{Failure, signals};

#[allow(clippy::print_stdout, reason = "the command's answer")]
pub async fn run(args: ReplayArgs) -> Result<(), Failure> {
    let stop = signals::stop_token()?;
    let endpoint: Endpoint = endpoint(&args.grpc_addr).map_err(|error| Failure::Usage(error.to_string()))?;
    let options = TraceOptions {
        locations: args.locations,
        rides: args.rides,
        speed: args.speed,
        fleet: FleetOptions::default(),
        customers: CustomersOptions::default(),
    };
    let stats = Arc::new(Stats::default());
    let screen = (!args.json).then(|| Screen::start("waybill replay".to_owned(), None, Arc::clone(&stats)));
    let report = run_trace(options, &endpoint, stats, &stop)
        .await
        .map_err(Failure::unavailable);
    if let Some(screen) = screen {
        screen.end().await;
    }
    let report = report?;
    warn_of(&report);
    println!("{}", serde_json::json!(report.summary));
    Ok(())
}

/// Why a run could not be made: the caller's doing, or a server that is not there.
pub fn refused(error: RunError) -> Failure {
    match error {
        RunError::Trace(_) | RunError::EmptyTrace { .. } | RunError::Speed(_) => {
            Failure::Usage(format!("{:#}", anyhow::Error::new(error)))
        }
        RunError::Unreachable { .. } | RunError::Panicked(_) => Failure::unavailable(error),
    }
}

/// Says what did not go as it should, which the numbers alone do not tell.
#[allow(clippy::print_stderr, reason = "what a person at the terminal needs to know")]
pub fn warn_of(report: &RunReport) {
    if report.broken_lines.count > 0 {
        eprintln!("{} lines of the trace could not be used:", report.broken_lines.count);
        for line in &report.broken_lines.first {
            eprintln!("  {line}");
        }
    }
    for failure in &report.stream_failures {
        eprintln!("a location stream gave up: {}", failure.message());
    }
    if report.unsettled_fixes > 0 {
        eprintln!(
            "{} fixes were neither acknowledged nor rejected",
            report.unsettled_fixes
        );
    }
    if report.counts.orders.gave_up > 0 {
        eprintln!("{} orders had no settled answer in time", report.counts.orders.gave_up);
    }
}
