//! What a run prints at its end.

use std::process::ExitCode;
use std::time::Duration;

use tempfile::TempDir;
use testkit::load::findings::Findings;

use crate::judge::Judged;
use crate::plan::Plan;
use crate::rounds::{Fault, Measured};
use crate::throughput::Throughput;

/// What a store's rounds came to.
pub struct CameTo {
    /// The store.
    pub name: &'static str,
    /// Each round.
    pub measured: Vec<Measured>,
    /// Orders of the load.
    pub orders: u64,
    /// What the judge counted.
    pub judged: Judged,
    /// Whether no acknowledged fix may be missing.
    pub keeps_fixes: bool,
}

/// All stores, and what was measured while none failed.
#[derive(Default)]
pub struct Report {
    stores: Vec<CameTo>,
    /// Where it was asked for.
    pub throughput: Option<Throughput>,
}

impl Report {
    /// A store is done.
    pub fn add(&mut self, store: CameTo) {
        self.stores.push(store);
    }

    /// Prints it; whether the run failed. A folder in which a person has to look is kept.
    pub fn print(&self, plan: &Plan, folder: TempDir, findings: &Findings) -> ExitCode {
        if !self.stores.is_empty() {
            println!(
                "failover: seconds, median and worst: until another led (the engine's own), until served, and the difference"
            );
        }
        for store in &self.stores {
            for fault in Fault::ALL.map(Some).into_iter().chain([None]) {
                let is_wanted = |round: &&Measured| fault.is_none_or(|fault| round.fault == fault);
                let rounds: Vec<&Measured> = store.measured.iter().filter(is_wanted).collect();
                if !rounds.is_empty() {
                    let what = fault.map_or_else(|| "all".to_owned(), |fault| format!("{fault:?}"));
                    println!("failover: {:<9} {what:<9} {}", store.name, row(&rounds));
                }
            }
            let may = if store.keeps_fixes {
                "none may be"
            } else {
                "some may be"
            };
            println!(
                "failover: {:<9} orders={} acknowledged_fixes={} missing={} ({may})",
                store.name, store.orders, store.judged.acknowledged, store.judged.missing
            );
        }
        let violations = findings.all();
        let verdict = if violations.is_empty() {
            "ok. 1 passed; 0 failed"
        } else {
            "FAILED. 0 passed; 1 failed"
        };
        println!("test result: {verdict}; 0 ignored; 0 measured; 0 filtered out");
        for line in &violations {
            println!("failover: VIOLATION {line}");
        }
        if !violations.is_empty() || plan.keep {
            println!("failover: see {}", folder.keep().display());
        }
        println!("failover: {} violations={}", self.line(), violations.len());
        if violations.is_empty() {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        }
    }

    fn line(&self) -> String {
        let failovers = (!self.stores.is_empty()).then(|| self.failovers());
        let throughput = self.throughput.as_ref().map(Throughput::line);
        failovers.into_iter().chain(throughput).collect::<Vec<_>>().join(" ")
    }

    fn failovers(&self) -> String {
        let all: Vec<&Measured> = self.stores.iter().flat_map(|store| &store.measured).collect();
        let count = |fault| all.iter().filter(|round| round.fault == fault).count();
        let (serves, beyond) = (spread(&all, |round| round.serves), spread(&all, beyond));
        let sum = |count: fn(&CameTo) -> u64| self.stores.iter().map(count).sum::<u64>();
        format!(
            "kills={} freezes={} partitions={} serves_again_s={serves} beyond_engine_s={beyond} orders={} missing_fixes={}",
            count(Fault::Kill),
            count(Fault::Freeze),
            count(Fault::Partition),
            sum(|store| store.orders),
            sum(|store| store.judged.missing),
        )
    }
}

fn beyond(round: &Measured) -> Duration {
    round.serves.saturating_sub(round.engine)
}

fn row(rounds: &[&Measured]) -> String {
    let columns = [
        spread(rounds, |round| round.engine),
        spread(rounds, |round| round.serves),
        spread(rounds, beyond),
    ];
    format!(
        "{:>3} rounds: {}",
        rounds.len(),
        columns.map(|column| format!("{column:>11}")).join(" ")
    )
}

/// Median and worst, in seconds.
fn spread(rounds: &[&Measured], of: fn(&Measured) -> Duration) -> String {
    let mut times: Vec<f64> = rounds.iter().map(|round| of(round).as_secs_f64()).collect();
    times.sort_by(f64::total_cmp);
    match (times.get(times.len() / 2), times.last()) {
        (Some(median), Some(worst)) => format!("{median:.1}/{worst:.1}"),
        _ => "none".to_owned(),
    }
}
