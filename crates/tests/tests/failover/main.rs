//! The failover rig: a Postgres pair under Patroni, a Redis under Sentinel and a Redis Cluster, each with Waybill and a load on it. Whoever
//! leads is killed, frozen and cut off, round after round; it is measured how long it takes until orders and fixes are served again, and at
//! the end what there is is compared with what was promised. Then one, two and three servers take orders on such stores, while none fails.
//! Last comes one line with the numbers; the exit status is 1 if a promise is broken.
//!
//! With all tests it is a slice of one round of one store, by chance; `make failover` is the whole. See [`plan`] for the ways to run it.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::indexing_slicing,
    reason = "the exception for tests in clippy.toml covers the test functions, not a test without the usual harness"
)]

mod cluster;
mod engine;
mod haproxy;
mod judge;
mod network;
mod patroni;
mod plan;
mod probe;
mod programs;
mod redis_server;
mod report;
mod rounds;
mod sentinel;
mod throughput;
mod world;

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use testkit::chance::Chance;
use testkit::load::findings::Findings;
use testkit::stores;

use crate::cluster::Cluster;
use crate::engine::{Engine, Watch};
use crate::network::Network;
use crate::patroni::Patroni;
use crate::plan::Plan;
use crate::programs::Programs;
use crate::report::{CameTo, Report};
use crate::sentinel::Sentinel;
use crate::world::World;

/// Those that fail over.
const STORES: [&str; 3] = ["postgres", "sentinel", "cluster"];

fn main() -> ExitCode {
    if !is_asked_for() {
        println!("test result: ok. 0 passed; 0 failed; 0 ignored; 0 measured; 1 filtered out");
        return ExitCode::SUCCESS;
    }
    let Some(programs) = Programs::find() else {
        println!("test result: ok. 0 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out");
        return ExitCode::SUCCESS;
    };
    if let Some(why) = network::missing() {
        // Also where all programs are: no package gives that right.
        eprintln!("LEFT OUT: failover: {why}");
        println!("test result: ok. 0 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out");
        return ExitCode::SUCCESS;
    }
    // Done once, by whoever is first: what is set already is the same.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    runtime
        .expect("a runtime")
        .block_on(failover(&Plan::of_environment(), &programs))
}

/// `cargo test NAME` runs every test binary: this one only if it is named.
fn is_asked_for() -> bool {
    let mut names = std::env::args().skip(1).filter(|arg| !arg.starts_with('-')).peekable();
    if std::env::args().any(|arg| arg == "--list") {
        return false;
    }
    names.peek().is_none() || names.any(|name| "failover".contains(&name))
}

async fn failover(plan: &Plan, programs: &Programs) -> ExitCode {
    println!("FAILOVER_SEED={}", plan.seed);
    let folder = stores::folder("waybill-failover-");
    println!("failover: in {}", folder.path().display());
    let network = Network::start();
    let findings = Arc::new(Findings::default());
    let mut report = Report::default();
    for (number, name) in STORES.into_iter().enumerate() {
        if !plan.has(number, name) || findings.any.is_cancelled() {
            continue;
        }
        let own = folder.path().join(name);
        std::fs::create_dir_all(&own).expect("a folder");
        // A box each: they are large.
        let came_to = match name {
            "postgres" => {
                Box::pin(rounds_of(
                    Patroni::start(&network, programs, &own, Watch::Eager).await,
                    plan,
                    number,
                    &own,
                    &findings,
                ))
                .await
            }
            "sentinel" => {
                Box::pin(rounds_of(
                    Sentinel::start(&network, programs, &own, Watch::Eager).await,
                    plan,
                    number,
                    &own,
                    &findings,
                ))
                .await
            }
            _ => {
                Box::pin(rounds_of(
                    Cluster::start(&network, programs, &own).await,
                    plan,
                    number,
                    &own,
                    &findings,
                ))
                .await
            }
        };
        report.add(came_to);
    }
    if plan.has(STORES.len(), throughput::NAME) && !findings.any.is_cancelled() {
        let own = folder.path().join(throughput::NAME);
        std::fs::create_dir_all(&own).expect("a folder");
        report.throughput = Some(Box::pin(throughput::measure(&network, programs, &own, &findings)).await);
    }
    report.print(plan, folder, &findings)
}

/// The rounds of one store, from its first server to the audit.
async fn rounds_of<E: Engine>(
    mut engine: E,
    plan: &Plan,
    number: usize,
    folder: &Path,
    findings: &Arc<Findings>,
) -> CameTo {
    let mut world = World::start(engine.flags(), plan.servers, folder, findings.clone()).await;
    world.begin(&Chance::new(plan.seed).of(number as u64));
    let measured = rounds::run(&mut engine, &plan.faults(), &mut world.probe(), findings).await;
    let judged = judge::judge(E::NAME, engine.keeps_fixes(), &mut world).await;
    println!("failover: {}: calls: {}", E::NAME, world.history.outcomes());
    world.history.flush();
    for slot in &mut world.slots {
        slot.stop().await;
    }
    CameTo {
        name: E::NAME,
        measured,
        orders: world.orders(),
        judged,
        keeps_fixes: engine.keeps_fixes(),
    }
}
