//! Waiting for a condition, and folders to wait in.

use std::fs::{File, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// Far beyond what anything here takes, so that a slow machine does not turn a test red.
pub const DEADLINE: Duration = Duration::from_secs(30);

/// Polls until `condition` holds; fails with `what` at the deadline.
pub async fn until(what: &str, mut condition: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + DEADLINE;
    while !condition().await {
        assert!(Instant::now() < deadline, "still not so after {DEADLINE:?}: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// A folder of one test that an unprivileged Postgres can get to as well.
pub fn folder() -> TempDir {
    tempfile::Builder::new()
        .permissions(Permissions::from_mode(0o755))
        .tempdir()
        .unwrap()
}

/// Whether no process holds the lock on this file: every process that was given it as its output is gone.
pub fn is_released(path: &Path) -> bool {
    File::options().append(true).open(path).unwrap().try_lock().is_ok()
}
