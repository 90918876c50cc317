//! What a reader finds on a page of [`waybill_simulator::report`].

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "the exception for tests in clippy.toml covers the test functions, not the functions that they share"
)]

mod invented;
mod markup;

use invented::{nothing, staircase};
use markup::Markup;
use waybill_simulator::load::report::{LoadReport, Stage};
use waybill_simulator::report::{Axis, Bar, Cell, Chart, Figure, Line, Notice, Page, Section, Span, Table, Unit, page};

const EVIL: &str = "<script>alert('\"&')</script>";

#[test]
fn every_number_of_a_run_is_on_its_page() {
    let mut report = staircase();
    report.operations.truncate(1);
    report.cut_short = true;
    report.operations[0].totals.repeated = 7_654_321;
    report.broken_lines = 1_234_567;
    report.first_broken_lines = vec!["taxi.txt:17: latitude is no number".to_owned()];
    let text = Markup::read(&page(&report)).text();
    let mut missing = wanted(&report);
    missing.retain(|wanted| !text.contains(wanted.as_str()));
    assert!(missing.is_empty(), "not on the page: {missing:?}");
}

fn wanted(report: &LoadReport) -> Vec<String> {
    let (generator, machine, operation) = (&report.generator, &report.machine, &report.operations[0]);
    let time = |millis: f64| Unit::Milliseconds.exact(millis);
    let mut wanted: Vec<String> = [
        "mixed",
        "open loop, Poisson arrivals",
        "2026-11-22 16:04:05 UTC",
        "120 s",
        "10 s",
        "ended before its time",
        "1,234,567",
        "7,654,321 made again",
        "taxi.txt:17: latitude is no number",
        "AMD EPYC 7B13, 8 cores, 32 GiB",
    ]
    .map(str::to_owned)
    .into();
    wanted.extend([
        machine.system.clone(),
        machine.waybill.to_owned(),
        time(generator.late_p99_ms),
    ]);
    wanted.extend([
        generator.cpu_cores_max.to_string(),
        generator.cpu_cores_mean.to_string(),
    ]);
    for (name, value) in &report.settings {
        wanted.extend([format!("--{name}"), value.clone()]);
    }
    let of = operation.latency;
    let times = [
        of.min_ms, of.mean_ms, of.p50_ms, of.p90_ms, of.p99_ms, of.p999_ms, of.max_ms,
    ];
    wanted.extend(times.map(time));
    let count = |count: u64| waybill_simulator::report::thousands(count);
    let sums = operation.totals;
    wanted.extend([sums.offered, sums.started, sums.answered, sums.refused, sums.failed].map(count));
    for (code, errors) in &operation.errors {
        wanted.extend([code.clone(), count(*errors)]);
    }
    for Stage { latency, totals, .. } in &operation.stages {
        wanted.extend([totals.offered, totals.answered, totals.refused, totals.failed].map(count));
        wanted.extend(
            [
                latency.p50_ms,
                latency.p90_ms,
                latency.p99_ms,
                latency.p999_ms,
                latency.max_ms,
            ]
            .map(time),
        );
    }
    // What a pointer over second 42 shows.
    let second = &operation.seconds[42];
    wanted.push(format!(
        "42 s\noffered: {} /s\nanswered: {} /s",
        count(second.totals.offered),
        count(second.totals.answered)
    ));
    wanted.push(format!(
        "42 s\np50: {}\np99: {}",
        time(second.latency.p50_ms),
        time(second.latency.p99_ms)
    ));
    wanted
}

