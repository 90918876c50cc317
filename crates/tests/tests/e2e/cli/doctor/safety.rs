//! What `waybill doctor` and `/readyz` say about stores that work, and are not set so that nothing is lost or held up.

use testkit::wire::get_json;
use testkit::{Rig, ServerProcess, until};

use super::{assert_finds, finding};

/// Waits until `/readyz` is ready and warns of this; then the whole warning.
async fn warned(http: &str, part: &str, named: &str) -> String {
    until("/readyz warns", async || {
        let (status, report) = get_json(&format!("{http}/readyz")).await;
        let warnings = report["warnings"].as_array().cloned().unwrap_or_default();
        let mut warnings = warnings.iter().filter_map(|warning| warning.as_str());
        let warning = warnings.find(|warning| warning.starts_with(part) && warning.contains(named));
        match warning {
            Some(warning) if status == 200 => Ok(warning.to_owned()),
            _ => Err(report.clone()),
        }
    })
    .await
}

async fn redis(rig: &Rig, command: &[&str]) {
    let mut connection = rig.redis().await;
    let mut sent = redis::cmd(command[0]);
    sent.arg(&command[1..]).exec_async(&mut connection).await.unwrap();
}

#[tokio::test]
async fn a_redis_that_evicts_is_named_with_what_it_loses() {
    let rig = Rig::builder().private_stores().start().await;
    let (_, mark, text) = finding(&rig, "redis memory", &[]).await;
    assert_eq!(mark, "ok", "{text}");
    // A policy without a limit of memory evicts nothing.
    redis(&rig, &["config", "set", "maxmemory-policy", "volatile-lru"]).await;
    let (_, mark, text) = finding(&rig, "redis memory", &[]).await;
    assert_eq!(mark, "ok", "{text}");

    redis(&rig, &["config", "set", "maxmemory", "1gb"]).await;
    let named = ["maxmemory-policy is volatile-lru", "driver:<id>", "noeviction"];
    assert_finds(&rig, &[], "redis memory", "CHANGE", &named).await;
    redis(&rig, &["config", "set", "maxmemory-policy", "allkeys-lru"]).await;
    assert_finds(&rig, &[], "redis memory", "CHANGE", &["allkeys-lru", "location_events"]).await;
    warned(&rig.http(), "redis", "location_events").await;

    // Both at once.
    redis(&rig, &["config", "set", "appendfsync", "everysec"]).await;
    let warning = warned(&rig.http(), "redis", "appendfsync is everysec").await;
    assert!(warning.contains("allkeys-lru"), "{warning}");
}

#[tokio::test]
async fn of_a_redis_that_does_not_say_how_it_is_set_it_is_said_that_this_is_not_known() {
    let rig = Rig::builder().private_stores().no_server().start().await;
    redis(
        &rig,
        &["acl", "setuser", "app", "on", ">secret", "~*", "&*", "+@all", "-config"],
    )
    .await;
    let url = rig.flags()["redis.url"].replacen("redis://", "redis://app:secret@", 1);
    let settings = [("REDIS_URL", url.as_str())];
    assert_finds(
        &rig,
        &settings,
        "redis",
        "WARNING",
        &["CONFIG", "cannot be known", "appendfsync"],
    )
    .await;
    let (status, mark, text) = finding(&rig, "redis memory", &settings).await;
    assert_eq!((status, mark.as_str()), (Some(0), "ok"), "{text}");
    let server = ServerProcess::start(&rig, &[("redis.url", &url)]).await;
    warned(&server.http(), "redis", "CONFIG is not permitted").await;

    redis(&rig, &["acl", "setuser", "app", "-info"]).await;
    assert_finds(&rig, &settings, "redis memory", "WARNING", &["INFO", "cannot be known"]).await;
    warned(&server.http(), "redis", "INFO is not permitted").await;
}

#[tokio::test]
async fn commits_that_do_not_wait_are_a_warning_of_readyz() {
    let rig = Rig::builder().no_server().start().await;
    rig.execute(
        "do $$ begin
             execute format('alter role %I in database %I set synchronous_commit = off', current_user, current_database());
         end $$",
    )
    .await;
    let server = ServerProcess::start(&rig, &[]).await;
    warned(&server.http(), "postgres", "synchronous_commit is off").await;
}

/// What the role has of its own is not the last word: ours is.
#[tokio::test]
async fn timeouts_are_those_of_the_settings_whatever_the_role_has() {
    let rig = Rig::builder().no_server().start().await;
    let (_, mark, text) = finding(&rig, "timeouts", &[]).await;
    assert_eq!(mark, "ok", "{text}");
    rig.execute(
        "do $$ begin
             execute format('alter role %I in database %I set statement_timeout = ''7s''', current_user, current_database());
         end $$",
    )
    .await;
    let (_, mark, text) = finding(&rig, "timeouts", &[]).await;
    assert_eq!(mark, "ok", "{text}");
}
