//! The page of a run of load: what was measured, in tables and charts.

use serde_json::json;

use super::unit::{Unit, number, thousands};
use super::{Cell, Html, Notice, Page, chart, charts, section, table, text};
use crate::load::plan::Arrivals;
use crate::load::report::{Latency, LoadReport, Machine, Operation, Totals};

/// The page of a run, as one file of HTML.
pub fn page(report: &LoadReport) -> String {
    let operations = report.operations.iter().enumerate();
    let broken = &report.first_broken_lines;
    let rows = broken.iter().map(|line| vec![Cell::prose(line)]);
    let broken = (!broken.is_empty()).then(|| section("Broken lines of the trace", [table("", "line", rows)]));
    let page = Page {
        title: format!("Load: {}", report.workload),
        subtitle: subtitle(report),
        command: command(report),
        notices: notices(report),
        facts: facts(report).map(|(name, value)| (name.to_owned(), value)).into(),
        sections: std::iter::once(results(report))
            .chain(operations.map(|(index, operation)| operation_section(index, operation)))
            .chain([generator(report)])
            .chain(broken)
            .collect(),
    };
    page.html(&json!(report))
}

fn subtitle(report: &LoadReport) -> String {
    let arrivals = match report.arrivals {
        Some(Arrivals::Poisson) => ", Poisson arrivals",
        Some(Arrivals::Constant) => ", even arrivals",
        None => "",
    };
    match report.pace {
        "open" => format!(
            "Open loop{arrivals}: calls are made when they are due, whatever the server does. Latencies count from the \
             intended start time."
        ),
        "closed" => {
            "Closed loop: each caller makes its next call when the one before is answered. Latencies count from \
                     the call."
                .to_owned()
        }
        "recorded" => {
            "Recorded: calls are made when the trace has them. Latencies count from the intended start time.".to_owned()
        }
        other => other.to_owned(),
    }
}

/// The run as a command: its settings are named as its flags are.
fn command(report: &LoadReport) -> String {
    let is_plain = |letter: char| letter.is_ascii_alphanumeric() || "._-/:,=+".contains(letter);
    let flags = report.settings.iter().map(|(name, value)| match value.as_str() {
        "false" => String::new(),
        "true" => format!(" --{name}"),
        value if !value.is_empty() && value.chars().all(is_plain) => format!(" --{name} {value}"),
        value => format!(" --{name} '{}'", value.replace('\'', r"'\''")),
    });
    format!("waybill load {}", report.workload) + &flags.collect::<String>()
}

fn notices(report: &LoadReport) -> Vec<Notice> {
    let limited = report.generator.limited_by_generator.iter();
    let limited = limited.map(|reason| format!("These numbers are the generator's, not the server's: {reason}"));
    let cut_short = report.cut_short.then(|| {
        let measured = Unit::Seconds.exact(report.measured_seconds);
        format!("The run was ended before its time: {measured} were measured.")
    });
    let broken = thousands(report.broken_lines);
    let broken = (report.broken_lines > 0).then(|| format!("Lines of the trace that could not be used: {broken}."));
    let left_out = report.operations.iter().filter_map(|operation| {
        let (name, percent) = (&operation.name, 100.0 * operation.left_out()?);
        Some(format!(
            "{name}: {percent:.1} % were not answered, and the latencies leave them out."
        ))
    });
    let warnings = cut_short.into_iter().chain(broken).chain(left_out);
    limited
        .map(Notice::Error)
        .chain(warnings.map(Notice::Warning))
        .collect()
}

