//! The tables of a run of load.

use super::scaffold::{Cell, Table};
use super::unit::{Unit, number, thousands};
use crate::load::report::{Latency, LoadReport, Operation, Stage, Totals};

/// The columns of [`numbers`].
const NUMBERS: [&str; 9] = [
    "p50", "p90", "p99", "p99.9", "max", "offered", "answered", "refused", "failed",
];

/// A row for each operation.
pub(super) fn overview(report: &LoadReport) -> Table {
    let header = ["operation", "answered /s"].into_iter().chain(NUMBERS);
    let rows = report.operations.iter().map(|operation| {
        let rate = Unit::Count.exact(operation.answered_per_second);
        let named = [Cell::Text(operation.name.clone()), Cell::Number(rate)];
        named.into_iter().chain(numbers(operation.totals, &operation.latency))
    });
    rows.fold(Table::new("", header), Table::row)
}

/// A row for each stage.
pub(super) fn stages(stages: &[Stage]) -> Table {
    let header = ["offered /s", "answered /s", "for"].into_iter().chain(NUMBERS);
    let rows = stages.iter().map(|stage| {
        let stands_for = [
            Unit::Count.exact(stage.offered_per_second),
            Unit::Count.exact(stage.answered_per_second),
            Unit::Seconds.exact(stage.duration_seconds),
        ];
        let stands_for = stands_for.into_iter().map(Cell::Number);
        stands_for.chain(numbers(stage.totals, &stage.latency))
    });
    rows.fold(Table::new("Stages", header), Table::row)
}

fn numbers(totals: Totals, of: &Latency) -> impl Iterator<Item = Cell> {
    let times = [of.p50_ms, of.p90_ms, of.p99_ms, of.p999_ms, of.max_ms];
    let counts = [totals.offered, totals.answered, totals.refused, totals.failed];
    let times = times.map(|value| time(totals.answered, value));
    times.into_iter().chain(counts.map(thousands)).map(Cell::Number)
}

/// The whole distribution, in a row.
pub(super) fn latencies(operation: &Operation) -> Table {
    let of = operation.latency;
    let values = [
        of.min_ms, of.mean_ms, of.p50_ms, of.p90_ms, of.p99_ms, of.p999_ms, of.max_ms,
    ];
    let header = ["min", "mean", "p50", "p90", "p99", "p99.9", "max"];
    let cell = |value| Cell::Number(time(operation.totals.answered, value));
    Table::new("Latency of the answered", header).row(values.map(cell))
}

/// What did not succeed, the most frequent first.
pub(super) fn errors(operation: &Operation) -> Table {
    let mut errors: Vec<_> = operation.errors.iter().collect();
    errors.sort_by(|(name, count), (other, others)| others.cmp(count).then(name.cmp(other)));
    let all = errors.iter().fold(0_u64, |sum, (_, count)| sum.saturating_add(**count));
    let rows = errors.into_iter().map(|(code, count)| {
        let number = Cell::Number(thousands(*count));
        [Cell::Text(code.clone()), number, Cell::Share(ratio(*count, all))]
    });
    rows.fold(Table::new("Errors by code", ["code", "count", "share"]), Table::row)
}

/// A latency, where there is one.
pub(super) fn time(answered: u64, millis: f64) -> String {
    match answered {
        0 => "–".to_owned(),
        _ => Unit::Milliseconds.exact(millis),
    }
}

/// 0 of nothing.
pub(super) fn ratio(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { number(part) / number(whole) }
}
