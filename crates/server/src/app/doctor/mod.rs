//! `waybill doctor`: checks all that a server needs, and reports what to change. [`certificate`] is about whether clients speak to
//! it, [`client_ca`] about the certificates that it asks for, [`callers`] about who can call, [`redis`] about Redis and what its failover loses, and [`history`] about fixes that no server reads any more.

mod callers;
mod certificate;
mod client_ca;
mod history;
mod redis;

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::Stores;
use crate::config::Config;
use crate::storage::commit_durability::CommitDurability;
use crate::storage::migrations::{SchemaState, schema_state};
use crate::storage::password_file::PasswordFile;
use crate::storage::postgres::Postgres;
use crate::storage::tls::StoreTlsFiles;
use crate::storage::{StoreError, postgres_url};

/// One line of `waybill doctor`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnosis {
    /// What was checked.
    pub part: &'static str,
    /// How it is.
    pub mark: Mark,
    /// What was found, and what to do.
    pub finding: String,
}

/// How a part is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mark {
    /// As it should be.
    Ok,
    /// It works, and costs something that its operator should have chosen.
    Warning,
    /// To be changed.
    Change,
}

/// What expires within this time is reported: two weeks are enough to have it replaced.
const SOON: SignedDuration = SignedDuration::from_hours(14 * 24);

/// What is lost with the last commits.
const LOST: &str = "accepted orders and the record of charges that were made (M3)";
/// What becomes of them.
const REPEATED: &str = "who repeats such a request within a day gets a new order, which meets its first charge (M1)";

/// Checks all that a server needs.
pub async fn doctor(config: &Config) -> Vec<Diagnosis> {
    let stores = match Stores::new(config) {
        Ok(stores) => stores,
        Err(error) => return vec![change("configuration", error)],
    };
    let now = Timestamp::now();
    let mut found = vec![match config.check_serving() {
        Ok(()) => ok("configuration", "every value is known and in range"),
        Err(error) => change("configuration", error),
    }];
    found.push(certificate::certificate(config, now).await);
    found.extend(client_ca::client_ca(config, now).await);
    let address = postgres_url::address(&config.postgres.url);
    match stores.postgres.ping().await {
        Ok(settings) => {
            let answers = format!("{address} answers{}", by_tls(config.postgres_tls()));
            found.push(ok("postgres", answers));
            let not_as_asked: Vec<String> = settings.timeouts_not_as_asked().collect();
            found.push(timeouts(&not_as_asked));
        }
        Err(error) => {
            let to_check = to_check("postgres.url", config.postgres_password());
            found.push(change("postgres", format!("{address}: {error}; {to_check}")));
        }
    }
    let schema = schema_state(&stores.postgres).await;
    let is_migrated = matches!(schema, Ok(SchemaState::Current | SchemaState::Newer { .. }));
    found.push(match schema {
        Ok(SchemaState::Current) => ok("schema", "is current"),
        Ok(SchemaState::Newer { unknown }) => ok(
            "schema",
            format!("is newer by {unknown} migrations, and this program runs on it"),
        ),
        Ok(SchemaState::Behind { pending }) => {
            change("schema", format!("{pending} migrations are to run: `waybill migrate`"))
        }
        Ok(SchemaState::Foreign { why }) => change("schema", why),
        Err(error) => change("schema", error),
    });
    match stores.postgres.commit_durability().await {
        Ok(durability) => found.extend([commits(&durability), standbys(&durability)]),
        Err(error) => found.push(change("commits", error)),
    }
    found.push(match clock_difference(&stores.postgres).await {
        Ok(apart) if apart.abs() <= Duration::from_secs(1).as_secs_f64() => {
            ok("clock", format!("{apart:+.3} s from the database's"))
        }
        Ok(apart) => change(
            "clock",
            format!("{apart:+.1} s from the database's: the age of fixes would be wrong; set up NTP"),
        ),
        Err(error) => change("clock", error),
    });
    found.extend(callers::callers(config, &stores.postgres, now).await);
    found.extend(redis::redis(config, &stores.redis).await);
    found.extend(history::history(config, &stores, is_migrated).await);
    found
}

/// Whether a statement and a lock of our sessions end when they should.
fn timeouts(not_as_asked: &[String]) -> Diagnosis {
    if not_as_asked.is_empty() {
        let found = "sessions have postgres.statement_timeout and postgres.lock_timeout";
        return ok("timeouts", found);
    }
    warning("timeouts", not_as_asked.join("; "))
}

/// Which settings a store that does not answer as it should was reached by.
fn to_check(url: &str, password: Option<PasswordFile>) -> String {
    match password {
        Some(file) => format!("check {url} and {file}"),
        None => format!("check {url}"),
    }
}

fn by_tls(files: Option<StoreTlsFiles>) -> &'static str {
    files.map_or("", |_| " by TLS")
}

/// What a crash of Postgres loses (<https://www.postgresql.org/docs/current/runtime-config-wal.html#GUC-SYNCHRONOUS-COMMIT>).
fn commits(durability: &CommitDurability) -> Diagnosis {
    match durability.synchronous_commit.as_str() {
        "off" => change(
            "commits",
            format!(
                "synchronous_commit is off: a crash of Postgres loses the last commits: {LOST}; {REPEATED}; set it to on"
            ),
        ),
        level => ok(
            "commits",
            format!("synchronous_commit is {level}: what is committed survives a crash of Postgres"),
        ),
    }
}

