//! Orders a second by one, two and three servers on a synchronous Postgres pair and a Redis with replicas, and what the pair itself does
//! through the same HAProxy: the least SQL of an order, on as many connections. Nothing is to fail over here, and no number is judged.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use testkit::benchmark::arithmetic::median;
use testkit::benchmark::least_sql;
use testkit::benchmark::pgbench::{CONNECTIONS, Pgbench};
use testkit::benchmark::settings::SETTINGS;
use testkit::load::findings::{Findings, lock};
use testkit::process::{Flags, config};
use testkit::sql::{connect, one};
use tokio_postgres::Client;
use tokio_util::sync::CancellationToken;
use waybill_server::app::migrate;
use waybill_simulator::load::plan::{OrdersLoad, Pace, Plan, Workload};
use waybill_simulator::load::report::LoadReport;
use waybill_simulator::load::{self, Live};
use waybill_simulator::{RunError, Target};

use crate::engine::{Engine as _, Watch};
use crate::judge::judge;
use crate::network::Network;
use crate::patroni::Patroni;
use crate::programs::Programs;
use crate::sentinel::Sentinel;
use crate::world::{READY_WITHIN, World};

/// Its name, as that of a store.
pub const NAME: &str = "throughput";
/// How many servers there are, turn by turn: to the most and back, so that what the machine loses or gains evenly is in each number alike.
const TURNS: [usize; 6] = [1, 2, 3, 3, 2, 1];
const SERVERS_MAX: usize = 3;
const TURN: Duration = Duration::from_secs(10);
const WARM_UP: Duration = Duration::from_secs(2);
/// Orders at a time, over all servers, so that one is asked for as much as three: more than keep one busy.
const CALLERS: usize = 96;
/// Also over all servers: ten places of eight for each order under way, so that none waits for a driver.
const DRIVERS: u32 = 8 * 10 * 96;

/// What it came to.
pub struct Throughput(Vec<Turn>);

/// A turn, in orders a second.
struct Turn {
    servers: usize,
    ours: f64,
    /// Of the pair alone.
    limit: f64,
}

impl Throughput {
    /// One server; the gain by two and by three; one server beside the pair's own limit; and the gain of that by as many connections.
    pub fn line(&self) -> String {
        let of = |servers: usize, rate: fn(&Turn) -> f64| {
            let turns = self.0.iter().filter(|turn| turn.servers == servers);
            // Of two turns that is their mean.
            median(&turns.map(rate).collect::<Vec<_>>())
        };
        let gain = |servers: usize, rate: fn(&Turn) -> f64| of(servers, rate) / of(1, rate);
        let ours: fn(&Turn) -> f64 = |turn| turn.ours;
        let limit: fn(&Turn) -> f64 = |turn| turn.limit;
        format!(
            "server_per_s={:.0} servers_2={:.2} servers_3={:.2} of_stores_limit={:.2} stores_limit_2={:.2} stores_limit_3={:.2}",
            of(1, ours),
            gain(2, ours),
            gain(3, ours),
            of(1, ours) / of(1, limit),
            gain(2, limit),
            gain(3, limit),
        )
    }
}

/// Starts all of it, measures, and judges what is left.
pub async fn measure(network: &Network, programs: &Programs, folder: &Path, findings: &Arc<Findings>) -> Throughput {
    if cfg!(debug_assertions) {
        println!("failover: {NAME}: this build is not optimised, and its numbers are not those of one that is");
    }
    let patroni = Patroni::start(network, programs, &folder.join("pair"), Watch::Patient).await;
    let sentinel = Sentinel::start(network, programs, &folder.join("replicas"), Watch::Patient).await;
    let mut flags: Flags = SETTINGS
        .iter()
        .map(|(key, value)| (*key, (*value).to_owned()))
        .collect();
    flags.extend([
        // The load shows a token; and a server logs where it listens.
        ("auth.anonymous", "false".to_owned()),
        ("log.filter", "warn,waybill_server::app=info".to_owned()),
        ("postgres.pool_max", CONNECTIONS.to_string()),
    ]);
    flags.extend(patroni.flags());
    flags.extend(sentinel.flags());
    let mut world = World::start(flags, SERVERS_MAX, folder, findings.clone()).await;
    let sql = connect(&world.flags["postgres.url"]).await.expect("Postgres answers");
    // It would cost each order a few statements that are not Waybill's.
    let unwatched = sql.batch_execute("drop trigger torture_watch_fence on order_saga_steps");
    unwatched.await.expect("the watch was there");
    orders(&world, SERVERS_MAX).await;
    let (least, beside) = least(&sql, &world, folder, patroni.url("least")).await;
    let limit = async |servers: usize, time: Duration| least.run_over(servers * CONNECTIONS, time).await;
    limit(SERVERS_MAX, WARM_UP).await;

    let mut turns = Vec::new();
    for (number, servers) in TURNS.into_iter().enumerate() {
        if findings.any.is_cancelled() {
            break;
        }
        run(&mut world, servers).await;
        // As autovacuum and the checkpointer would do in the middle of a turn.
        for session in [&sql, &beside] {
            session.batch_execute("analyze").await.expect("Postgres answers");
        }
        sql.batch_execute("checkpoint").await.expect("Postgres answers");
        let both_limit = async || {
            limit(servers, WARM_UP).await;
            limit(servers, TURN).await
        };
        // Each is the first as often as the other.
        let (ours, limit) = if number < TURNS.len() / 2 {
            let ours = orders(&world, servers).await;
            (ours, both_limit().await)
        } else {
            let limit = both_limit().await;
            (orders(&world, servers).await, limit)
        };
        println!(
            "failover: {NAME}: servers={servers} orders_per_s={ours:.0} stores_limit_per_s={limit:.0} ({} connections)",
            servers * CONNECTIONS
        );
        turns.push(Turn { servers, ours, limit });
    }
    least.assert_served().await;
    judge(NAME, sentinel.keeps_fixes(), &mut world).await;
    for slot in &mut world.slots {
        slot.stop().await;
    }
    Throughput(turns)
}