#[test]
fn what_comes_from_outside_is_text_on_a_page() {
    let mut report = staircase();
    report.settings.insert(EVIL.to_owned(), EVIL.to_owned());
    report.machine.processor = EVIL.to_owned();
    report.machine.system = EVIL.to_owned();
    report.generator.limited_by_generator = Some(EVIL.to_owned());
    report.broken_lines = 1;
    report.first_broken_lines = vec![EVIL.to_owned()];
    report.operations[0].name = EVIL.to_owned();
    report.operations[0].errors.insert(EVIL.to_owned(), 1);
    assert_is_text(&page(&report), 8);

    let span = Span {
        label: EVIL.to_owned(),
        value: 2.0,
        min: 1.0,
        max: 3.0,
        floor: None,
    };
    let axis = || Axis::log(EVIL, Unit::Named(EVIL.into()));
    let section = Section::new(EVIL)
        .text(EVIL)
        .figures([Figure::new(EVIL, EVIL).detail(EVIL)])
        .chart(
            Chart::lines(EVIL, axis(), axis(), [Line::new(EVIL, [(1.0, 2.0)])])
                .note(EVIL)
                .mark(EVIL, 1.0),
        )
        .chart(Chart::ranges(EVIL, axis(), [span]))
        .table(
            Table::new(EVIL, [EVIL])
                .row([Cell::Text(EVIL.to_owned())])
                .row([Cell::Number(EVIL.to_owned())]),
        );
    let page = Page::new(EVIL)
        .subtitle(EVIL)
        .fact(EVIL, EVIL)
        .notice(Notice::Mind(EVIL.to_owned()))
        .section(section);
    assert_is_text(&page.html(), 20);
}

/// The only script is the page's own, and the words of the evil one are there to be read, so many times at least.
fn assert_is_text(html: &str, times: usize) {
    let markup = Markup::read(html);
    assert_eq!(markup.count("script"), 1);
    assert!(!html.contains("<script>alert"));
    let found = markup.text().matches("<script>alert('\"&'").count();
    assert!(found >= times, "{found} times only");
}

#[test]
fn a_page_loads_nothing() {
    let html = page(&staircase());
    // The name of a namespace is no address.
    let html = html
        .replace("http://www.w3.org/2000/svg", "")
        .replace("http://127.0.0.1:8080", "");
    for word in [
        "http:", "https:", "//cdn", "url(", "@import", " src=", "<link", "fetch(",
    ] {
        assert!(!html.contains(word), "{word}");
    }
}

#[test]
fn a_limit_of_the_generator_is_told_at_the_top() {
    let mut report = staircase();
    assert!(!page(&report).contains("role=\"alert\""));
    report.generator.limited_by_generator = Some("it used all of 8 cores".to_owned());
    let page = page(&report);
    let told = page.find("it used all of 8 cores").unwrap();
    assert!(told < page.find("<h2>").unwrap(), "below the first heading");
}

#[test]
fn latencies_that_leave_out_more_than_their_p99_does_say_so_at_the_top() {
    let mut report = invented::staircase();
    report.operations.truncate(1);
    let mut shown = |answered: u64| {
        let totals = &mut report.operations[0].totals;
        (totals.offered, totals.answered) = (1_000, answered);
        page(&report)
    };
    assert!(shown(353).contains("CreateOrder: 64.7 % were not answered, and the latencies leave them out."));
    for few in [0, 990, 1_000] {
        assert!(!shown(few).contains("leave them out"), "{few}");
    }
}

#[test]
fn what_was_never_answered_has_no_latency() {
    let html = page(&nothing());
    let text = Markup::read(&html).text();
    assert!(html.contains("<dt>p99</dt><dd>–</dd>"));
    assert!(
        text.contains("no values"),
        "the chart of latencies says why it is empty"
    );
    assert!(!text.contains("How long the answered ones took"));
    assert!(!text.contains("p50: 0"), "no latency of 0 under the pointer");
}

#[test]
fn a_constant_rate_has_no_stages() {
    let mut report = staircase();
    report.operations.truncate(1);
    let of_stages = [
        "Stages",
        "Latency against offered load",
        "Answered against offered load",
    ];
    let text = Markup::read(&page(&report)).text();
    assert!(of_stages.iter().all(|heading| text.contains(heading)));
    report.operations[0].stages.truncate(1);
    let text = Markup::read(&page(&report)).text();
    assert!(!of_stages.iter().any(|heading| text.contains(heading)));
}

#[test]
fn several_operations_are_compared_at_the_top() {
    let mut report = staircase();
    let text = Markup::read(&page(&report)).text();
    let (_, compared) = text.split_once("All at once").unwrap();
    let (compared, _) = compared.split_once("Latency of the answered").unwrap();
    assert!(compared.contains("805") && compared.contains("89,819"), "{compared}");
    report.operations.truncate(1);
    assert!(!page(&report).contains("All at once"));
}

