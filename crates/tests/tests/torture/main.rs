//! The torture rig: three servers, their stores and their payment provider, with a nemesis for each process and each
//! line, under a load of customers of whom some hang up; and at the end a judge who holds what is left against what was
//! promised. Last comes one line with the numbers; the exit status is 1 if a promise is broken.
//!
//! With all tests it is a slice of sixty kills; `make torture` is the whole. See [`plan`] for the ways to run it.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::indexing_slicing,
    reason = "the exception for tests in clippy.toml covers the test functions, not a test without the usual harness"
)]

mod forged_webhooks;
mod judge;
mod nemesis;
mod plan;
mod provider;
mod report;
mod steady;
mod world;

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use testkit::chance::{Chance, pass};
use testkit::load::customers::Load;
use testkit::load::findings::{Findings, Tally};
use testkit::load::history::History;
use testkit::load::{ledger_view, promises, rides};
use testkit::sql::connect;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use waybill_server::crash_points::NAMES;

use crate::judge::Judge;
use crate::nemesis::{Storm, so_far};
use crate::plan::Plan;
use crate::provider::PaymentProvider;
use crate::report::Numbers;
use crate::world::World;

const SAMPLE_EVERY: Duration = Duration::from_millis(100);
/// Longer than a lease, a sweep and a search.
const PAUSE_BEFORE_THE_STORM: Duration = Duration::from_secs(25);
const REPORT_EVERY: Duration = Duration::from_secs(5);
const CHECK_EVERY: Duration = Duration::from_secs(3);

fn main() -> ExitCode {
    if !is_asked_for() {
        println!("test result: ok. 0 passed; 0 failed; 0 ignored; 0 measured; 1 filtered out");
        return ExitCode::SUCCESS;
    }
    // Done once, by whoever is first: what is set already is the same.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    runtime.expect("a runtime").block_on(torture(Plan::of_environment()))
}

/// `cargo test NAME` runs every test binary: this one only if it is named.
fn is_asked_for() -> bool {
    let mut names = std::env::args().skip(1).filter(|arg| !arg.starts_with('-')).peekable();
    if std::env::args().any(|arg| arg == "--list") {
        return false;
    }
    names.peek().is_none() || names.any(|name| "torture".contains(&name))
}

async fn torture(plan: Plan) -> ExitCode {
    println!("TORTURE_SEED={}", plan.seed);
    let began = Instant::now();
    let mut world = World::start(&plan).await;
    println!("torture: in {}", world.folder.path().display());
    let findings = Arc::new(Findings::default());
    let tally = Arc::new(Tally::default());
    let history = Arc::new(History::new(world.folder.path(), findings.clone()));
    let chance = Chance::new(plan.seed);

    let (closing, home) = (CancellationToken::new(), CancellationToken::new());
    let load = Load {
        gates: world.gates.clone(),
        tokens: world.tokens.clone(),
        history: history.clone(),
        tally: tally.clone(),
        closing: closing.clone(),
    };
    for slot in &mut world.slots {
        slot.start(None);
    }
    for slot in &mut world.slots {
        assert!(slot.is_ready_within(Duration::from_secs(30)).await, "{}", slot.log());
    }
    let tasks = TaskTracker::new();
    tasks.spawn(load.clone().customers(plan.orders_per_second, chance.of(1)));
    tasks.spawn(load.cabs(home.clone(), chance.of(2)));
    tasks.spawn(rides::end_rides(
        world.database(),
        world.gates.clone(),
        world.tokens.clone(),
        history.clone(),
        home.clone(),
        chance.of(6),
    ));

    steady::run(&plan, &world, &findings).await;
    owners_only(&plan, &mut world, &tally, &findings, chance.of(3)).await;
    let (webhooks, database) = (world.webhooks.clone(), world.database());
    tasks.spawn(forged_webhooks::inject(
        webhooks,
        database,
        closing.clone(),
        chance.of(5),
    ));
    storm(&plan, &mut world, &tally, &findings, &chance.of(4), &closing).await;

    let sql = connect(&world.database()).await.expect("Postgres answers");
    let mut judge = Judge {
        world: &mut world,
        history: history.clone(),
        tally: &tally,
        findings: &findings,
        plan: &plan,
    };
    let settled_secs = judge.until_settled(&sql).await;
    home.cancel();
    tasks.close();
    tasks.wait().await;
    judge.audit(&sql).await;
    judge.replay(&sql).await;
    let logs = judge.check_logs();
    let waited = judge.owner_kill_settle_secs(&sql).await;
    judge.print_stories(&sql).await;
    let numbers = Numbers {
        lasted: began.elapsed(),
        settled_secs,
        waited_secs: waited,
        assigned_fix_age: ledger_view::assigned_fix_age(&sql).await.expect("Postgres answers"),
        logs,
        counts: ledger_view::counts(&sql).await.expect("Postgres answers"),
        served: ledger_view::served(&sql).await.expect("Postgres answers"),
    };
    drop(sql);
    report::print(&plan, world, &history, &tally, &findings, &numbers)
}

