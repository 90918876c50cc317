//! The counts that are committed, and whether those of now may stand beside them.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::process::{Command, ExitCode};
use std::{env, fs};

use anyhow::Context as _;
use serde::Deserialize;

/// Where the counts are.
pub const PATH: &str = "crates/server/benches/instructions.toml";
const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/instructions.toml");

/// In the file, above the counts.
const HEAD: &str = "\
# Instructions of the hottest pure paths, by crates/server/benches/instructions. `make count` fails when one grows by more
# than this, in percent; docs/adr/0014 says why by this much.
#
# `scripts/count.sh --renew` writes this file anew. Commit it with the reason: what the path does now that it did not do
# before, or which compiler or dependency moved it.
";
/// Of one binary, counts repeat within 0.4 %: what moves is the seeds of hash maps. A change beside a path that makes the
/// compiler inline otherwise moves it by 1 or 2 %. One clone more of a driver's id for each fix is 6 to 9 %.
const TOLERANCE_PERCENT: f64 = 5.0;

/// `instructions.toml`.
#[derive(Deserialize)]
pub struct Committed {
    tolerance_percent: f64,
    made_with: Maker,
    counts: BTreeMap<String, u64>,
}

/// What counts depend on, beside the program.
#[derive(Debug, PartialEq, Deserialize)]
pub struct Maker {
    /// As rustc calls itself. Another one makes other machine code, so its counts are not judged by these.
    rustc: String,
    /// As rustc calls the machine. As above.
    target: String,
    /// Whose `malloc` and `memcpy` are counted: shown where a count grew.
    libc: String,
    /// Who counted, and which processor it shows to the program: shown where a count grew.
    valgrind: String,
}

impl Maker {
    /// This machine.
    pub fn here() -> anyhow::Result<Maker> {
        let rustc = env::var("RUSTC").unwrap_or_else(|_| "rustc".to_owned());
        let version = said(&rustc, &["--version", "--verbose"])?;
        let line = |start: &str| version.lines().find_map(|line| line.strip_prefix(start));
        Ok(Maker {
            rustc: version.lines().next().unwrap_or_default().to_owned(),
            target: line("host: ").context("rustc does not name its host")?.to_owned(),
            // Not everywhere; the counts say by how much it mattered.
            libc: said("getconf", &["GNU_LIBC_VERSION"]).unwrap_or_else(|_| "unknown".to_owned()),
            valgrind: said("valgrind", &["--version"])?,
        })
    }
}

/// What a program prints.
fn said(program: &str, arguments: &[&str]) -> anyhow::Result<String> {
    let run = Command::new(program)
        .args(arguments)
        .output()
        .context(program.to_owned())?;
    anyhow::ensure!(run.status.success(), "{program} ended with {}", run.status);
    Ok(String::from_utf8(run.stdout)?.trim().to_owned())
}

impl Committed {
    /// The counts in the file.
    pub fn read() -> anyhow::Result<Committed> {
        let file = config::File::new(FILE, config::FileFormat::Toml);
        let read = config::Config::builder().add_source(file).build();
        read.and_then(config::Config::try_deserialize).context(PATH)
    }

    /// Writes the file anew.
    pub fn write(maker: &Maker, counts: &[(&str, u64)]) -> anyhow::Result<()> {
        let mut text = format!("{HEAD}tolerance_percent = {TOLERANCE_PERCENT:?}\n\n[made_with]\n");
        let Maker {
            rustc,
            target,
            libc,
            valgrind,
        } = maker;
        for (name, value) in [
            ("rustc", rustc),
            ("target", target),
            ("libc", libc),
            ("valgrind", valgrind),
        ] {
            writeln!(text, "{name} = {value:?}")?;
        }
        writeln!(text, "\n[counts]")?;
        for (name, count) in counts {
            writeln!(text, "{name} = {count}")?;
        }
        fs::write(FILE, text).context(PATH)
    }

    /// Prints the counts beside those of now. A failure where one grew by more than it may, or is missing on one side.
    pub fn judge(&self, maker: &Maker, counts: &[(&str, u64)]) -> ExitCode {
        let mut offences = Vec::new();
        println!("{:<18} {:>10} {:>10}", "instructions", "committed", "now");
        for &(name, now) in counts {
            let Some(&committed) = self.counts.get(name) else {
                println!("{name:<18} {:>10} {now:>10}", "-");
                offences.push(format!("{name} has no count in {PATH}"));
                continue;
            };
            let growth = growth_percent(committed, now);
            println!("{name:<18} {committed:>10} {now:>10} {growth:>+7.1} %");
            if growth > self.tolerance_percent {
                offences.push(format!(
                    "{name} grew by {growth:.1} %, from {committed} to {now} instructions"
                ));
            }
        }
        for name in self
            .counts
            .keys()
            .filter(|name| counts.iter().all(|(case, _)| case != name))
        {
            offences.push(format!("{name} in {PATH} is not counted any more"));
        }

        let is_same_code = (&self.made_with.rustc, &self.made_with.target) == (&maker.rustc, &maker.target);
        if !is_same_code {
            println!(
                "count: shown and NOT judged: the counts are of {} on {}, and this is {} on {}",
                self.made_with.rustc, self.made_with.target, maker.rustc, maker.target
            );
            return ExitCode::SUCCESS;
        }
        if offences.is_empty() {
            println!(
                "count: {} paths, none grew by more than {} %",
                counts.len(),
                self.tolerance_percent
            );
            return ExitCode::SUCCESS;
        }
        for offence in offences {
            println!("count: {offence}");
        }
        if self.made_with != *maker {
            println!("count: the counts are of {:?}, and this is {maker:?}", self.made_with);
        }
        println!("count: fix it, or explain why it is right: scripts/count.sh --renew, and commit {PATH}");
        ExitCode::FAILURE
    }
}

#[allow(clippy::cast_precision_loss, reason = "counts are far below 2^53")]
fn growth_percent(committed: u64, now: u64) -> f64 {
    (now as f64 / committed as f64 - 1.0) * 100.0
}
