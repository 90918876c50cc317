//! The machine, and what is installed on it: a number without them says nothing.

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};
use waybill_sandbox::programs;

use testkit::benchmark::mounts;

/// Memory of the machine in bytes.
pub fn memory_bytes() -> Option<u64> {
    let text = fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kilobytes: u64 = line.split_whitespace().next()?.parse().ok()?;
    Some(kilobytes * 1_024)
}

/// The machine, with the file system that this folder is on.
pub fn machine(folder: &Path) -> Value {
    let cpus = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpus
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    json!({
        "processor": model.map(|(_, model)| model).unwrap_or_default(),
        "cores": std::thread::available_parallelism().map(usize::from).unwrap_or_default(),
        "memory_bytes": memory_bytes(),
        "kernel": release.trim(),
        "disk": mounts::file_system(&mounts, folder).unwrap_or_default(),
    })
}

/// The programs, and the commit that was measured; with a `+` if the sources differ from it.
pub fn versions() -> Value {
    let postgres = programs::postgres().map(|programs| said(&programs.postgres, &["--version"]));
    let redis = programs::redis().map(|program| said(&program, &["--version"]));
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let git = |args: &[&str]| said(Path::new("git"), &[&["-C", &root.to_string_lossy()], args].concat());
    let mut commit = git(&["rev-parse", "--short=12", "HEAD"]);
    if !git(&["status", "--porcelain", "--untracked-files=no"]).is_empty() {
        commit.push('+');
    }
    json!({
        "waybill": said(&testkit::process::program(), &["--version"]),
        "commit": commit,
        "rustc": said(Path::new("rustc"), &["--version"]),
        "postgres": postgres.unwrap_or_default(),
        "redis": redis.unwrap_or_default(),
    })
}

/// The first line that a program says; nothing if it does not run.
fn said(program: &Path, args: &[&str]) -> String {
    let output = Command::new(program).args(args).output();
    let said = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
    said.unwrap_or_default().lines().next().unwrap_or_default().to_owned()
}
