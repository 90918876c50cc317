//! Each read of what callers are known by is counted, and whether it failed: an operator sees it before callers are refused.

use std::fs;

use testkit::{Rig, until};

use super::Doors;

/// How many reads of this source had this outcome.
pub async fn reads(rig: &Rig, source: &str, outcome: &str) -> u64 {
    let metrics = rig.metrics().await;
    let counts = &metrics["auth"]["key_reads"][source];
    counts[outcome].as_u64().unwrap_or_default()
}

/// Waits until more reads had this outcome than now.
async fn until_read(rig: &Rig, source: &str, outcome: &str) {
    let before = reads(rig, source, outcome).await;
    let what = format!("a read of {source} is {outcome}");
    until(&what, async || reads(rig, source, outcome).await > before).await;
}

#[tokio::test]
async fn reads_of_api_keys_are_counted_those_that_fail_too() {
    let doors = Doors::start(Rig::builder()).await;
    let rig = &doors.rig;
    until_read(rig, "api_keys", "ok").await;
    assert_eq!(reads(rig, "api_keys", "failed").await, 0);
    rig.execute("alter table api_keys rename to hidden").await;
    until_read(rig, "api_keys", "failed").await;
    rig.execute("alter table hidden rename to api_keys").await;
    until_read(rig, "api_keys", "ok").await;
}

#[tokio::test]
async fn reads_of_the_file_of_the_keys_of_tokens_are_counted_those_that_fail_too() {
    let doors = Doors::start(Rig::builder()).await;
    let (rig, good) = (&doors.rig, fs::read_to_string(&doors.keys).unwrap());
    until_read(rig, "auth.keys", "ok").await;
    assert_eq!(reads(rig, "auth.keys", "failed").await, 0);
    // One that cannot be used is no better than one that is gone.
    fs::write(&doors.keys, "{").unwrap();
    until_read(rig, "auth.keys", "failed").await;
    fs::remove_file(&doors.keys).unwrap();
    until_read(rig, "auth.keys", "failed").await;
    fs::write(&doors.keys, good).unwrap();
    until_read(rig, "auth.keys", "ok").await;
}
