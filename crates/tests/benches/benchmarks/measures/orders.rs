//! Orders a second, created until they succeeded and completed; and what the server itself spends on one.
//!
//! The baseline is pgbench with the statements that Postgres logged for one such order: the gap is all that is not SQL,
//! the search in Redis and the call to the payment provider among it.

use std::cell::RefCell;

use super::cost_each;
use crate::baselines::pgbench::Pgbench;
use crate::baselines::recording::Recording;
use crate::baselines::script::CONNECTIONS;
use crate::load::{Load, ORDERERS};
use crate::scale::Scale;
use crate::server::Server;
use crate::world::World;
use testkit::benchmark::rounds::take_turns;
use testkit::benchmark::{Benchmark, Better};

/// The benchmarks of orders; the first is the rate.
pub async fn measure(world: &World, scale: &Scale) -> Vec<Benchmark> {
    let server = Server::start(world, "orders", 3).await;
    let recording = Recording::of_one_order(world, &server).await;
    let load = Load::on(server.endpoint());
    let baseline = Pgbench::of(world, &server, &recording).await;
    let costs = RefCell::new((Vec::new(), Vec::new()));
    load.orders(scale.stored_turn).await;
    baseline.run(scale.stored_turn).await;
    load.verdicts();
    world.settle([server.database.as_str()]).await;

    let ours = async || {
        let before = server.cost();
        let turn = load.orders(scale.stored_turn).await;
        let (processor, memory) = cost_each(before, server.cost(), turn.all);
        costs.borrow_mut().0.push(processor);
        costs.borrow_mut().1.push(memory);
        turn.per_second()
    };
    let pairs = take_turns(scale.rounds, ours, async || baseline.run(scale.stored_turn).await).await;
    baseline.assert_served().await;
    server.stop().await;
    let (processor, memory) = costs.into_inner();
    let how = format!(
        "{ORDERERS} callers, {CONNECTIONS} connections to Postgres on both sides; {}",
        recording.summary()
    );
    vec![
        Benchmark::against(
            "orders_per_second",
            "orders/s",
            Better::More,
            "pgbench with the statements of one order, prepared",
            pairs,
        )
        .with(how)
        .judged(load.verdicts()),
        Benchmark::alone("order_server_cpu", "µs/order", Better::Less, processor),
        Benchmark::alone("order_server_memory", "bytes/order", Better::Less, memory)
            .with("growth of the resident memory"),
    ]
}
