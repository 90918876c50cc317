//! What `waybill doctor` says about the database's commits, and where it looked.

use std::fs::File;

use testkit::{Rig, until_eq};
use waybill_sandbox::process::{Launch, Process};
use waybill_sandbox::programs;

use super::finding;

/// A client of the replication protocol, as a standby is one: it is asynchronous unless it is named.
async fn standby(rig: &Rig) -> Process {
    let program = programs::postgres().unwrap().postgres.with_file_name("pg_receivewal");
    let url = rig.flags()["postgres.url"].clone();
    let folder = rig.folder().join("wal");
    std::fs::create_dir(&folder).unwrap();
    let standby = Process::start(Launch {
        program,
        args: ["--dbname", &url, "--directory", folder.to_str().unwrap()]
            .map(Into::into)
            .into(),
        output: File::create(rig.folder().join("wal.log")).unwrap(),
    });
    let standby = standby.expect("pg_receivewal starts");
    let replicating = "select count(*) from pg_stat_replication where state = 'streaming'";
    until_eq("the standby replicates", 1, async || rig.count(replicating).await).await;
    standby
}

#[tokio::test]
async fn the_doctor_says_what_a_crash_loses_when_commits_are_not_synchronous() {
    let rig = Rig::builder().no_server().start().await;
    let (status, mark, text) = finding(&rig, "commits", &[]).await;
    assert_eq!((status, mark.as_str()), (Some(0), "ok"), "{text}");
    assert!(text.contains("synchronous_commit is on"), "{text}");

    rig.execute(
        "do $$ begin
             execute format('alter role %I in database %I set synchronous_commit = off', current_user, current_database());
         end $$",
    )
    .await;
    let (status, mark, text) = finding(&rig, "commits", &[]).await;
    assert_eq!((status, mark.as_str()), (Some(1), "CHANGE"), "{text}");
    for said in ["synchronous_commit is off", "crash", "accepted orders", "charges"] {
        assert!(text.contains(said), "{text}");
    }
}

#[tokio::test]
async fn the_doctor_says_what_a_failover_to_an_asynchronous_standby_loses() {
    let rig = Rig::builder().private_stores().no_server().start().await;
    let (_, mark, text) = finding(&rig, "standbys", &[]).await;
    assert_eq!(mark, "ok", "{text}");
    assert!(text.contains("no standby replicates"), "{text}");

    let standby = standby(&rig).await;
    let (status, mark, text) = finding(&rig, "standbys", &[]).await;
    assert_eq!((status, mark.as_str()), (Some(0), "WARNING"), "{text}");
    for said in [
        "1 standby",
        "failover",
        "accepted orders",
        "M1",
        "M3",
        "synchronous_standby_names",
    ] {
        assert!(text.contains(said), "{text}");
    }
    drop(standby);
}

#[tokio::test]
async fn the_doctor_names_the_addresses_that_it_tried() {
    let rig = Rig::builder().no_server().start().await;
    for (part, key) in [("postgres", "postgres.url"), ("redis", "redis.url")] {
        let url = &rig.flags()[key];
        let address = url
            .split(['@', '/'])
            .find(|part| part.starts_with("127.0.0.1:"))
            .unwrap();
        let (_, mark, text) = finding(&rig, part, &[]).await;
        assert_eq!(mark, "ok");
        assert!(text.contains(address), "{address} is not in {text}");
    }
}
