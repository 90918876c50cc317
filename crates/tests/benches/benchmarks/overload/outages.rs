//! The provider, Postgres and Redis in trouble, each slow, stopped and black-holed: what does not need them does not notice.

use std::time::{Duration, Instant};

use testkit::benchmark::arithmetic::{median, millis, quantile};
use testkit::fault_line::through;
use testkit::wire::a_ride;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval};
use tonic::transport::Channel;
use waybill_proto::order::v1::GetOrderRequest;
use waybill_proto::order::v1::order_service_client::OrderServiceClient;
use waybill_sandbox::proxy::{FaultProxy, Mode};

use super::{Findings, Times};
use crate::load::{Load, operation};
use crate::server::Server;
use crate::world::World;

const ROUNDS: usize = 3;
const ORDERS_PER_SECOND: f64 = 20.0;
const FIXES_PER_SECOND: f64 = 1_000.0;
const DRIVERS: u32 = 2_000;
const READS_PER_SECOND: u32 = 100;
/// How much slower what does not need it may be; and what is no matter on a machine that others share.
const SLOWER_MAX: f64 = 1.2;
const NO_MATTER_MS: f64 = 3.0;
const TROUBLES: [(&str, Mode); 3] = [
    (
        "slow",
        Mode::Latency {
            requests: Duration::ZERO,
            replies: Duration::from_secs(1),
        },
    ),
    ("stopped", Mode::Refuse),
    ("black_holed", Mode::Blackhole),
];

/// What goes on beside.
#[derive(Clone, Copy)]
enum Bystander {
    /// Fixes, until they are acknowledged.
    Fixes,
    /// Reads of an order.
    Reads,
}

pub(super) async fn measure(world: &World, times: Times, findings: &mut Findings) {
    let (postgres_url, postgres) = through(&world.create_database("outages").await);
    let (redis_url, redis) = through(&world.redis_url(4));
    let (payments_url, payments) = through(&world.payments_url());
    let behind = [
        ("postgres.url", postgres_url.as_str()),
        ("redis.url", redis_url.as_str()),
        ("payments.url", payments_url.as_str()),
    ];
    let server = Server::start_with(world, "outages", 4, &behind).await;
    let load = Load::on(server.endpoint());
    load.fixes_of_all(DRIVERS).await;
    let order = OrderServiceClient::new(server.channel()).create_order(a_ride()).await;
    let order = order.unwrap().into_inner().order.unwrap().order_id;

    for (name, proxy, bystanders) in [
        ("provider", &payments, &[Bystander::Fixes, Bystander::Reads][..]),
        ("postgres", &postgres, &[Bystander::Fixes]),
        ("redis", &redis, &[Bystander::Reads]),
    ] {
        for (trouble, mode) in TROUBLES {
            for bystander in bystanders {
                let rounds = Box::pin(rounds(&server, &load, (proxy, mode), (*bystander, &order), times)).await;
                let what = match bystander {
                    Bystander::Fixes => "fixes",
                    Bystander::Reads => "reads",
                };
                let (before, in_trouble, failed) = rounds;
                let ratio = in_trouble / before;
                findings.number(&format!("{what}_while_{name}_{trouble}"), format_args!("{ratio:.2}"));
                findings.expect(failed == 0, || {
                    format!("{failed} {what} failed while the {name} was {trouble}")
                });
                let is_as_before = ratio <= SLOWER_MAX || in_trouble - before <= NO_MATTER_MS;
                findings.expect(is_as_before, || {
                    format!("p99 of {what} was {before:.1} ms, and {in_trouble:.1} ms while the {name} was {trouble}")
                });
            }
        }
    }
    server.stop_after_trouble().await;
}

/// The p99 of what goes on beside, without and with the trouble, in milliseconds, in the middle of some rounds; and what failed.
async fn rounds(
    server: &Server,
    load: &Load,
    (proxy, mode): (&FaultProxy, Mode),
    (bystander, order): (Bystander, &str),
    times: Times,
) -> (f64, f64, u64) {
    let (mut before, mut in_trouble, mut failed) = (Vec::new(), Vec::new(), 0);
    for _ in 0..ROUNDS {
        for (mode, p99s) in [(Mode::Pass, &mut before), (mode, &mut in_trouble)] {
            proxy.set_mode(mode);
            let beside = async {
                match bystander {
                    Bystander::Fixes => {
                        let fixes = load.fixes_whatever(DRIVERS, FIXES_PER_SECOND, times.look).await;
                        let fixes = operation(&fixes, None);
                        (fixes.latency.p99_ms, fixes.totals.failed + fixes.totals.refused)
                    }
                    Bystander::Reads => reads(server.channel(), order, times.look).await,
                }
            };
            let orders = async {
                // Their drivers are put onto the map first, which takes Redis.
                if let Bystander::Fixes = bystander {
                    load.orders_whatever(ORDERS_PER_SECOND, times.look, false).await;
                }
            };
            let ((p99_ms, not_answered), ()) = tokio::join!(beside, orders);
            p99s.push(p99_ms);
            if not_answered > 0 {
                println!("    {not_answered} failed with {mode:?}");
            }
            failed += not_answered;
        }
        proxy.set_mode(Mode::Pass);
        server.until_ready().await;
    }
    (median(&before), median(&in_trouble), failed)
}

/// Reads the order at a rate: the p99 in milliseconds, from when each was due, and how many failed.
async fn reads(channel: Channel, order: &str, time: Duration) -> (f64, u64) {
    let mut ticks = interval(Duration::from_secs(1) / READS_PER_SECOND);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let (began_at, mut calls) = (Instant::now(), JoinSet::new());
    while began_at.elapsed() < time {
        let due = ticks.tick().await;
        let mut orders = OrderServiceClient::new(channel.clone());
        let request = GetOrderRequest {
            order_id: order.to_owned(),
        };
        calls.spawn(async move {
            let answer = orders.get_order(request).await;
            answer.map(|_| millis(due.elapsed())).map_err(|status| (due, status))
        });
    }
    let answers = calls.join_all().await;
    let refusals = answers.iter().filter_map(|answer| answer.as_ref().err());
    let failed = refusals
        .inspect(|(due, status)| {
            let since = due.duration_since(began_at.into());
            println!("    a read of {since:.1?} after the first failed: {status:?}");
        })
        .count() as u64;
    let took: Vec<f64> = answers.into_iter().filter_map(Result::ok).collect();
    (quantile(&took, 0.99), failed)
}
