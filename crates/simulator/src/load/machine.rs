//! The machine that makes the load, as far as the system has it in its files.

use std::fs;
use std::thread;

use super::report::Machine;

/// This machine.
pub(super) fn machine() -> Machine {
    let cpus = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let memory = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    Machine {
        processor: field(&cpus, "model name").unwrap_or_default().to_owned(),
        cores: thread::available_parallelism().map_or(1, usize::from),
        memory_bytes: field(&memory, "MemTotal").and_then(kilobytes).unwrap_or(0) * 1_024,
        system: format!("{} {}", std::env::consts::OS, release.trim()).trim().to_owned(),
        waybill: env!("CARGO_PKG_VERSION"),
    }
}

/// The value of the first line `name : value`.
fn field<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let (_, value) = text
        .lines()
        .filter_map(|line| line.split_once(':'))
        .find(|(key, _)| key.trim() == name)?;
    Some(value.trim())
}

fn kilobytes(value: &str) -> Option<u64> {
    value.strip_suffix("kB")?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_read_as_the_kernel_writes_them() {
        let cpus = "processor\t: 0\nmodel name\t: A CPU @ 2.80GHz\n\nprocessor\t: 1\nmodel name\t: Another\n";
        assert_eq!(field(cpus, "model name"), Some("A CPU @ 2.80GHz"));
        let memory = field("MemTotal:       16374584 kB\nMemFree: 1 kB\n", "MemTotal");
        assert_eq!(memory.and_then(kilobytes), Some(16_374_584));
        assert_eq!(field("", "MemTotal"), None);
        assert!(machine().cores >= 1);
    }
}
