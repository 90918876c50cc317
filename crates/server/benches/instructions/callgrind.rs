//! This program under valgrind's callgrind.

use std::process::Command;
use std::{env, fs};

use anyhow::{Context as _, ensure};

/// The instructions of [`counted_by_callgrind`] in this program called with `arguments`. Each count has a process of its
/// own: what another one left in the heap would move it.
pub fn count(arguments: &[&str]) -> anyhow::Result<u64> {
    let folder = tempfile::tempdir()?;
    let out = folder.path().join("out");
    let run = Command::new("valgrind")
        .args(["--tool=callgrind", "--toggle-collect=*counted_by_callgrind*"])
        .arg(format!("--callgrind-out-file={}", out.display()))
        .arg(env::current_exe()?)
        .args(arguments)
        // The environment lies on the stack and moves what comes after it: another one, other alignments.
        .env_clear()
        .env("PATH", env::var_os("PATH").unwrap_or_default())
        .output()
        .context("valgrind did not start")?;
    ensure!(
        run.status.success(),
        "valgrind ended with {}:\n{}",
        run.status,
        String::from_utf8_lossy(&run.stderr)
    );
    let text = fs::read_to_string(&out)?;
    let summary = text.lines().find_map(|line| line.strip_prefix("summary: "));
    let count = summary.context("callgrind wrote no summary")?.trim().parse()?;
    ensure!(count > 0, "callgrind did not meet what it was to count");
    Ok(count)
}

/// Callgrind counts from the beginning of this to its end. Not generic, so that there is one of it.
#[inline(never)]
pub fn counted_by_callgrind(work: &mut dyn FnMut()) {
    work();
}
