//! The report as a page for people: charts of the figures with their floors, and a table of all of them.

use waybill_simulator::report::{self, Axis, Cell, Chart, Notice, PER_SECOND, Page, Section, Span, Table, Unit};

use crate::figure::Figure;
use crate::report::{Report, short};

/// The charts, each of the figures whose names begin so.
const CHARTS: [(&str, &str, &[&str]); 5] = [
    (
        "Rates beside their floors",
        "The floor is what the stores or the transport do without Waybill.",
        &["fixes_per", "orders_per", "searches_per"],
    ),
    (
        "Latencies at half of the peak",
        "The floor is one write to this disk and one call to an idle server.",
        &["fix_ack", "order_p"],
    ),
    (
        "The way in and out, in processor time of the server",
        "The floor is what a tonic server spends that gives the same answers at once.",
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
    for figure in &report.figures {
        if let Some(why) = figure.limited_by_generator() {
            page = page.notice(Notice::Mind(format!(
                "{} is limited by the generator: {why}",
                figure.name
            )));
        }
    }
    let mut charts = Section::new("Figures");
    for note in &report.notes {
        charts = charts.text(note);
    }
    for (title, note, beginnings) in &CHARTS {
        let here = |figure: &&Figure| beginnings.iter().any(|beginning| figure.name.starts_with(beginning));
        let here: Vec<&Figure> = report.figures.iter().filter(here).collect();
        if !here.is_empty() {
            let axis = match here[0].unit {
                // What should be flat is seen from zero.
                _ if note.starts_with("Flat") => Axis::linear("rate", PER_SECOND),
                "ms" => Axis::log("time", Unit::Milliseconds),
                "µs/call" | "µs/message" => Axis::linear("processor time", Unit::Named("µs".into())),
                _ => Axis::log("rate", PER_SECOND),
            };
            charts = charts.chart(Chart::ranges(*title, axis, here.iter().map(|figure| span(figure))).note(*note));
        }
    }
    let costs = report.figures.iter().filter(|figure| figure.floor_is.is_none());
    let costs = costs.map(|figure| {
        let value = format!("{} {}", short(figure.value()), figure.unit);
        report::Figure::new(figure.name.replace('_', " "), value).detail(figure.detail())
    });
    let mut settings = Table::new("", ["setting", "value"]);
    for (name, value) in &report.settings {
        settings = settings.row([name, value].map(|text| Cell::Text(text.clone())));
    }
    page.section(charts)
        .section(Section::new("What the server itself spends").figures(costs))
        .section(Section::new("All figures").table(all(report)))
        .section(Section::new("Settings").table(settings))
        .html()
}

fn span(figure: &Figure) -> Span {
    let (min, max) = figure.range();
    Span {
        label: figure.name.replace('_', " "),
        value: figure.value(),
        min,
        max,
        floor: figure.floor(),
    }
}

fn all(report: &Report) -> Table {
    let header = [
        "figure",
        "median",
        "min",
        "max",
        "floor",
        "ratio",
        "unit",
        "how",
        "the floor is",
    ];
    let mut table = Table::new("", header);
    for figure in &report.figures {
        let (min, max) = figure.range();
        let numbers = [Some(figure.value()), Some(min), Some(max), figure.floor()];
        let numbers = numbers.map(|value| Cell::Number(value.map_or_else(|| "–".to_owned(), short)));
        let ratio = figure.ratio_in_digits().unwrap_or_else(|| "–".to_owned());
        let mut row = vec![Cell::Text(figure.name.to_owned())];
        row.extend(numbers);
        row.push(Cell::Number(ratio));
        row.push(Cell::Text(figure.unit.to_owned()));
        row.extend([figure.detail(), figure.floor_is.unwrap_or_default().to_owned()].map(Cell::Prose));
        table = table.row(row);
    }
    table
}
