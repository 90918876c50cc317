//! `kill -9` of the server and of both stores, again and again, while drivers stream and customers order. At the end
//! every promise that was made is kept.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use testkit::chance::{Chance, pass, seed};
use testkit::{Builder, Rig, ServerProcess};
use tokio_util::sync::CancellationToken;
use waybill_sandbox::port;
use waybill_server::app::Sources;
use waybill_simulator::Target;
use waybill_simulator::city::CityOptions;
use waybill_simulator::customers::{CustomersOptions, RetryPolicy};
use waybill_simulator::fleet::FleetOptions;
use waybill_simulator::run::{RunReport, run_city};
use waybill_simulator::stats::Stats;

/// How often a server is killed.
const KILLS: u32 = 20;
/// How long a server serves at most before it is killed.
const LIFE_MAX_MS: u64 = 900;

/// A time to live.
async fn life(chance: &mut Chance) {
    pass(Duration::from_millis(chance.below(LIFE_MAX_MS))).await;
}

/// Stores of its own on a real disk's terms, and times that let an order be taken over in seconds.
fn world(port: u16) -> Builder {
    Rig::builder()
        .private_stores()
        .no_server()
        .set("grpc.addr", &format!("127.0.0.1:{port}"))
        .with(
            "orders.lease=4s orders.assignment_window=5s payments.attempt_timeout=1s payments.total_timeout=2s \
             postgres.statement_timeout=1s postgres.lock_timeout=500ms \
             limits.fixes_per_driver.per_second=1000 limits.fixes_per_driver.burst=5000",
        )
}

/// A city that lives until it is cancelled, and its clients, who do not give up.
async fn city(port: u16, seed: u64, end: &CancellationToken) -> RunReport {
    let retry = RetryPolicy {
        call_deadline: Duration::from_secs(10),
        wait_max: Duration::from_millis(500),
        ..RetryPolicy::default()
    };
    let options = CityOptions {
        drivers: 60,
        orders_per_second: 6.0,
        fix_every: Duration::from_millis(500),
        duration: Duration::from_mins(10),
        seed,
        fleet: FleetOptions {
            retry,
            ..FleetOptions::default()
        },
        customers: CustomersOptions {
            retry,
            ..CustomersOptions::default()
        },
        ..CityOptions::default()
    };
    let target = Target::new(&format!("127.0.0.1:{port}"), None).unwrap();
    run_city(options, &target, Arc::new(Stats::default()), end)
        .await
        .expect("the city runs")
}

/// Every order came to an end, and everything that a client was answered is so.
async fn assert_kept(rig: &Rig, report: &RunReport) {
    assert!(report.stream_failures.is_empty(), "{:?}", report.stream_failures);
    assert_eq!((report.unsettled_fixes, report.counts.orders.gave_up), (0, 0));
    let answers = report.answers.len();
    assert!(answers > 20, "{answers} orders are too few to show anything");
    assert!(report.counts.orders.succeeded > 0);
    rig.until_all_settled().await;

    let answered = report.answers.iter();
    let answered = answered.map(|answer| (answer.order_id.parse().unwrap(), answer.status.to_owned()));
    let acknowledged = report.acknowledged.iter();
    let acknowledged =
        acknowledged.map(|(driver, micros)| (driver.to_owned(), Timestamp::from_microsecond(micros).unwrap()));
    let sources = Sources {
        provider: true,
        stream: true,
        answered_orders: Some(answered.collect()),
        acknowledged_fixes: Some(acknowledged.collect()),
    };
    rig.until_written().await;
    let audit = rig.assert_clean_by(sources).await;
    assert_eq!(audit.checks(), audit.findings.len(), "every check is made");
}

#[tokio::test]
async fn a_server_that_is_killed_twenty_times_keeps_every_promise() {
    let (seed, port) = (seed("KILL_SEED"), port::free());
    let mut chance = Chance::new(seed);
    let rig = world(port).start().await;
    let mut server = ServerProcess::start(&rig, &[]).await;
    let end = CancellationToken::new();
    let killing = async {
        for _ in 0..KILLS {
            life(&mut chance).await;
            server.kill().await;
            server = ServerProcess::start(&rig, &[]).await;
        }
        end.cancel();
        server
    };
    let (report, server) = tokio::join!(city(port, seed, &end), killing);

    assert!(report.counts.locations.broken_streams > 0, "the kills were felt");
    assert_kept(&rig, &report).await;
    assert_eq!(server.stop().await.code(), Some(0));
}

#[tokio::test]
async fn stores_that_are_killed_keep_every_promise() {
    let (seed, port) = (seed("KILL_SEED"), port::free());
    let mut chance = Chance::new(seed);
    let mut rig = world(port).start().await;
    let server = ServerProcess::start(&rig, &[]).await;
    let end = CancellationToken::new();
    let killing = async {
        for round in 0..6 {
            life(&mut chance).await;
            if round % 2 == 0 {
                rig.stores().redis().kill().await.unwrap();
                life(&mut chance).await;
                rig.stores().redis().restart().await.unwrap();
            } else {
                rig.stores().postgres().kill().await.unwrap();
                life(&mut chance).await;
                rig.stores().postgres().restart().await.unwrap();
            }
            // Long enough for the breakers to close, so that the next death is felt.
            life(&mut chance).await;
            life(&mut chance).await;
        }
        end.cancel();
    };
    let (report, ()) = tokio::join!(city(port, seed, &end), killing);

    assert!(report.counts.orders.retries > 0, "the deaths were felt");
    assert_kept(&rig, &report).await;
    assert_eq!(server.stop().await.code(), Some(0));
}
