//! The page of a run of load.

use super::chart::{Bar, Chart, Line};
use super::scaffold::{Cell, Figure, Notice, Page, Section, Table};
use super::unit::{PER_SECOND, Unit, number, thousands};
use super::{Axis, load_table};
use crate::load::plan::Arrivals;
use crate::load::report::{Latency, LoadReport, Machine, Operation, Second, Stage, Totals};

/// Columns of a chart over time at most: about as many as a screen can tell apart.
const COLUMNS_MAX: usize = 300;
/// Bars for each power of ten: each is a quarter wider than the one before, near enough.
const BARS_PER_DECADE: u32 = 10;

/// The page of a run: what was measured, drawn, as one file of HTML. Everything that comes from outside is escaped.
pub fn page(report: &LoadReport) -> String {
    let mut page = Page::new(format!("Load: {}", report.workload)).subtitle(subtitle(report));
    if let Some(reason) = &report.generator.limited_by_generator {
        let text = format!("These numbers are the generator's, not the server's: {reason}");
        page = page.notice(Notice::Wrong(text));
    }
    if report.cut_short {
        let measured = Unit::Seconds.exact(report.measured_seconds);
        let text = format!("The run was ended before its time: {measured} were measured.");
        page = page.notice(Notice::Mind(text));
    }
    if report.broken_lines > 0 {
        let broken = thousands(report.broken_lines);
        page = page.notice(Notice::Mind(format!(
            "Lines of the trace that could not be used: {broken}."
        )));
    }
    for operation in &report.operations {
        if let Some(share) = operation.left_out() {
            let percent = 100.0 * share;
            page = page.notice(Notice::Mind(format!(
                "{}: {percent:.1} % were not answered, and the latencies leave them out.",
                operation.name
            )));
        }
    }
    for (name, value) in facts(report) {
        page = page.fact(name, value);
    }
    if report.operations.len() > 1 {
        page = page.section(Section::new("All at once").table(load_table::overview(report)));
    }
    for operation in &report.operations {
        page = page.section(section(operation));
    }
    page = page.section(generator(report));
    if !report.first_broken_lines.is_empty() {
        let lines = report.first_broken_lines.iter();
        let table = lines.fold(Table::new("", ["line"]), |table, line| {
            table.row([Cell::Text(line.clone())])
        });
        page = page.section(Section::new("Broken lines of the trace").table(table));
    }
    page.section(settings(report)).html()
}

fn subtitle(report: &LoadReport) -> String {
    let arrivals = match report.arrivals {
        Some(Arrivals::Poisson) => ", Poisson arrivals",
        Some(Arrivals::Constant) => ", even arrivals",
        None => "",
    };
    let pace = match report.pace {
        "open" => "open loop: calls are made when they are due, whatever the server does",
        "closed" => "closed loop: the next call when the one before is answered",
        "recorded" => "recorded: as the trace has it",
        other => other,
    };
    let (name, rest) = pace.split_once(':').unwrap_or((pace, ""));
    let rest = if rest.is_empty() {
        String::new()
    } else {
        format!(":{rest}")
    };
    format!("{name}{arrivals}{rest}")
}

fn facts(report: &LoadReport) -> Vec<(&'static str, String)> {
    let machine = &report.machine;
    let known = |text: &str| !text.is_empty();
    let facts = [
        (
            "started",
            report.started_at.strftime("%Y-%m-%d %H:%M:%S UTC").to_string(),
        ),
        ("measured", Unit::Seconds.exact(report.measured_seconds)),
        ("warm-up", Unit::Seconds.exact(report.warm_up_seconds)),
        ("machine", hardware(machine)),
        ("system", machine.system.clone()),
        ("waybill", machine.waybill.to_owned()),
    ];
    facts.into_iter().filter(|(_, value)| known(value)).collect()
}

fn hardware(machine: &Machine) -> String {
    let mut parts = Vec::new();
    if !machine.processor.is_empty() {
        parts.push(machine.processor.clone());
    }
    let plural = if machine.cores == 1 { "" } else { "s" };
    parts.push(format!("{} core{plural}", machine.cores));
    if machine.memory_bytes > 0 {
        let gib = number(machine.memory_bytes) / number(1 << 30);
        parts.push(Unit::Named("GiB".into()).exact(gib));
    }
    parts.join(", ")
}

