//! The report as a page for people, made from its JSON: a table of all benchmarks, and the rounds of each.

use super::{Cell, Html, Notice, Page, Unit, chart, charts, section, table, text};
use serde_json::Value;

const IS_SMALLEST: &str = "The baseline is the smallest of these: a ratio of 1 is flat, which is good.";

/// The sections of benchmarks, each of those whose names begin so; the last of those without a baseline.
const SECTIONS: [(&str, &str, &[&str]); 7] = [
    (
        "Rates",
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
        "What tokens and TLS cost",
        "The baseline is the same without them.",
        &["token_", "tls_"],
    ),
    ("Fixes, by the size of the fleet", IS_SMALLEST, &["fixes_1"]),
    (
        "Orders, by how many are stored already",
        IS_SMALLEST,
        &["orders_stored_"],
    ),
    ("What the server itself spends", "", &[]),
];

/// The whole file, of `report.json`.
pub fn bench_page(report: &Value) -> String {
    let benchmarks: Vec<&Value> = report["benchmarks"].as_array().into_iter().flatten().collect();
    let mut notices = Vec::new();
    if report["quick"] == true {
        notices.push(Notice::Error("A quick run: not for comparing.".to_owned()));
    }
    notices.extend(benchmarks.iter().filter_map(|benchmark| {
        let reason = benchmark["limited_by_generator"].as_str()?;
        let name = string(&benchmark["name"]);
        Some(Notice::Warning(format!("{name} is limited by the generator: {reason}")))
    }));
    let facts = [&report["machine"], &report["versions"]].into_iter().flat_map(fields);
    let settings = fields(&report["settings"]).map(|(name, value)| vec![Cell::text(name), Cell::prose(&string(value))]);
    let settings = section("Settings", [table("", "setting | value", settings)]);
    let charts = SECTIONS.iter().filter_map(|of| rounds(of, &benchmarks));
    let page = Page {
        title: "Waybill against its baselines".to_owned(),
        subtitle: format!(
            "Medians of rounds, taken in turns on one machine; {:.0} s in all. A ratio of 1 is the baseline itself, less \
             is slower.",
            report["seconds"].as_f64().unwrap_or_default()
        ),
        notices,
        facts: facts.map(|(name, value)| fact(name, value)).collect(),
        sections: [all(report, &benchmarks)]
            .into_iter()
            .chain(charts)
            .chain([settings])
            .collect(),
        ..Page::default()
    };
    page.html(report)
}

fn fact(name: &str, value: &Value) -> (String, String) {
    match (name, value.as_u64()) {
        ("memory_bytes", Some(bytes)) => ("memory".to_owned(), format!("{} GiB", bytes >> 30)),
        _ => (name.to_owned(), string(value)),
    }
}

fn all(report: &Value, benchmarks: &[&Value]) -> Html {
    let header = "benchmark | ratio | target | median | min | max | baseline | unit | how | the baseline is";
    let rows = benchmarks.iter().map(|benchmark| {
        let ratio = number(&benchmark["ratio"]);
        let mut row = vec![
            Cell::text(&string(&benchmark["name"])),
            match benchmark["ratio"].as_f64() {
                Some(part) => Cell::number(&ratio).bar(part),
                None => Cell::number(&ratio),
            },
        ];
        row.extend(["target", "value", "min", "max", "baseline"].map(|field| Cell::number(&number(&benchmark[field]))));
        row.push(Cell::text(&string(&benchmark["unit"])));
        row.extend(["detail", "baseline_is"].map(|field| Cell::prose(&string(&benchmark[field]))));
        row
    });
    let notes = report["notes"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|note| text(&string(note)));
    section("All benchmarks", notes.chain([table("", header, rows)]))
}

/// A chart of the rounds of each benchmark of a section, if there is one.
fn rounds((heading, note, beginnings): &(&str, &str, &[&str]), benchmarks: &[&Value]) -> Option<Html> {
    let is_here = |benchmark: &Value| match benchmark["baseline_is"].as_str() {
        Some(_) => beginnings
            .iter()
            .any(|beginning| string(&benchmark["name"]).starts_with(beginning)),
        None => beginnings.is_empty(),
    };
    let here = benchmarks
        .iter()
        .enumerate()
        .filter(|(_, benchmark)| is_here(benchmark));
    let here = here.map(|(index, benchmark)| {
        let [name, unit] = ["name", "unit"].map(|field| string(&benchmark[field]));
        let ratio = benchmark["ratio"]
            .as_f64()
            .map(|ratio| format!("; ratio {}", Unit::Count.exact(ratio)));
        let note = format!(
            "median {} {unit}{}",
            number(&benchmark["value"]),
            ratio.unwrap_or_default()
        );
        chart("rounds", index, &name.replace('_', " "), &unit, &note)
    });
    let here: Vec<Html> = here.collect();
    (!here.is_empty()).then(|| section(heading, [text(note), charts(here)]))
}

fn fields(of: &Value) -> impl Iterator<Item = (&String, &Value)> {
    of.as_object().into_iter().flatten()
}

fn number(value: &Value) -> String {
    Unit::Count.exact(value.as_f64().unwrap_or(f64::NAN))
}

fn string(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        other => other.to_string(),
    }
}
