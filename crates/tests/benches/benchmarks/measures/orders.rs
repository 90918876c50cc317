//! Orders a second, created until they succeeded and completed; and what the server and its stores spend on one.
//!
//! The baselines are pgbench with the statements that Postgres logged for one such order, and with the least SQL that leaves the same
//! rows. Both commit each order by itself; neither searches, charges or keeps a promise.

use std::cell::RefCell;

use super::{cost_each, micros_each};
use crate::baselines::recording::Recording;
use crate::baselines::script::{self, insert_drivers};
use crate::load::{Load, ORDERERS};
use crate::scale::Scale;
use crate::server::Server;
use crate::stores_cost::StoresCost;
use crate::world::World;
use testkit::benchmark::pgbench::{CONNECTIONS, Pgbench};
use testkit::benchmark::rounds::take_turns;
use testkit::benchmark::{Benchmark, Better, least_sql};

/// The benchmarks of orders; the first is the rate.
pub async fn measure(world: &World, scale: &Scale) -> Vec<Benchmark> {
    let server = Server::start(world, "orders", 3).await;
    let recording = Recording::of_one_order(world, &server).await;
    let load = Load::on(server.endpoint());
    let sql = world.session(&server.database).await;
    for drivers in [insert_drivers(), least_sql::insert_drivers(CONNECTIONS)] {
        sql.batch_execute(&drivers).await.unwrap();
    }
    let least = least_sql::script(&sql, recording.order(), CONNECTIONS).await;
    drop(sql);
    let url = world.create_database(&server.database).await;
    let baseline = Pgbench::new(script::of(&recording), world.folder(), url.clone());
    let least = Pgbench::new(least, world.folder(), url);
    let costs = RefCell::new((Vec::new(), Vec::new()));
    let (by_postgres, by_redis) = (RefCell::new(Vec::new()), RefCell::new(Vec::new()));
    load.orders(scale.stored_turn).await;
    baseline.run(scale.stored_turn).await;
    least.run(scale.stored_turn).await;
    load.verdicts();
    world.settle([server.database.as_str()]).await;

    let ours = async || {
        let (stores, before) = (StoresCost::of(world, &server.database).await, server.cost());
        let turn = load.orders(scale.stored_turn).await;
        let spent = StoresCost::of(world, &server.database).await.since(&stores);
        by_postgres.borrow_mut().push(micros_each(spent.postgres, turn.all));
        by_redis.borrow_mut().push(micros_each(spent.redis, turn.all));
        let (processor, memory) = cost_each(before, server.cost(), turn.all);
        costs.borrow_mut().0.push(processor);
        costs.borrow_mut().1.push(memory);
        turn.per_second()
    };
    let pairs = take_turns(scale.rounds, ours, async || baseline.run(scale.stored_turn).await).await;
    let verdicts = load.verdicts();
    let ours = async || load.orders(scale.stored_turn).await.per_second();
    let beside_least = take_turns(scale.rounds, ours, async || least.run(scale.stored_turn).await).await;
    baseline.assert_served().await;
    least.assert_served().await;
    least_sql::assert_same_rows(&world.session(&server.database).await, recording.order()).await;
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
        .judged(verdicts),
        Benchmark::against(
            "orders_beside_least_sql",
            "orders/s",
            Better::More,
            "pgbench with the least SQL that leaves the same rows, a statement a commit",
            beside_least,
        )
        .judged(load.verdicts())
        .to_reach(0.7),
        Benchmark::alone("order_server_cpu", "µs/order", Better::Less, processor),
        Benchmark::alone("order_postgres_cpu", "µs/order", Better::Less, by_postgres.into_inner()),
        Benchmark::alone("order_redis_cpu", "µs/order", Better::Less, by_redis.into_inner()),
        Benchmark::alone("order_server_memory", "bytes/order", Better::Less, memory)
            .with("growth of the resident memory"),
    ]
}
