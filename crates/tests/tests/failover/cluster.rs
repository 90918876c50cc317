//! A Redis Cluster of three masters and three replicas.

use std::path::Path;
use std::time::Duration;

use testkit::process::Flags;
use testkit::redis_cluster::{self, NodeAddress};
use testkit::until_within;

use crate::engine::Engine;
use crate::network::{Machine, Network};
use crate::programs::Programs;
use crate::redis_server::{self, PORT};

const STARTS_WITHIN: Duration = Duration::from_mins(1);
const MASTERS: usize = 3;

/// The six.
pub struct Cluster {
    machines: Vec<Machine>,
}

impl Cluster {
    /// Starts it; when this returns all slots are served, and each master has its replica.
    pub async fn start(network: &Network, programs: &Programs, folder: &Path) -> Cluster {
        let mut machines = Vec::new();
        for number in 31..=36 {
            let mut machine = network.machine(&folder.join(format!("redis-{number}"))).await;
            let settings = ["--cluster-enabled", "yes", "--cluster-node-timeout", "2000"];
            redis_server::run(&mut machine, programs, None, &settings);
            machines.push(machine);
        }
        let nodes = machines.iter().map(|machine| NodeAddress {
            ip: machine.ip.clone(),
            port: PORT,
            bus_port: PORT + 10_000,
        });
        redis_cluster::form(&nodes.collect::<Vec<_>>(), MASTERS).await;
        let cluster = Cluster { machines };
        let ready = until_within(STARTS_WITHIN, async || cluster.is_whole().await).await;
        ready.unwrap_or_else(|state| panic!("the cluster does not start: {state}; see {}", folder.display()));
        cluster
    }
}

impl Engine for Cluster {
    const NAME: &'static str = "cluster";

    fn flags(&self) -> Flags {
        let nodes: Vec<String> = self
            .machines
            .iter()
            .map(|machine| format!("redis://{}:{PORT}", machine.ip))
            .collect();
        Flags::from([
            ("redis.url", nodes.join(",")),
            ("redis.cluster", "true".to_owned()),
            ("redis.shards", "8".to_owned()),
        ])
    }

    fn machines(&mut self) -> &mut [Machine] {
        &mut self.machines
    }

    async fn leader(&self, turn: usize) -> Option<usize> {
        let mut leaders = Vec::new();
        for (number, machine) in self.machines.iter().enumerate() {
            if redis_server::leads(machine).await.is_some() {
                leaders.push(number);
            }
        }
        leaders.get(turn % MASTERS).copied()
    }

    async fn has_successor(&self, of: usize) -> bool {
        // Three others lead: one of them in its place.
        let mut leaders = 0;
        for (number, machine) in self.machines.iter().enumerate() {
            if number != of && redis_server::leads(machine).await.is_some() {
                leaders += 1;
            }
        }
        leaders == MASTERS
    }

    async fn is_whole(&self) -> Result<(), String> {
        let mut seen = Vec::new();
        for machine in &self.machines {
            let state = redis_server::connect(machine).await;
            let info = match state {
                Some(mut redis) => redis::cmd("CLUSTER").arg("INFO").query_async(&mut redis).await,
                None => Ok(String::new()),
            };
            let is_ok = info
                .is_ok_and(|info: String| info.contains("cluster_state:ok") && info.contains("cluster_slots_ok:16384"));
            seen.push((
                is_ok,
                redis_server::leads(machine).await,
                redis_server::follows(machine).await,
            ));
        }
        let leaders = seen.iter().filter(|seen| seen.1 == Some(1)).count();
        let followers = seen.iter().filter(|seen| seen.2).count();
        if seen.iter().all(|seen| seen.0) && (leaders, followers) == (MASTERS, 3) {
            Ok(())
        } else {
            Err(format!("state, replicas of each that leads, and who follows: {seen:?}"))
        }
    }

    fn keeps_fixes(&self) -> bool {
        // Each master has one replica: while that leads, none follows, so no one could be waited for.
        false
    }
}
