//! Orders at one, two, five and ten times the most that the machine serves, then at four fifths of it.

use std::fs;
use std::process::Command;

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
/// Times of the peak, and how much of it has to be served then.
const STEPS: [(f64, f64); 4] = [(1.0, 0.0), (2.0, 0.9), (5.0, 0.8), (10.0, 0.7)];
/// How much slower the calls may be that are accepted.
const SLOWER_MAX: f64 = 2.0;
/// How soon it has to be as it was.
const BACK_WITHIN_SECS: u64 = 5;
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

    // The peak is the most that was served, whatever was offered: what the machine does besides can make a rate look too high for it.
    let (mut peak, mut p99_ms): (f64, f64) = (0.0, 0.0);
    let mut rate = closed * FIRST_LOOK;
    let mut misses = 0;
    for _ in 0..LOOKS_MAX {
        let outcome = Outcome::of(&load.orders_whatever(rate, times.look, false).await);
        println!(
            "    {rate:.0}/s offered: {:.0}/s served, p99 {:.1} ms",
            outcome.per_second, outcome.p99_ms
        );
        peak = peak.max(outcome.per_second);
        if outcome.per_second < rate * SERVED {
            misses += 1;
            if misses == MISSES_MAX {
                break;
            }
        } else {
            (misses, p99_ms) = (0, outcome.p99_ms);
        }
        rate *= NEXT_LOOK;
    }
    assert!(p99_ms > 0.0, "not even {rate:.0} orders a second are served");
    let rate = peak;
    findings.number("peak_per_second", format_args!("{rate:.0}"));
    findings.number("peak_p99_ms", format_args!("{p99_ms:.1}"));

    let mut at_peak = None;
    let mut memory = 0;
    for (factor, least) in STEPS {
        let report = load.orders_whatever(rate * factor, times.step, false).await;
        let outcome = Outcome::of(&report);
        memory = memory.max(server.cost().memory_bytes);
        let goodput = outcome.per_second / rate;
        println!(
            "    {factor} x: {:.0}/s served ({goodput:.2}), p99 {:.1} ms, refused {}, failed {} {:?}; the generator was {:.1} ms late, with {:.2} cores",
            outcome.per_second,
            outcome.p99_ms,
            outcome.refused,
            outcome.failed,
            operation(&report, Some("CreateOrder")).errors,
            outcome.late_ms,
            outcome.generator_cores,
        );
        let before = *at_peak.get_or_insert(outcome.p99_ms);
        findings.number(&format!("goodput_{factor}x"), format_args!("{goodput:.2}"));
        findings.number(&format!("p99_{factor}x_ms"), format_args!("{:.1}", outcome.p99_ms));
        findings.expect(goodput >= least, || {
            format!("at {factor} times the peak {goodput:.2} of it was served, not {least}")
        });
        findings.expect(outcome.p99_ms <= SLOWER_MAX * before, || {
            format!(
                "at {factor} times the peak p99 was {:.1} ms, at the peak {before:.1}",
                outcome.p99_ms
            )
        });
    }
    let report = load.orders_whatever(rate * 0.8, times.step, false).await;
    let back = back_after(&operation(&report, Some("order")).seconds);
    findings.number("back_after_s", back.map_or("never".to_owned(), |secs| secs.to_string()));
    findings.expect(back.is_some_and(|secs| secs <= BACK_WITHIN_SECS), || {
        format!("it was not as before within {BACK_WITHIN_SECS} s: {back:?}")
    });
    findings.number("memory_mb", memory >> 20);
    findings.expect(memory <= MEMORY_MAX_BYTES, || format!("{} MB of memory", memory >> 20));
    server.stop_after_trouble().await;
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

/// After how many seconds all that was offered in each further second was served.
#[allow(clippy::cast_precision_loss, reason = "counts of one second")]
fn back_after(seconds: &[Second]) -> Option<u64> {
    let is_served = |second: &Second| second.totals.answered as f64 >= second.totals.offered as f64 * SERVED;
    let bad = seconds.iter().rposition(|second| !is_served(second));
    match bad {
        None => Some(0),
        Some(last) if last + 1 == seconds.len() => None,
        Some(last) => Some(last as u64 + 1),
    }
}
