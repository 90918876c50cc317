//! Waybill beside what limits it: each benchmark with its baseline, taken in turns on one machine in one run.
//!
//! A private world is set as production would have it, with every fsync; servers are processes of their own. What is
//! measured is in [`measures`], a file each; what a baseline is and why, in [`baselines`]. All of it shares the
//! processors of this machine: server, stores, payment provider and callers. So a rate at saturation says what the
//! machine does with all of them together, and so does its baseline; between the two lies what Waybill costs.
//!
//! `make bench`; `BENCH_QUICK=1` for a look of four minutes at less data; `BENCH_ONLY=orders,fixes` for some of
//! `fixes`, `orders`, `latency`, `searches`, `edge`, `tokens`, `tls`, `idle_streams`, `watches`, `growth`. It ends with a table and writes
//! `target/bench/report.json` and `report.html`. Any error of any call ends it, naming the benchmark.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::indexing_slicing,
    reason = "a measurement, not a product: whatever is not as it should be ends it"
)]

mod again;
mod baselines;
mod echo;
mod fleet;
mod history;
mod load;
mod machine;
mod measures;
mod overload;
mod peers;
mod report;
mod scale;
mod serve_again;
mod server;
mod stored;
mod stores_cost;
mod upgrade;
mod world;

use std::collections::BTreeSet;
use std::fs;
use std::panic::{AssertUnwindSafe, resume_unwind};
use std::sync::Mutex;
use std::time::Instant;

use futures_util::FutureExt as _;
use testkit::benchmark::settings::SETTINGS;
use testkit::benchmark::{self, Benchmark};
use tokio::signal::unix::{SignalKind, signal};
use waybill_simulator::report::bench_page;

use self::measures::{edge, fixes, growth, idle_streams, instances, latency, orders, searches, tls, tokens, watches};
use self::report::Report;
use self::scale::Scale;
use self::world::World;

/// What is measured, and in which order. Latencies feel most what a neighbour leaves of the machine, which changes for
/// minutes: half of their rounds are early and half are late.
const VISITS: [&str; 11] = [
    "fixes",
    "orders",
    "latency",
    "searches",
    "edge",
    "tokens",
    "tls",
    "idle_streams",
    "watches",
    "latency",
    "growth",
];
/// Measured only where it is asked for.
const ON_REQUEST: [&str; 4] = ["instances", "overload", "peers", "upgrade"];
/// What is measured now, for the message of whatever ends the run.
static UNDER_WAY: Mutex<&str> = Mutex::new("the start");

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    if serve_again::is_asked_for(&args) {
        return runtime.block_on(serve_again::serve(&args));
    }
    let usual = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        eprintln!("\nthe benchmark failed at {}:", UNDER_WAY.lock().unwrap());
        usual(panic);
    }));
    runtime.block_on(run_or_be_ended(&Scale::chosen(), &chosen()));
}

/// Ends the world whether the run is over, was ended or failed: its stores and their gigabytes must not outlive it.
async fn run_or_be_ended(scale: &Scale, chosen: &[&'static str]) {
    let began_at = Instant::now();
    let signals = [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()];
    let [mut interrupt, mut terminate, mut hang_up] = signals.map(|kind| signal(kind).unwrap());
    let mut world = World::start().await;
    // The world is only stopped after a panic, and nothing of what the run was about is looked at.
    let run = AssertUnwindSafe(run(&mut world, scale, chosen, began_at)).catch_unwind();
    let outcome = tokio::select! {
        outcome = run => Some(outcome),
        _ = interrupt.recv() => None,
        _ = terminate.recv() => None,
        _ = hang_up.recv() => None,
    };
    println!("[{:>4.0} s] the end", began_at.elapsed().as_secs_f64());
    world.stop().await;
    match outcome {
        Some(Ok(report)) => write(&report, VISITS.iter().all(|name| chosen.contains(name))),
        Some(Err(panic)) => resume_unwind(panic),
        None => {
            eprintln!("the benchmark was ended before its time: there is no report");
            std::process::exit(1);
        }
    }
}

/// The benchmarks that are asked for.
fn chosen() -> Vec<&'static str> {
    let Ok(only) = std::env::var("BENCH_ONLY") else {
        return VISITS.to_vec();
    };
    let named = only.split(',').map(|name| {
        let found = VISITS.into_iter().chain(ON_REQUEST).find(|known| *known == name.trim());
        found.unwrap_or_else(|| {
            panic!(
                "BENCH_ONLY={name}: there are {}",
                VISITS
                    .into_iter()
                    .chain(ON_REQUEST)
                    .collect::<BTreeSet<_>>()
                    .into_iter()
                    .collect::<Vec<_>>()
                    .join(", ")
            )
        })
    });
    named.collect()
}

