//! The table of a staircase's stages.

use super::scaffold::{Cell, Table};
use super::unit::{Unit, thousands};
use crate::load::report::Stage;

/// A row for each stage.
pub(super) fn stages(stages: &[Stage]) -> Table {
    let header = [
        "offered /s",
        "answered /s",
        "for",
        "p50",
        "p90",
        "p99",
        "p99.9",
        "max",
        "offered",
        "answered",
        "refused",
        "failed",
    ];
    let table = Table::new("Stages", header);
    stages.iter().map(row).fold(table, Table::row)
}

fn row(stage: &Stage) -> Vec<Cell> {
    let (of, totals) = (stage.latency, stage.totals);
    let none = totals.answered == 0;
    let time = |value| {
        if none {
            "–".to_owned()
        } else {
            Unit::Milliseconds.exact(value)
        }
    };
    let cells = [
        Unit::Count.exact(stage.offered_per_second),
        Unit::Count.exact(stage.answered_per_second),
        Unit::Seconds.exact(stage.duration_seconds),
        time(of.p50_ms),
        time(of.p90_ms),
        time(of.p99_ms),
        time(of.p999_ms),
        time(of.max_ms),
        thousands(totals.offered),
        thousands(totals.answered),
        thousands(totals.refused),
        thousands(totals.failed),
    ];
    cells.into_iter().map(Cell::Number).collect()
}
