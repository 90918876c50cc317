//! What a process costs: its processor time and its memory, as Linux counts them in `/proc`.

use std::fs;
use std::time::Duration;

/// The clock of `/proc/<pid>/stat`: `USER_HZ`, which is 100 on every Linux that user space sees.
const TICKS_PER_SECOND: u64 = 100;

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
            processor: processor_time(&read("stat")).expect("the format of /proc/<pid>/stat"),
            memory_bytes: resident_bytes(&read("status")).expect("the format of /proc/<pid>/status"),
        }
    }
}

/// From the line of `/proc/<pid>/stat`: fields 14 and 15, counted behind the name, which may hold anything.
pub fn processor_time(stat: &str) -> Option<Duration> {
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some(Duration::from_millis((user + system) * 1_000 / TICKS_PER_SECOND))
}

/// From `/proc/<pid>/status`, which tells kilobytes.
pub fn resident_bytes(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kilobytes: u64 = line.split_whitespace().next()?.parse().ok()?;
    Some(kilobytes * 1_024)
}
