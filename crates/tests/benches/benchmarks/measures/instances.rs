//! Orders a second by two and by three servers on the same stores, beside one alone: what is gained where the stores have room.

use testkit::benchmark::rounds::take_turns;
use testkit::benchmark::{Benchmark, Better};

use crate::baselines::script::insert_drivers;
use crate::fleet::Fleet;
use crate::scale::Scale;
use crate::server::Server;
use crate::world::World;

const DATABASE: &str = "instances";
const REDIS: u16 = 8;

/// The benchmarks.
pub async fn measure(world: &World, scale: &Scale) -> Vec<Benchmark> {
    let one = fleet(world, 1).await;
    let drivers = world.session(DATABASE).await;
    drivers.batch_execute(&insert_drivers()).await.unwrap();
    drop(drivers);
    let alone = one.load();
    alone.orders(scale.stored_turn).await;
    let mut benchmarks = Vec::new();
    for (name, count) in [("orders_by_two", 2), ("orders_by_three", 3)] {
        let fleet = fleet(world, count).await;
        let load = fleet.load();
        load.orders(scale.stored_turn).await;
        world.settle([DATABASE]).await;
        let ours = async || load.orders(scale.stored_turn).await.per_second();
        let beside = async || alone.orders(scale.stored_turn).await.per_second();
        let pairs = take_turns(scale.rounds, ours, beside).await;
        benchmarks.push(Benchmark::against(
            name,
            "orders/s",
            Better::More,
            "one server on the same stores",
            pairs,
        ));
        fleet.stop().await;
    }
    one.stop().await;
    benchmarks
}

async fn fleet(world: &World, count: usize) -> Fleet {
    let mut servers = Vec::new();
    for _ in 0..count {
        servers.push(Server::start(world, DATABASE, REDIS).await);
    }
    Fleet::of(servers).await
}
