//! `waybill doctor`: checks all that a server needs, and reports what to change.

use std::time::Duration;

use super::Stores;
use crate::config::Config;
use crate::storage::StoreError;
use crate::storage::migrations::{SchemaState, schema_state};
use crate::storage::postgres::Postgres;
use crate::storage::redis::Durability;

/// One line of `waybill doctor`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnosis {
    /// What was checked.
    pub part: &'static str,
    /// Whether it is as it should be.
    pub ok: bool,
    /// What was found, and what to do.
    pub finding: String,
}

/// Checks all that a server needs.
pub async fn doctor(config: &Config) -> Vec<Diagnosis> {
    let stores = match Stores::new(config) {
        Ok(stores) => stores,
        Err(error) => return vec![problem("configuration", error)],
    };
    let mut found = vec![ok("configuration", "every value is known and in range")];
    found.push(match stores.postgres.ping().await {
        Ok(()) => ok("postgres", "answers"),
        Err(error) => problem("postgres", format!("{error}; check postgres.url")),
    });
    found.push(match schema_state(&stores.postgres).await {
        Ok(SchemaState::Current) => ok("schema", "is current"),
        Ok(SchemaState::Behind { pending }) => {
            problem("schema", format!("{pending} migrations are to run: `waybill migrate`"))
        }
        Ok(SchemaState::Foreign { why }) => problem("schema", why),
        Err(error) => problem("schema", error),
    });
    found.push(match clock_difference(&stores.postgres).await {
        Ok(apart) if apart.abs() <= Duration::from_secs(1).as_secs_f64() => {
            ok("clock", &format!("{apart:+.3} s from the database's"))
        }
        Ok(apart) => problem(
            "clock",
            format!("{apart:+.1} s from the database's: the age of fixes would be wrong; set up NTP"),
        ),
        Err(error) => problem("clock", error),
    });
    found.push(match stores.redis.durability().await {
        Ok(Durability::Full) => ok("redis", "answers, and keeps what it acknowledges"),
        Ok(Durability::Less(why)) => problem("redis", why),
        Err(error) => problem("redis", format!("{error}; check redis.url")),
    });
    found
}

async fn clock_difference(postgres: &Postgres) -> Result<f64, StoreError> {
    let theirs = postgres.now().await?;
    Ok(jiff::Timestamp::now().duration_since(theirs).as_secs_f64())
}

fn ok(part: &'static str, finding: &str) -> Diagnosis {
    Diagnosis {
        part,
        ok: true,
        finding: finding.to_owned(),
    }
}

fn problem(part: &'static str, finding: impl std::fmt::Display) -> Diagnosis {
    Diagnosis {
        part,
        ok: false,
        finding: finding.to_string(),
    }
}
