//! Orders at one, two, five and ten times the most that the machine serves, then at four fifths of it, in rounds: each beside the peak of its own time.

use std::fs;
use std::process::Command;

use testkit::benchmark::arithmetic::median;
use waybill_simulator::load::report::{LoadReport, Second};

use super::{Findings, Times};
use crate::baselines::script::insert_drivers;
use crate::load::{Load, operation};
use crate::server::Server;
use crate::world::World;

/// The first look is at this part of what callers that wait for each answer reach, and each further one at so much more.
const FIRST_LOOK: f64 = 0.5;
const NEXT_LOOK: f64 = 1.2;
const LOOKS_MAX: usize = 12;
/// A rate is served if so much of it is. The machine does something else now and then: after so many in a row that are not, higher ones are not either.
const SERVED: f64 = 0.97;
const MISSES_MAX: u32 = 4;
/// Looks at the peak of each round, beside that of the round before; then come the steps.
const ROUNDS: usize = 3;
const LOOKS: [f64; 3] = [1.0, 1.25, 1.5];
/// Times of the peak, and how much of it has to be served then.
const STEPS: [(f64, f64); 4] = [(1.0, 0.0), (2.0, 0.9), (5.0, 0.8), (10.0, 0.7)];
/// And of this part of it all is served, soon.
const AFTERWARDS: f64 = 0.8;
/// How much slower the calls may be that are accepted.
const SLOWER_MAX: f64 = 2.0;
/// How soon it has to be as it was.
const BACK_WITHIN_SECS: f64 = 5.0;
const MEMORY_MAX_BYTES: u64 = 512 << 20;

/// What a run served.
struct Outcome {
    per_second: f64,
    p99_ms: f64,
    refused: u64,
    failed: u64,
    late_ms: f64,
    generator_cores: f64,
}

impl Outcome {
    fn of(report: &LoadReport) -> Outcome {
        let (whole, created) = (operation(report, Some("order")), operation(report, Some("CreateOrder")));
        Outcome {
            per_second: whole.answered_per_second,
            p99_ms: created.latency.p99_ms,
            refused: created.totals.refused,
            failed: whole.totals.failed,
            late_ms: report.generator.late_p99_ms,
            generator_cores: report.generator.cpu_cores_mean,
        }
    }
}

pub(super) async fn measure(world: &World, times: Times, findings: &mut Findings) {
    // Callers are elsewhere, and so is the provider: what is offered must not be what takes the time of those who serve it.
    let cores = std::thread::available_parallelism().unwrap().get();
    let core = (cores > 1).then_some("0");
    if cores > 1 {
        part_cores(cores);
    }
    let server = Server::start_on(world, ("overload", 3), &[], core).await;
    let load = Load::on(server.endpoint());
    let drivers = world.session(&server.database).await;
    drivers.batch_execute(&insert_drivers()).await.unwrap();
    drop(drivers);
    let closed = load.orders_served(times.look).await;
    world.settle([server.database.as_str()]).await;

    let mut peak = search(&load, closed, times).await;
    let (mut peaks, mut steps, mut backs, mut memory) = (Vec::new(), vec![Vec::new(); STEPS.len()], Vec::new(), 0);
    for _ in 0..ROUNDS {
        peak = peak_of_now(&load, peak, times).await;
        peaks.push(peak);
        let mut at_peak = None;
        for ((factor, _), rounds) in STEPS.iter().zip(&mut steps) {
            let (step, _) = step(&load, peak * factor, times).await;
            memory = memory.max(server.cost().memory_bytes);
            let p99_ms = step.p99_ms;
            rounds.push(Beside {
                goodput: step.per_second / peak,
                p99_ms,
                slower: p99_ms / *at_peak.get_or_insert(p99_ms),
            });
        }
        let (_, seconds) = step(&load, peak * AFTERWARDS, times).await;
        backs.push(back_after(&seconds));
    }
    findings.number("peak_per_second", format_args!("{:.0}", median(&peaks)));
    for ((factor, least), rounds) in STEPS.iter().zip(&steps) {
        let middle = |of: fn(&Beside) -> f64| median(&rounds.iter().map(of).collect::<Vec<_>>());
        let (goodput, slower) = (middle(|one| one.goodput), middle(|one| one.slower));
        findings.number(&format!("goodput_{factor}x"), format_args!("{goodput:.2}"));
        findings.number(
            &format!("p99_{factor}x_ms"),
            format_args!("{:.1}", middle(|one| one.p99_ms)),
        );
        findings.expect(goodput >= *least, || {
            format!("at {factor} times the peak {goodput:.2} of it was served, not {least}")
        });
        findings.expect(slower <= SLOWER_MAX, || {
            format!("at {factor} times the peak p99 was {slower:.2} times that at the peak")
        });
    }
    let back = median(&backs);
    findings.number("back_after_s", back);
    findings.expect(back <= BACK_WITHIN_SECS, || {
        format!("it was not as before within {BACK_WITHIN_SECS} s: {backs:?}")
    });
    findings.number("memory_mb", memory >> 20);
    findings.expect(memory <= MEMORY_MAX_BYTES, || format!("{} MB of memory", memory >> 20));
    server.stop_after_trouble().await;
}

