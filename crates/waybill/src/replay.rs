//! `waybill replay`: a recorded city into any running server.

use std::sync::Arc;

use serde_json::{Map, Value, json};
use waybill_simulator::customers::CustomersOptions;
use waybill_simulator::fleet::FleetOptions;
use waybill_simulator::run::{RunError, RunReport, TraceOptions, run_trace};
use waybill_simulator::stats::{Snapshot, Stats};
use waybill_simulator::{AddressError, Target};

use crate::cli::{RecordedCityFlags, ReplayArgs, ServerFlags};
use crate::screen::Screen;
use crate::{Failure, print, signals};

pub async fn run(args: ReplayArgs) -> Result<(), Failure> {
    let stop = signals::stop_token()?;
    let target = target(&args.server)?;
    let stats = Arc::new(Stats::default());
    let screen = (!args.json).then(|| Screen::of_city("waybill replay".to_owned(), None, &stats));
    let options = options(args.city, CustomersOptions::default());
    let report = run_trace(options, &target, stats, &stop).await;
    if let Some(screen) = screen {
        screen.end().await;
    }
    let report = report.map_err(Failure::unavailable)?;
    warn_of(&report);
    print::json(&summary(report.elapsed.as_secs_f64(), &report.counts));
    Ok(())
}

/// The running server that the flags name.
pub fn target(flags: &ServerFlags) -> Result<Target, Failure> {
    Target::new(&flags.grpc_addr, flags.token.as_deref()).map_err(|error| {
        let flag = match error {
            AddressError::Token => "--token",
            AddressError::Malformed { .. } | AddressError::Scheme { .. } => "--grpc-addr",
        };
        Failure::Usage(format!("{flag}: {error}"))
    })
}

/// A recorded city, as it is played for a replay and for the demo.
pub fn options(city: RecordedCityFlags, customers: CustomersOptions) -> TraceOptions {
    TraceOptions {
        locations: city.locations,
        rides: city.rides,
        speed: city.speed,
        fleet: FleetOptions::default(),
        customers,
    }
}

/// The numbers of a run, for scripts.
fn summary(seconds: f64, counts: &Snapshot) -> Value {
    json!({ "seconds": seconds, "orders": orders(counts), "locations": locations(counts) })
}

/// What became of the orders, for scripts.
pub fn orders(counts: &Snapshot) -> Value {
    let orders = &counts.orders;
    json!({
        "created": orders.placed,
        "succeeded": orders.succeeded,
        "refunded": orders.refunded,
        "failed": orders.failed,
    })
}

/// What became of the fixes, for scripts.
pub fn locations(counts: &Snapshot) -> Map<String, Value> {
    let locations = &counts.locations;
    let counts = [
        ("sent", locations.sent),
        ("acknowledged", locations.acknowledged),
        ("rejected", locations.rejected),
    ];
    counts
        .into_iter()
        .map(|(name, count)| (name.to_owned(), count.into()))
        .collect()
}

/// Why a run could not be made: the caller's doing, or a server that is not there.
pub fn refused(error: RunError) -> Failure {
    match error {
        RunError::Trace(_) | RunError::EmptyTrace { .. } | RunError::Speed(_) => {
            Failure::Usage(format!("{:#}", anyhow::Error::new(error)))
        }
        RunError::Pace(_) => Failure::Usage(error.to_string()),
        RunError::Unreachable { .. } | RunError::Drivers(_) | RunError::Streams(_) | RunError::Panicked(_) => {
            Failure::unavailable(error)
        }
    }
}

/// Prints what did not go as it should, which the numbers alone do not show.
pub fn warn_of(report: &RunReport) {
    warn_of_broken_lines(report.broken_lines.count, &report.broken_lines.first);
    for failure in &report.stream_failures {
        print::note(&format!("a location stream gave up: {}", failure.message()));
    }
    let (unsettled, gave_up) = (report.unsettled_fixes, report.counts.orders.gave_up);
    if unsettled > 0 {
        print::note(&format!("{unsettled} fixes were neither acknowledged nor rejected"));
    }
    if gave_up > 0 {
        print::note(&format!("{gave_up} orders had no settled answer in time"));
    }
}

/// Prints how many lines of a trace could not be used, and the first of them.
pub fn warn_of_broken_lines(count: u64, first: &[String]) {
    if count > 0 {
        print::note(&format!("{count} lines of the trace could not be used:"));
    }
    for line in first {
        print::note(&format!("  {line}"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_summary_has_the_shape_that_scripts_read() {
        let mut counts = Snapshot::default();
        (counts.orders.placed, counts.orders.succeeded) = (1, 1);
        counts.locations.sent = 3;
        (counts.locations.acknowledged, counts.locations.rejected) = (2, 1);
        let expected = json!({
            "seconds": 1.5,
            "orders": {"created": 1, "succeeded": 1, "refunded": 0, "failed": 0},
            "locations": {"sent": 3, "acknowledged": 2, "rejected": 1},
        });
        assert_eq!(summary(1.5, &counts), expected);
    }
}
