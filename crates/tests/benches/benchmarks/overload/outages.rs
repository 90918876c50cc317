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
/// Where it looks slower after those, so many more decide, and all of them count: the machine is slower now and then.
const ROUNDS_IN_DOUBT: usize = 6;
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
                let beside = (*bystander, order.as_str());
                let mut seen = Seen::default();
                Box::pin(seen.rounds(ROUNDS, (&server, &load), (proxy, mode), beside, times)).await;
                if !seen.is_as_before() {
                    Box::pin(seen.rounds(ROUNDS_IN_DOUBT, (&server, &load), (proxy, mode), beside, times)).await;
                }
                let what = match bystander {
                    Bystander::Fixes => "fixes",
                    Bystander::Reads => "reads",
                };
                let (before, in_trouble) = seen.p99s_ms();
                findings.number(
                    &format!("{what}_while_{name}_{trouble}"),
                    format_args!("{:.2}", in_trouble / before),
                );
                findings.expect(seen.failed == 0, || {
                    format!("{} {what} failed while the {name} was {trouble}", seen.failed)
                });
                findings.expect(seen.is_as_before(), || {
                    let rounds = seen.before.len();
                    format!("p99 of {what} was {before:.1} ms, and {in_trouble:.1} ms while the {name} was {trouble}: {rounds} rounds")
                });
            }
        }
    }
    server.stop_after_trouble().await;
}

/// What goes on beside, without and with the trouble.
#[derive(Default)]
struct Seen {
    /// The p99 of each round in milliseconds.
    before: Vec<f64>,
    in_trouble: Vec<f64>,
    failed: u64,
}

impl Seen {
    /// Without and with the trouble, in the middle of the rounds.
    fn p99s_ms(&self) -> (f64, f64) {
        (median(&self.before), median(&self.in_trouble))
    }

    fn is_as_before(&self) -> bool {
        let (before, in_trouble) = self.p99s_ms();
        in_trouble <= SLOWER_MAX * before || in_trouble - before <= NO_MATTER_MS
    }

    /// Adds so many rounds.
    async fn rounds(
        &mut self,
        count: usize,
        (server, load): (&Server, &Load),
        (proxy, mode): (&FaultProxy, Mode),
        (bystander, order): (Bystander, &str),
        times: Times,
    ) {
        for _ in 0..count {
            for (mode, p99s) in [(Mode::Pass, &mut self.before), (mode, &mut self.in_trouble)] {
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
                self.failed += not_answered;
            }
            proxy.set_mode(Mode::Pass);
            server.until_ready().await;
        }
    }
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