fn section(operation: &Operation) -> Section {
    let mut section = Section::new(operation.name.clone())
        .figures(how_fast(operation))
        .figures(how_many(&operation.totals))
        .table(load_table::latencies(operation));
    if !operation.seconds.is_empty() {
        let grouped = Grouped::new(&operation.seconds);
        section = section.chart(throughput(operation, &grouped)).chart(latency(&grouped));
    }
    if operation.stages.len() > 1 {
        section = section
            .chart(latency_against_offered(&operation.stages))
            .chart(answered_against_offered(operation.unit, &operation.stages));
    }
    if operation.totals.answered > 0 {
        section = section.chart(histogram(operation)).chart(took_longer(operation));
    }
    if operation.stages.len() > 1 {
        section = section.table(load_table::stages(&operation.stages));
    }
    if !operation.errors.is_empty() {
        section = section.table(load_table::errors(operation));
    }
    section
}

fn how_fast(operation: &Operation) -> Vec<Figure> {
    let answered = operation.totals.answered;
    let time = |name: &str, value: f64| Figure::new(name, load_table::time(answered, value));
    vec![
        Figure::new(
            format!("{} answered", operation.unit),
            PER_SECOND.exact(operation.answered_per_second),
        ),
        time("p50", operation.latency.p50_ms),
        time("p99", operation.latency.p99_ms),
        time("p99.9", operation.latency.p999_ms),
        time("max", operation.latency.max_ms),
    ]
}

fn how_many(totals: &Totals) -> Vec<Figure> {
    let Totals {
        offered,
        started,
        answered,
        refused,
        failed,
        repeated,
    } = *totals;
    let share = |part: u64| format!("{:.2} % of started", 100.0 * load_table::ratio(part, started));
    let count = |name: &str, count: u64| Figure::new(name, thousands(count));
    let made = match offered.saturating_sub(started) {
        0 => "all that were due".to_owned(),
        missing => format!("{} never made", thousands(missing)),
    };
    vec![
        count("offered", offered).detail("were due"),
        count("started", started).detail(match repeated {
            0 => made,
            again => format!("{made}; {} made again", thousands(again)),
        }),
        count("answered", answered).detail(share(answered)),
        count("refused", refused).detail(share(refused)).bad_if(refused > 0),
        count("failed", failed).detail(share(failed)).bad_if(failed > 0),
    ]
}

/// Seconds, put together so that there are not more than a chart can show.
struct Grouped {
    width: usize,
    columns: Vec<(f64, Vec<Second>)>,
}

impl Grouped {
    fn new(seconds: &[Second]) -> Grouped {
        let width = seconds.len().div_ceil(COLUMNS_MAX).max(1);
        let columns = seconds.chunks(width).map(|chunk| {
            let first = chunk.first().map_or(0, |second| second.second);
            (number(first), chunk.to_vec())
        });
        Grouped {
            width,
            columns: columns.collect(),
        }
    }

    fn line(&self, name: &str, value: impl Fn(&[Second]) -> f64) -> Line {
        Line::new(name, self.columns.iter().map(|(x, seconds)| (*x, value(seconds))))
    }

    /// Their mean.
    fn rate(&self, name: &str, count: impl Fn(&Second) -> u64) -> Line {
        self.line(name, |seconds| {
            let sum: u64 = seconds.iter().map(&count).sum();
            number(sum) / number(seconds.len() as u64)
        })
    }

    /// Their largest: percentiles have no mean.
    fn latency(&self, name: &str, value: impl Fn(&Latency) -> f64) -> Line {
        self.line(name, |seconds| {
            let answered = seconds.iter().filter(|second| second.totals.answered > 0);
            answered.map(|second| value(&second.latency)).fold(f64::NAN, f64::max)
        })
    }

    fn noted(&self, chart: Chart, how: &str) -> Chart {
        match self.width {
            1 => chart,
            width => chart.note(format!("Each point is {how} of {width} seconds.")),
        }
    }
}

fn throughput(operation: &Operation, grouped: &Grouped) -> Chart {
    let totals = &operation.totals;
    let always = [
        grouped.rate("offered", |second| second.totals.offered).quiet(),
        grouped.rate("answered", |second| second.completed),
    ];
    // A line along the bottom says less than the figure 0 above. Both or none: their colours stay theirs.
    let trouble = (totals.refused + totals.failed > 0).then(|| {
        [
            grouped.rate("refused", |second| second.totals.refused),
            grouped.rate("failed", |second| second.totals.failed),
        ]
    });
    let lines = always.into_iter().chain(trouble.into_iter().flatten());
    let (x, y) = (
        Axis::close("time since the warm-up", Unit::Seconds),
        Axis::linear(operation.unit, PER_SECOND),
    );
    grouped.noted(Chart::lines("Throughput over time", x, y, lines), "the mean")
}

