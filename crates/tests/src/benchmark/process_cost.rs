//! What a process costs: its processor time by its own clock (POSIX), and its memory as Linux tells it in `/proc`.

use std::fs;
use std::time::Duration;

use nix::time::{clock_getcpuclockid, clock_gettime};
use nix::unistd::Pid;

/// What a process used up to a moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProcessCost {
    /// Processor time of all its threads, in user and kernel mode.
    pub processor: Duration,
    /// Memory that is really there now (resident), in bytes.
    pub memory_bytes: u64,
}

impl ProcessCost {
    /// Of a process that runs. Panics if there is none, or no `/proc`.
    pub fn of(pid: i32) -> ProcessCost {
        let read = |file: &str| fs::read_to_string(format!("/proc/{pid}/{file}")).expect("the process runs, on Linux");
        ProcessCost {
            // To the nanosecond, where /proc tells hundredths of a second.
            processor: clock_getcpuclockid(Pid::from_raw(pid))
                .and_then(clock_gettime)
                .expect("the clock of a process that runs")
                .into(),
            memory_bytes: resident_bytes(&read("status")).expect("the format of /proc/<pid>/status"),
        }
    }
}

/// From `/proc/<pid>/status`, which tells kilobytes.
pub fn resident_bytes(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kilobytes: u64 = line.split_whitespace().next()?.parse().ok()?;
    Some(kilobytes * 1_024)
}
