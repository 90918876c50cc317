//! How long an acknowledgement and an order take at half of the rate that was the most: people do not live at the peak.
//!
//! Calls are made at their own times, and a latency counts from the time that was meant. The floor is one write to this
//! disk and one call to a server that answers at once, one after the other, for no answer that is safe is given sooner.

use std::cell::RefCell;
use std::time::Duration;

use waybill_simulator::load::report::Latency;

use super::edge::echo_of;
use crate::arithmetic::{median, quantile};
use crate::figure::{Better, Figure};
use crate::floors::disk::fsyncs;
use crate::floors::round_trip::round_trips;
use crate::history::History;
use crate::load::{Load, STREAMS_OF_SINGLES, operation};
use crate::rounds::{Pairs, Turn, take_turns};
use crate::scale::Scale;
use crate::server::Server;
use crate::world::World;

const DRIVERS: u32 = 10_000;
const FLOOR_IS: &str = "one fdatasync of this disk and one call to an idle tonic server";

/// The figures of acknowledgements, at half of this rate of fixes.
pub async fn of_fixes(world: &World, scale: &Scale) -> Vec<Figure> {
    let server = Server::start(world, "fix_latency", 8).await;
    let load = Load::on(server.endpoint());
    // Of messages with one fix each: what they cost is the message, and they have a peak of their own.
    let peak = peak_of(async || load.singles(DRIVERS, scale.stored_turn).await).await;
    let rate = peak / 2.0;
    let history = History::of(world, &server).await;
    let how = format!(
        "{rate:.0} fixes/s on {STREAMS_OF_SINGLES} streams, a message each; half of the {peak:.0} of such messages that are acknowledged when each stream has one on its way"
    );
    let names = ["fix_ack_p50", "fix_ack_p99"];
    let figures = rounds(world, scale, &server, &load, (names, &how), async |time| {
        let report = load.singles_at(DRIVERS, rate, time).await;
        let fixes = operation(&report, None);
        let all = fixes.totals.answered;
        // All of them are in the history, and the disk is quiet again for the floor.
        let turn = Turn {
            count: all,
            elapsed: time,
            all,
        };
        history.finish(turn).await;
        fixes.latency
    })
    .await;
    server.stop().await;
    figures
}

/// The figures of orders, at half of this rate; without one, of what is found out here.
pub async fn of_orders(world: &World, scale: &Scale, peak: Option<f64>) -> Vec<Figure> {
    let server = Server::start(world, "order_latency", 9).await;
    let load = Load::on(server.endpoint());
    let peak = match peak {
        Some(peak) => peak,
        None => peak_of(async || load.orders(scale.stored_turn).await).await,
    };
    let rate = peak / 2.0;
    let how = format!("{rate:.0} orders/s, half of the peak; from the call to the assigned driver");
    let figures = rounds(
        world,
        scale,
        &server,
        &load,
        (["order_p50", "order_p99"], &how),
        async |time| {
            let report = load.orders_at(rate, time).await;
            operation(&report, Some("CreateOrder")).latency
        },
    )
    .await;
    server.stop().await;
    figures
}

/// The most a second: the median of a few turns, after one that warms up.
async fn peak_of(turn: impl AsyncFn() -> Turn) -> f64 {
    turn().await;
    let mut rates = Vec::new();
    for _ in 0..3 {
        rates.push(turn().await.per_second());
    }
    median(&rates)
}

/// The figures of the median and of the 99th of 100.
async fn rounds(
    world: &World,
    scale: &Scale,
    server: &Server,
    load: &Load,
    (names, how): ([&'static str; 2], &str),
    call: impl AsyncFn(Duration) -> Latency,
) -> Vec<Figure> {
    let echo = echo_of(world, server).await;
    let peak_limited = load.limited();
    call(scale.paced_turn).await;
    world.settle([server.database.as_str()]).await;
    // The first writes after a checkpoint are of whole pages.
    call(scale.paced_turn).await;
    let (slow, slow_floor) = (RefCell::new(Vec::new()), RefCell::new(Vec::new()));
    load.limited();
    let ours = async || {
        let latency = call(scale.paced_turn).await;
        slow.borrow_mut().push(latency.p99_ms);
        latency.p50_ms
    };
    let floor = async || {
        let writes = fsyncs(world, scale.paced_turn / 3);
        let trips = round_trips(&echo.endpoint, scale.paced_turn / 3).await;
        // One of each, as they came: a quantile of the sums, which the sum of the quantiles is not.
        let both: Vec<f64> = writes.iter().zip(&trips).map(|(write, trip)| write + trip).collect();
        slow_floor.borrow_mut().push(quantile(&both, 0.99));
        quantile(&both, 0.5)
    };
    let middle = take_turns(scale.rounds, ours, floor).await;
    let slow = Pairs {
        ours: slow.into_inner(),
        floor: slow_floor.into_inner(),
    };
    echo.stop().await;
    let limited = load.limited();
    let shares = names.into_iter().zip([middle, slow]);
    shares
        .map(|(name, pairs)| {
            Figure::beside(name, "ms", Better::Less, FLOOR_IS, pairs)
                .with(how)
                .limited(limited.clone().or(peak_limited.clone()))
        })
        .collect()
}
