//! What a run prints at its end: the numbers, whether they are enough to show anything, and the last line.

use std::process::ExitCode;
use std::time::Duration;

use testkit::load::findings::{Findings, Tally};
use testkit::load::history::History;
use testkit::load::ledger_view::Counts;
use waybill_server::crash_points::NAMES;

use crate::judge::Logs;
use crate::nemesis::so_far;
use crate::plan::Plan;
use crate::world::World;

/// What was counted and measured.
pub struct Numbers {
    /// From the start of the world to the last check.
    pub lasted: Duration,
    /// How long after all was well the last order settled.
    pub settled_secs: f64,
    /// How long the orders of killed owners waited, shortest first.
    pub waited_secs: Vec<f64>,
    /// How many drivers were assigned, and how old the newest fix of one was at most then, in seconds.
    pub assigned_fix_age: (i64, f64),
    /// What was read for panics.
    pub logs: Logs,
    /// By the database.
    pub counts: Counts,
    /// Orders that were given a driver.
    pub served: i64,
}

/// Prints it; whether the run failed. A folder in which a person has to look is kept.
pub fn print(
    plan: &Plan,
    world: World,
    history: &History,
    tally: &Tally,
    findings: &Findings,
    numbers: &Numbers,
) -> ExitCode {
    print_numbers(&world, history, tally, findings, numbers);
    // A run of some faults only, or one that was cut short, need not show everything.
    if plan.only.is_empty() && !findings.any.is_cancelled() {
        demand_enough(plan, tally, findings, numbers);
    }
    let points = tally.points_hit();
    let missed = if plan.every_point { NAMES.len() - points } else { 0 };
    if missed > 0 {
        println!("torture: FAILED: {missed} crash points did not kill a process");
    }
    let violations = findings.all();
    let failed = !violations.is_empty() || missed > 0;
    let verdict = if failed {
        "FAILED. 0 passed; 1 failed"
    } else {
        "ok. 1 passed; 0 failed"
    };
    println!("test result: {verdict}; 0 ignored; 0 measured; 0 filtered out");
    if failed || plan.keep {
        history.flush();
        for line in &violations {
            println!("torture: VIOLATION {line}");
        }
        let kept = world.folder.keep();
        println!("torture: see {} ; again: TORTURE_SEED={}", kept.display(), plan.seed);
    }
    println!(
        "torture: seed={} kills={} crash_points={points}/{} orders={} ambiguous={} max_settle_s={:.1} violations={}",
        plan.seed,
        so_far(&tally.kills),
        NAMES.len(),
        so_far(&tally.orders),
        numbers.counts.ambiguous,
        numbers.settled_secs,
        violations.len(),
    );
    if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

fn print_numbers(world: &World, history: &History, tally: &Tally, findings: &Findings, numbers: &Numbers) {
    println!("torture: calls: {}", history.outcomes());
    println!("torture: points: {}", tally.points());
    println!(
        "torture: {:.0} s; {} sleeps, {} spoiled lines, {} commits cut from their answer, {} orders taken over, {} flagged",
        numbers.lasted.as_secs_f64(),
        so_far(&tally.sleeps),
        so_far(&tally.spoiled_lines),
        world.commits_cut(),
        numbers.counts.taken_over,
        numbers.counts.flagged,
    );
    let waited = &numbers.waited_secs;
    if let (Some(median), Some(max)) = (waited.get(waited.len() / 2), waited.last()) {
        println!(
            "torture: owner_kill_settle_s median={median:.1} max={max:.1} of {}",
            waited.len()
        );
    }
    let (assigned, age) = numbers.assigned_fix_age;
    println!("torture: assigned_fix_age_s max={age:.1} of {assigned}");
    let of_x2 = findings.all().iter().filter(|line| line.starts_with("X2: ")).count();
    let logs = &numbers.logs;
    println!(
        "torture: logs={} lines={} x2_violations={of_x2}",
        logs.files, logs.lines
    );
}

/// A run in which hardly anything happened is no proof.
fn demand_enough(plan: &Plan, tally: &Tally, findings: &Findings, numbers: &Numbers) {
    let owners = u64::from(!plan.owners_only.is_zero());
    let reached = [
        ("kills", so_far(&tally.kills), plan.kills_least),
        ("orders with a driver", numbers.served.unsigned_abs(), plan.kills_least),
        (
            "unknown charges and refunds",
            numbers.counts.ambiguous.unsigned_abs(),
            1,
        ),
        ("orders taken over", numbers.counts.taken_over.unsigned_abs(), 1),
        ("orders of killed owners", numbers.waited_secs.len() as u64, owners),
    ];
    for (what, count, least) in reached {
        if count < least {
            let what = format!("only {count} {what}, of at least {least}: it shows nothing");
            findings.add("rig", &what);
        }
    }
}
