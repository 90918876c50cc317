//! Who can call: the keys of tokens, the clock of who signs them, and API keys.

use jiff::{SignedDuration, Timestamp};

use super::{Diagnosis, SOON, change, ok, warning};
use crate::app::settings;
use crate::config::Config;
use crate::identity::{KeyReport, KeysError, TOKEN_LEEWAY};
use crate::storage::StoreError;
use crate::storage::api_keys::{ApiKey, ApiKeyStore};
use crate::storage::postgres::Postgres;

pub async fn callers(config: &Config, postgres: &Postgres, now: Timestamp) -> Vec<Diagnosis> {
    if config.auth.anonymous {
        let found = "are not asked who they are (auth.anonymous): whoever reaches the server may do everything";
        return vec![warning("callers", found)];
    }
    let report = match settings::key_source(config) {
        Ok(Some(source)) => Some(source.report().await),
        Ok(None) => None,
        Err(error) => Some(Err(error)),
    };
    let mut found = report.iter().flat_map(tokens).collect::<Vec<_>>();
    found.push(match ApiKeyStore::new(postgres.clone()).current().await {
        Ok(mut keys) => {
            // As a server takes them: a key of a tenant that is not named opens nothing.
            keys.retain(|key| {
                let tenant = key.caller.tenant();
                tenant.is_default() || config.tenants.names.contains(&tenant)
            });
            api_keys(&keys, report.is_some(), now)
        }
        // Before the first migration there is no such table.
        Err(error @ StoreError::Unexpected(_)) => change("api keys", format!("{error}: first run `waybill migrate`")),
        Err(error) => change("api keys", error),
    });
    found
}

/// The keys of tokens, and the clock of their address.
fn tokens(report: &Result<KeyReport, KeysError>) -> Vec<Diagnosis> {
    let report = match report {
        Ok(report) => report,
        Err(error) => return vec![change("auth.keys", error)],
    };
    let keys = match report.keys {
        1 => "1 key verifies tokens".to_owned(),
        keys => format!("{keys} keys verify tokens"),
    };
    let mut found = vec![match report.left_out {
        0 => ok("auth.keys", keys),
        left_out => warning("auth.keys", format!("{keys}, and {left_out} cannot be used")),
    }];
    found.extend(report.ahead.map(token_clock));
    found
}

fn token_clock(ahead: SignedDuration) -> Diagnosis {
    let (away, leeway) = (ahead.abs(), TOKEN_LEEWAY.as_secs());
    if away <= TOKEN_LEEWAY {
        return ok(
            "token clock",
            format!("{:+.1} s from that of auth.keys", -ahead.as_secs_f64()),
        );
    }
    let (side, then) = if ahead.is_negative() {
        ("ahead of", "expire too soon")
    } else {
        ("behind", "are refused as not valid yet")
    };
    let found = format!(
        "{:.0} s {side} that of auth.keys, and {leeway} s are allowed for: tokens that are signed by that clock {then}; set up NTP",
        away.as_secs_f64()
    );
    change("token clock", found)
}

/// The API keys that are good now.
fn api_keys(keys: &[ApiKey], has_tokens: bool, now: Timestamp) -> Diagnosis {
    let ends = |key: &ApiKey| key.expires_at.unwrap_or(Timestamp::MAX);
    let mut good: Vec<&ApiKey> = keys.iter().filter(|key| ends(key) > now).collect();
    good.sort_by_key(|key| ends(key));
    let soon = good.iter().filter(|key| ends(key).duration_since(now) < SOON).count();
    let are_good = match good.len() {
        1 => "1 is good".to_owned(),
        count => format!("{count} are good"),
    };
    match (good.first(), soon) {
        (None, _) if !has_tokens => change(
            "callers",
            "no one can call: make an API key with `waybill keys create`, or set auth.keys",
        ),
        (None, _) => ok("api keys", "there are none"),
        (Some(_), 0) => ok("api keys", are_good),
        (Some(first), soon) => {
            let expire = if soon == 1 { "expires" } else { "expire" };
            let days = SOON.as_hours() / 24;
            let found = format!(
                "{are_good}, and {soon} {expire} within {days} days, {} ({}) first, at {}: make another in time, with `waybill keys create`",
                first.id,
                first.caller,
                ends(first)
            );
            warning("api keys", found)
        }
    }
}