/// What a step of a round was beside the peak of this round.
#[derive(Debug, Clone, Copy)]
struct Beside {
    goodput: f64,
    p99_ms: f64,
    /// Times as slow as at the peak.
    slower: f64,
}

/// The most that was served a second, whatever was offered, beginning below what callers reach that wait for each answer.
async fn search(load: &Load, closed: f64, times: Times) -> f64 {
    let (mut peak, mut rate, mut misses): (f64, f64, u32) = (0.0, closed * FIRST_LOOK, 0);
    for _ in 0..LOOKS_MAX {
        let served = look(load, rate, times).await;
        peak = peak.max(served);
        misses = if served < rate * SERVED { misses + 1 } else { 0 };
        if misses == MISSES_MAX {
            break;
        }
        rate *= NEXT_LOOK;
    }
    peak
}

/// The same a while later, when that was the peak. The machine is not always as fast: a step is held against the peak of its own time.
async fn peak_of_now(load: &Load, before: f64, times: Times) -> f64 {
    let mut peak: f64 = 0.0;
    for part in LOOKS {
        peak = peak.max(look(load, before * part, times).await);
    }
    peak
}

/// What is served a second of this rate.
async fn look(load: &Load, rate: f64, times: Times) -> f64 {
    let outcome = Outcome::of(&load.orders_whatever(rate, times.look, false).await);
    println!(
        "    {rate:.0}/s offered: {:.0}/s served, p99 {:.1} ms",
        outcome.per_second, outcome.p99_ms
    );
    outcome.per_second
}

/// The same for longer, and second by second.
async fn step(load: &Load, rate: f64, times: Times) -> (Outcome, Vec<Second>) {
    let report = load.orders_whatever(rate, times.step, false).await;
    let outcome = Outcome::of(&report);
    println!(
        "    {rate:.0}/s offered for long: {:.0}/s served, p99 {:.1} ms, refused {}, failed {} {:?}; the generator was {:.1} ms late, with {:.2} cores",
        outcome.per_second,
        outcome.p99_ms,
        outcome.refused,
        outcome.failed,
        operation(&report, Some("CreateOrder")).errors,
        outcome.late_ms,
        outcome.generator_cores,
    );
    (outcome, operation(&report, Some("order")).seconds.clone())
}

/// The stores go to core 0, where the server is too; this process, which makes the load, and its copy that is the provider to the others.
fn part_cores(cores: usize) {
    let own = std::process::id();
    let others = format!("1-{}", cores - 1);
    let name = |pid: u32| fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    let own_name = name(own);
    for pid in with_descendants(own) {
        let core = if name(pid) == own_name { &others } else { "0" };
        let pinned = Command::new("taskset")
            .args(["-acp", core, &pid.to_string()])
            .output()
            .unwrap();
        // A session of Postgres may have ended meanwhile.
        let is_there = fs::exists(format!("/proc/{pid}")).unwrap();
        assert!(pinned.status.success() || !is_there, "taskset of {pid}: {pinned:?}");
    }
}

/// This process and all that it started, and those.
fn with_descendants(own: u32) -> Vec<u32> {
    let parent = |pid: u32| -> Option<(u32, u32)> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        Some((pid, stat.rsplit(')').next()?.split_whitespace().nth(1)?.parse().ok()?))
    };
    let names = fs::read_dir("/proc").unwrap().map(|entry| entry.unwrap().file_name());
    let parents: Vec<(u32, u32)> = names
        .filter_map(|name| name.to_str()?.parse().ok())
        .filter_map(parent)
        .collect();
    let mut found = vec![own];
    let mut next = 0;
    while let Some(&of) = found.get(next) {
        found.extend(parents.iter().filter(|(_, parent)| *parent == of).map(|(pid, _)| *pid));
        next += 1;
    }
    found
}

/// After how many seconds what was offered in all further ones was served; infinite, if it never was.
#[allow(clippy::cast_precision_loss, reason = "counts of a few seconds")]
fn back_after(seconds: &[Second]) -> f64 {
    let is_served = |rest: &[Second]| {
        let sum = |of: fn(&Second) -> u64| rest.iter().map(of).sum::<u64>() as f64;
        sum(|second| second.totals.answered) >= sum(|second| second.totals.offered) * SERVED
    };
    let back = (0..seconds.len()).find(|since| is_served(&seconds[*since..]));
    back.map_or(f64::INFINITY, |since| since as f64)
}
