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

mod balancer;
mod books;
mod calm;
mod chance;
mod drivers;
mod findings;
mod history;
mod judge;
mod liar;
mod load;
mod nemesis;
mod plan;
mod report;
mod seat;
mod wire;
mod world;

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use waybill_server::crash_points::NAMES;

use crate::chance::{Chance, pass};
use crate::findings::{Findings, Tally};
use crate::history::History;
use crate::judge::Judge;
use crate::load::Load;
use crate::nemesis::{Storm, so_far};
use crate::plan::Plan;
use crate::report::Numbers;
use crate::world::World;

const LOOK_EVERY: Duration = Duration::from_millis(100);
/// Longer than a lease, a sweep and a search.
const CALM_BEFORE_THE_STORM: Duration = Duration::from_secs(25);
const TELL_EVERY: Duration = Duration::from_secs(5);
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

/// `cargo test NAME` runs every test binary: this one only if its name is meant.
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
        history: history.clone(),
        tally: tally.clone(),
        closing: closing.clone(),
    };
    for seat in &mut world.seats {
        seat.start(None);
    }
    for seat in &mut world.seats {
        assert!(seat.is_ready_within(Duration::from_secs(30)).await, "{}", seat.log());
    }
    let tasks = TaskTracker::new();
    tasks.spawn(load.clone().customers(plan.orders_per_second, chance.of(1)));
    tasks.spawn(load.cabs(home.clone(), chance.of(2)));
    tasks.spawn(drivers::end_rides(
        world.database(),
        world.gates.clone(),
        history.clone(),
        home.clone(),
        chance.of(6),
    ));

    calm::calm(&plan, &world, &findings).await;
    owners_only(&plan, &mut world, &tally, &findings, chance.of(3)).await;
    let lying = liar::lie(world.webhooks.clone(), world.database(), closing.clone(), chance.of(5));
    tasks.spawn(lying);
    storm(&plan, &mut world, &tally, &findings, &chance.of(4), &closing).await;

    let sql = books::connect(&world.database()).await.expect("Postgres answers");
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
    judge.check_logs();
    let waited = judge.owner_kill_settle_secs(&sql).await;
    judge.tell_stories(&sql).await;
    let numbers = Numbers {
        lasted: began.elapsed(),
        settled_secs,
        waited_secs: waited,
        counts: books::counts(&sql).await.expect("Postgres answers"),
        served: books::served(&sql).await.expect("Postgres answers"),
    };
    drop(sql);
    report::tell(&plan, world, &history, &tally, &findings, &numbers)
}

/// Servers are killed one after the other, each replaced at once, and all else is well: how long do their orders wait?
async fn owners_only(plan: &Plan, world: &mut World, tally: &Tally, findings: &Findings, mut chance: Chance) {
    if plan.owners_only.is_zero() {
        return;
    }
    // The orders of the last one are not to meet the storm.
    let until = Instant::now() + plan.owners_only.saturating_sub(CALM_BEFORE_THE_STORM);
    // Healthy, and slow enough that a server has an order in hand when it is killed.
    world.cashier.set_slow(Duration::from_millis(300));
    let database = world.database();
    while Instant::now() < until && !findings.any.is_cancelled() {
        pass(chance.millis(1_500, 4_000)).await;
        let number = usize::try_from(chance.below(world.seats.len() as u64)).unwrap_or(0);
        let seat = &mut world.seats[number];
        let Some(pid) = seat.kill().await else { continue };
        Tally::count(&tally.kills);
        if let Ok(sql) = books::connect(&database).await
            && let Ok(kill) = books::owned_by(&sql, pid).await
        {
            tally.owner_killed(kill);
        }
        seat.start(None);
        seat.is_ready_within(Duration::from_secs(10)).await;
    }
    findings.any.run_until_cancelled(pass(CALM_BEFORE_THE_STORM)).await;
    world.cashier.set_faults(Vec::new());
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
    let (cashier, lines) = (world.cashier.clone(), world.lines.clone());
    let storm = Storm {
        plan,
        cashier: &cashier,
        tally,
        findings,
        end: &end,
    };
    let over_servers = async {
        let seats = (10..).zip(&mut world.seats);
        let each = seats.map(|(number, seat)| storm.over_server(seat, chance.of(number)));
        if plan.has("servers") {
            join_all(each).await;
        }
    };
    let over_postgres = async {
        if plan.has("postgres") {
            storm.over_postgres(&mut world.postgres, chance.of(20)).await;
        }
    };
    let over_redis = async {
        if plan.has("redis") {
            storm.over_redis(&mut world.redis, chance.of(30)).await;
        }
    };
    let over_provider = async {
        if plan.has("provider") {
            storm.over_provider(chance.of(40)).await;
        }
    };
    let over_lines = async {
        if plan.has("lines") {
            join_all((50..53).map(|number| storm.over_lines(&lines, chance.of(number)))).await;
        }
    };
    let watch = async {
        watch(plan, tally, findings, &cashier, &database).await;
        // The load ends first: what comes to rest afterwards is what the storm left.
        closing.cancel();
        end.cancel();
    };
    tokio::join!(
        over_servers,
        over_postgres,
        over_redis,
        over_provider,
        over_lines,
        watch
    );
    cashier.set_faults(Vec::new());
}

/// Tells how it goes, and checks what must never be, until the storm is to end.
async fn watch(plan: &Plan, tally: &Tally, findings: &Findings, cashier: &world::Cashier, database: &str) {
    let began = Instant::now();
    let (mut told, mut checked) = (began, began);
    while began.elapsed() < plan.storm && so_far(&tally.kills) < plan.kills_enough && !findings.any.is_cancelled() {
        pass(LOOK_EVERY).await;
        if checked.elapsed() >= CHECK_EVERY {
            checked = Instant::now();
            judge::check_ledger(&cashier.ledger().unwrap_or_default(), findings);
            if let Ok(Ok(sql)) = tokio::time::timeout(CHECK_EVERY, books::connect(database)).await {
                // A database that is down at the moment says nothing; the next look does.
                let _ = tokio::time::timeout(CHECK_EVERY, judge::check_books(&sql, findings)).await;
            }
        }
        if told.elapsed() >= TELL_EVERY {
            told = Instant::now();
            println!(
                "torture: t={:.0}s kills={} points={}/{} orders={} {}",
                began.elapsed().as_secs_f64(),
                so_far(&tally.kills),
                tally.points_hit(),
                NAMES.len(),
                so_far(&tally.orders),
                books_now(database).await,
            );
        }
    }
}

/// What the database says, if it says anything at the moment.
async fn books_now(database: &str) -> String {
    let look = async {
        let sql = books::connect(database).await.ok()?;
        books::counts(&sql).await.ok()
    };
    match tokio::time::timeout(Duration::from_secs(2), look).await {
        Ok(Some(counts)) => format!(
            "open={} flagged={} ambiguous={}",
            counts.open, counts.flagged, counts.ambiguous
        ),
        _ => "open=? flagged=? ambiguous=?".to_owned(),
    }
}
