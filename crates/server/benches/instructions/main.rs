//! How many instructions the hottest pure paths take, held against the counts in `instructions.toml`.
//!
//! Time on a shared machine is noise; the number of instructions of one program is not, from run to run. So a path that
//! became costlier shows as what it is, in CI too. This program runs itself under valgrind's callgrind, which counts
//! [`cases`] one by one ([`callgrind`]), and compares with what is [`committed`]: growth beyond the tolerance ends with
//! status 1. What it does not see is whatever waits: locks, the network, the disk. `make bench` is for those.
//!
//! ```text
//! make count                  compare
//! scripts/count.sh --renew    write the counts of now into instructions.toml, to be committed with the reason
//! ```

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a measurement, not a product: whatever is not as it should be ends it, and people read the table"
)]

mod callers;
mod callgrind;
mod cases;
mod committed;

use std::env;
use std::process::ExitCode;

use anyhow::Context as _;

use self::cases::Case;
use self::committed::{Committed, Maker};

/// How this program calls itself under valgrind: this, and the name of a case.
const UNDER_CALLGRIND: &str = "--under-callgrind";

fn main() -> anyhow::Result<ExitCode> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let cases = cases::all();
    if let [UNDER_CALLGRIND, name] = arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        let case = cases.iter().find(|case| case.name == name);
        case.context("there is no such case")?.run();
        return Ok(ExitCode::SUCCESS);
    }

    let count = |case: &Case| {
        let count = callgrind::count(&[UNDER_CALLGRIND, case.name]).context(case.name)?;
        Ok((case.name, count))
    };
    let counts = cases.iter().map(count).collect::<anyhow::Result<Vec<_>>>()?;
    let maker = Maker::here()?;
    if arguments.iter().any(|argument| argument == "--renew") {
        Committed::write(&maker, &counts)?;
        println!("count: {} counts written to {}", counts.len(), committed::PATH);
        return Ok(ExitCode::SUCCESS);
    }
    Ok(Committed::read()?.judge(&maker, &counts))
}
