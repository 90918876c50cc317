//! A private Postgres: created, killed, restarted, taken over.

use std::fs::{self, File, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, Uid};
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, NoTls};
use tokio_util::task::TaskTracker;
use waybill_sandbox::{Error, Postgres, ServerSettings};

use crate::rig::{folder, is_released, server_settings, sql, until};

async fn start(folder: &Path) -> Postgres {
    Postgres::start(settings(folder)).await.unwrap()
}

fn settings(folder: &Path) -> ServerSettings {
    server_settings(folder, false)
}

async fn client(postgres: &Postgres, database: &str) -> Client {
    sql(&postgres.url(database)).await
}

async fn assert_answers(postgres: &Postgres, database: &str) {
    let client = client(postgres, database).await;
    client.query_one("select 1", &[]).await.unwrap();
}

async fn setting(client: &Client, name: &str) -> String {
    let row = client.query_one("select current_setting($1)", &[&name]).await;
    row.unwrap().get(0)
}

/// Whether this is root. A test that needs it says so where it is not, and is left out.
fn is_root() -> bool {
    let is_root = Uid::effective().is_root();
    if !is_root {
        eprintln!("LEFT OUT: it needs root");
    }
    is_root
}

#[tokio::test]
async fn a_new_folder_becomes_a_server_and_a_restart_keeps_its_data_and_address() {
    let folder = folder();
    let mut postgres = start(folder.path()).await;
    postgres.create_database("waybill").await.unwrap();
    postgres.create_database("waybill").await.unwrap(); // idempotent
    let first = client(&postgres, "waybill").await;
    first
        .batch_execute("create table kept (id int); insert into kept values (42)")
        .await
        .unwrap();
    assert_eq!(setting(&first, "server_encoding").await, "UTF8");
    assert_eq!(setting(&first, "listen_addresses").await, "127.0.0.1");
    assert_eq!(setting(&first, "max_connections").await, "200");
    assert_eq!(setting(&first, "fsync").await, "off");
    let (url, pid) = (postgres.url("waybill"), postgres.pid().unwrap());

    postgres.kill().await.unwrap(); // at once: an answered commit must not need another moment
    assert_eq!(postgres.pid(), None);
    assert!(kill(pid, None).is_err(), "the process has been waited for");
    let log = folder.path().join("log");
    until("the backends have ended", async || is_released(&log)).await;
    assert!(first.query_one("select 1", &[]).await.is_err());
    postgres.restart().await.unwrap();

    assert_eq!(postgres.url("waybill"), url);
    let second = client(&postgres, "waybill").await;
    let row = second.query_one("select id from kept", &[]).await.unwrap();
    assert_eq!(row.get::<_, i32>(0), 42);
    postgres.stop().await.unwrap();
    let log = fs::read_to_string(log).unwrap();
    assert!(
        log.contains("received fast shutdown request") && log.contains("database system is shut down"),
        "{log}"
    );
}

/// The owner was killed and its server too, without a clean-up: the pid file names a dead process, or by now a living
/// one of another owner.
#[tokio::test]
async fn a_folder_left_by_a_killed_server_starts_again() {
    let folder = folder();
    let mut postgres = start(folder.path()).await;
    postgres.create_database("waybill").await.unwrap();
    let dead = postgres.pid().unwrap().to_string();
    postgres.kill().await.unwrap();
    drop(postgres);
    let pid_file = folder.path().join("data/postmaster.pid");
    let left = fs::read_to_string(&pid_file).expect("the killed server left its pid file");
    // A process of the same user, as after a restart of the machine: Postgres cannot tell it from its own.
    let elsewhere = crate::rig::folder();
    let other = start(elsewhere.path()).await;
    let stranger = other.pid().unwrap().to_string();
    fs::write(&pid_file, left.replacen(&dead, &stranger, 1)).unwrap();

    let postgres = start(folder.path()).await;

    assert_answers(&postgres, "waybill").await;
}

#[tokio::test]
async fn a_folder_that_is_served_by_hand_is_not_served_twice() {
    let folder = folder();
    let mut postgres = start(folder.path()).await;
    // Its output goes elsewhere, as that of a server started by hand would: the lock does not show it.
    fs::rename(folder.path().join("log"), folder.path().join("elsewhere")).unwrap();

    let error = Postgres::start(settings(folder.path())).await.unwrap_err().to_string();

    assert!(error.contains("pre-existing shared memory block"), "{error}");
    postgres.stop().await.unwrap();
}

