//! Searches for the nearest drivers a second, in a city of 20 km by 20 km with a few drivers in it and with many.
//!
//! The floor is the same commands on the same Redis, with as many searches at a time, by a bare client. Waybill also asks
//! Postgres which of those found are free: that is in the figure and not in the floor.

use super::FRESH;
use crate::figure::{Better, Figure};
use crate::floors::redis_searches::RedisSearches;
use crate::load::{Load, RADIUS_M, SEARCHERS, WANTED, city};
use crate::rounds::take_turns;
use crate::scale::Scale;
use crate::server::Server;
use crate::world::World;

/// Names, databases and sizes.
const FLEETS: [(&str, &str, u16, usize); 2] = [
    ("searches_per_second_10k_drivers", "searches_10k", 4, 10_000),
    ("searches_per_second_100k_drivers", "searches_100k", 5, 100_000),
];

/// A figure for each size.
pub async fn measure(world: &World, scale: &Scale) -> Vec<Figure> {
    let mut figures = Vec::new();
    for (name, database, redis, drivers) in FLEETS {
        let server = Server::start_with(world, database, redis, &FRESH).await;
        city::populate(server.channel(), drivers).await;
        city::make_known_to_postgres(&world.session(&server.database).await, drivers).await;
        let load = Load::on(server.endpoint());
        let floor = RedisSearches::recorded(world, &server, &load).await;
        city::assert_found(server.channel(), drivers).await;
        load.searches(SEARCHERS, scale.search_turn).await;
        floor.run(SEARCHERS, scale.search_turn).await;
        world.settle([server.database.as_str()]).await;
        load.verdicts();

        let ours = async || load.searches(SEARCHERS, scale.search_turn).await.per_second();
        let floors = async || floor.run(SEARCHERS, scale.search_turn).await.per_second();
        let pairs = take_turns(scale.read_rounds, ours, floors).await;
        city::assert_found(server.channel(), drivers).await;
        server.stop().await;
        let how = format!(
            "{drivers} drivers, {WANTED} wanted within {RADIUS_M:.0} m, {SEARCHERS} callers; a search: {}",
            floor.summary()
        );
        let is = "the same commands on Redis, by a bare client";
        figures.push(
            Figure::beside(name, "searches/s", Better::More, is, pairs)
                .with(how)
                .judged(load.verdicts()),
        );
    }
    figures
}
