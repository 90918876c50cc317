//! What a run tells: one object for scripts, and one table for people.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use testkit::benchmark::Benchmark;

/// Everything that a run found out.
pub struct Report {
    /// The benchmarks.
    pub benchmarks: Vec<Benchmark>,
    /// See [`crate::machine::machine`].
    pub machine: Value,
    /// See [`crate::machine::versions`].
    pub versions: Value,
    /// What was set, by name.
    pub settings: Vec<(String, String)>,
    /// What is to be known of all of the numbers.
    pub notes: Vec<String>,
    /// How long all of it took.
    pub seconds: f64,
    /// Whether it was a quick run.
    pub quick: bool,
}

impl Report {
    /// `target/bench`, made if it is not there.
    pub fn folder() -> PathBuf {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let folder = root.canonicalize().unwrap().join("target/bench");
        fs::create_dir_all(&folder).unwrap();
        folder
    }

    /// For scripts.
    pub fn json(&self) -> Value {
        let settings: serde_json::Map<_, _> = self
            .settings
            .iter()
            .map(|(name, value)| (name.clone(), json!(value)))
            .collect();
        json!({
            "benchmarks": self.benchmarks.iter().map(Benchmark::json).collect::<Vec<_>>(),
            "machine": self.machine,
            "versions": self.versions,
            "settings": settings,
            "notes": self.notes,
            "seconds": self.seconds,
            "quick": self.quick,
        })
    }

    /// For people.
    pub fn table(&self) -> String {
        let mut table = format!(
            "{:<34} {:>11} {:>9} {:>9} {:>11} {:>6} {:>7}  {}\n",
            "benchmark", "median", "min", "max", "baseline", "ratio", "target", "unit"
        );
        for benchmark in &self.benchmarks {
            let (min, max) = benchmark.range();
            let [ratio, target] = [benchmark.ratio_in_digits(), benchmark.target_in_digits()]
                .map(|ratio| ratio.unwrap_or("-".to_owned()));
            let mark = if benchmark.limited_by_generator().is_some() {
                " (limited by the generator)"
            } else {
                ""
            };
            let baseline = benchmark.baseline().map_or("-".to_owned(), short);
            let (value, min, max) = (short(benchmark.value()), short(min), short(max));
            let (name, unit) = (benchmark.name, benchmark.unit);
            let _ = writeln!(
                table,
                "{name:<34} {value:>11} {min:>9} {max:>9} {baseline:>11} {ratio:>6} {target:>7}  {unit}{mark}"
            );
        }
        table
    }
}

/// Three digits or more, no more than are worth reading.
pub fn short(value: f64) -> String {
    match value.abs() {
        size if size >= 100.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        size if size >= 1.0 || size == 0.0 => format!("{value:.2}"),
        _ => format!("{value:.3}"),
    }
}
