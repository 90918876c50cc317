//! Orders a second, and what their statements alone would come to.
//!
//! One private world (`waybill dev`, its own Postgres and Redis, the payment simulator without latency). One order is
//! placed and completed while Postgres logs every statement: these, with their parameters, become a script of pgbench.
//! Then gRPC callers and pgbench take turns on the same database with as many connections, and the medians are compared.
//! The gap is all that is not SQL: two calls of gRPC, the search in Redis, the HTTP call to the provider, and the
//! processors that these share with Postgres.
//!
//! `make bench-orders`; `BENCH_ROUNDS`, `BENCH_SECS` (of a turn), `BENCH_CALLERS`.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::indexing_slicing,
    reason = "a measurement, not a product: whatever is not as it should be ends it"
)]

mod load;
mod recording;
mod script;
mod world;

use std::str::FromStr;
use std::time::Duration;

use self::load::Load;
use self::recording::Recording;
use self::script::Script;
use self::world::World;

/// Connections of each side: what a server's pool has by default.
const CONNECTIONS: usize = 16;
/// What we mean to reach, of the rate of the statements alone.
const TARGET: f64 = 0.4;

fn setting<T: FromStr>(name: &str, default: T) -> T {
    match std::env::var(name) {
        Ok(given) => given.parse().unwrap_or_else(|_| panic!("{name} is not a number")),
        Err(_) => default,
    }
}

#[tokio::main]
async fn main() {
    let rounds: usize = setting("BENCH_ROUNDS", 9);
    let turn = Duration::from_secs(setting("BENCH_SECS", 4));
    let callers: usize = setting("BENCH_CALLERS", 48);

    let world = World::start().await;
    let load = Load::prepare(&world, callers).await;
    let recording = Recording::of_one_order(&world, &load).await;
    let script = Script::of(&recording);
    script.write(&world);
    println!("{}", recording.summary());

    load.run(turn / 2).await;
    script.run(&world, turn / 2).await;
    let (mut grpc, mut pgbench) = (Vec::new(), Vec::new());
    let mut commits = 0;
    let mut orders = 0;
    println!("\n{:>8} {:>16} {:>16}", "", "gRPC orders/s", "pgbench orders/s");
    for round in 1..=rounds {
        let before = world.commits().await;
        let placed = load.run(turn).await;
        commits += world.commits().await - before;
        orders += placed;
        grpc.push(per_second(placed, turn));
        pgbench.push(script.run(&world, turn).await);
        println!("{round:>8} {:>16.0} {:>16.0}", grpc[round - 1], pgbench[round - 1]);
    }
    Script::assert_served(&world).await;
    let (grpc, pgbench) = (median(grpc), median(pgbench));
    let ratio = grpc / pgbench;
    println!("{:>8} {grpc:>16.0} {pgbench:>16.0}", "median");
    println!(
        "\nratio {ratio:.2} (target {TARGET}: {})\n{:.2} commits an order in Postgres's own count, with those of the \
         workers behind; {CONNECTIONS} connections each, {callers} callers\n\
         gRPC: two calls an order, rate limits, Redis's search, the provider's HTTP, caller and provider on this \
         machine\npgbench: the statements alone over TCP, prepared; writes without an answer pipelined as the program's are; no reads \
         that all orders share",
        if ratio >= TARGET { "reached" } else { "MISSED" },
        per_order(commits, orders),
    );
    world.stop().await;
}

#[allow(clippy::cast_precision_loss, reason = "thousands of orders")]
fn per_order(count: i64, orders: u64) -> f64 {
    count as f64 / orders as f64
}

#[allow(clippy::cast_precision_loss, reason = "thousands of orders")]
fn per_second(orders: u64, time: Duration) -> f64 {
    orders as f64 / time.as_secs_f64()
}

fn median(mut rates: Vec<f64>) -> f64 {
    rates.sort_by(f64::total_cmp);
    rates[rates.len() / 2]
}
