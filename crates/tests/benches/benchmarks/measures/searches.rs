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

/// A city with a server, and searches in it.
struct City {
    name: &'static str,
    drivers: usize,
    server: Server,
    load: Load,
    baseline: RedisSearches,
}

/// A benchmark for each size, and one of them both.
pub async fn measure(world: &World, scale: &Scale) -> Vec<Benchmark> {
    let mut cities = Vec::new();
    for (name, database, redis, drivers) in FLEETS {
        cities.push(City::start(world, scale, name, (database, redis), drivers).await);
    }
    let mut benchmarks = Vec::new();
    for city in &cities {
        benchmarks.push(city.beside_redis(scale).await);
    }
    let [small, large] = cities.as_slice() else {
        unreachable!("two fleets");
    };
    let pairs = take_turns(
        scale.read_rounds,
        async || large.searches(scale).await,
        async || small.searches(scale).await,
    )
    .await;
    let is = "the same among a tenth of the drivers";
    benchmarks.push(
        Benchmark::against("searches_in_a_crowd", "searches/s", Better::More, is, pairs)
            .with(format!("{} drivers, and {}", large.drivers, small.drivers))
            .judged(large.load.verdicts())
            .judged(small.load.verdicts())
            .to_reach(0.8),
    );
    for city in cities {
        city::assert_found(city.server.channel(), city.drivers).await;
        city.server.stop().await;
    }
    benchmarks
}

impl City {
    async fn start(
        world: &World,
        scale: &Scale,
        name: &'static str,
        (database, redis): (&'static str, u16),
        drivers: usize,
    ) -> City {
        let server = Server::start_with(world, database, redis, &FRESH).await;
        city::populate(server.channel(), drivers).await;
        city::make_known_to_postgres(&world.session(&server.database).await, drivers).await;
        let load = Load::on(server.endpoint());
        // First, so that what is recorded is what searches do once others were there.
        load.searches(SEARCHERS, scale.search_turn).await;
        let baseline = RedisSearches::recorded(world, &server, &load).await;
        city::assert_found(server.channel(), drivers).await;
        baseline.run(SEARCHERS, scale.search_turn).await;
        world.settle([server.database.as_str()]).await;
        load.verdicts();
        City {
            name,
            drivers,
            server,
            load,
            baseline,
        }
    }

    async fn searches(&self, scale: &Scale) -> f64 {
        self.load.searches(SEARCHERS, scale.search_turn).await.per_second()
    }

    async fn beside_redis(&self, scale: &Scale) -> Benchmark {
        let baselines = async || self.baseline.run(SEARCHERS, scale.search_turn).await.per_second();
        let pairs = take_turns(scale.read_rounds, async || self.searches(scale).await, baselines).await;
        let how = format!(
            "{} drivers, {WANTED} wanted within {RADIUS_M:.0} m, {SEARCHERS} callers; a search: {}",
            self.drivers,
            self.baseline.summary()
        );
        let is = "the same commands on Redis, by a bare client";
        Benchmark::against(self.name, "searches/s", Better::More, is, pairs)
            .with(how)
            .judged(self.load.verdicts())
            .to_reach(0.8)
    }
}
