//! A Redis with two replicas under three Sentinels, behind HAProxy. A fix is acknowledged once a replica has it.
//!
//! The Sentinels are on machines of their own, which do not fail. One that was cut off together with an old leader came back with it, had the
//! new leader follow the old one, and so took back what had been acknowledged: 536 fixes of one failover in seventeen.

use std::collections::HashMap;
use std::path::Path;
use std::time::Duration;

use testkit::process::Flags;
use testkit::until_within;

use crate::engine::{Engine, Watch, write};
use crate::haproxy::Haproxy;
use crate::network::{Machine, Network, Rights};
use crate::programs::Programs;
use crate::redis_server::{self, PORT};

const STARTS_WITHIN: Duration = Duration::from_mins(1);
/// How HAProxy asks who leads: one whom no one follows is no leader, or was one.
const CHECK: &str = r#"    option tcp-check
    tcp-check send "INFO replication\r\n"
    tcp-check expect rstring role:master[[:space:]]+connected_slaves:[1-9]"#;

/// The three.
pub struct Sentinel {
    machines: Vec<Machine>,
    sentinels: Vec<Machine>,
    haproxy: Haproxy,
}

impl Sentinel {
    /// Starts it; when this returns both replicas follow.
    pub async fn start(network: &Network, programs: &Programs, folder: &Path, watch: Watch) -> Sentinel {
        let mut machines = Vec::new();
        for number in [21, 22, 23] {
            machines.push(network.machine(&folder.join(format!("redis-{number}"))).await);
        }
        let (down_after_ms, lag_max, rewrite_from) = match watch {
            Watch::Eager => (2_000, "3", "64mb"),
            Watch::Patient => (30_000, "30", "16gb"),
        };
        let first = machines[0].ip.clone();
        for (number, machine) in machines.iter_mut().enumerate() {
            let follows = (number > 0).then_some(first.as_str());
            // A leader whom no one follows takes no writes: it may have been replaced.
            let writes = ["--min-replicas-to-write", "1", "--min-replicas-max-lag", lag_max];
            let rewrites = ["--auto-aof-rewrite-min-size", rewrite_from];
            redis_server::run(machine, programs, follows, &[&writes[..], &rewrites].concat());
        }
        let mut sentinels = Vec::new();
        for number in [24, 25, 26] {
            let mut machine = network.machine(&folder.join(format!("sentinel-{number}"))).await;
            let config = machine.folder().join("sentinel.conf");
            let text = format!(
                "bind {}\nport 26379\ndir {}\nprotected-mode no\nsentinel monitor waybill {first} {PORT} 2\n\
                 sentinel down-after-milliseconds waybill {down_after_ms}\nsentinel failover-timeout waybill 3000\n\
                 sentinel parallel-syncs waybill 2\n",
                machine.ip,
                machine.folder().display()
            );
            write(&config, &text);
            let args = [&*config.display().to_string()];
            machine.run("sentinel", Rights::Root, &programs.sentinel, &args);
            sentinels.push(machine);
        }
        let servers: Vec<_> = machines
            .iter()
            .map(|machine| (format!("{}:{PORT}", machine.ip), PORT))
            .collect();
        let sentinel = Sentinel {
            haproxy: Haproxy::start(&programs.haproxy, &folder.join("haproxy"), CHECK, &servers, watch),
            machines,
            sentinels,
        };
        let ready = until_within(STARTS_WITHIN, async || sentinel.is_whole().await).await;
        ready.unwrap_or_else(|state| panic!("redis does not start: {state}; see {}", folder.display()));
        sentinel
    }
}

impl Engine for Sentinel {
    const NAME: &'static str = "sentinel";

    fn flags(&self) -> Flags {
        Flags::from([
            ("redis.url", format!("redis://{}", self.haproxy.address())),
            ("redis.replicas", "1".to_owned()),
        ])
    }

    fn machines(&mut self) -> &mut [Machine] {
        &mut self.machines
    }

    async fn leader(&self, _turn: usize) -> Option<usize> {
        for (number, machine) in self.machines.iter().enumerate() {
            if redis_server::leads(machine).await == Some(2) {
                return Some(number);
            }
        }
        None
    }

    async fn has_successor(&self, of: usize) -> bool {
        let others = self.machines.iter().enumerate().filter(|(number, _)| *number != of);
        for (_, machine) in others {
            // With a replica, or there would be none that could have a fix.
            if redis_server::leads(machine).await.is_some_and(|replicas| replicas > 0) {
                return true;
            }
        }
        false
    }

    async fn is_whole(&self) -> Result<(), String> {
        let mut seen = Vec::new();
        for machine in &self.machines {
            seen.push((redis_server::leads(machine).await, redis_server::follows(machine).await));
        }
        for machine in &self.sentinels {
            let known = known(machine).await;
            if known != Some((2, 2)) {
                return Err(format!(
                    "a Sentinel knows these numbers of replicas and Sentinels: {known:?}"
                ));
            }
        }
        let leaders = seen.iter().filter(|seen| seen.0 == Some(2)).count();
        let followers = seen.iter().filter(|seen| seen.1).count();
        if (leaders, followers) == (1, 2) {
            Ok(())
        } else {
            Err(format!("replicas of each that leads, and who follows: {seen:?}"))
        }
    }

    fn keeps_fixes(&self) -> bool {
        true
    }
}

/// How many others this Sentinel knows that are there: replicas and Sentinels. It asks for the replicas every ten seconds, and a failover
/// before that forgets those that it does not know.
async fn known(machine: &Machine) -> Option<(usize, usize)> {
    let client = redis::Client::open(format!("redis://{}:26379", machine.ip)).expect("a URL");
    let ask = async {
        let mut connection = client.get_multiplexed_async_connection().await.ok()?;
        let mut count = async |what: &str| -> Option<usize> {
            let mut command = redis::cmd("SENTINEL");
            let asked = command.arg(what).arg("waybill").query_async(&mut connection).await;
            let known: Vec<HashMap<String, String>> = asked.ok()?;
            let is_there = |one: &&HashMap<String, String>| {
                let flags = one.get("flags").map_or("", String::as_str);
                !flags.contains("down") && !flags.contains("disconnected")
            };
            Some(known.iter().filter(is_there).count())
        };
        Some((count("REPLICAS").await?, count("SENTINELS").await?))
    };
    tokio::time::timeout(Duration::from_millis(500), ask).await.ok()?
}
