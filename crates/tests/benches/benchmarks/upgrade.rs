//! An older program and this one on one database of five million orders, while customers order, follow and read them: the schema is brought from the one to
//! the other beside the older servers, and those are replaced one after the other. No call fails, and the audit finds all as it should be.
//!
//! `make upgrade` builds the older program first (`scripts/upgrade.sh`), or takes that of `UPGRADE_FROM=path/to/the/older/waybill`.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use testkit::benchmark::Benchmark;
use testkit::process::{launch, program, read};
use tokio::time::sleep;
use tokio_postgres::Client;
use tokio_util::sync::CancellationToken;

use crate::fleet::{Fleet, UNREADY};
use crate::load::{one_order, operation};
use crate::server::{self, Server};
use crate::stored;
use crate::world::World;

/// What is named so outlives the benchmarks before.
const DATABASE: &str = "stored_upgrade";
const REDIS: u16 = 7;
const SERVERS: usize = 2;
const ORDERS_PER_SECOND: f64 = 50.0;
/// How long each state of the fleet lasts: the older servers alone, both, the newer alone.
const EACH: Duration = Duration::from_secs(10);
/// What both versions know, and the load needs.
const SETTINGS: [(&str, &str); 5] = [
    ("auth.anonymous", "true"),
    ("limits.fixes_per_driver.burst", "1000000"),
    ("limits.reads_per_caller.per_second", "1000"),
    ("redis.command_timeout", "2s"),
    UNREADY,
];

/// The older program.
fn older() -> PathBuf {
    let path = std::env::var_os("UPGRADE_FROM")
        .expect("UPGRADE_FROM is the path of the older program: scripts/upgrade.sh sets it");
    PathBuf::from(path)
}

/// Fills a database with so many orders, by the older program's schema. What is in it, for people.
pub async fn fill(world: &World, count: u64) -> String {
    stored::assert_room(world, count);
    server::migrate(world, &older(), DATABASE).await;
    let server = start(world, &older()).await;
    let channel = server.channel();
    one_order::bring_drivers(&channel).await;
    let order = one_order::serve(&channel, one_order::request()).await;
    server.stop_after_trouble().await;
    stored::multiply(world, DATABASE, &order.order_id, count).await;
    format!("{DATABASE}: {}", stored::contents(&world.session(DATABASE).await).await)
}

/// Upgrades it; nothing for the table of benchmarks.
pub async fn measure(world: &World) -> Vec<Benchmark> {
    let mut servers = Vec::new();
    for _ in 0..SERVERS {
        servers.push(start(world, &older()).await);
    }
    let mut fleet = Fleet::of(servers).await;
    let load = fleet.load();
    let sql = world.session(DATABASE).await;
    let before = version(&sql).await;
    let over = CancellationToken::new();
    let upgrade = async {
        sleep(EACH).await;
        let began_at = Instant::now();
        server::migrate(world, &program(), DATABASE).await;
        let took = began_at.elapsed();
        sleep(EACH).await;
        for place in 0..fleet.count() {
            fleet.replace(place, start(world, &program())).await;
            sleep(EACH).await;
        }
        over.cancel();
        took
    };
    let (report, took) = tokio::join!(load.orders_until(ORDERS_PER_SECOND, &over), upgrade);
    let orders = operation(&report, Some("order"));
    let not_served = orders.totals.failed + orders.totals.refused;
    fleet.stop().await;
    let audit = world.path("audit.log");
    let stores = [
        ("postgres.url", world.create_database(DATABASE).await),
        ("redis.url", world.redis_url(REDIS)),
        ("payments.url", world.payments_url()),
        ("payments.secret_key", "sk_test_sandbox".to_owned()),
    ];
    let audited = launch(&program(), &["audit"], stores, &audit).wait().await.unwrap();
    println!(
        "upgrade: from={before} to={} migrated_s={:.1} orders={} p99_ms={:.1} longest_ms={:.1} violations={}",
        version(&sql).await,
        took.as_secs_f64(),
        orders.totals.started,
        orders.latency.p99_ms,
        orders.latency.max_ms,
        not_served + u64::from(!audited.success()),
    );
    assert_eq!(not_served, 0, "calls failed meanwhile: {:?}", orders.errors);
    assert!(audited.success(), "{}", read(&audit));
    Vec::new()
}

async fn start(world: &World, program: &Path) -> Server {
    Server::start_of(world, program, (DATABASE, REDIS), &SETTINGS).await
}

async fn version(sql: &Client) -> i32 {
    let query = "select max(version) from schema_migrations";
    sql.query_one(query, &[]).await.unwrap().get(0)
}
