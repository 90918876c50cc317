//! More than the machine can do, and stores and providers that are in trouble, shown: what is served meanwhile, how fast, and how soon
//! all is well again.
//!
//! `make overload`; `OVERLOAD_ONLY=ladder,outages,storm,rolling` for a part of it. It ends with a line of numbers, and with `violations=0` where each is what docs/guarantees.md promises.

mod ladder;
mod outages;
mod rolling;
mod storm;

use std::time::Duration;

use testkit::benchmark::Benchmark;

use crate::scale::Scale;
use crate::world::World;

/// What was found, for the last line, and what is not as it is promised.
#[derive(Debug, Default)]
pub struct Findings {
    numbers: Vec<String>,
    violations: Vec<String>,
}

impl Findings {
    /// Adds a number.
    fn number(&mut self, name: &str, value: impl std::fmt::Display) {
        println!("    {name}={value}");
        self.numbers.push(format!("{name}={value}"));
    }

    /// Adds a violation, unless it is so.
    fn expect(&mut self, is_so: bool, why: impl FnOnce() -> String) {
        if !is_so {
            let why = why();
            println!("    VIOLATION {why}");
            self.violations.push(why);
        }
    }
}

/// How long each part takes.
#[derive(Debug, Clone, Copy)]
struct Times {
    /// A rate of the search for the peak.
    look: Duration,
    /// A step of the ladder.
    step: Duration,
    /// For how long the provider is away.
    outage: Duration,
    /// How often a server is restarted.
    restarts: usize,
}

/// All of it; nothing for the table of benchmarks, where each number is beside a baseline.
pub async fn measure(world: &World, scale: &Scale) -> Vec<Benchmark> {
    let times = if scale.quick {
        Times {
            look: Duration::from_secs(2),
            step: Duration::from_secs(4),
            outage: Duration::from_secs(6),
            restarts: 6,
        }
    } else {
        Times {
            look: Duration::from_secs(4),
            step: Duration::from_secs(20),
            outage: Duration::from_secs(30),
            restarts: 100,
        }
    };
    let mut findings = Findings::default();
    let only = std::env::var("OVERLOAD_ONLY").ok();
    let is_wanted = |part: &str| {
        only.as_ref()
            .is_none_or(|only| only.split(',').any(|name| name == part))
    };
    if is_wanted("ladder") {
        Box::pin(ladder::measure(world, times, &mut findings)).await;
    }
    if is_wanted("outages") {
        Box::pin(outages::measure(world, times, &mut findings)).await;
    }
    if is_wanted("storm") {
        Box::pin(storm::measure(world, times, &mut findings)).await;
    }
    if is_wanted("rolling") {
        Box::pin(rolling::measure(world, times, &mut findings)).await;
    }
    println!(
        "overload: {} violations={}",
        findings.numbers.join(" "),
        findings.violations.len()
    );
    assert!(findings.violations.is_empty(), "{:#?}", findings.violations);
    Vec::new()
}
