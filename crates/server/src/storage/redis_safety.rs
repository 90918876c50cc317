//! Whether what Redis acknowledges, and what it holds, stays: for `waybill doctor` and `/readyz`. Some hosts forbid CONFIG; INFO says a part
//! of it there, and what it does not say cannot be known.

use std::collections::HashMap;

use redis::{ErrorKind, FromRedisValue, RedisError, ServerErrorKind};

use super::StoreError;
use super::redis::Redis;

/// What an operator should change about a Redis, or find out in another way; a sentence each.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RedisSafety {
    /// Whether what it acknowledges survives its death.
    pub durability: Safety,
    /// Whether it holds what it has when its memory is full.
    pub eviction: Safety,
}

/// One of both.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Safety {
    /// It does.
    Safe,
    /// It does not, and what to do.
    Unsafe(String),
    /// This Redis does not say, and what to do.
    Unknown(String),
}

/// What Redis says of itself, by name. `None`: it does not.
type Said = Option<HashMap<String, String>>;

impl RedisSafety {
    /// What is to be warned of.
    pub fn warnings(self) -> impl Iterator<Item = String> {
        [self.durability, self.eviction]
            .into_iter()
            .filter_map(|safety| match safety {
                Safety::Safe => None,
                Safety::Unsafe(why) | Safety::Unknown(why) => Some(why),
            })
    }
}

impl Redis {
    /// Asks Redis. An error is that it does not answer; that it does not say is none.
    pub async fn safety(&self) -> Result<RedisSafety, StoreError> {
        // One after the other: a Redis that is slow for a moment is silent once then, and not so often that its connection is left.
        let config = self
            .each::<HashMap<String, String>>("CONFIG", &["GET", "append*"])
            .await?;
        let memory = self.info("memory").await?;
        let durability = if let [Some(_), ..] = config.as_slice() {
            worst(config.iter().map(|config| durability(config, &None)))
        } else {
            let persistence = self.info("persistence").await?;
            worst(persistence.iter().map(|persistence| durability(&None, persistence)))
        };
        Ok(RedisSafety {
            durability,
            eviction: worst(memory.iter().map(eviction)),
        })
    }

    /// A part of INFO, of each server.
    async fn info(&self, part: &str) -> Result<Vec<Said>, StoreError> {
        let texts = self.each::<String>("INFO", &[part]).await?;
        Ok(texts.iter().map(|text| text.as_deref().map(lines)).collect())
    }

    /// What each server that takes writes says; a single `None` where they do not.
    async fn each<T: FromRedisValue>(&self, name: &str, arguments: &[&str]) -> Result<Vec<Option<T>>, StoreError> {
        let Some(answers) = said(self.asked_of_each(command(name, arguments)).await?)? else {
            return Ok(vec![None]);
        };
        let answers = answers.into_iter().map(redis::from_redis_value::<T>);
        let answers: Result<Vec<T>, _> = answers.collect();
        Ok(answers.map_err(RedisError::from)?.into_iter().map(Some).collect())
    }
}

/// That of the server that is worst off.
fn worst(servers: impl Iterator<Item = Safety>) -> Safety {
    let rank = |safety: &Safety| match safety {
        Safety::Safe => 0,
        Safety::Unknown(_) => 1,
        Safety::Unsafe(_) => 2,
    };
    let none = || Safety::Unknown("no server says how it is set: ask again".to_owned());
    servers.max_by_key(rank).unwrap_or_else(none)
}

fn command(name: &str, arguments: &[&str]) -> redis::Cmd {
    let mut command = redis::cmd(name);
    command.arg(arguments);
    command
}

/// `None` where Redis answered that it does not say: it has no such command, or not for this user.
fn said<T>(answer: Result<T, RedisError>) -> Result<Option<T>, StoreError> {
    match answer {
        Ok(said) => Ok(Some(said)),
        Err(error) => match error.kind() {
            ErrorKind::Server(ServerErrorKind::NoPerm | ServerErrorKind::ResponseError) => Ok(None),
            _ => Err(error.into()),
        },
    }
}

/// The lines of INFO.
fn lines(info: &str) -> HashMap<String, String> {
    let pairs = info.lines().filter_map(|line| line.trim_end().split_once(':'));
    pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

fn of<'a>(said: &'a Said, name: &str) -> Option<&'a str> {
    said.as_ref()?.get(name).map(String::as_str)
}

