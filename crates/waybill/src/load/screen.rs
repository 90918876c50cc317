//! What the screen shows of a run of load: a row an operation, with the rates and latencies of the last seconds.

use std::fmt::Write as _;
use std::time::Duration;

use waybill_simulator::load::Live;
use waybill_simulator::recorder::LiveOperation;

use crate::screen::View;

/// Lateness that is shown while it lasts.
const BEHIND_MIN: Duration = Duration::from_millis(100);

/// The run as it is now.
pub fn view(live: &Live) -> View {
    let Some(seen) = live.snapshot() else {
        return View {
            elapsed: Duration::ZERO,
            expected: None,
            note: "putting drivers onto the map",
            rows: Vec::new(),
        };
    };
    let over = seen.expected.is_some_and(|expected| seen.elapsed > expected);
    View {
        elapsed: seen.elapsed,
        expected: seen.expected,
        note: match (seen.warming_up, over) {
            (true, _) => "warming up",
            (false, true) => "waiting for the last answers",
            (false, false) => "",
        },
        rows: seen.operations.iter().map(row).collect(),
    }
}

fn row(operation: &LiveOperation) -> String {
    let totals = &operation.totals;
    let mut row = format!(
        "{:<14} {:>8.0}/s offered {:>8.0}/s answered {:>6} in flight {:>8.1} ms p50 {:>8.1} ms p99 {:>9} answered",
        operation.name,
        operation.offered_per_second,
        operation.answered_per_second,
        operation.in_flight,
        operation.p50_ms,
        operation.p99_ms,
        totals.answered,
    );
    // Only where there is something to worry about.
    for (count, what) in [(totals.refused, "REFUSED"), (totals.failed, "FAILED")] {
        if count > 0 {
            let _ = write!(row, " {count:>6} {what}");
        }
    }
    if operation.behind_max >= BEHIND_MIN {
        let _ = write!(row, " {} ms BEHIND", operation.behind_max.as_millis());
    }
    row
}
