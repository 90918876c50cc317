//! The report as a page for people: charts of the benchmarks with their baselines, and a table of all of them.

use waybill_simulator::report::{self, Axis, Cell, Chart, Notice, PER_SECOND, Page, Section, Span, Table, Unit};

use crate::report::{Report, short};
use testkit::benchmark::Benchmark;

/// The charts, each of the benchmarks whose names begin so.
const CHARTS: [(&str, &str, &[&str]); 5] = [
    (
        "Rates beside their baselines",
        "The baseline is what the stores or the transport do without Waybill.",
        &["fixes_per", "orders_per", "searches_per"],
    ),
    (
        "Latencies at half of the peak",
        "The baseline is one write to this disk and one call to an idle server.",
        &["fix_ack", "order_p"],
    ),
    (
        "The way in and out, in processor time of the server",
        "The baseline is what a tonic server spends that gives the same answers at once.",
        &["unary_call", "stream_message"],
    ),
    (
        "Fixes, by the size of the fleet",
        "Flat is good: each beside the smallest.",
        &["fixes_1"],
    ),
    (
        "Orders, by how many are stored already",
        "Flat is good: each beside the smallest.",
        &["orders_stored_"],
    ),
];

/// The whole file.
pub fn html(report: &Report) -> String {
    let mut page = Page::new("Waybill beside what limits it").subtitle(format!(
        "Medians of rounds, taken in turns on one machine; {:.0} s in all",
        report.seconds
    ));
    for part in [&report.machine, &report.versions] {
        for (name, value) in part.as_object().into_iter().flatten() {
            let text = match value.as_u64() {
                Some(bytes) if name == "memory_bytes" => format!("{} GiB", bytes >> 30),
                _ => value.as_str().map_or_else(|| value.to_string(), str::to_owned),
            };
            page = page.fact(name.trim_end_matches("_bytes"), text);
        }
    }
    if report.quick {
        page = page.notice(Notice::Wrong("A quick run: not for comparing.".to_owned()));
    }
    for benchmark in &report.benchmarks {
        if let Some(why) = benchmark.limited_by_generator() {
            page = page.notice(Notice::Mind(format!(
                "{} is limited by the generator: {why}",
                benchmark.name
            )));
        }
    }
    let mut charts = Section::new("Benchmarks");
    for note in &report.notes {
        charts = charts.text(note);
    }
    for (title, note, beginnings) in &CHARTS {
        let here = |benchmark: &&Benchmark| beginnings.iter().any(|beginning| benchmark.name.starts_with(beginning));
        let here: Vec<&Benchmark> = report.benchmarks.iter().filter(here).collect();
        if !here.is_empty() {
            let axis = match here[0].unit {
                // What should be flat is seen from zero.
                _ if note.starts_with("Flat") => Axis::linear("rate", PER_SECOND),
                "ms" => Axis::log("time", Unit::Milliseconds),
                "µs/call" | "µs/message" => Axis::linear("processor time", Unit::Named("µs".into())),
                _ => Axis::log("rate", PER_SECOND),
            };
            charts =
                charts.chart(Chart::ranges(*title, axis, here.iter().map(|benchmark| span(benchmark))).note(*note));
        }
    }
    let costs = report
        .benchmarks
        .iter()
        .filter(|benchmark| benchmark.baseline_is.is_none());
    let costs = costs.map(|benchmark| {
        let value = format!("{} {}", short(benchmark.value()), benchmark.unit);
        report::Figure::new(benchmark.name.replace('_', " "), value).detail(benchmark.detail())
    });
    let mut settings = Table::new("", ["setting", "value"]);
    for (name, value) in &report.settings {
        settings = settings.row([name, value].map(|text| Cell::Text(text.clone())));
    }
    page.section(charts)
        .section(Section::new("What the server itself spends").figures(costs))
        .section(Section::new("All benchmarks").table(all(report)))
        .section(Section::new("Settings").table(settings))
        .html()
}

fn span(benchmark: &Benchmark) -> Span {
    let (min, max) = benchmark.range();
    Span {
        label: benchmark.name.replace('_', " "),
        value: benchmark.value(),
        min,
        max,
        floor: benchmark.baseline(),
    }
}

fn all(report: &Report) -> Table {
    let header = [
        "benchmark",
        "median",
        "min",
        "max",
        "baseline",
        "ratio",
        "unit",
        "how",
        "the baseline is",
    ];
    let mut table = Table::new("", header);
    for benchmark in &report.benchmarks {
        let (min, max) = benchmark.range();
        let numbers = [Some(benchmark.value()), Some(min), Some(max), benchmark.baseline()];
        let numbers = numbers.map(|value| Cell::Number(value.map_or_else(|| "–".to_owned(), short)));
        let ratio = benchmark.ratio_in_digits().unwrap_or_else(|| "–".to_owned());
        let mut row = vec![Cell::Text(benchmark.name.to_owned())];
        row.extend(numbers);
        row.push(Cell::Number(ratio));
        row.push(Cell::Text(benchmark.unit.to_owned()));
        row.extend([benchmark.detail(), benchmark.baseline_is.unwrap_or_default().to_owned()].map(Cell::Prose));
        table = table.row(row);
    }
    table
}
