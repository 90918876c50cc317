//! What a reader finds on a page of [`waybill_simulator::report`].

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "the exception for tests in clippy.toml covers the test functions, not the functions that they share"
)]

mod invented;
mod invented_benchmarks;
mod script;

use invented::{nothing, staircase};
use invented_benchmarks::benchmarks;
use serde_json::{Value, json};
use waybill_simulator::load::report::{Latency, LoadReport};
use waybill_simulator::report::{Unit, bench_page, page, thousands};

/// Ends a script, begins an element, leaves an attribute, and is a slot of the template.
const HOSTILE: &str = "</script><b>\"'&<!--{{json}}";

/// What is between a beginning and the next end.
fn between<'page>(html: &'page str, begin: &str, end: &str) -> &'page str {
    let (_, rest) = html.split_once(begin).unwrap_or_else(|| panic!("no {begin}"));
    rest.split_once(end).unwrap_or_else(|| panic!("no {end}")).0
}

/// Panics unless the report in the page is the one that scripts get.
fn assert_embeds(html: &str, report: &Value) {
    let json = between(html, "<script type=\"application/json\" id=\"report\">", "</script>");
    let [embedded, written] = [json, &report.to_string()].map(|json| serde_json::from_str::<Value>(json).unwrap());
    assert!(embedded == written, "the page has {json}");
}

/// The page as a browser reads it without scripts.
fn without_scripts(html: &str) -> &str {
    between(html, "<body>", "<script")
}

/// The cells of the row of that name, of the table with that caption.
fn row(html: &str, caption: &str, name: &str) -> Vec<String> {
    let table = between(html, &format!("<caption>{caption}</caption>"), "</table>");
    let rows = table.split("<tr>");
    let mut rows = rows.map(|row| row.split("</td>").map(text).collect::<Vec<_>>());
    rows.find(|row| row[0].starts_with(name))
        .unwrap_or_else(|| panic!("no row {name} in {table}"))
}

/// A piece of HTML without its tags.
fn text(html: &str) -> String {
    let mut text = String::new();
    for part in html.split('<') {
        text += part.split_once('>').map_or(part, |(_, text)| text);
    }
    text.trim().to_owned()
}

#[test]
fn the_numbers_in_the_tables_are_those_of_the_report() {
    let mut report = staircase();
    report.operations[0].totals.repeated = 7_654_321;
    report.operations[1].totals.started -= 1_000;
    let html = page(&report);
    let times = |of: &Latency| {
        let times = [
            of.min_ms, of.mean_ms, of.p50_ms, of.p90_ms, of.p99_ms, of.p999_ms, of.max_ms,
        ];
        times.map(|time| Unit::Milliseconds.exact(time))
    };
    for operation in &report.operations {
        let latencies = row(&html, "Latency of the answered", &operation.name);
        assert_eq!(latencies[1..8], times(&operation.latency));
        let calls = row(&html, "Calls", &operation.name);
        assert_eq!(calls[1], Unit::Count.exact(operation.answered_per_second));
        let of = &operation.totals;
        let counts = [of.offered, of.started, of.answered, of.refused, of.failed, of.repeated];
        for (cell, count) in calls[2..].iter().zip(counts) {
            assert_eq!(cell.split(' ').next().unwrap(), thousands(count), "{calls:?}");
        }
    }
    assert!(row(&html, "Calls", "fix")[3].ends_with("1,000 never made"));
    assert_eq!(row(&html, "Calls", "CreateOrder")[4], "96,608 89.68 %");
    for stage in &report.operations[0].stages {
        let cells = row(&html, "Stages", &Unit::Count.exact(stage.offered_per_second));
        assert_eq!(cells[3..8], times(&stage.latency)[2..]);
        let of = &stage.totals;
        assert_eq!(
            cells[8..12],
            [of.offered, of.answered, of.refused, of.failed].map(thousands)
        );
    }
    for (code, count) in &report.operations[0].errors {
        assert_eq!(row(&html, "Errors by code", code)[1], thousands(*count));
    }
}

#[test]
fn a_page_shows_how_its_numbers_came_about() {
    let mut report = staircase();
    report.settings.insert("retries".to_owned(), "true".to_owned());
    report.settings.insert("rides".to_owned(), "a city's.csv".to_owned());
    let html = page(&report);
    let header = text(between(&html, "<header>", "</header>"));
    let expected = [
        "Load: mixed",
        "Open loop, Poisson arrivals",
        "Latencies count from the intended start time.",
        "waybill load mixed --deadline 2s --drivers 4096 --grpc-addr 127.0.0.1:7200 --rate 200..1600 --retries \
         --rides &#39;a city&#39;\\&#39;&#39;s.csv&#39; --seed 7 --step 15s",
        "AMD EPYC 7B13, 8 cores, 32 GiB",
        "2026-11-22 16:04:05 UTC",
    ];
    for expected in expected {
        assert!(header.contains(expected), "{expected} is not in {header}");
    }
    let generator = text(between(&html, "<h2>The generator</h2>", "</section>"));
    assert!(generator.ends_with("1.12 of 81.84 of 8410 µs"), "{generator}");

    report.settings.insert("retries".to_owned(), "false".to_owned());
    (report.pace, report.arrivals) = ("closed", None);
    let html = page(&report);
    assert!(html.contains("Closed loop: each caller makes its next call") && !html.contains("--retries"));
    report.pace = "recorded";
    assert!(page(&report).contains("Recorded: calls are made when the trace has them."));
}

#[test]
fn the_report_in_a_page_is_the_one_that_scripts_get() {
    assert_embeds(&page(&staircase()), &json!(staircase()));
    assert_embeds(&bench_page(&benchmarks()), &benchmarks());
}

