//! How `waybill load` shows what it measured, in a terminal: a row for each operation, then stages, errors, what the
//! generator cost, and what to beware of.

use clap::builder::styling::AnsiColor;
use waybill_domain::text::escaped;
use waybill_simulator::load::report::{Latency, LoadReport, Operation, Stage, Totals};
use waybill_simulator::report::{Unit, thousands};

use crate::table::{Table, table as empty_table};

/// The tables and the lines below them. `colour`: whether a warning may be red.
pub fn table(report: &LoadReport, colour: bool) -> String {
    let mut parts = vec![operations(report).to_string()];
    // Of the most important one: those of the others are in the JSON and on the page.
    if let Some(first) = report.operations.first().filter(|first| first.stages.len() > 1) {
        parts.push(format!("{}, each stage\n{}", first.name, stages(&first.stages)));
    }
    if report.operations.iter().any(|operation| !operation.errors.is_empty()) {
        parts.push(format!("errors\n{}", errors(&report.operations)));
    }
    let mut lines = vec![generator(report)];
    lines.extend(repeated(&report.operations));
    lines.extend(report.operations.iter().filter_map(left_out));
    lines.extend(report.cut_short.then(|| {
        let measured = Unit::Seconds.exact(report.measured_seconds);
        format!("cut short: only {measured} were measured")
    }));
    if report.broken_lines > 0 {
        let first = report.first_broken_lines.first().map_or("", String::as_str);
        lines.push(format!(
            "broken lines of the trace: {}, the first is {}",
            thousands(report.broken_lines),
            escaped(first)
        ));
    }
    if let Some(reason) = &report.generator.limited_by_generator {
        lines.push(limited(reason, colour));
    }
    parts.push(lines.join("\n"));
    parts.join("\n\n")
}

/// Why the numbers are not what they seem.
pub fn limited(reason: &str, colour: bool) -> String {
    let text = format!("These numbers are the generator's, not the server's: {reason}");
    let red = AnsiColor::Red.on_default().bold();
    if colour { format!("{red}{text}{red:#}") } else { text }
}

fn operations(report: &LoadReport) -> Table {
    let rows = report.operations.iter().map(|operation| {
        let answered = Unit::Count.exact(operation.answered_per_second);
        let rates = [operation.name.clone(), answered];
        (rates, &operation.totals, &operation.latency)
    });
    measured("", rows).with_numbers(1)
}

fn stages(stages: &[Stage]) -> Table {
    let rows = stages.iter().map(|stage| {
        let rates = [stage.offered_per_second, stage.answered_per_second].map(|rate| Unit::Count.exact(rate));
        (rates, &stage.totals, &stage.latency)
    });
    measured("offered/s", rows).with_numbers(0)
}

/// A row for each: its first two cells, then its latencies and its counts.
fn measured<'a>(first: &str, rows: impl Iterator<Item = ([String; 2], &'a Totals, &'a Latency)>) -> Table {
    let columns = [
        "p50", "p90", "p99", "p99.9", "max", "offered", "answered", "refused", "failed",
    ];
    let mut table = empty_table(&[&[first, "answered/s"], &columns[..]].concat());
    for (rates, totals, latency) in rows {
        let cells = rates.into_iter().chain(times(totals, latency));
        table.add_row(cells.chain(counts(totals)));
    }
    table
}

fn errors(operations: &[Operation]) -> Table {
    let mut table = empty_table(&["", "code", "count"]);
    for operation in operations {
        let mut errors: Vec<_> = operation.errors.iter().collect();
        errors.sort_by(|(code, count), (other, others)| others.cmp(count).then(code.cmp(other)));
        for (code, count) in errors {
            table.add_row([operation.name.clone(), code.clone(), thousands(*count)]);
        }
    }
    table.with_numbers(2)
}

fn generator(report: &LoadReport) -> String {
    let generator = &report.generator;
    format!(
        "generator: {} of {} cores ({} in the busiest second), calls made late: {} at most for 99 of 100",
        Unit::Count.exact(generator.cpu_cores_mean),
        report.machine.cores,
        Unit::Count.exact(generator.cpu_cores_max),
        Unit::Milliseconds.exact(generator.late_p99_ms),
    )
}

fn repeated(operations: &[Operation]) -> Option<String> {
    let repeated = operations
        .iter()
        .filter(|operation| operation.totals.repeated > 0)
        .map(|operation| format!("{} {}", operation.name, thousands(operation.totals.repeated)));
    let repeated: Vec<String> = repeated.collect();
    (!repeated.is_empty()).then(|| format!("made again after a failure: {}", repeated.join(", ")))
}

