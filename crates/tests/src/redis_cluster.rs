//! A Redis Cluster: how one is made of servers that run, and three masters on this machine.

use std::fs::File;
use std::path::Path;

use redis::aio::MultiplexedConnection;
use waybill_sandbox::port;
use waybill_sandbox::process::{Launch, Process, Signal};
use waybill_sandbox::programs;

use crate::until;

const SLOTS: usize = 16_384;

/// Where a node is.
#[derive(Debug, Clone)]
pub struct NodeAddress {
    /// Its address.
    pub ip: String,
    /// Where clients connect.
    pub port: u16,
    /// Where the other nodes connect.
    pub bus_port: u16,
}

impl NodeAddress {
    /// `redis://` URL.
    pub fn url(&self) -> String {
        format!("redis://{}:{}", self.ip, self.port)
    }
}

/// Makes a cluster of these nodes: the first so many are masters, and each of the others follows one of them.
pub async fn form(nodes: &[NodeAddress], masters: usize) {
    let mut connections = Vec::new();
    let mut ids = Vec::new();
    for (number, node) in nodes.iter().enumerate() {
        let mut redis = connection(node).await;
        ids.push(run(&mut redis, &["MYID"]).await.expect("a node of a cluster"));
        if number < masters {
            let (first, after) = (number * SLOTS / masters, (number + 1) * SLOTS / masters);
            let slots = ["ADDSLOTSRANGE", &first.to_string(), &(after - 1).to_string()];
            run(&mut redis, &slots).await.expect("no one has these slots");
            let epoch = ["SET-CONFIG-EPOCH", &(number + 1).to_string()];
            run(&mut redis, &epoch).await.expect("a new node");
        }
        connections.push(redis);
    }
    for (node, redis) in nodes.iter().zip(&mut connections).skip(1) {
        let first = &nodes[0];
        let words = ["MEET", &first.ip, &first.port.to_string(), &first.bus_port.to_string()];
        run(redis, &words)
            .await
            .unwrap_or_else(|error| panic!("{node:?}: {error}"));
    }
    for (number, redis) in connections.iter_mut().enumerate().skip(masters) {
        let master = &ids[number % masters];
        until("the replica knows its master", async || {
            run(redis, &["REPLICATE", master]).await
        })
        .await;
    }
    for redis in &mut connections {
        until("the cluster serves all slots", async || {
            let info = run(redis, &["INFO"]).await.map_err(|error| error.to_string())?;
            let known = format!("cluster_known_nodes:{}\r\n", nodes.len());
            let is_ok = info.contains("cluster_state:ok") && info.contains(&known);
            if is_ok { Ok(()) } else { Err(info) }
        })
        .await;
    }
}

async fn connection(node: &NodeAddress) -> MultiplexedConnection {
    let client = redis::Client::open(node.url()).expect("a URL");
    until("the node answers", async || {
        client.get_multiplexed_async_connection().await
    })
    .await
}

async fn run(redis: &mut MultiplexedConnection, words: &[&str]) -> redis::RedisResult<String> {
    redis::cmd("CLUSTER").arg(words).query_async(redis).await
}

/// Three masters on this machine. Dropped, they are killed.
pub struct RedisCluster {
    nodes: Vec<NodeAddress>,
    processes: Vec<Process>,
}

impl RedisCluster {
    /// Starts it, with its data in this folder.
    pub async fn start(folder: &Path) -> RedisCluster {
        let program = programs::redis().expect("redis-server");
        let mut processes = Vec::new();
        let mut nodes = Vec::new();
        for number in 0..3 {
            let data = folder.join(format!("cluster-{number}"));
            std::fs::create_dir_all(&data).expect("a folder");
            let node = NodeAddress {
                ip: "127.0.0.1".to_owned(),
                port: port::free(),
                bus_port: port::free(),
            };
            let (port, bus_port) = (node.port.to_string(), node.bus_port.to_string());
            let dir = data.display().to_string();
            let settings = [
                ["--bind", "127.0.0.1"],
                ["--port", &port],
                ["--cluster-port", &bus_port],
                ["--cluster-enabled", "yes"],
                ["--appendonly", "yes"],
                ["--appendfsync", "always"],
                ["--save", ""],
                ["--dir", &dir],
            ];
            let process = Process::start(Launch {
                program: program.clone(),
                args: settings.iter().flatten().map(Into::into).collect(),
                output: File::create(data.join("log")).expect("a log"),
            });
            processes.push(process.expect("redis-server starts"));
            nodes.push(node);
            // Or the next one might be given the same ports.
            connection(nodes.last().expect("a node")).await;
        }
        form(&nodes, 3).await;
        RedisCluster { nodes, processes }
    }

    /// Kills one of the nodes, counted from 0; it is gone when this returns.
    pub async fn kill(&mut self, node: usize) {
        let process = &mut self.processes[node];
        process.signal(Signal::SIGKILL).expect("the node runs");
        process.wait().await.expect("a child");
    }

    /// The others know this one no more, nor that the slots it has are anyone's.
    pub async fn forget(&self, node: usize) {
        let gone = format!(":{}@", self.nodes[node].port);
        for (_, other) in self.nodes.iter().enumerate().filter(|(number, _)| *number != node) {
            let mut redis = connection(other).await;
            let nodes = run(&mut redis, &["NODES"]).await.expect("a node of a cluster");
            let known = nodes.lines().find(|line| line.contains(&gone));
            // Redis 7.2 and newer learn of it by gossip.
            if let Some((id, _)) = known.and_then(|line| line.split_once(' ')) {
                run(&mut redis, &["FORGET", id]).await.expect("it is another's");
            }
        }
    }

    /// `redis://` URL of one of the nodes, counted from 0.
    pub fn url_of(&self, node: usize) -> String {
        self.nodes[node].url()
    }

    /// The URLs of all of them, as `redis.url` has them.
    pub fn urls(&self) -> String {
        let urls: Vec<String> = self.nodes.iter().map(NodeAddress::url).collect();
        urls.join(",")
    }
}