#[tokio::test]
async fn a_durable_server_keeps_its_safeguards() {
    let folder = folder();
    let postgres = Postgres::start(server_settings(folder.path(), true)).await.unwrap();
    let client = client(&postgres, "postgres").await;
    for safeguard in ["fsync", "synchronous_commit", "full_page_writes"] {
        assert_eq!(setting(&client, safeguard).await, "on", "{safeguard}");
    }
}

#[tokio::test]
async fn a_half_created_cluster_is_created_again() {
    let folder = folder();
    fs::create_dir(folder.path().join("data.new")).unwrap();
    fs::write(folder.path().join("data.new/PG_VERSION"), "15").unwrap();

    let postgres = start(folder.path()).await;

    assert_answers(&postgres, "postgres").await;
}

#[tokio::test]
async fn two_servers_do_not_share_a_folder() {
    let folder = folder();
    // What a running server does: it holds its log.
    let log = File::create(folder.path().join("log")).unwrap();
    log.try_lock().unwrap();

    let error = Postgres::start(settings(folder.path())).await.unwrap_err();

    assert!(matches!(error, Error::InUse { .. }), "{error}");
    assert!(!folder.path().join("data").exists());
}

#[tokio::test]
async fn damaged_data_is_reported_with_the_most_telling_line() {
    let folder = folder();
    let mut postgres = start(folder.path()).await;
    postgres.stop().await.unwrap();
    fs::remove_file(folder.path().join("data/global/pg_control")).unwrap();

    let error = postgres.restart().await.unwrap_err().to_string();

    assert!(
        error.starts_with("Postgres did not start: ") && error.contains("pg_control"),
        "{error}"
    );
    assert_eq!(error.lines().count(), 1);
}

#[tokio::test]
async fn started_as_root_in_a_closed_folder_it_names_the_folder() {
    if !is_root() {
        return;
    }
    let folder = folder();
    fs::set_permissions(folder.path(), Permissions::from_mode(0o700)).unwrap();

    let error = Postgres::start(settings(folder.path())).await.unwrap_err();

    assert!(matches!(error, Error::FolderClosed { .. }), "{error}");
}

#[tokio::test]
async fn a_paused_server_answers_after_it_is_continued() {
    let folder = folder();
    let postgres = start(folder.path()).await;
    postgres.signal(Signal::SIGSTOP).unwrap();
    let url = postgres.url("postgres");
    let waiting = TaskTracker::new().spawn(async move { tokio_postgres::connect(&url, NoTls).await.is_ok() });
    assert!(!waiting.is_finished());

    postgres.signal(Signal::SIGCONT).unwrap();

    assert!(waiting.await.unwrap());
}

#[tokio::test]
async fn a_database_name_is_not_a_way_to_run_sql() {
    let folder = folder();
    let postgres = start(folder.path()).await;
    for name in ["", "Orders", "x\"; drop database postgres; --", "1st", &"a".repeat(64)] {
        let error = postgres.create_database(name).await.unwrap_err();
        assert!(matches!(error, Error::DatabaseName(_)), "{error}");
    }
}

#[tokio::test]
async fn a_server_that_was_started_as_root_runs_unprivileged() {
    if !is_root() {
        return;
    }
    let folder = folder();
    let postgres = start(folder.path()).await;
    let data = fs::metadata(folder.path().join("data")).unwrap();
    assert_ne!(data.uid(), 0);
    let own = client(&postgres, "postgres").await;
    let pid: i32 = own.query_one("select pg_backend_pid()", &[]).await.unwrap().get(0);
    if let Ok(process) = fs::metadata(format!("/proc/{}", Pid::from_raw(pid))) {
        assert_eq!(process.uid(), data.uid());
    }
}

#[tokio::test]
async fn a_standby_follows_its_primary_and_takes_reads_alone() {
    let (first, second) = (folder(), folder());
    let postgres = start(first.path()).await;
    let standby = postgres.start_standby(settings(second.path())).await.unwrap();
    let (writer, reader) = (client(&postgres, "postgres").await, client(&standby, "postgres").await);
    writer.batch_execute("create table followed (id int)").await.unwrap();
    until("the table is there", async || {
        let there = reader
            .query_one("select to_regclass('followed') is not null", &[])
            .await;
        there.unwrap().get::<_, bool>(0)
    })
    .await;
    let refused = reader
        .batch_execute("insert into followed values (1)")
        .await
        .unwrap_err();
    assert_eq!(refused.code(), Some(&SqlState::READ_ONLY_SQL_TRANSACTION));
}