fn latency(grouped: &Grouped) -> Chart {
    let lines = [
        grouped.latency("p50", |latency| latency.p50_ms),
        grouped.latency("p99", |latency| latency.p99_ms),
        grouped.latency("p99.9", |latency| latency.p999_ms),
    ];
    let (x, y) = (
        Axis::close("time since the warm-up", Unit::Seconds),
        Axis::log("latency", Unit::Milliseconds),
    );
    grouped.noted(Chart::lines("Latency over time", x, y, lines), "the largest")
}

fn latency_against_offered(stages: &[Stage]) -> Chart {
    let line = |name: &str, value: fn(&Latency) -> f64| {
        Line::new(
            name,
            stages.iter().map(|stage| {
                let none = stage.totals.answered == 0;
                (
                    stage.offered_per_second,
                    if none { f64::NAN } else { value(&stage.latency) },
                )
            }),
        )
    };
    let lines = [
        line("p50", |latency| latency.p50_ms),
        line("p99", |latency| latency.p99_ms),
        line("p99.9", |latency| latency.p999_ms),
    ];
    let (x, y) = (
        Axis::linear("offered", PER_SECOND),
        Axis::log("latency", Unit::Milliseconds),
    );
    Chart::lines("Latency against offered load", x, y, lines)
}

fn answered_against_offered(unit: &str, stages: &[Stage]) -> Chart {
    let points = stages
        .iter()
        .map(|stage| (stage.offered_per_second, stage.answered_per_second));
    let same = stages
        .iter()
        .map(|stage| (stage.offered_per_second, stage.offered_per_second));
    let lines = [
        Line::new("all that is offered", std::iter::once((0.0, 0.0)).chain(same)).quiet(),
        Line::new("answered", points),
    ];
    let (x, y) = (Axis::linear("offered", PER_SECOND), Axis::linear(unit, PER_SECOND));
    Chart::lines("Answered against offered load", x, y, lines)
}

fn histogram(operation: &Operation) -> Chart {
    let counts = operation.histogram.iter().map(|bucket| (bucket.up_to_ms, bucket.count));
    let bars = Bar::binned(counts, BARS_PER_DECADE);
    let (x, y) = (
        Axis::log("latency", Unit::Milliseconds),
        Axis::linear(operation.unit, Unit::Count),
    );
    let of = operation.latency;
    Chart::bars("How long the answered ones took", x, y, bars)
        .mark("p50", of.p50_ms)
        .mark("p99", of.p99_ms)
        .mark("p99.9", of.p999_ms)
}

/// The tail that a histogram hides: how many took longer than a time, down to one of 100,000.
fn took_longer(operation: &Operation) -> Chart {
    let counts = operation.histogram.iter().map(|bucket| (bucket.up_to_ms, bucket.count));
    let bars = Bar::binned(counts, 4 * BARS_PER_DECADE);
    let all: f64 = bars.iter().map(|bar| bar.height).sum();
    let left = bars.iter().scan(all, |left, bar| {
        *left -= bar.height;
        Some((bar.to, 100.0 * *left / all))
    });
    let (x, y) = (
        Axis::log("latency", Unit::Milliseconds),
        Axis::log("share", Unit::Named("%".into())),
    );
    let left = left.filter(|(_, percent)| *percent >= 0.001);
    Chart::lines("How many took longer", x, y, [Line::new("took longer", left)])
}

fn generator(report: &LoadReport) -> Section {
    let generator = &report.generator;
    let cores = Unit::Named(
        if report.machine.cores == 1 {
            "of 1 core"
        } else {
            "cores"
        }
        .into(),
    );
    let of = format!("of {}", report.machine.cores);
    Section::new("The generator's own part")
        .text(
            "What making the load cost on this side. Calls made late are the generator's fault, not the server's; \
             latencies count from the time that was meant all the same.",
        )
        .figures([
            Figure::new("busiest second", cores.exact(generator.cpu_cores_max)).detail(of.clone()),
            Figure::new("on average", cores.exact(generator.cpu_cores_mean)).detail(of),
            Figure::new("calls made late, p99", Unit::Milliseconds.exact(generator.late_p99_ms)),
        ])
}

fn settings(report: &LoadReport) -> Section {
    let rows = report.settings.iter().map(|(name, value)| {
        let name = format!("--{name}");
        [Cell::Text(name), Cell::Text(value.clone())]
    });
    let always = [("workload", report.workload), ("pace", report.pace)];
    let always = always.map(|(name, value)| [Cell::Text(name.to_owned()), Cell::Text(value.to_owned())]);
    let table = always
        .into_iter()
        .chain(rows)
        .fold(Table::new("", ["setting", "value"]), Table::row);
    Section::new("Settings").table(table)
}
