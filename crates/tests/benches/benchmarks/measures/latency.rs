//! How long an acknowledgement and an order take at half of the rate that was the most: people do not live at the peak.
//!
//! Calls are made at their own times, and a latency counts from its intended start time. The peak is looked for in each
//! round, right before: what a neighbour leaves of this machine changes, and half of an earlier peak may be most of
//! what is left. The baseline is one write to this disk and one call to a server that answers at once, one after the
//! other, for no answer that is safe is given sooner.

use std::cell::RefCell;
use std::time::Duration;

use waybill_simulator::load::report::Latency;

use super::edge::echo_of;
use crate::baselines::disk::fsyncs;
use crate::baselines::round_trip::round_trips;
use crate::history::History;
use crate::load::{Load, STREAMS_OF_SINGLES, operation};
use crate::scale::Scale;
use crate::server::Server;
use crate::world::World;
use testkit::benchmark::Verdicts;
use testkit::benchmark::arithmetic::{median, quantile};
use testkit::benchmark::rounds::{Pairs, Turn, take_turns};
use testkit::benchmark::{Benchmark, Better};

const DRIVERS: u32 = 10_000;
/// Orders a second of a machine that has little to do.
const LOW_RATE: f64 = 25.0;
const BASELINE_IS: &str = "one fdatasync of this disk and one call to an idle tonic server";

/// The load that looks for a peak and the load at half of it, apart: each tells whether it was its own limit.
struct Loads {
    peak: Load,
    paced: Load,
}

impl Loads {
    fn on(server: &Server) -> Loads {
        Loads {
            peak: Load::on(server.endpoint()),
            paced: Load::on(server.endpoint()),
        }
    }

    /// Whose numbers they are, by the load at half of the peak and by the one that looks for it.
    fn verdicts(&self) -> [Verdicts; 2] {
        [self.paced.verdicts(), self.peak.verdicts()]
    }
}

/// The benchmarks of acknowledgements.
pub async fn of_fixes(world: &World, scale: &Scale) -> Vec<Benchmark> {
    let server = Server::start(world, "fix_latency", 8).await;
    let loads = Loads::on(&server);
    let history = History::of(world, &server).await;
    let how = format!(
        "half of what is acknowledged when each of {STREAMS_OF_SINGLES} streams has a message with one fix on its way"
    );
    let peak = async || {
        // Of messages with one fix each, too: what they cost is the message.
        let turn = loads.peak.singles(DRIVERS, scale.peak_turn).await;
        // All of them are in the history, and the disk is quiet again.
        history
            .finish(Turn {
                count: turn.all,
                ..turn
            })
            .await;
        turn.per_second()
    };
    let paced = async |rate: f64, time: Duration| {
        let report = loads.paced.singles_at(DRIVERS, rate, time).await;
        let fixes = operation(&report, None);
        let all = fixes.totals.answered;
        let turn = Turn {
            count: all,
            elapsed: time,
            all,
        };
        history.finish(turn).await;
        fixes.latency
    };
    let names = ["fix_ack_p50", "fix_ack_p99"];
    let benchmarks = rounds(world, scale, &server, &loads, (names, "fixes/s", &how), (peak, paced)).await;
    server.stop().await;
    benchmarks
}

/// The benchmarks of orders.
pub async fn of_orders(world: &World, scale: &Scale) -> Vec<Benchmark> {
    let server = Server::start(world, "order_latency", 9).await;
    let loads = Loads::on(&server);
    let how = "half of the peak, from the call to the assigned driver";
    let peak = async || loads.peak.orders(scale.peak_turn).await.per_second();
    let paced = async |rate: f64, time: Duration| {
        let report = loads.paced.orders_at(rate, time).await;
        operation(&report, Some("CreateOrder")).latency
    };
    let names = ["order_p50", "order_p99"];
    let mut benchmarks = rounds(world, scale, &server, &loads, (names, "orders/s", how), (peak, paced)).await;
    let mut quiet = Vec::new();
    for _ in 0..scale.latency_rounds {
        quiet.push(paced(LOW_RATE, scale.paced_turn).await.p50_ms);
    }
    benchmarks.push(
        Benchmark::alone("order_p50_at_a_low_rate", "ms", Better::Less, quiet).at(format!("{LOW_RATE:.0} orders/s")),
    );
    server.stop().await;
    benchmarks
}

/// The benchmarks of the median and of the 99th of 100.
async fn rounds(
    world: &World,
    scale: &Scale,
    server: &Server,
    loads: &Loads,
    (names, unit, how): ([&'static str; 2], &str, &str),
    (peak, paced): (impl AsyncFn() -> f64, impl AsyncFn(f64, Duration) -> Latency),
) -> Vec<Benchmark> {
    let echo = echo_of(world, server).await;
    let rates = RefCell::new(Vec::new());
    let call = async || {
        let rate = peak().await / 2.0;
        rates.borrow_mut().push(rate);
        paced(rate, scale.paced_turn).await
    };
    peak().await;
    world.settle([server.database.as_str()]).await;
    // The first writes after a checkpoint are of whole pages.
    call().await;
    rates.borrow_mut().clear();
    loads.verdicts();
    let (slow, slow_baseline) = (RefCell::new(Vec::new()), RefCell::new(Vec::new()));
    let ours = async || {
        let latency = call().await;
        slow.borrow_mut().push(latency.p99_ms);
        latency.p50_ms
    };
    let baseline = async || {
        let writes = fsyncs(world, scale.paced_turn / 3);
        let trips = round_trips(&echo.endpoint, scale.paced_turn / 3).await;
        // One of each, as they came: a quantile of the sums, which the sum of the quantiles is not.
        let both: Vec<f64> = writes.iter().zip(&trips).map(|(write, trip)| write + trip).collect();
        slow_baseline.borrow_mut().push(quantile(&both, 0.99));
        quantile(&both, 0.5)
    };
    let middle = take_turns(scale.latency_rounds, ours, baseline).await;
    let slow = Pairs {
        ours: slow.into_inner(),
        baseline: slow_baseline.into_inner(),
    };
    echo.stop().await;
    let (verdicts, rate) = (loads.verdicts(), median(&rates.borrow()));
    let shares = names.into_iter().zip([middle, slow]);
    shares
        .map(|(name, pairs)| {
            let benchmark = Benchmark::against(name, "ms", Better::Less, BASELINE_IS, pairs)
                .with(how)
                .at(format!("{rate:.0} {unit}"));
            verdicts.iter().cloned().fold(benchmark, Benchmark::judged)
        })
        .collect()
}
