//! Where commands to Redis go: to one server, or to the nodes of a cluster.

use std::collections::HashSet;

use redis::aio::{ConnectionLike, ConnectionManager};
use redis::cluster_async::ClusterConnection;
use redis::cluster_routing::{MultipleNodeRoutingInfo, RoutingInfo};
use redis::{Cmd, ErrorKind, Pipeline, RedisFuture, RedisResult, Value};
use secrecy::{ExposeSecret as _, SecretString};

/// Where commands go: to one Redis, or to whichever node of a cluster has the slot of their key.
#[derive(Clone)]
pub(super) enum Link {
    /// One Redis.
    One(ConnectionManager),
    /// All nodes of a cluster.
    Cluster(ClusterConnection),
}

impl Link {
    /// What each server that takes writes answers to this command. In a cluster without a connection to one of them it is an error: the client leaves those
    /// out without a word.
    pub(super) async fn of_each_primary(&mut self, command: Cmd) -> RedisResult<Vec<Value>> {
        match self {
            Link::One(manager) => Ok(vec![command.query_async(manager).await?]),
            Link::Cluster(nodes) => {
                let all = RoutingInfo::MultiNode((MultipleNodeRoutingInfo::AllMasters, None));
                let mut asked = nodes.clone();
                let mut slots = redis::cmd("CLUSTER");
                slots.arg("SLOTS");
                let (answers, slots) = tokio::try_join!(
                    nodes.route_command(command, all),
                    slots.query_async::<Value>(&mut asked)
                )?;
                let answers = match answers {
                    Value::Map(answers) => answers,
                    _ => Vec::new(),
                };
                // One at least.
                let masters = masters_of(&slots).max(1);
                if answers.len() < masters {
                    let count = format!("{} of {masters} masters answer", answers.len());
                    let why = "not all of the cluster is connected";
                    return Err((ErrorKind::ClusterConnectionNotFound, why, count).into());
                }
                answers.into_iter().map(|(_, answer)| answer.extract_error()).collect()
            }
        }
    }

    /// Shows the password of this user on the connection, in a cluster on each that is open.
    pub(super) async fn authenticate(&mut self, user: &str, password: &SecretString) -> RedisResult<()> {
        let mut command = redis::cmd("AUTH");
        command.arg(user).arg(password.expose_secret());
        match self {
            Link::One(manager) => command.exec_async(manager).await,
            Link::Cluster(nodes) => {
                let all = RoutingInfo::MultiNode((MultipleNodeRoutingInfo::AllNodes, None));
                nodes.route_command(command, all).await?.extract_error().map(drop)
            }
        }
    }
}

/// How many masters have slots, by the answer to CLUSTER SLOTS: for each range its ends, its master and its replicas, and of each server its address, its
/// port and its id (<https://redis.io/docs/latest/commands/cluster-slots/>).
fn masters_of(slots: &Value) -> usize {
    let Value::Array(ranges) = slots else { return 0 };
    let masters = ranges.iter().filter_map(|range| {
        let Value::Array(range) = range else { return None };
        let Some(Value::Array(master)) = range.get(2) else {
            return None;
        };
        match master.get(2) {
            Some(Value::BulkString(id)) => Some(id.as_slice()),
            _ => None,
        }
    });
    masters.collect::<HashSet<&[u8]>>().len()
}

impl ConnectionLike for Link {
    fn req_packed_command<'a>(&'a mut self, command: &'a Cmd) -> RedisFuture<'a, Value> {
        match self {
            Link::One(manager) => manager.req_packed_command(command),
            Link::Cluster(nodes) => nodes.req_packed_command(command),
        }
    }

    fn req_packed_commands<'a>(
        &'a mut self,
        pipeline: &'a Pipeline,
        offset: usize,
        count: usize,
    ) -> RedisFuture<'a, Vec<Value>> {
        match self {
            Link::One(manager) => manager.req_packed_commands(pipeline, offset, count),
            Link::Cluster(nodes) => nodes.req_packed_commands(pipeline, offset, count),
        }
    }

    fn get_db(&self) -> i64 {
        match self {
            Link::One(manager) => manager.get_db(),
            Link::Cluster(nodes) => nodes.get_db(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_master_of_several_ranges_of_slots_is_one() {
        let text = |text: &str| Value::BulkString(text.as_bytes().to_vec());
        let server = |id: &str| Value::Array(vec![text("127.0.0.1"), Value::Int(6379), text(id)]);
        let range = |first, last, master: &str| {
            let ends = [Value::Int(first), Value::Int(last)];
            Value::Array([ends.to_vec(), vec![server(master), server("a-replica")]].concat())
        };
        let slots = Value::Array(vec![
            range(0, 99, "one"),
            range(100, 199, "two"),
            range(200, 16_383, "one"),
        ]);
        assert_eq!(masters_of(&slots), 2);
        assert_eq!(masters_of(&Value::Array(Vec::new())), 0);
    }
}