async fn run(world: &mut World, scale: &Scale, chosen: &[&'static str], began_at: Instant) -> Report {
    let (machine, versions) = (machine::machine(world.folder()), machine::versions());
    println!("{machine:#}\n{versions:#}");
    let mut notes = notes(scale);
    if machine["disk"].as_str().is_some_and(|disk| disk.starts_with("tmpfs")) {
        notes.push("The disk of this world is memory, and its fsync does nothing: set TMPDIR.".to_owned());
    }
    if ["growth", "upgrade"].iter().any(|name| chosen.contains(name)) {
        begin("the storing of orders", began_at);
        world.for_storing().await;
    }
    if chosen.contains(&"growth") {
        notes.extend(stored::fill(world, scale.stored_orders).await);
    }
    if chosen.contains(&"upgrade") {
        notes.push(upgrade::fill(world, scale.stored_orders[2]).await);
    }
    let mut settings = world.as_in_production().await;
    let ours = SETTINGS.iter();
    settings.extend(ours.map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
    for (name, value) in &settings {
        println!("{name} = {value}");
    }
    for note in &notes {
        println!("{note}");
    }

    let mut benchmarks = Vec::new();
    for name in VISITS
        .into_iter()
        .chain(ON_REQUEST)
        .filter(|name| chosen.contains(name))
    {
        begin(name, began_at);
        world.clear().await;
        let found = measure(name, world, scale).await;
        for benchmark in &found {
            println!(
                "  {} {:.2} {} {:?}",
                benchmark.name,
                benchmark.value(),
                benchmark.unit,
                benchmark.ratio()
            );
        }
        benchmark::add(&mut benchmarks, found);
    }
    Report {
        benchmarks,
        machine,
        versions,
        settings,
        notes,
        seconds: began_at.elapsed().as_secs_f64(),
        quick: scale.quick,
    }
}

/// Writes the files and prints the table.
fn write(report: &Report, whole: bool) {
    // Some of the benchmarks are not the report that scripts compare.
    let name = if whole { "report" } else { "report-partial" };
    let (json, html) = (
        Report::folder().join(format!("{name}.json")),
        Report::folder().join(format!("{name}.html")),
    );
    let value = report.json();
    fs::write(&json, format!("{value:#}\n")).unwrap();
    fs::write(&html, bench_page(&value)).unwrap();
    println!("\n{}", report.table());
    println!("{:.0} s; {}", report.seconds, json.display());
}

fn begin(name: &'static str, began_at: Instant) {
    *UNDER_WAY.lock().unwrap() = name;
    println!("[{:>4.0} s] {name}", began_at.elapsed().as_secs_f64());
}

async fn measure(name: &str, world: &World, scale: &Scale) -> Vec<Benchmark> {
    match name {
        "fixes" => fixes::measure(world, scale).await,
        "orders" => orders::measure(world, scale).await,
        "latency" => {
            let mut benchmarks = latency::of_fixes(world, scale).await;
            benchmarks.extend(latency::of_orders(world, scale).await);
            benchmarks
        }
        "searches" => searches::measure(world, scale).await,
        "edge" => edge::measure(world, scale).await,
        "tokens" => tokens::measure(world, scale).await,
        "tls" => tls::measure(world, scale).await,
        "idle_streams" => idle_streams::measure(world, scale).await,
        "watches" => watches::measure(world, scale).await,
        "instances" => Box::pin(instances::measure(world, scale)).await,
        "overload" => overload::measure(world, scale).await,
        "peers" => peers::measure(world, scale).await,
        "upgrade" => Box::pin(upgrade::measure(world)).await,
        _ => {
            let mut benchmarks = growth::of_orders(world, scale).await;
            benchmarks.extend(growth::of_fixes(world, scale).await);
            benchmarks
        }
    }
}

/// What is to be known of all numbers.
fn notes(scale: &Scale) -> Vec<String> {
    let mut notes = vec![
        "Server, stores, payment provider and callers share the processors of this machine: a rate at saturation is what it \
         does with all of them together."
            .to_owned(),
        format!(
            "Median, smallest and largest of {} rounds; of latencies {}, of fleets {}, of what never writes {}, of idle \
             streams {}. The ratio is the median of each round's own: ours through the baseline for rates, the baseline through ours for \
             latencies; 1 is the baseline itself.",
            scale.rounds, 2 * scale.latency_rounds, scale.fleet_rounds, scale.read_rounds, scale.stream_rounds
        ),
    ];
    if scale.quick {
        let stored = scale.stored_orders.map(|count| count.to_string()).join(", ");
        notes.push(format!(
            "A QUICK run: short turns, few rounds, {stored} orders stored instead of 0, 1000000, 5000000. Good for seeing \
             that all runs, not for comparing."
        ));
    }
    notes
}