fn facts(report: &LoadReport) -> [(&'static str, String); 7] {
    let machine = &report.machine;
    let started = report.started_at.strftime("%Y-%m-%d %H:%M:%S UTC");
    [
        ("target", report.settings.get("grpc-addr").cloned().unwrap_or_default()),
        ("started", started.to_string()),
        ("measured", Unit::Seconds.exact(report.measured_seconds)),
        ("warm-up", Unit::Seconds.exact(report.warm_up_seconds)),
        ("generator's machine", hardware(machine)),
        ("system", machine.system.clone()),
        ("waybill", machine.waybill.to_owned()),
    ]
}

fn hardware(machine: &Machine) -> String {
    let processor = Some(machine.processor.clone()).filter(|name| !name.is_empty());
    let cores = if machine.cores == 1 { "core" } else { "cores" };
    let memory = Unit::Count.exact(number(machine.memory_bytes) / number(1 << 30));
    let memory = (machine.memory_bytes > 0).then(|| format!("{memory} GiB"));
    let parts = [processor, Some(format!("{} {cores}", machine.cores)), memory];
    parts.into_iter().flatten().collect::<Vec<_>>().join(", ")
}

/// The main numbers: a row for each operation.
fn results(report: &LoadReport) -> Html {
    let name = |operation: &Operation| Cell::text(&operation.name).note(operation.unit);
    let calls = report.operations.iter().map(|operation| {
        let mut row = vec![name(operation), rate(operation.answered_per_second)];
        row.extend(counts(&operation.totals));
        row
    });
    let latencies = report.operations.iter().map(|operation| {
        let (of, answered) = (&operation.latency, operation.totals.answered);
        let mut row = vec![name(operation), time(answered, of.min_ms), time(answered, of.mean_ms)];
        row.extend(percentiles(answered, of));
        row
    });
    let header = "operation | answered /s | offered | started | answered | refused | failed | repeated";
    let calls = table("Calls", header, calls);
    let header = "operation | min | mean | p50 | p90 | p99 | p99.9 | max";
    section("Results", [calls, table("Latency of the answered", header, latencies)])
}

/// What became of the calls that were due.
fn counts(totals: &Totals) -> [Cell; 6] {
    let share = |part| match totals.started {
        0 => String::new(),
        started => format!("{:.2} %", 100.0 * number(part) / number(started)),
    };
    let missing = match totals.offered.saturating_sub(totals.started) {
        0 => String::new(),
        missing => format!("{} never made", thousands(missing)),
    };
    [
        count(totals.offered),
        count(totals.started).note(&missing),
        count(totals.answered).note(&share(totals.answered)),
        bad(totals.refused).note(&share(totals.refused)),
        bad(totals.failed).note(&share(totals.failed)),
        count(totals.repeated),
    ]
}

fn count(count: u64) -> Cell {
    Cell::number(&thousands(count))
}

/// A count that should be zero.
fn bad(of: u64) -> Cell {
    count(of).bad_if(of > 0)
}

fn rate(per_second: f64) -> Cell {
    Cell::number(&Unit::Count.exact(per_second))
}

/// A latency, where there is one.
fn time(answered: u64, millis: f64) -> Cell {
    Cell::number(&Unit::Milliseconds.exact(if answered == 0 { f64::NAN } else { millis }))
}

fn percentiles(answered: u64, of: &Latency) -> [Cell; 5] {
    [of.p50_ms, of.p90_ms, of.p99_ms, of.p999_ms, of.max_ms].map(|millis| time(answered, millis))
}

fn operation_section(index: usize, operation: &Operation) -> Html {
    let chart = |kind, title: &str, unit: &str| chart(kind, index, title, unit, "");
    let per_second = format!("{} /s", operation.unit);
    let has_stages = operation.stages.len() > 1;
    let mut all = Vec::new();
    if !operation.seconds.is_empty() {
        all.push(chart("throughput", "Throughput over time", &per_second));
        all.push(chart("latency", "Latency over time", ""));
    }
    if has_stages {
        all.push(chart("latency-by-load", "Latency against offered load", ""));
        all.push(chart("answered-by-load", "Answered against offered load", &per_second));
    }
    if !operation.histogram.is_empty() {
        all.push(chart("histogram", "Latencies of the answered", operation.unit));
        all.push(chart("tail", "Share of the answered that took longer", ""));
    }
    let mut parts = vec![charts(all)];
    parts.extend(has_stages.then(|| stages(operation)));
    parts.extend((!operation.errors.is_empty()).then(|| errors(operation)));
    section(&operation.name, parts)
}

fn stages(operation: &Operation) -> Html {
    let rows = operation.stages.iter().map(|stage| {
        let totals = &stage.totals;
        let mut row = vec![rate(stage.offered_per_second), rate(stage.answered_per_second)];
        row.push(Cell::number(&Unit::Seconds.exact(stage.duration_seconds)));
        row.extend(percentiles(totals.answered, &stage.latency));
        row.extend([
            count(totals.offered),
            count(totals.answered),
            bad(totals.refused),
            bad(totals.failed),
        ]);
        row
    });
    let header =
        "offered /s | answered /s | for | p50 | p90 | p99 | p99.9 | max | offered | answered | refused | failed";
    table("Stages", header, rows)
}

/// What did not succeed, the most frequent first.
fn errors(operation: &Operation) -> Html {
    let mut errors: Vec<_> = operation.errors.iter().collect();
    errors.sort_by(|(name, count), (other, others)| others.cmp(count).then(name.cmp(other)));
    let all: f64 = errors.iter().map(|(_, count)| number(**count)).sum();
    let rows = errors.into_iter().map(|(code, errors)| {
        let share = number(*errors) / all;
        let percent = format!("{:.1} %", 100.0 * share);
        vec![Cell::text(code), count(*errors), Cell::number(&percent).bar(share)]
    });
    table("Errors by code", "code | count | share", rows)
}

fn generator(report: &LoadReport) -> Html {
    let generator = &report.generator;
    let of = format!("of {}", report.machine.cores);
    let row = vec![
        rate(generator.cpu_cores_mean).note(&of),
        rate(generator.cpu_cores_max).note(&of),
        Cell::number(&Unit::Milliseconds.exact(generator.late_p99_ms)),
    ];
    let note = text(
        "What making the load cost on this side. Calls made late are the generator's fault, not the server's; latencies \
         count from the intended start time all the same.",
    );
    let header = "cores, on average | cores, busiest second | calls made late, p99";
    section("The generator", [note, table("", header, [row])])
}
