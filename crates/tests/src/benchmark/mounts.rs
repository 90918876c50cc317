//! Which file system a folder is on: a write that is safe on one of them is a write to memory on another.

use std::path::Path;

/// Type and device of the file system that a folder is on, from `/proc/self/mounts`.
pub fn file_system(mounts: &str, folder: &Path) -> Option<String> {
    let mounted = mounts.lines().filter_map(|line| {
        let mut fields = line.split(' ');
        let (device, at, kind) = (fields.next()?, fields.next()?, fields.next()?);
        folder
            .starts_with(at)
            .then_some((at.len(), format!("{kind} on {device}")))
    });
    // Of two on the same place the later one is what is seen.
    mounted.max_by_key(|(length, _)| *length).map(|(_, found)| found)
}