/// Servers are killed one after the other, each replaced at once, and all else is well: how long do their orders wait?
async fn owners_only(plan: &Plan, world: &mut World, tally: &Tally, findings: &Findings, mut chance: Chance) {
    if plan.owners_only.is_zero() {
        return;
    }
    // The orders of the last one are not to meet the storm.
    let until = Instant::now() + plan.owners_only.saturating_sub(PAUSE_BEFORE_THE_STORM);
    // Healthy, and slow enough that a server holds an order when it is killed.
    world.provider.set_slow(Duration::from_millis(300));
    let database = world.database();
    while Instant::now() < until && !findings.any.is_cancelled() {
        pass(chance.millis(1_500, 4_000)).await;
        let number = chance.index(world.slots.len());
        let slot = &mut world.slots[number];
        let Some(pid) = slot.kill().await else { continue };
        Tally::count(&tally.kills);
        if let Ok(sql) = connect(&database).await
            && let Ok(kill) = ledger_view::owned_by(&sql, pid).await
        {
            tally.owner_killed(kill);
        }
        slot.start(None);
        slot.is_ready_within(Duration::from_secs(10)).await;
    }
    findings.any.run_until_cancelled(pass(PAUSE_BEFORE_THE_STORM)).await;
    world.provider.set_faults(Vec::new());
}

/// Everything goes wrong, until the time is up, the kills are enough or a promise is broken. When this returns no order
/// is asked for any more, all lines pass, all processes are started and the provider makes no more mistakes.
async fn storm(
    plan: &Plan,
    world: &mut World,
    tally: &Tally,
    findings: &Findings,
    chance: &Chance,
    closing: &CancellationToken,
) {
    let end = CancellationToken::new();
    let database = world.database();
    let (provider, lines) = (world.provider.clone(), world.lines.clone());
    let storm = Storm {
        plan,
        provider: &provider,
        tally,
        findings,
        end: &end,
    };
    let slots = (10..).zip(&mut world.slots);
    let over_servers = slots.map(|(number, slot)| storm.over_server(slot, chance.of(number)));
    let over_lines = (50..53).map(|number| storm.over_lines(&lines, chance.of(number)));
    let watch = async {
        watch(plan, tally, findings, &provider, &database).await;
        // The load ends first: what settles afterwards is what the storm left.
        closing.cancel();
        end.cancel();
    };
    tokio::join!(
        join_all(over_servers),
        storm.over_postgres(&mut world.postgres, chance.of(20)),
        storm.over_redis(&mut world.redis, chance.of(30)),
        storm.over_provider(chance.of(40)),
        join_all(over_lines),
        watch
    );
    provider.set_faults(Vec::new());
}

/// Prints how it goes, and checks what must never be, until the storm is to end.
async fn watch(plan: &Plan, tally: &Tally, findings: &Findings, provider: &PaymentProvider, database: &str) {
    let began = Instant::now();
    let (mut printed, mut checked) = (began, began);
    while began.elapsed() < plan.storm && so_far(&tally.kills) < plan.kills_enough && !findings.any.is_cancelled() {
        pass(SAMPLE_EVERY).await;
        if checked.elapsed() >= CHECK_EVERY {
            checked = Instant::now();
            promises::check_ledger(&provider.ledger().unwrap_or_default(), findings);
            if let Ok(Ok(sql)) = tokio::time::timeout(CHECK_EVERY, connect(database)).await {
                // A database that is down at the moment shows nothing; the next check does.
                let _ = tokio::time::timeout(CHECK_EVERY, promises::check_ledger_view(&sql, findings)).await;
            }
        }
        if printed.elapsed() >= REPORT_EVERY {
            printed = Instant::now();
            println!(
                "torture: t={:.0}s kills={} points={}/{} orders={} {}",
                began.elapsed().as_secs_f64(),
                so_far(&tally.kills),
                tally.points_hit(),
                NAMES.len(),
                so_far(&tally.orders),
                counts_now(database).await,
            );
        }
    }
}

/// The numbers of the database, if it answers at the moment.
async fn counts_now(database: &str) -> String {
    let counted = async {
        let sql = connect(database).await.ok()?;
        ledger_view::counts(&sql).await.ok()
    };
    match tokio::time::timeout(Duration::from_secs(2), counted).await {
        Ok(Some(counts)) => format!(
            "open={} flagged={} ambiguous={}",
            counts.unfinished, counts.flagged, counts.ambiguous
        ),
        _ => "open=? flagged=? ambiguous=?".to_owned(),
    }
}
