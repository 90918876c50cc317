//! Whether it stays as it is when there is more: orders a second beside those that are stored already, fixes a second
//! of fleets of every size.
//!
//! The baseline is the smallest of them, which ran in the same round on the same machine: a ratio of 1 is flat. Each
//! size has a server, a database and a Redis database of its own; the rounds begin with another size each time.

use super::FRESH;
use crate::history::History;
use crate::load::{Load, ORDERERS};
use crate::scale::Scale;
use crate::server::Server;
use crate::stored::{DATABASES, REDIS};
use crate::world::World;
use testkit::benchmark::Verdicts;
use testkit::benchmark::rounds::Pairs;
use testkit::benchmark::{Benchmark, Better};

const ORDERS: [&str; 3] = ["orders_stored_none", "orders_stored_some", "orders_stored_many"];
/// Names, databases and sizes; with their databases in Redis from this on.
const FLEETS: [(&str, &str, u32); 3] = [
    ("fixes_1k_drivers", "fleet_1k", 1_000),
    ("fixes_100k_drivers", "fleet_100k", 100_000),
    ("fixes_1m_drivers", "fleet_1m", 1_000_000),
];
const FLEETS_REDIS: u16 = 13;
/// So many of the smallest fleet are on a stream: no fleet has a driver twice in a message, which the server would
/// spare itself half of the work for.
const WINDOW: usize = 125;

/// Orders a second, of each size.
pub async fn of_orders(world: &World, scale: &Scale) -> Vec<Benchmark> {
    let mut sizes = Vec::new();
    for (redis, database) in (REDIS..).zip(DATABASES) {
        let server = Server::start(world, database, redis).await;
        let load = Load::on(server.endpoint());
        load.orders(scale.stored_turn).await;
        load.verdicts();
        sizes.push((server, load));
    }
    world
        .settle(sizes.iter().map(|(server, _)| server.database.as_str()))
        .await;
    let rates = rounds(scale.rounds, async |size: usize| {
        sizes[size].1.orders(scale.stored_turn).await.per_second()
    })
    .await;
    let mut verdicts = Vec::new();
    for (server, load) in sizes {
        server.stop().await;
        verdicts.push(load.verdicts());
    }
    let how = scale
        .stored_orders
        .map(|count| format!("{count} orders stored before; orders of new users by {ORDERERS} callers"));
    benchmarks(ORDERS, "orders/s", rates, how, verdicts)
}

/// Fixes a second, of each size.
pub async fn of_fixes(world: &World, scale: &Scale) -> Vec<Benchmark> {
    let mut sizes = Vec::new();
    for (redis, (_, database, drivers)) in (FLEETS_REDIS..).zip(FLEETS) {
        let server = Server::start_with(world, database, redis, &FRESH).await;
        let load = Load::on(server.endpoint());
        load.fixes_of_all(drivers).await;
        load.fixes(drivers, WINDOW, scale.stored_turn).await;
        load.verdicts();
        let history = History::of(world, &server).await;
        sizes.push((server, load, history));
    }
    world
        .settle(sizes.iter().map(|(server, ..)| server.database.as_str()))
        .await;
    let rates = rounds(scale.fleet_rounds, async |size: usize| {
        let (_, load, history) = &sizes[size];
        let turn = load.fixes(FLEETS[size].2, WINDOW, scale.fleet_turn).await;
        history.finish(turn).await.per_second()
    })
    .await;
    let mut verdicts = Vec::new();
    for (server, load, _) in sizes {
        server.stop().await;
        verdicts.push(load.verdicts());
    }
    let how = FLEETS.map(|(_, _, drivers)| {
        format!("{drivers} drivers, all of them on the map; messages of {WINDOW} fixes at most")
    });
    benchmarks(FLEETS.map(|(name, ..)| name), "fixes/s", rates, how, verdicts)
}

/// Each round lets every size have its turn.
async fn rounds(rounds: usize, mut turn: impl AsyncFnMut(usize) -> f64) -> [Vec<f64>; 3] {
    let mut rates = [const { Vec::new() }; 3];
    for round in 0..rounds {
        for place in 0..rates.len() {
            let size = (round + place) % rates.len();
            rates[size].push(turn(size).await);
        }
    }
    rates
}

fn benchmarks(
    names: [&'static str; 3],
    unit: &'static str,
    rates: [Vec<f64>; 3],
    how: [String; 3],
    verdicts: Vec<Verdicts>,
) -> Vec<Benchmark> {
    let baseline = rates[0].clone();
    let sizes = names.into_iter().zip(rates).zip(how.into_iter().zip(verdicts));
    sizes
        .map(|((name, ours), (how, verdicts))| {
            let baseline = baseline.clone();
            Benchmark::against(
                name,
                unit,
                Better::More,
                "the smallest of these",
                Pairs { ours, baseline },
            )
            .with(how)
            .judged(verdicts)
        })
        .collect()
}
