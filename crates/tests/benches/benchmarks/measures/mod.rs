//! The benchmarks, a file each: what is counted, beside what, and why that is a baseline.

pub mod edge;
pub mod fixes;
pub mod growth;
pub mod idle_streams;
pub mod instances;
pub mod latency;
pub mod orders;
pub mod searches;
pub mod tls;
pub mod tokens;
pub mod watches;

use std::time::Duration;

use testkit::benchmark::arithmetic::number;
use testkit::benchmark::process_cost::ProcessCost;
use testkit::benchmark::rounds::Turn;

/// A setting for fleets that are put onto the map once: all of them are to be found until the end.
const FRESH: [(&str, &str); 1] = [("locations.ttl", "2h")];

/// What a server used between two looks, for each of `count`: processor microseconds, and bytes that its memory grew
/// by.
fn cost_each(before: ProcessCost, after: ProcessCost, count: u64) -> (f64, f64) {
    let processor = after.processor.saturating_sub(before.processor);
    let memory = number(after.memory_bytes) - number(before.memory_bytes);
    (micros_each(processor, count), memory / number(count))
}

/// Microseconds for each of `count`.
fn micros_each(time: Duration, count: u64) -> f64 {
    time.as_secs_f64() * 1e6 / number(count)
}

/// What each of a turn cost the process that answered, in processor microseconds.
async fn processor_each(cost: impl Fn() -> ProcessCost, turn: impl Future<Output = Turn>) -> f64 {
    let before = cost();
    let turn = turn.await;
    cost_each(before, cost(), turn.count).0
}
