//! A `redis-server` on a machine, and what it says of itself.

use std::time::Duration;

use redis::aio::MultiplexedConnection;
use tokio::time::timeout;

use crate::engine::write;
use crate::network::{Machine, Rights};
use crate::programs::Programs;

/// Every Redis listens there.
pub const PORT: u16 = 6379;
const ASKED_WITHIN: Duration = Duration::from_millis(300);

/// Starts it with these settings, beside those that an acknowledged fix needs; `follows`: a replica of the one at this address.
pub fn run(machine: &mut Machine, programs: &Programs, follows: Option<&str>, more: &[&str]) {
    let (ip, folder) = (machine.ip.clone(), machine.folder().display().to_string());
    let config = machine.folder().join("redis.conf");
    // In a file, for Sentinel to write into it who leads.
    let follows = follows.map_or_else(String::new, |leader| format!("replicaof {leader} {PORT}\n"));
    let text = format!("bind {ip}\nport {PORT}\ndir {folder}\nprotected-mode no\nsave \"\"\n{follows}");
    write(&config, &text);
    let config = config.display().to_string();
    let mut args = vec![config.as_str(), "--appendonly", "yes", "--appendfsync", "always"];
    // A replica that comes back is not made to wait for another one.
    args.extend(["--repl-diskless-sync-delay", "0"]);
    args.extend(more);
    machine.run("redis", Rights::Root, &programs.redis, &args);
}

/// A connection to it, if it answers.
pub async fn connect(machine: &Machine) -> Option<MultiplexedConnection> {
    let client = redis::Client::open(format!("redis://{}:{PORT}", machine.ip)).expect("a URL");
    let connecting = timeout(ASKED_WITHIN, client.get_multiplexed_async_connection());
    connecting.await.ok()?.ok()
}

/// What it says of this; `None`: nothing.
pub async fn info(machine: &Machine, section: &str) -> Option<String> {
    let mut connection = connect(machine).await?;
    let mut command = redis::cmd("INFO");
    command.arg(section);
    let asked = timeout(ASKED_WITHIN, command.query_async(&mut connection));
    asked.await.ok()?.ok()
}

/// Whether it leads, and how many replicas follow it that have all it had.
pub async fn leads(machine: &Machine) -> Option<usize> {
    let info = info(machine, "replication").await?;
    let online = |line: &&str| line.starts_with("slave") && line.contains("state=online");
    info.contains("role:master")
        .then(|| info.lines().filter(online).count())
}

/// Whether it follows, and is in step.
pub async fn follows(machine: &Machine) -> bool {
    let info = info(machine, "replication").await.unwrap_or_default();
    info.contains("role:slave") && info.contains("master_link_status:up")
}