#[test]
fn stairs_that_go_down_are_drawn_as_those_that_go_up() {
    let mut report = staircase();
    report.operations.truncate(1);
    let shown = |report: &LoadReport| {
        let text = Markup::read(&page(report)).text();
        text.matches("/s\np50: ").count()
    };
    assert_eq!(shown(&report), 8);
    report.operations[0].stages.reverse();
    assert_eq!(shown(&report), 8);
}

#[test]
fn an_hour_is_drawn_in_as_many_columns_as_a_screen_can_show() {
    let mut report = staircase();
    report.operations.truncate(1);
    let seconds = &mut report.operations[0].seconds;
    *seconds = seconds.iter().copied().cycle().take(3_600).collect();
    for (number, second) in (0..).zip(seconds.iter_mut()) {
        second.second = number;
    }
    let html = page(&report);
    assert!(
        Markup::read(&html)
            .text()
            .contains("Each point is the largest of 12 seconds.")
    );
    assert!(html.len() < 400_000, "{} bytes", html.len());
}

#[test]
fn numbers_out_of_all_bounds_are_drawn_within_the_chart() {
    let values = [
        f64::NAN,
        f64::INFINITY,
        -1.0,
        0.0,
        f64::MIN_POSITIVE,
        1e-9,
        1.0,
        1e18,
        f64::MAX,
    ];
    for axis in [Axis::linear as fn(&'static str, Unit) -> Axis, Axis::close, Axis::log] {
        let points = values.iter().map(|value| (*value, *value));
        let bars = values.map(|value| Bar {
            from: value,
            to: value * 2.0,
            height: value,
        });
        let spans = values.map(|value| Span {
            label: "row".to_owned(),
            value,
            min: value / 2.0,
            max: value * 2.0,
            floor: Some(value),
        });
        let (x, y) = (axis("x", Unit::Count), axis("y", Unit::Milliseconds));
        let section = Section::new("All")
            .chart(Chart::lines("lines", x.clone(), y.clone(), [Line::new("line", points)]).mark("mark", f64::MAX))
            .chart(Chart::lines("none", x.clone(), y.clone(), []))
            .chart(Chart::bars("bars", x.clone(), y, bars))
            .chart(Chart::ranges("ranges", x.clone(), spans))
            .chart(Chart::ranges("no ranges", x, []));
        let markup = Markup::read(&Page::new("Bounds").section(section).html());
        assert_eq!(markup.count("figure"), 5);
        markup.assert_drawn_within(5_600, 6_000);
    }
}

#[test]
fn a_single_point_is_seen_as_a_dot() {
    let chart = |points: Vec<(f64, f64)>| {
        let (x, y) = (Axis::close("x", Unit::Seconds), Axis::linear("y", Unit::Count));
        let line = Line::new("line", points);
        let section = Section::new("").chart(Chart::lines("", x, y, [line, Line::new("other", [])]));
        Page::new("").section(section).html()
    };
    let dots = |html: &str| Markup::read(html).with("fill", "#000010");
    assert_eq!(dots(&chart(vec![(0.0, 5.0)])), 1);
    let many = |gap: u32| (0..100).map(move |x| (f64::from(x), if x == gap { f64::NAN } else { 1.0 }));
    assert_eq!(dots(&chart(many(1_000).collect())), 0, "many points are a line");
    assert_eq!(dots(&chart(many(1).collect())), 1, "one is alone before the gap");
}

#[test]
fn bins_hold_every_count_between_their_edges() {
    let counts = [
        (0.0, 1),
        (0.9, 2),
        (1.0, 4),
        (1.01, 8),
        (9.99, 16),
        (10.0, 32),
        (f64::INFINITY, 64),
    ];
    let bars = Bar::binned(counts, 2);
    let heights: Vec<f64> = bars.iter().map(|bar| bar.height).collect();
    assert_eq!(heights, [7.0, 8.0, 48.0]);
    assert!((bars[2].to - 10.0).abs() < 1e-9, "{bars:?}");
    let edges: Vec<f64> = (-30..=30).map(|bin| 10_f64.powf(f64::from(bin) / 10.0)).collect();
    let bars = Bar::binned(edges.iter().map(|edge| (*edge, 1)), 10);
    assert_eq!(bars.len(), edges.len(), "what is on an edge is below it");
    assert!(
        bars.iter()
            .zip(edges)
            .all(|(bar, edge)| (bar.to / edge - 1.0).abs() < 1e-9)
    );
}
