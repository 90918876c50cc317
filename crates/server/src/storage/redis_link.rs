//! Where commands to Redis go: to one server, or to the nodes of a cluster.

use std::collections::HashSet;

use redis::aio::{ConnectionLike, ConnectionManager};
use redis::cluster_async::ClusterConnection;
use redis::cluster_routing::{MultipleNodeRoutingInfo, RoutingInfo};
use redis::{Cmd, ErrorKind, Pipeline, RedisError, RedisFuture, RedisResult, Value};
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
    /// What each server that takes writes answers to this command. In a cluster it is an error that slots have no master, and that there is no connection to a
    /// master: the client leaves those out without a word.
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
                let serving = Serving::of(&slots);
                let missing = |what, count| RedisError::from((ErrorKind::ClusterConnectionNotFound, what, count));
                if serving.slots < SLOTS {
                    let count = format!("{} of {SLOTS} slots have a master", serving.slots);
                    return Err(missing("not all of the cluster serves", count));
                }
                if answers.len() < serving.masters {
                    let count = format!("{} of {} masters answer", answers.len(), serving.masters);
                    return Err(missing("not all of the cluster is connected", count));
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

/// How many slots a cluster has (<https://redis.io/docs/latest/operate/oss_and_stack/reference/cluster-spec/>).
const SLOTS: i64 = 16_384;

/// What of a cluster has a master, as one node sees it.
#[derive(Debug, PartialEq, Eq)]
struct Serving {
    masters: usize,
    slots: i64,
}

impl Serving {
    /// By the answer to CLUSTER SLOTS: for each range its ends, its master and its replicas, and of each server its address, its port and its id
    /// (<https://redis.io/docs/latest/commands/cluster-slots/>).
    fn of(slots: &Value) -> Serving {
        let ranges = if let Value::Array(ranges) = slots {
            ranges.as_slice()
        } else {
            &[]
        };
        let ranges = ranges.iter().filter_map(|range| {
            let Value::Array(range) = range else { return None };
            let [Value::Int(first), Value::Int(last), Value::Array(master), ..] = range.as_slice() else {
                return None;
            };
            let [_, _, Value::BulkString(id), ..] = master.as_slice() else {
                return None;
            };
            Some((last - first + 1, id.as_slice()))
        });
        let (counts, masters): (Vec<i64>, HashSet<&[u8]>) = ranges.unzip();
        Serving {
            masters: masters.len(),
            slots: counts.iter().sum(),
        }
    }
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
        let answer = Value::Array(vec![
            range(0, 99, "one"),
            range(100, 199, "two"),
            range(200, 16_383, "one"),
        ]);
        let (masters, slots) = (2, SLOTS);
        assert_eq!(Serving::of(&answer), Serving { masters, slots });
        let nothing = Serving { masters: 0, slots: 0 };
        assert_eq!(Serving::of(&Value::Array(Vec::new())), nothing);
    }
}