/// So many servers run, and no more.
async fn run(world: &mut World, servers: usize) {
    for (number, slot) in world.slots.iter_mut().enumerate() {
        if number < servers {
            assert!(slot.is_ready_within(READY_WITHIN).await, "{}", slot.log());
        } else {
            slot.stop().await;
        }
    }
}

/// Orders a second that were accepted, settled and completed by so many servers, each with callers and connections of its own: the calls of
/// one generator share a connection as long as it has room, and a balancer of connections would give all of them to one server.
async fn orders(world: &World, servers: usize) -> f64 {
    let loads = world.slots[..servers].iter().map(|slot| {
        let address = lock(&slot.backend).expect("a server that is ready listens");
        let token = world.tokens.of_service();
        let target = Target::new(&address.to_string(), Some(&token)).expect("an address and a token");
        // A box each: they are large.
        Box::pin(load_on(target, servers))
    });
    let (mut rate, mut repeated) = (0.0, 0);
    let fails = |what: &str| world.findings.add(NAME, &format!("{servers} servers: {what}"));
    for report in join_all(loads).await {
        let report = match report {
            Ok(report) => report,
            Err(error) => {
                fails(&error.to_string());
                continue;
            }
        };
        for operation in &report.operations {
            repeated += operation.totals.repeated;
            if !operation.errors.is_empty() {
                fails(&format!("{}: {:?}", operation.name, operation.errors));
            }
        }
        if let Some(why) = &report.generator.limited_by_generator {
            println!("failover: {NAME}: servers={servers}: the generator was the limit: {why}");
        }
        // The first is orders as a whole, the others are their calls.
        rate += report.operations[0].answered_per_second;
    }
    if repeated > 0 {
        println!("failover: {NAME}: servers={servers}: {repeated} calls were refused at first, and made again");
    }
    rate
}

/// One server's share of the load. What is refused for a moment is asked for again, as by a client that obeys the server.
async fn load_on(target: Target, servers: usize) -> Result<LoadReport, RunError> {
    let callers = CALLERS / servers;
    let orders = Workload::Orders(OrdersLoad {
        drivers: DRIVERS / u32::try_from(servers).expect("three at most"),
    });
    let plan = Plan {
        warm_up: WARM_UP,
        duration: TURN,
        retries: true,
        ..Plan::new(orders, Pace::Closed { callers })
    };
    load::run(plan, &target, &Live::default(), &CancellationToken::new()).await
}

/// The least SQL of an order like one that was served, in a database of its own, for the ledger to stay that of the servers; and a session
/// there.
async fn least(sql: &Client, world: &World, folder: &Path, url: String) -> (Pgbench, Client) {
    let connections = SERVERS_MAX * CONNECTIONS;
    sql.batch_execute("create database least").await.expect("a database");
    let mut flags = world.flags.clone();
    flags.insert("postgres.url", url.clone());
    migrate(&config(&flags)).await.expect("the migrations run");
    let session = connect(&url).await.expect("Postgres answers");
    let drivers = session.batch_execute(&least_sql::insert_drivers(connections)).await;
    drivers.expect("the drivers are there");
    let served = "select order_id::text from order_assignments where release_reason = 'completed' limit 1";
    let order: String = one(sql, served, &[]).await.expect("an order was completed");
    let script = least_sql::script(sql, &order, connections).await;
    (Pgbench::new(script, folder, url), session)
}
