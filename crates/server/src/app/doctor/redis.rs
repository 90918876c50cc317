//! Redis: whether it answers and is what the settings take it for, and what its death and its failover lose.

use super::{Diagnosis, by_tls, change, ok, to_check, warning};
use crate::config::Config;
use crate::storage::redis::{self, Redis};
use crate::storage::redis_safety::Safety;

/// What to set `redis.shards` to.
const SHARDS: &str = "set redis.shards to some times the number of masters, such as 8 for three";

/// What there is to say of it.
pub(super) async fn redis(config: &Config, redis: &Redis) -> Vec<Diagnosis> {
    let address = redis::address(&config.redis.url);
    let mut found = Vec::new();
    // A server that does not say so is found out by what follows.
    match (config.redis.cluster, redis.is_node_of_cluster().await) {
        (false, Ok(true)) => {
            let what = format!("{address} is a node of a Redis Cluster: set redis.cluster = true, and {SHARDS}");
            return vec![change("redis", what)];
        }
        (true, Ok(false)) => {
            let what = format!("{address} is no node of a Redis Cluster: set redis.cluster = false");
            return vec![change("redis", what)];
        }
        _ => {}
    }
    let safety = match redis.safety().await {
        Ok(safety) => safety,
        Err(error) => {
            let check = to_check("redis.url", config.redis_password());
            found.insert(0, change("redis", format!("{address}: {error}; {check}")));
            return found;
        }
    };
    let line = |part, safety, safe: String| match safety {
        Safety::Safe => ok(part, safe),
        Safety::Unsafe(why) => change(part, format!("{address}: {why}")),
        Safety::Unknown(why) => warning(part, format!("{address}: {why}")),
    };
    let by_tls = by_tls(config.redis_tls());
    let answers = format!("{address} answers{by_tls}, and keeps what it acknowledges");
    let holds = "nothing is dropped when its memory is full".to_owned();
    let lines = [
        line("redis", safety.durability, answers),
        line("redis memory", safety.eviction, holds),
    ];
    found.splice(0..0, lines);
    match redis.replicas_connected().await {
        Ok(connected) => found.extend(replicas(config.redis.replicas, connected)),
        Err(error) => found.push(warning(
            "replicas",
            format!("{address}: it is not known how many follow: {error}"),
        )),
    }
    found
}

/// What a failover loses, where so many replicas follow of those that fixes wait for.
fn replicas(waited_for: u16, connected: u16) -> Option<Diagnosis> {
    let part = "replicas";
    match (waited_for, connected) {
        (0, 0) => None,
        (0, connected) => {
            let what = format!(
                "{connected} follow, and no fix waits for one: a failover may lose acknowledged fixes that are not in the history (L1); \
                 set redis.replicas = 1 to lose none"
            );
            Some(warning(part, what))
        }
        (waited_for, connected) if connected < waited_for => {
            let what = format!("{connected} of the {waited_for} of redis.replicas follow: no fix is acknowledged");
            Some(change(part, what))
        }
        (waited_for, connected) if connected == waited_for => {
            let what = format!(
                "a fix is acknowledged once {waited_for} have it, and no more follow: after a failover none is acknowledged until \
                 another follows"
            );
            Some(warning(part, what))
        }
        (waited_for, connected) => {
            let what = format!(
                "a fix is acknowledged once {waited_for} of {connected} have it: a failover to one that is furthest loses none"
            );
            Some(ok(part, what))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Mark;
    use super::*;

    #[test]
    fn what_a_failover_loses_follows_from_who_is_waited_for_and_who_follows() {
        let mark = |waited_for, connected| replicas(waited_for, connected).map(|found| found.mark);
        assert_eq!(mark(0, 0), None);
        assert_eq!(mark(0, 2), Some(Mark::Warning));
        assert_eq!(mark(1, 0), Some(Mark::Change));
        assert_eq!(mark(1, 1), Some(Mark::Warning));
        assert_eq!(mark(1, 2), Some(Mark::Ok));
    }
}