#[test]
fn hostile_text_is_only_text() {
    let mut report = staircase();
    report.settings.insert(HOSTILE.to_owned(), HOSTILE.to_owned());
    report.settings.insert("grpc-addr".to_owned(), HOSTILE.to_owned());
    report.machine.processor = HOSTILE.to_owned();
    report.machine.system = HOSTILE.to_owned();
    report.generator.limited_by_generator = Some(HOSTILE.to_owned());
    report.first_broken_lines = vec![HOSTILE.to_owned()];
    report.operations[0].name = HOSTILE.to_owned();
    report.operations[0].errors.insert(HOSTILE.to_owned(), 1);
    assert_inert(&page(&report), &json!(report), 9);

    let mut report = benchmarks();
    for part in ["machine", "settings", "versions"] {
        report[part][HOSTILE] = json!(HOSTILE);
    }
    report["notes"] = json!([HOSTILE]);
    for field in ["name", "unit", "detail", "baseline_is", "limited_by_generator"] {
        report["benchmarks"][0][field] = json!(HOSTILE);
    }
    assert_inert(&bench_page(&report), &report, 12);
}

/// The page has its own scripts and no other, and the hostile words are there to be read, so many times at least.
fn assert_inert(html: &str, report: &Value, times: usize) {
    assert_embeds(html, report);
    assert_eq!(html.matches("<script").count(), 3);
    assert_eq!(html.matches("</script").count(), 3);
    assert!(!html.contains("<b>") && !html.contains("<!--"));
    let readable = "&lt;/script&gt;&lt;b&gt;&quot;&#39;&amp;&lt;!--{{json}}";
    let found = without_scripts(html).matches(readable).count();
    assert!(found >= times, "{found} times only");
}

#[test]
fn a_page_needs_no_network() {
    for html in [page(&staircase()), bench_page(&benchmarks())] {
        assert!(html.contains("content=\"default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'\""));
        let addresses = " src=| href=|.src=|url(|@import|import(|<link|<img|<iframe";
        let calls = "fetch(|XMLHttpRequest|WebSocket|EventSource|sendBeacon";
        for word in addresses.split('|').chain(calls.split('|')) {
            assert!(!html.contains(word), "{word}");
        }
    }
}

#[test]
fn warnings_are_at_the_top() {
    let mut report = staircase();
    report.operations.truncate(1);
    report.operations[0].totals.answered = report.operations[0].totals.offered;
    let top = |report: &LoadReport| between(&page(report), "<header>", "<noscript>").to_owned();
    assert!(!top(&report).contains("<p class=\"notice"));
    report.generator.limited_by_generator = Some("it used all of 8 cores".to_owned());
    report.cut_short = true;
    report.broken_lines = 1_234_567;
    report.first_broken_lines = vec!["taxi.txt:17: latitude is no number".to_owned()];
    for expected in [
        "role=\"alert\">These numbers are the generator&#39;s, not the server&#39;s: it used all of 8 cores",
        "The run was ended before its time: 120 s were measured.",
        "Lines of the trace that could not be used: 1,234,567.",
    ] {
        assert!(top(&report).contains(expected), "{expected}");
    }
    assert!(page(&report).contains("taxi.txt:17: latitude is no number"));
    // Latencies that leave out more than their p99 does.
    for (answered, is_shown) in [(353, true), (0, false), (990, false), (1_000, false)] {
        let totals = &mut report.operations[0].totals;
        (totals.offered, totals.answered) = (1_000, answered);
        assert_eq!(top(&report).contains("leave them out"), is_shown, "{answered}");
    }
    report.operations[0].totals.answered = 353;
    assert!(top(&report).contains("CreateOrder: 64.7 % were not answered, and the latencies leave them out."));
}

#[test]
fn what_is_not_there_is_not_shown() {
    let html = page(&nothing());
    assert_eq!(row(&html, "Latency of the answered", "CreateOrder")[1..8], ["–"; 7]);
    assert!(!html.contains("data-chart=\"histogram\"") && !html.contains("data-chart=\"tail\""));

    // A constant rate has no stages.
    let mut report = staircase();
    report.operations.truncate(1);
    for has_stages in [true, false] {
        let html = page(&report);
        for part in [">Stages<", "=\"latency-by-load\"", "=\"answered-by-load\""] {
            assert_eq!(html.contains(part), has_stages, "{part}");
        }
        report.operations[0].stages.truncate(1);
    }
}

#[test]
fn each_benchmark_is_shown_against_its_baseline() {
    let mut report = benchmarks();
    let html = bench_page(&report);
    let table = text(between(&html, "<h2>All benchmarks</h2>", "</table>"));
    for benchmark in report["benchmarks"].as_array().unwrap() {
        for field in ["value", "min", "max", "baseline", "ratio"] {
            let number = Unit::Count.exact(benchmark[field].as_f64().unwrap_or(f64::NAN));
            assert!(table.contains(&number), "{number} is not in {table}");
        }
        assert!(table.contains(benchmark["name"].as_str().unwrap()));
    }
    let charts = html.matches("data-chart=\"rounds\"").count();
    assert_eq!(charts, report["benchmarks"].as_array().unwrap().len());
    assert!(!html.contains("class=\"notice error\""));

    report["quick"] = json!(true);
    report["benchmarks"][1]["limited_by_generator"] = json!("it was busy");
    let html = bench_page(&report);
    assert!(html.contains("role=\"alert\">A quick run: not for comparing."));
    assert!(html.contains("orders_per_second is limited by the generator: it was busy"));
}