fn left_out(operation: &Operation) -> Option<String> {
    operation.left_out().map(|share| {
        let percent = 100.0 * share;
        format!(
            "{}: {percent:.1} % were not answered, and the latencies leave them out",
            operation.name
        )
    })
}

fn times(totals: &Totals, of: &Latency) -> [String; 5] {
    [of.p50_ms, of.p90_ms, of.p99_ms, of.p999_ms, of.max_ms].map(|value| match totals.answered {
        0 => "–".to_owned(),
        _ => Unit::Milliseconds.exact(value),
    })
}

fn counts(totals: &Totals) -> [String; 4] {
    [totals.offered, totals.answered, totals.refused, totals.failed].map(thousands)
}

#[cfg(test)]
#[path = "../../../simulator/tests/page/invented.rs"]
mod invented;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_operation_has_a_row_with_its_numbers() {
        let report = invented::staircase();
        let text = table(&report, false);
        for (operation, rate) in report.operations.iter().zip(["805", "89,819"]) {
            let row = text
                .lines()
                .find(|line| line.contains(&format!(" {} ", operation.name)))
                .unwrap();
            let (of, totals) = (&operation.latency, &operation.totals);
            let times = [of.p50_ms, of.p90_ms, of.p99_ms, of.p999_ms, of.max_ms];
            let counts = [totals.offered, totals.answered, totals.refused, totals.failed];
            let mut wanted = vec![rate.to_owned()];
            wanted.extend(times.map(|time| Unit::Milliseconds.exact(time)));
            wanted.extend(counts.map(thousands));
            let found: Vec<&str> = row.trim_matches('│').split("  ").map(str::trim).collect();
            for number in wanted {
                assert!(found.contains(&number.as_str()), "{number} is not in {row}");
            }
        }
        assert!(text.contains("RESOURCE_EXHAUSTED"));
        assert!(text.contains("1.12 of 8 cores (1.84 in the busiest second)"));
        assert!(text.contains("410 µs"));
    }

    #[test]
    fn stages_are_shown_where_there_are_some() {
        let mut report = invented::staircase();
        report.operations.truncate(1);
        let text = table(&report, false);
        let (_, stages) = text.split_once("CreateOrder, each stage").unwrap();
        assert!(stages.contains("1,600") && stages.contains("1,144"));
        report.operations[0].stages.truncate(1);
        assert!(!table(&report, false).contains("each stage"));
    }

    #[test]
    fn latencies_that_leave_out_more_than_their_p99_are_marked() {
        let mut report = invented::staircase();
        report.operations.truncate(1);
        let mut shown = |answered: u64| {
            report.operations[0].totals = Totals {
                offered: 1_000,
                started: 1_000,
                answered,
                failed: 1_000 - answered,
                ..Totals::default()
            };
            table(&report, false)
        };
        let text = shown(353);
        assert!(
            text.contains("CreateOrder: 64.7 % were not answered, and the latencies leave them out"),
            "{text}"
        );
        for few in [0, 990, 1_000] {
            assert!(!shown(few).contains("leave them out"), "{few}");
        }
    }

    #[test]
    fn what_was_made_again_is_shown_where_there_is_some() {
        let mut report = invented::staircase();
        assert!(!table(&report, false).contains("again"));
        report.operations[0].totals.repeated = 1_234;
        report.operations[1].totals.repeated = 5;
        let text = table(&report, false);
        assert!(
            text.contains("made again after a failure: CreateOrder 1,234, fix 5\n"),
            "{text}"
        );
    }

    #[test]
    fn warnings_come_last_and_are_red_only_where_colours_are_wanted() {
        let mut report = invented::nothing();
        assert!(!table(&report, true).contains("generator's, not the server's"));
        report.cut_short = true;
        report.generator.limited_by_generator = Some("it used all of 8 cores".to_owned());
        let plain = table(&report, false);
        assert!(plain.contains("cut short: only 120 s were measured"));
        assert!(plain.ends_with("not the server's: it used all of 8 cores"));
        assert!(!plain.contains('\u{1b}'));
        let coloured = table(&report, true);
        assert!(
            coloured.contains("\u{1b}[31m") && coloured.ends_with("\u{1b}[0m"),
            "{coloured:?}"
        );
    }

    #[test]
    fn what_was_never_answered_has_no_latency() {
        let text = table(&invented::nothing(), false);
        let row = text.lines().find(|line| line.contains(" CreateOrder ")).unwrap();
        assert_eq!(row.matches('–').count(), 5);
    }
}