/// What a failover to a standby loses.
fn standbys(durability: &CommitDurability) -> Diagnosis {
    let CommitDurability {
        synchronous_commit: level,
        synchronous_standby_names: names,
        standbys,
        synchronous,
        hidden,
    } = durability;
    let replicate = match standbys {
        0 => "no standby replicates".to_owned(),
        1 => "1 standby replicates".to_owned(),
        count => format!("{count} standbys replicate"),
    };
    let waits = !names.is_empty() && !matches!(level.as_str(), "off" | "local");
    let (is_quorum, required) = required_standbys(names);
    if waits && *synchronous >= required && is_quorum && *synchronous > required {
        let found = format!(
            "{replicate}, and each commit waits for any {required} of {synchronous}: a failover to one that it did not wait for \
             may lose the last commits: {LOST}; {REPEATED}"
        );
        return warning("standbys", found);
    }
    if waits && *synchronous >= required {
        let found =
            format!("{replicate}, and commits wait for {synchronous} of them: a failover to one of those loses none");
        return ok("standbys", found);
    }
    if waits && *hidden > 0 {
        let found = format!(
            "{replicate}; whether commits wait for them cannot be seen: grant pg_read_all_stats to the user of postgres.url"
        );
        return warning("standbys", found);
    }
    if waits {
        let found = format!(
            "{replicate}, and {synchronous} of the {required} that synchronous_standby_names ({names}) asks for: each commit waits \
             until they are back"
        );
        return change("standbys", found);
    }
    if *standbys == 0 {
        let found = format!("{replicate}: what is committed is lost with the disk of this Postgres");
        return ok("standbys", found);
    }
    let remedy = if names.is_empty() {
        "to lose none, name a standby in synchronous_standby_names".to_owned()
    } else {
        format!("synchronous_commit is {level}, so synchronous_standby_names has no effect")
    };
    let found =
        format!("{replicate} asynchronously: a failover may lose the last commits: {LOST}; {REPEATED}; {remedy}");
    warning("standbys", found)
}

/// Whether a commit waits for any of the standbys, not for the first ones, and for how many
/// (<https://www.postgresql.org/docs/current/runtime-config-replication.html#GUC-SYNCHRONOUS-STANDBY-NAMES>).
fn required_standbys(names: &str) -> (bool, i64) {
    let Some((before, _)) = names.split_once('(') else {
        return (false, 1);
    };
    let mut words = before.split_whitespace();
    let (method, number) = match (words.next(), words.next()) {
        (Some(method), Some(number)) => (method, number),
        (Some(number), None) => ("first", number),
        _ => ("first", "1"),
    };
    (method.eq_ignore_ascii_case("any"), number.parse().unwrap_or(1))
}

async fn clock_difference(postgres: &Postgres) -> Result<f64, StoreError> {
    let theirs = postgres.now().await?;
    Ok(Timestamp::now().duration_since(theirs).as_secs_f64())
}

fn ok(part: &'static str, finding: impl std::fmt::Display) -> Diagnosis {
    diagnosis(part, Mark::Ok, finding)
}

fn warning(part: &'static str, finding: impl std::fmt::Display) -> Diagnosis {
    diagnosis(part, Mark::Warning, finding)
}

fn change(part: &'static str, finding: impl std::fmt::Display) -> Diagnosis {
    diagnosis(part, Mark::Change, finding)
}

fn diagnosis(part: &'static str, mark: Mark, finding: impl std::fmt::Display) -> Diagnosis {
    Diagnosis {
        part,
        mark,
        finding: finding.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn durability(level: &str, names: &str, standbys: i64, synchronous: i64) -> CommitDurability {
        CommitDurability {
            synchronous_commit: level.to_owned(),
            synchronous_standby_names: names.to_owned(),
            standbys,
            synchronous,
            hidden: 0,
        }
    }

    #[test]
    fn a_failover_loses_nothing_only_where_commits_wait_for_a_standby() {
        let cases = [
            (durability("on", "", 0, 0), Mark::Ok, "no standby replicates"),
            (
                durability("on", "", 2, 0),
                Mark::Warning,
                "2 standbys replicate asynchronously",
            ),
            (durability("on", "*", 2, 1), Mark::Ok, "commits wait for 1 of them"),
            (
                durability("remote_apply", "a", 1, 1),
                Mark::Ok,
                "commits wait for 1 of them",
            ),
            (durability("on", "a", 0, 0), Mark::Change, "each commit waits"),
            (
                durability("on", "FIRST 2 (a, b)", 2, 2),
                Mark::Ok,
                "commits wait for 2 of them",
            ),
            (durability("on", "2 (a, b)", 2, 1), Mark::Change, "each commit waits"),
            (durability("on", "ANY 1 (a, b, c)", 3, 3), Mark::Warning, "any 1 of 3"),
            (
                durability("on", "any 3 (a, b, c)", 3, 3),
                Mark::Ok,
                "commits wait for 3 of them",
            ),
            (
                durability("on", "first, any1", 2, 1),
                Mark::Ok,
                "commits wait for 1 of them",
            ),
            (durability("local", "a", 1, 1), Mark::Warning, "has no effect"),
            (durability("off", "a", 1, 1), Mark::Warning, "has no effect"),
        ];
        for (durability, mark, said) in cases {
            let found = standbys(&durability);
            assert_eq!(found.mark, mark, "{found:?}");
            assert!(found.finding.contains(said), "{found:?}");
        }
        let hidden = CommitDurability {
            hidden: 1,
            ..durability("on", "*", 1, 0)
        };
        assert!(standbys(&hidden).finding.contains("pg_read_all_stats"));
    }

    #[test]
    fn only_a_commit_that_does_not_wait_for_the_disk_is_to_be_changed() {
        for level in ["on", "local", "remote_write", "remote_apply"] {
            assert_eq!(commits(&durability(level, "", 0, 0)).mark, Mark::Ok);
        }
        assert_eq!(commits(&durability("off", "", 0, 0)).mark, Mark::Change);
    }
}