fn durability(config: &Said, persistence: &Said) -> Safety {
    match (of(config, "appendonly"), of(config, "appendfsync")) {
        (Some("yes"), Some("always")) => Safety::Safe,
        (Some("yes"), Some(other)) => Safety::Unsafe(format!(
            "appendfsync is {other}: acknowledged fixes may be lost when Redis dies; CONFIG SET appendfsync always"
        )),
        (None, _) if of(persistence, "aof_enabled") != Some("0") => Safety::Unknown(
            "CONFIG is not permitted, so whether acknowledged fixes survive when Redis dies cannot be known: look whether its host has \
             appendonly yes and appendfsync always"
                .to_owned(),
        ),
        _ => Safety::Unsafe(
            "appendonly is off: all fixes not yet in Postgres are lost when Redis dies; CONFIG SET appendonly yes, then \
             appendfsync always"
                .to_owned(),
        ),
    }
}

/// Which keys a policy evicts (<https://redis.io/docs/latest/develop/reference/eviction/>).
fn eviction(memory: &Said) -> Safety {
    let lost = match (of(memory, "maxmemory"), of(memory, "maxmemory_policy")) {
        (Some("0"), _) | (_, Some("noeviction")) => return Safety::Safe,
        (Some(_), Some(policy)) if policy.starts_with("volatile-") => {
            "live drivers (driver:<id>), who are off the map and found for no order until their next fix"
        }
        (Some(_), Some(_)) => {
            "acknowledged fixes (location_events) that are not in the history, and live drivers (drivers:*, driver:<id>)"
        }
        _ => {
            let why = "INFO is not permitted, so whether Redis evicts drivers and fixes when its memory is full cannot be known: look \
                       whether its host has maxmemory-policy noeviction";
            return Safety::Unknown(why.to_owned());
        }
    };
    let policy = of(memory, "maxmemory_policy").unwrap_or_default();
    Safety::Unsafe(format!(
        "maxmemory-policy is {policy}: when its memory is full Redis drops {lost}; CONFIG SET maxmemory-policy noeviction"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn says(pairs: &[(&str, &str)]) -> HashMap<String, String> {
        let pairs = pairs.iter();
        pairs
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect()
    }

    #[test]
    fn which_keys_are_lost_is_said_by_the_policy() {
        let of_policy =
            |maxmemory, policy| eviction(&Some(says(&[("maxmemory", maxmemory), ("maxmemory_policy", policy)])));
        assert_eq!(of_policy("0", "allkeys-lru"), Safety::Safe);
        assert_eq!(of_policy("1000", "noeviction"), Safety::Safe);
        for (policy, lost, kept) in [
            ("volatile-ttl", "driver:<id>", "location_events"),
            ("volatile-lru", "driver:<id>", "location_events"),
            ("allkeys-random", "location_events", "nothing"),
            ("allkeys-lfu", "drivers:*", "nothing"),
        ] {
            let Safety::Unsafe(why) = of_policy("1000", policy) else {
                panic!("{policy} is safe")
            };
            assert!(
                why.contains(policy) && why.contains(lost) && !why.contains(kept),
                "{why}"
            );
        }
        assert!(matches!(eviction(&None), Safety::Unknown(_)));
    }

    #[test]
    fn of_several_servers_the_worst_counts_and_none_is_not_safe() {
        let unknown = || Safety::Unknown("unknown".to_owned());
        let bad = || Safety::Unsafe("unsafe".to_owned());
        assert_eq!(worst([Safety::Safe, bad(), unknown()].into_iter()), bad());
        assert_eq!(worst([unknown(), Safety::Safe].into_iter()), unknown());
        assert!(matches!(worst(std::iter::empty()), Safety::Unknown(_)));
    }

    #[test]
    fn what_a_redis_does_not_say_is_not_taken_for_good() {
        let config = |fsync| Some(says(&[("appendonly", "yes"), ("appendfsync", fsync)]));
        assert_eq!(durability(&config("always"), &None), Safety::Safe);
        assert!(matches!(durability(&config("everysec"), &None), Safety::Unsafe(_)));
        let off = Some(says(&[("appendonly", "no"), ("appendfsync", "always")]));
        assert!(matches!(durability(&off, &None), Safety::Unsafe(_)));
        let aof = |enabled| Some(says(&[("aof_enabled", enabled)]));
        assert!(matches!(durability(&None, &aof("1")), Safety::Unknown(_)));
        assert!(matches!(durability(&None, &None), Safety::Unknown(_)));
        assert!(matches!(durability(&None, &aof("0")), Safety::Unsafe(_)));
    }
}
