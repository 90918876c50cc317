//! Searches for the nearest drivers a second, in a city of 20 km by 20 km with a few drivers in it and with many.
//!
//! The baseline is the same commands on the same Redis, with as many searches at a time, by a bare client. Waybill also
//! asks Postgres which of those found are free: that is in the benchmark and not in the baseline.

use super::FRESH;
use crate::baselines::redis_searches::RedisSearches;
use crate::load::{Load, RADIUS_M, SEARCHERS, WANTED, city};
use crate::scale::Scale;
use crate::server::Server;
use crate::world::World;
use testkit::benchmark::rounds::take_turns;
use testkit::benchmark::{Benchmark, Better};

/// Names, databases and sizes.
const FLEETS: [(&str, &str, u16, usize); 2] = [
    ("searches_per_second_10k_drivers", "searches_10k", 4, 10_000),
    ("searches_per_second_100k_drivers", "searches_100k", 5, 100_000),
];

/// A benchmark for each size.
pub async fn measure(world: &World, scale: &Scale) -> Vec<Benchmark> {
    let mut benchmarks = Vec::new();
    for (name, database, redis, drivers) in FLEETS {
        let server = Server::start_with(world, database, redis, &FRESH).await;
        city::populate(server.channel(), drivers).await;
        city::make_known_to_postgres(&world.session(&server.database).await, drivers).await;
        let load = Load::on(server.endpoint());
        let baseline = RedisSearches::recorded(world, &server, &load).await;
        city::assert_found(server.channel(), drivers).await;
        load.searches(SEARCHERS, scale.search_turn).await;
        baseline.run(SEARCHERS, scale.search_turn).await;
        world.settle([server.database.as_str()]).await;
        load.verdicts();

        let ours = async || load.searches(SEARCHERS, scale.search_turn).await.per_second();
        let baselines = async || baseline.run(SEARCHERS, scale.search_turn).await.per_second();
        let pairs = take_turns(scale.read_rounds, ours, baselines).await;
        city::assert_found(server.channel(), drivers).await;
        server.stop().await;
        let how = format!(
            "{drivers} drivers, {WANTED} wanted within {RADIUS_M:.0} m, {SEARCHERS} callers; a search: {}",
            baseline.summary()
        );
        let is = "the same commands on Redis, by a bare client";
        benchmarks.push(
            Benchmark::against(name, "searches/s", Better::More, is, pairs)
                .with(how)
                .judged(load.verdicts()),
        );
    }
    benchmarks
}
