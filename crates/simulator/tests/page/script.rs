//! The script of a page, run by Node where there is one, with a chart library that only takes down what it is given.

use std::process::Command;

use serde_json::{Value, json};

use crate::invented::{nothing, staircase};
use crate::invented_benchmarks::benchmarks;
use crate::{bench_page, between, page, without_scripts};

/// A document with the page's charts. It prints for each chart: its kind, its x values and its lines, by name.
const BROWSER: &str = r#"
const [json, script, ...charts] = JSON.parse(require("fs").readFileSync(0, "utf8"));
const drawn = [];
const element = (dataset) => ({ dataset, clientWidth: 500, append() { drawn.push({ kind: dataset.chart, empty: true }); } });
const all = charts.map(([chart, of]) => element({ chart, of }));
globalThis.uPlot = class {
  constructor(options, [x, ...lines], place) {
    if (lines.some((line) => line.length !== x.length)) throw new Error("lines of different length");
    if (x.some((value, at) => !(value >= (x[at - 1] ?? value)))) throw new Error("x does not ascend");
    const named = Object.fromEntries(lines.map((line, at) => [options.series[at + 1].label, line]));
    drawn.push({ kind: place.dataset.chart, x, lines: named });
  }
};
uPlot.paths = { bars() {} };
globalThis.document = {
  getElementById: () => ({ textContent: json }),
  querySelectorAll: (selector) => (selector === "figure[data-chart]" ? all : []),
  createElement: () => ({}),
  documentElement: { classList: { toggle() {} } },
};
globalThis.getComputedStyle = () => ({ getPropertyValue: (name) => name });
globalThis.matchMedia = () => ({ addEventListener() {} });
globalThis.addEventListener = () => {};
(0, eval)(script);
console.log(JSON.stringify(drawn));
"#;

/// What the page draws; `None` where there is no Node.
fn drawn(html: &str) -> Option<Vec<Value>> {
    let report = between(html, "id=\"report\">", "</script>");
    let (_, script) = html.rsplit_once("<script>").unwrap();
    let mut input = vec![json!(report), json!(script.split_once("</script>").unwrap().0)];
    for chart in without_scripts(html).split("<figure ").skip(1) {
        input.push(json!(
            ["data-chart=\"", "data-of=\""].map(|name| between(chart, name, "\""))
        ));
    }
    let file = tempfile::NamedTempFile::new().unwrap();
    serde_json::to_writer(&file, &input).unwrap();
    let mut node = Command::new("node");
    let output = node.args(["-e", BROWSER]).stdin(file.reopen().unwrap()).output().ok()?;
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Some(serde_json::from_slice(&output.stdout).unwrap())
}

fn sum(line: &Value) -> u64 {
    line.as_array().unwrap().iter().filter_map(Value::as_u64).sum()
}

#[test]
fn the_charts_are_of_the_reports_numbers() {
    let mut report = staircase();
    report.operations.truncate(1);
    // Stairs that go down, and a second without an answer.
    report.operations[0].stages.reverse();
    report.operations[0].seconds[7].totals.answered = 0;
    let operation = &report.operations[0];
    let Some(charts) = drawn(&page(&report)) else { return };
    let kinds: Vec<&str> = charts.iter().map(|chart| chart["kind"].as_str().unwrap()).collect();
    let all = [
        "throughput",
        "latency",
        "latency-by-load",
        "answered-by-load",
        "histogram",
        "tail",
    ];
    assert_eq!(kinds, all);
    let [throughput, latency, latency_by_load, _, histogram, tail] = &charts[..] else {
        unreachable!("six kinds");
    };
    assert_eq!(sum(&throughput["lines"]["offered"]), operation.totals.offered);
    assert_eq!(sum(&throughput["lines"]["failed"]), operation.totals.failed);
    assert_eq!(latency["lines"]["p50"][7], Value::Null);
    assert_eq!(latency["lines"]["p99.9"][8], operation.seconds[8].latency.p999_ms);
    assert_eq!(latency_by_load["x"][0], 200.0);
    assert_eq!(latency_by_load["lines"]["p99"][0], operation.stages[7].latency.p99_ms);
    let counted: u64 = operation.histogram.iter().map(|bucket| bucket.count).sum();
    assert_eq!(sum(&histogram["lines"]["answered"]), counted);
    let longer = tail["lines"]["took longer"].as_array().unwrap();
    assert!(
        longer
            .iter()
            .all(|share| (0.001..100.0).contains(&share.as_f64().unwrap()))
    );

    let charts = drawn(&page(&nothing())).unwrap();
    assert_eq!(charts[1], json!({ "kind": "latency", "empty": true }));
}

#[test]
fn a_round_has_its_ratio() {
    let mut report = benchmarks();
    report["benchmarks"][0]["rounds"] = json!([40.0, 10.0]);
    report["benchmarks"][0]["baseline_rounds"] = json!([100.0, 20.0]);
    report["benchmarks"][2]["rounds"] = json!([4.0]);
    report["benchmarks"][2]["baseline_rounds"] = json!([1.0]);
    let Some(charts) = drawn(&bench_page(&report)) else {
        return;
    };
    assert_eq!(charts[0]["lines"]["ratio"], json!([0.4, 0.5]));
    assert_eq!(charts[2]["lines"]["ratio"], json!([0.25]), "a latency: less is better");
    assert_eq!(
        charts[7]["lines"].as_object().unwrap().len(),
        1,
        "no baseline, no ratio"
    );
}
