//! A private Redis: its settings, and what survives its death.

use std::fs;
use std::path::Path;

use nix::sys::signal::{Signal, kill};
use redis::aio::MultiplexedConnection;
use redis::{AsyncCommands, Client};
use waybill_sandbox::redis::{Redis, Settings};

use crate::wait::folder;

async fn start(folder: &Path, durable: bool) -> Redis {
    Redis::start(Settings {
        data_dir: folder.to_owned(),
        durable,
    })
    .await
    .unwrap()
}

async fn connect(url: String) -> MultiplexedConnection {
    Client::open(url)
        .unwrap()
        .get_multiplexed_async_connection()
        .await
        .unwrap()
}

async fn setting(connection: &mut MultiplexedConnection, name: &str) -> String {
    let pair: (String, String) = redis::cmd("CONFIG")
        .arg("GET")
        .arg(name)
        .query_async(connection)
        .await
        .unwrap();
    pair.1
}

#[tokio::test]
async fn an_answered_command_survives_the_death_of_a_durable_server() {
    let folder = folder();
    let mut redis = start(folder.path(), true).await;
    let (url, pid) = (redis.url(), redis.pid().unwrap());
    let mut client = connect(redis.url_for(511)).await;
    for (name, expected) in [
        ("appendonly", "yes"),
        ("appendfsync", "always"),
        ("save", ""),
        ("maxmemory-policy", "noeviction"),
        ("databases", "512"),
        ("bind", "127.0.0.1"),
    ] {
        assert_eq!(setting(&mut client, name).await, expected, "{name}");
    }
    let () = client.set("kept", 42).await.unwrap();

    redis.kill().await.unwrap();
    assert!(kill(pid, None).is_err(), "reaped");
    redis.restart().await.unwrap();

    assert_eq!(redis.url(), url);
    assert_eq!(
        connect(redis.url_for(511)).await.get::<_, i32>("kept").await.unwrap(),
        42
    );
}

#[tokio::test]
async fn a_folder_is_taken_over_and_nothing_is_written_outside_it() {
    let folder = folder();
    let mut redis = start(folder.path(), false).await;
    let mut client = connect(redis.url()).await;
    assert_eq!(setting(&mut client, "appendfsync").await, "everysec");
    let () = client.set("kept", 42).await.unwrap();
    redis.stop().await.unwrap();
    drop(redis);

    let redis = start(folder.path(), false).await;

    assert_eq!(connect(redis.url()).await.get::<_, i32>("kept").await.unwrap(), 42);
    let mut client = connect(redis.url()).await;
    let data = folder.path().canonicalize().unwrap().join("data");
    assert_eq!(setting(&mut client, "dir").await, data.to_str().unwrap());
}

#[tokio::test]
async fn a_paused_server_answers_after_it_is_continued() {
    let folder = folder();
    let redis = start(folder.path(), false).await;
    let mut client = connect(redis.url()).await;
    redis.signal(Signal::SIGSTOP).unwrap();
    assert!(
        client.get::<_, Option<i32>>("x").await.is_err(),
        "no answer within the client's own limit"
    );

    redis.signal(Signal::SIGCONT).unwrap();

    let mut client = connect(redis.url()).await;
    assert_eq!(client.get::<_, Option<i32>>("x").await.unwrap(), None);
}

#[tokio::test]
async fn data_that_cannot_be_read_is_told_with_the_line_that_says_why() {
    let folder = folder();
    let mut redis = start(folder.path(), false).await;
    let () = connect(redis.url()).await.set("kept", 42).await.unwrap();
    redis.stop().await.unwrap();
    let files = folder.path().join("data/appendonlydir");
    let manifest = fs::read_dir(&files)
        .unwrap()
        .flatten()
        .find(|entry| entry.file_name().to_string_lossy().ends_with(".manifest"));
    fs::write(manifest.unwrap().path(), "nonsense").unwrap();

    let error = redis.restart().await.unwrap_err().to_string();

    assert!(error.starts_with("Redis did not start: "), "{error}");
    assert_eq!(error.lines().count(), 1);
}
