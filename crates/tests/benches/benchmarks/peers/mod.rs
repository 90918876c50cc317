//! Waybill beside other servers, if there are any: `PEERS` names the descriptions of their adapters. All are called by the same generator and in
//! turns, each on its own stores.
//!
//! What a server promises for an order is its own: orders are counted whose answers are as the description expects, and no more is compared.

mod adapter;
mod calls;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::future::join_all;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};
use tonic::transport::Endpoint;

use self::adapter::{Adapter, Call};
use self::calls::{Method, descriptors};
use crate::scale::Scale;
use crate::server::Server;
use crate::world::World;
use testkit::benchmark::arithmetic::{number, quantile};
use testkit::benchmark::rounds::Pairs;
use testkit::benchmark::{Benchmark, Better};

/// Orders, or calls with fixes, at a time.
const CALLERS: usize = 16;
/// Orders a second where latency is looked at.
const LOW_RATE: u32 = 25;

/// A server and its methods.
struct Subject {
    adapter: Adapter,
    order: Method,
    complete: Option<Method>,
    fixes: Option<Method>,
    /// Orders so far.
    orders: AtomicUsize,
}

/// What is compared: its name, its unit, which is better, and where a round has it.
type Kind = (&'static str, &'static str, Better, fn(&Found) -> f64);

/// What one round found of one server.
struct Found {
    orders_per_second: f64,
    p50_ms: f64,
    fixes_per_second: f64,
}

/// The benchmarks of Waybill, and of each peer beside it.
pub async fn measure(world: &World, scale: &Scale) -> Vec<Benchmark> {
    let server = Server::start(world, "peers", 4).await;
    let mut adapters = vec![Adapter::waybill(format!("http://{}", server.address()))];
    let peers = std::env::var("PEERS").unwrap_or_default();
    adapters.extend(
        peers
            .split(',')
            .filter(|path| !path.is_empty())
            .map(|path| Adapter::read(Path::new(path))),
    );
    let subjects: Vec<Arc<Subject>> = adapters
        .into_iter()
        .map(|adapter| Arc::new(Subject::of(adapter)))
        .collect();
    world.settle([server.database.as_str()]).await;

    let mut found: Vec<Vec<Found>> = subjects.iter().map(|_| Vec::new()).collect();
    // The first round is not counted.
    for round in 0..=scale.rounds {
        for place in 0..subjects.len() {
            let at = (round + place) % subjects.len();
            let one = subjects[at].round(scale.stored_turn).await;
            if round > 0 {
                found[at].push(one);
            }
        }
    }
    server.stop().await;
    benchmarks(&subjects, &found)
}

impl Subject {
    fn of(adapter: Adapter) -> Subject {
        let address = adapter
            .address
            .clone()
            .expect("the description of a peer has an address");
        let channel = Endpoint::from_shared(address).expect("http://host:port").connect_lazy();
        let pool = descriptors(&adapter);
        let method = |call: &Call| Method::new(channel.clone(), &pool, &adapter, call);
        Subject {
            order: method(&adapter.order),
            complete: adapter.complete.as_ref().map(method),
            fixes: adapter.fixes.as_ref().map(method),
            orders: AtomicUsize::new(0),
            adapter,
        }
    }

    async fn round(self: &Arc<Subject>, time: Duration) -> Found {
        let (of_each, calls) = Adapter::fleet();
        // All of the fleet is on the map.
        for number in 0..calls {
            self.report_fixes(number).await;
        }
        let orders = closed(time, async |_| self.place().await).await;
        let fixes = match self.fixes {
            Some(_) => closed(time, async |number| self.report_fixes(number).await).await,
            None => 0.0,
        };
        Found {
            orders_per_second: orders,
            p50_ms: self.p50_at_low_rate(time).await,
            fixes_per_second: fixes * number(of_each as u64),
        }
    }

    /// An order of a new customer, until it is answered; then it is completed, if it has to be.
    async fn place(&self) -> Duration {
        let request = self.adapter.order_request(self.orders.fetch_add(1, Ordering::Relaxed));
        let begun_at = Instant::now();
        let answer = self.order.call(request).await;
        let took = begun_at.elapsed();
        let order = self
            .adapter
            .order
            .check(&answer.unwrap_or_else(|status| self.failed(&status)));
        if let (Some(method), Some(call)) = (&self.complete, &self.adapter.complete) {
            let answer = method.call(call.request_of(&order)).await;
            call.check(&answer.unwrap_or_else(|status| self.failed(&status)));
        }
        took
    }

    async fn report_fixes(&self, number: usize) {
        if let (Some(method), Some(call)) = (&self.fixes, &self.adapter.fixes) {
            let answer = method.call(self.adapter.fixes_request(call, number)).await;
            call.check(&answer.unwrap_or_else(|status| self.failed(&status)));
        }
    }

    fn failed(&self, status: &tonic::Status) -> serde_json::Value {
        panic!("{} refused: {status}", self.adapter.name)
    }

    /// The median, in milliseconds, of orders that come at a constant low rate, whatever the server does.
    async fn p50_at_low_rate(self: &Arc<Subject>, time: Duration) -> f64 {
        let (begun_at, mut calls) = (Instant::now(), JoinSet::new());
        for call in 0.. {
            let due = begun_at + Duration::from_secs(1) * call / LOW_RATE;
            if due >= begun_at + time {
                break;
            }
            sleep_until(due).await;
            let subject = Arc::clone(self);
            calls.spawn(async move { subject.place().await.as_secs_f64() * 1e3 });
        }
        quantile(&calls.join_all().await, 0.5)
    }
}

/// Calls a second, of so many callers, each of whom makes the next call when the last one is answered.
async fn closed<T>(time: Duration, call: impl AsyncFn(usize) -> T) -> f64 {
    let (begun_at, calls) = (Instant::now(), AtomicUsize::new(0));
    join_all((0..CALLERS).map(|_| async {
        while begun_at.elapsed() < time {
            call(calls.fetch_add(1, Ordering::Relaxed)).await;
        }
    }))
    .await;
    number(calls.into_inner() as u64) / begun_at.elapsed().as_secs_f64()
}

/// Those of Waybill, and the ratios beside each peer.
fn benchmarks(subjects: &[Arc<Subject>], found: &[Vec<Found>]) -> Vec<Benchmark> {
    let kinds: [Kind; 3] = [
        ("orders", "orders/s", Better::More, |found| found.orders_per_second),
        ("order_p50", "ms", Better::Less, |found| found.p50_ms),
        ("fixes", "fixes/s", Better::More, |found| found.fixes_per_second),
    ];
    let mut benchmarks = Vec::new();
    for (kind, unit, better, of) in kinds {
        let column = |at: usize| found[at].iter().map(of).collect::<Vec<f64>>();
        let how = match kind {
            "order_p50" => format!("{LOW_RATE} orders a second"),
            _ => format!("{CALLERS} callers"),
        };
        benchmarks.push(Benchmark::alone(format!("peers_{kind}").leak(), unit, better, column(0)).with(how));
        for (at, peer) in subjects.iter().enumerate().skip(1) {
            let pairs = Pairs {
                ours: column(0),
                baseline: column(at),
            };
            let name = format!("peers_{kind}_beside_{}", peer.adapter.name).leak();
            benchmarks.push(Benchmark::against(
                name,
                unit,
                better,
                "the same calls at the peer",
                pairs,
            ));
        }
    }
    benchmarks
}
