//! Fixes a second, from gRPC to the row in the history; and what the server itself spends on one.
//!
//! Counted is a fix that was acknowledged, and the clock stops when all of them are in Postgres: a server that
//! acknowledges faster than its history writes gains nothing. The floor gives Redis the same scripts and Postgres the
//! same rows, both at the same time, from a bare client; see [`crate::floors::redis_fixes`].

use std::cell::RefCell;

use super::cost_each;
use crate::figure::{Better, Figure};
use crate::floors::redis_fixes::RedisFixes;
use crate::history::History;
use crate::load::{Load, STREAMS, WINDOW};
use crate::rounds::take_turns;
use crate::scale::Scale;
use crate::server::Server;
use crate::world::World;

const DRIVERS: u32 = 10_000;
/// The floor's database.
const FLOOR: &str = "fixes_floor";

/// The figures of fixes; the first is the rate.
pub async fn measure(world: &World, scale: &Scale) -> Vec<Figure> {
    let server = Server::start(world, "fixes", 1).await;
    let load = Load::on(server.endpoint());
    let floor = RedisFixes::new(world, FLOOR, 2, DRIVERS as usize).await;
    let costs = RefCell::new((Vec::new(), Vec::new()));
    load.fixes(DRIVERS, WINDOW, scale.stored_turn).await;
    floor.run(scale.stored_turn).await;
    let history = History::of(world, &server).await;
    load.verdicts();
    world.settle([server.database.as_str(), FLOOR]).await;

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
        floor.run(scale.stored_turn).await.per_second()
    })
    .await;
    server.stop().await;
    let (processor, memory) = costs.into_inner();
    let how = format!("{DRIVERS} drivers, {STREAMS} streams, {WINDOW} fixes on their way on each");
    vec![
        Figure::beside(
            "fixes_per_second",
            "fixes/s",
            Better::More,
            "the same scripts on Redis and the same rows into Postgres, by a bare client",
            pairs,
        )
        .with(how)
        .judged(load.verdicts()),
        Figure::alone("fix_server_cpu", "µs/fix", Better::Less, processor),
        Figure::alone("fix_server_memory", "bytes/fix", Better::Less, memory).with("growth of the resident memory"),
    ]
}
