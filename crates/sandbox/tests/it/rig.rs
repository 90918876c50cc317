//! What all tests share: waiting for a condition, folders, clients of the stores, and a second process to kill.

use std::fs::{File, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use redis::aio::MultiplexedConnection;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio_postgres::{Client, NoTls};
use tokio_util::task::TaskTracker;
use waybill_sandbox::ServerSettings;

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

pub fn server_settings(folder: &Path, durable: bool) -> ServerSettings {
    ServerSettings {
        data_dir: folder.to_owned(),
        durable,
    }
}

/// A client of a Postgres.
pub async fn sql(url: &str) -> Client {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await.unwrap();
    TaskTracker::new().spawn(connection);
    client
}

/// A client of a Redis.
pub async fn cache(url: &str) -> MultiplexedConnection {
    let client = redis::Client::open(url).unwrap();
    client.get_multiplexed_async_connection().await.unwrap()
}

/// Whether no process holds the lock on this file: every process that was given it as its output is gone.
pub fn is_released(path: &Path) -> bool {
    File::options().append(true).open(path).unwrap().try_lock().is_ok()
}

/// Runs an ignored test of this binary in a process of its own, with this variable, until it has printed the line
/// `ready` to its error output.
pub async fn spawn_owner(test: &str, variable: &str, path: &Path) -> Child {
    let mut owner = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", test, "--ignored", "--nocapture"])
        .env(variable, path)
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(owner.stderr.take().unwrap()).lines();
    until("the owner is ready", async || {
        lines.next_line().await.unwrap().expect("the owner lives") == "ready"
    })
    .await;
    owner
}
