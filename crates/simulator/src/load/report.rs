//! What a run measured. As JSON its field names are an interface: scripts read them.
//!
//! Latencies are in milliseconds, from the intended start time of a call (closed loops: its start) to its answer. Only
//! the measured part is in it: calls that were due in the warm-up are not.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::Serialize;

use super::plan::Arrivals;
pub use crate::recorder::{Bucket, Latency, Operation, Second, Stage, Totals};

/// A run.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct LoadReport {
    /// The workload's name: `orders`, `ingest`, `nearby`, `mixed`, `trace`.
    pub workload: &'static str,
    /// `open`, `closed` or `recorded`.
    pub pace: &'static str,
    /// How arrivals were spaced; only in an open loop.
    pub arrivals: Option<Arrivals>,
    /// Every other setting as it was, by the name of its flag without the dashes.
    pub settings: BTreeMap<String, String>,
    /// When the warm-up began.
    pub started_at: Timestamp,
    /// How long the warm-up was.
    pub warm_up_seconds: f64,
    /// How long was measured.
    pub measured_seconds: f64,
    /// Whether the run was ended before its time.
    pub cut_short: bool,
    /// The machine that made the load.
    pub machine: Machine,
    /// What the load cost on this side, and whether that was the limit.
    pub generator: Generator,
    /// What was called, the most important first.
    pub operations: Vec<Operation>,
    /// Lines of a trace that could not be used, and the first few of them as `file:line: why`.
    pub broken_lines: u64,
    /// See `broken_lines`.
    pub first_broken_lines: Vec<String>,
}

/// The machine and the program.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Machine {
    /// Such as `AMD EPYC 7B13`; empty where the system does not have it.
    pub processor: String,
    /// Processors that this process may use.
    pub cores: usize,
    /// Memory in bytes; 0 where the system does not have it.
    pub memory_bytes: u64,
    /// Such as `linux 6.1.0`.
    pub system: String,
    /// The version of Waybill that made the load.
    pub waybill: &'static str,
}

/// The generator's own part. Processor times are NaN, in JSON `null`, where they are not known.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Generator {
    /// Processors that it used, in the busiest second that was measured: 1.0 is one core.
    pub cpu_cores_max: f64,
    /// The same over the whole time that was measured.
    pub cpu_cores_mean: f64,
    /// How late calls were made after their intended start time, while nothing but this process delayed them: 99 of
    /// 100 were not later, in milliseconds.
    pub late_p99_ms: f64,
    /// Why the numbers are those of the generator and not of the server; absent when they are the server's.
    pub limited_by_generator: Option<String>,
}
