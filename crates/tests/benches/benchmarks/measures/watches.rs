//! What it costs that drivers are watched: fixes a second beside a thousand who watch, a hundred of whom do not read, and beside none;
//! and what a watcher costs the server where ten times as many drivers are out of its sight.
//!
//! The watchers are on this machine, so its processors pay for their half, too.

use std::time::{Duration, Instant};

use jiff::Timestamp;
use redis::AsyncCommands as _;
use testkit::wire;
use waybill_proto::location::v1::location_service_client::LocationServiceClient;
use waybill_proto::location::v1::{LatLng, ReportLocationsRequest};

use super::{FRESH, cost_each};
use crate::history::History;
use crate::load::watchers::Watchers;
use crate::load::{Load, STREAMS, WINDOW, city, operation};
use crate::scale::Scale;
use crate::server::Server;
use crate::world::World;
use testkit::benchmark::rounds::{Turn, take_turns};
use testkit::benchmark::{Benchmark, Better};

const DRIVERS: u32 = 10_000;
/// Ten times as many as are seen.
const OUT_OF_SIGHT: usize = 100_000;
const WATCHERS: usize = 1_000;
const STALLED: usize = 100;
/// Fixes a second while it is looked at what a watcher costs.
const STEADY: f64 = 2_000.0;

/// The benchmarks of watches.
pub async fn measure(world: &World, scale: &Scale) -> Vec<Benchmark> {
    vec![fixes_beside(world, scale).await, cost_of_one(world, scale).await]
}

async fn fixes_beside(world: &World, scale: &Scale) -> Benchmark {
    let watched = Side::start(world, "watched", 5, 0).await;
    let alone = Side::start(world, "unwatched", 6, 0).await;
    let places = watched.places(world).await;
    let mut watchers = Watchers::open(&watched.server, &places, STALLED).await;
    for side in [&watched, &alone] {
        side.fixes_per_second(scale.stored_turn).await;
        side.load.verdicts();
    }
    world
        .settle([&watched, &alone].map(|side| side.server.database.as_str()))
        .await;
    watchers.seen();
    let pairs = take_turns(
        scale.rounds,
        async || watched.fixes_per_second(scale.stored_turn).await,
        async || alone.fixes_per_second(scale.stored_turn).await,
    )
    .await;
    let seen = watchers.seen();
    // Into the cell of every one who slept.
    for (number, place) in places.iter().take(STALLED).enumerate() {
        let fix = wire::fix(&newcomer(number), place.latitude(), place.longitude(), Timestamp::now());
        let report = ReportLocationsRequest { fixes: vec![fix] };
        let reported = LocationServiceClient::new(watched.server.channel())
            .report_locations(report)
            .await;
        reported.expect("the fix is taken");
    }
    drop(places);
    watchers.wake(newcomer).await;
    let verdicts = watched.load.verdicts();
    drop(watchers);
    watched.server.stop().await;
    alone.server.stop().await;
    let is = "the same fixes while no one watches";
    Benchmark::against("watched_fixes_per_second", "fixes/s", Better::More, is, pairs)
        .with(format!(
            "{DRIVERS} drivers, {STREAMS} streams; {WATCHERS} watchers of a cell each, {STALLED} of whom do not read, saw {seen} moves"
        ))
        .judged(verdicts)
        .to_reach(0.9)
}

async fn cost_of_one(world: &World, scale: &Scale) -> Benchmark {
    let large = Side::start(world, "watched_large", 5, OUT_OF_SIGHT).await;
    let small = Side::start(world, "watched_small", 6, 0).await;
    let mut watchers = Vec::new();
    for side in [&large, &small] {
        let places = side.places(world).await;
        watchers.push(Watchers::open(&side.server, &places, 0).await);
        side.cost_of_watcher(scale.paced_turn).await;
    }
    let pairs = take_turns(
        scale.rounds,
        async || large.cost_of_watcher(scale.paced_turn).await,
        async || small.cost_of_watcher(scale.paced_turn).await,
    )
    .await;
    drop(watchers);
    large.server.stop().await;
    small.server.stop().await;
    let is = "the same where no other driver is";
    Benchmark::against("watcher_server_cpu", "µs/s/watcher", Better::Less, is, pairs)
        .with(format!(
            "{WATCHERS} watchers of a cell each, {DRIVERS} drivers of which {STEADY} a second move, {OUT_OF_SIGHT} out of sight; all that \
             the server uses"
        ))
        .to_reach(1.0 / 1.1)
}

/// Whom one of those sees who read again.
fn newcomer(number: usize) -> String {
    format!("newcomer-{number}")
}

/// A server, and its fixes.
struct Side {
    server: Server,
    load: Load,
    history: History,
}

impl Side {
    /// With the drivers of the load, and so many elsewhere.
    async fn start(world: &World, database: &'static str, redis: u16, elsewhere: usize) -> Side {
        let server = Server::start_with(world, database, redis, &FRESH).await;
        let load = Load::on(server.endpoint());
        load.fixes_of_all(DRIVERS).await;
        city::populate(server.channel(), elsewhere).await;
        Side {
            load,
            history: History::of(world, &server).await,
            server,
        }
    }

    /// Where some drivers of the load are.
    async fn places(&self, world: &World) -> Vec<LatLng> {
        let client = redis::Client::open(world.redis_url(self.server.redis)).unwrap();
        let mut redis = client.get_multiplexed_async_connection().await.unwrap();
        let names: Vec<String> = redis.zrange("drivers:geo", 0, -1).await.unwrap();
        let is_of_load = |name: &&String| !name.starts_with(city::NAMES);
        let names: Vec<&String> = names.iter().filter(is_of_load).collect();
        let some: Vec<&String> = names
            .iter()
            .copied()
            .step_by((names.len() / WATCHERS).max(1))
            .take(WATCHERS)
            .collect();
        assert_eq!(some.len(), WATCHERS);
        let places: Vec<(f64, f64)> = redis.geo_pos("drivers:geo", some).await.unwrap();
        let place = |(longitude, latitude)| LatLng {
            latitude: Some(latitude),
            longitude: Some(longitude),
        };
        places.into_iter().map(place).collect()
    }

    async fn fixes_per_second(&self, time: Duration) -> f64 {
        let acknowledged = self.load.fixes(DRIVERS, WINDOW, time).await;
        self.history.finish(acknowledged).await.per_second()
    }

    /// What the server uses in a second, in processor microseconds a watcher.
    async fn cost_of_watcher(&self, time: Duration) -> f64 {
        let (before, began_at) = (self.server.cost(), Instant::now());
        let report = self.load.singles_at(DRIVERS, STEADY, time).await;
        let (used, _) = cost_each(before, self.server.cost(), WATCHERS as u64);
        let cost = used / began_at.elapsed().as_secs_f64();
        let all = operation(&report, None).totals.answered;
        let turn = Turn {
            count: all,
            elapsed: time,
            all,
        };
        // What is still on its way to the history is no part of the next turn.
        self.history.finish(turn).await;
        cost
    }
}
