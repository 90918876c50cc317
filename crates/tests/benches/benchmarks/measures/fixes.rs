//! Fixes a second, from gRPC to the row in the history; and what the server itself spends on one.
//!
//! Counted is a fix that was acknowledged, and the clock stops when all of them are in Postgres: a server that
//! acknowledges faster than its history writes gains nothing. The baseline gives Redis the same scripts and Postgres
//! the same rows, both at the same time, from a bare client; see [`crate::baselines::redis_fixes`].

use std::cell::RefCell;

use super::cost_each;
use crate::baselines::least_fixes::LeastFixes;
use crate::baselines::redis_fixes::RedisFixes;
use crate::history::History;
use crate::load::{Load, STREAMS, STREAMS_OF_SINGLES, WINDOW};
use crate::scale::Scale;
use crate::server::Server;
use crate::world::World;
use testkit::benchmark::rounds::take_turns;
use testkit::benchmark::{Benchmark, Better};

const DRIVERS: u32 = 10_000;
/// Messages of one fix that are on their way on each stream.
const AHEAD: usize = 64;
/// The baselines' databases.
const BASELINE: &str = "fixes_baseline";
const LEAST: &str = "fixes_least";

/// The benchmarks of fixes; the first is the rate.
pub async fn measure(world: &World, scale: &Scale) -> Vec<Benchmark> {
    let server = Server::start(world, "fixes", 1).await;
    let load = Load::on(server.endpoint());
    let baseline = RedisFixes::new(world, BASELINE, 2, DRIVERS as usize).await;
    let least = LeastFixes::new(world, LEAST, 3, DRIVERS as usize).await;
    let costs = RefCell::new((Vec::new(), Vec::new()));
    load.fixes(DRIVERS, WINDOW, scale.stored_turn).await;
    baseline.run(scale.stored_turn).await;
    least.run(scale.stored_turn).await;
    let history = History::of(world, &server).await;
    load.verdicts();
    world.settle([server.database.as_str(), BASELINE, LEAST]).await;

    let ours = async || {
        let before = server.cost();
        let acknowledged = load.fixes(DRIVERS, WINDOW, scale.stored_turn).await;
        let turn = history.finish(acknowledged).await;
        let (processor, memory) = cost_each(before, server.cost(), turn.count);
        costs.borrow_mut().0.push(processor);
        costs.borrow_mut().1.push(memory);
        turn.per_second()
    };
    let pairs = take_turns(scale.rounds, ours, async || {
        baseline.run(scale.stored_turn).await.per_second()
    })
    .await;
    let batches = async || {
        let acknowledged = load.fixes(DRIVERS, WINDOW, scale.stored_turn).await;
        history.finish(acknowledged).await.per_second()
    };
    let beside_least = take_turns(scale.rounds, batches, async || {
        least.run(scale.stored_turn).await.per_second()
    })
    .await;
    let singles = take_turns(
        scale.rounds,
        async || {
            let acknowledged = load.singles_ahead(DRIVERS, AHEAD, scale.stored_turn).await;
            history.finish(acknowledged).await.per_second()
        },
        batches,
    )
    .await;
    server.stop().await;
    let verdicts = load.verdicts();
    let (processor, memory) = costs.into_inner();
    let how = format!("{DRIVERS} drivers, {STREAMS} streams, {WINDOW} fixes on their way on each");
    vec![
        Benchmark::against(
            "fixes_per_second",
            "fixes/s",
            Better::More,
            "the same scripts on Redis and the same rows into Postgres, by a bare client",
            pairs,
        )
        .with(how)
        .judged(verdicts.clone()),
        Benchmark::against(
            "fixes_beside_least_work",
            "fixes/s",
            Better::More,
            "bare HSET and XADD, pipelined, and binary COPY of the same rows",
            beside_least,
        )
        .judged(verdicts.clone())
        .to_reach(0.7),
        Benchmark::against(
            "single_fixes_per_second",
            "fixes/s",
            Better::More,
            "the same in batches on a few streams",
            singles,
        )
        .with(format!(
            "{STREAMS_OF_SINGLES} streams, each fix a message, {AHEAD} on their way on each"
        ))
        .judged(verdicts)
        // 40,000 where batches make 56,000.
        .to_reach(0.71),
        Benchmark::alone("fix_server_cpu", "µs/fix", Better::Less, processor),
        Benchmark::alone("fix_server_memory", "bytes/fix", Better::Less, memory).with("growth of the resident memory"),
    ]
}
