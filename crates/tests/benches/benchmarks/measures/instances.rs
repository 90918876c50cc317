//! Orders a second by two and by three servers on the same stores, beside one alone: what is gained where the stores have room.

use std::time::Duration;

use futures_util::future::join_all;
use testkit::benchmark::rounds::{Turn, take_turns};
use testkit::benchmark::{Benchmark, Better};

use crate::baselines::script::insert_drivers;
use crate::load::{Load, ORDERERS};
use crate::scale::Scale;
use crate::server::Server;
use crate::world::World;

const DATABASE: &str = "instances";
const REDIS: u16 = 8;

/// The benchmarks.
pub async fn measure(world: &World, scale: &Scale) -> Vec<Benchmark> {
    let one = servers(world, 1).await;
    let drivers = world.session(DATABASE).await;
    drivers.batch_execute(&insert_drivers()).await.unwrap();
    drop(drivers);
    let alone = loads(&one);
    orders(&alone, scale.stored_turn).await;
    let mut benchmarks = Vec::new();
    for (name, count) in [("orders_by_two", 2), ("orders_by_three", 3)] {
        let several = servers(world, count).await;
        let load = loads(&several);
        orders(&load, scale.stored_turn).await;
        world.settle([DATABASE]).await;
        let ours = async || orders(&load, scale.stored_turn).await;
        let beside = async || orders(&alone, scale.stored_turn).await;
        let pairs = take_turns(scale.rounds, ours, beside).await;
        benchmarks.push(Benchmark::against(
            name,
            "orders/s",
            Better::More,
            "one server on the same stores",
            pairs,
        ));
        stop(several).await;
    }
    stop(one).await;
    benchmarks
}

async fn servers(world: &World, count: usize) -> Vec<Server> {
    let mut servers = Vec::new();
    for _ in 0..count {
        servers.push(Server::start(world, DATABASE, REDIS).await);
    }
    servers
}

async fn stop(servers: Vec<Server>) {
    for server in servers {
        server.stop_after_trouble().await;
    }
}

/// A load on each: the calls of one share a connection as long as it has room, and a balancer of connections would give all of them to one
/// server.
fn loads(servers: &[Server]) -> Vec<Load> {
    servers.iter().map(|server| Load::on(server.endpoint())).collect()
}

/// Orders a second by all together, with as many callers as one alone has.
async fn orders(loads: &[Load], time: Duration) -> f64 {
    let callers = ORDERERS / loads.len();
    // A box each: they are large.
    let turns = loads.iter().map(|load| Box::pin(load.orders_of(callers, time)));
    join_all(turns).await.into_iter().map(Turn::per_second).sum()
}
