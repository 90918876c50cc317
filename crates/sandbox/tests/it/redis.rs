//! A private Redis: its settings, and what survives its death.

use std::fs;
use std::path::Path;

use nix::sys::signal::{Signal, kill};
use redis::AsyncCommands;
use redis::aio::MultiplexedConnection;
use waybill_sandbox::Redis;

use crate::rig::{cache, folder, server_settings};

async fn start(folder: &Path, durable: bool) -> Redis {
    Redis::start(server_settings(folder, durable)).await.unwrap()
}

async fn setting(connection: &mut MultiplexedConnection, name: &str) -> String {
    let mut get = redis::cmd("CONFIG");
    let pair: (String, String) = get.arg("GET").arg(name).query_async(connection).await.unwrap();
    pair.1
}

#[tokio::test]
async fn an_answered_command_survives_the_death_of_a_durable_server() {
    let folder = folder();
    let mut redis = start(folder.path(), true).await;
    let (url, pid) = (redis.url(), redis.pid().unwrap());
    let mut client = cache(&redis.url_for(511)).await;
    for (name, expected) in [
        ("appendonly", "yes"),
        ("appendfsync", "always"),
        ("save", ""),
        ("maxmemory-policy", "noeviction"),
        ("databases", "1024"),
        ("bind", "127.0.0.1"),
    ] {
        assert_eq!(setting(&mut client, name).await, expected, "{name}");
    }
    let () = client.set("kept", 42).await.unwrap();

    redis.kill().await.unwrap();
    assert!(kill(pid, None).is_err(), "the process has been waited for");
    redis.restart().await.unwrap();

    assert_eq!(redis.url(), url);
    let kept: i32 = cache(&redis.url_for(511)).await.get("kept").await.unwrap();
    assert_eq!(kept, 42);
}

#[tokio::test]
async fn a_folder_is_taken_over_and_nothing_is_written_outside_it() {
    let folder = folder();
    let mut redis = start(folder.path(), false).await;
    let mut client = cache(&redis.url()).await;
    assert_eq!(setting(&mut client, "appendfsync").await, "everysec");
    let () = client.set("kept", 42).await.unwrap();
    redis.stop().await.unwrap();
    drop(redis);

    let redis = start(folder.path(), false).await;

    let mut client = cache(&redis.url()).await;
    assert_eq!(client.get::<_, i32>("kept").await.unwrap(), 42);
    let data = folder.path().canonicalize().unwrap().join("data");
    assert_eq!(setting(&mut client, "dir").await, data.to_str().unwrap());
}

#[tokio::test]
async fn a_paused_server_answers_after_it_is_continued() {
    let folder = folder();
    let redis = start(folder.path(), false).await;
    let mut client = cache(&redis.url()).await;
    redis.signal(Signal::SIGSTOP).unwrap();
    assert!(
        client.get::<_, Option<i32>>("x").await.is_err(),
        "no answer within the client's own limit"
    );

    redis.signal(Signal::SIGCONT).unwrap();

    let mut client = cache(&redis.url()).await;
    assert_eq!(client.get::<_, Option<i32>>("x").await.unwrap(), None);
}

#[tokio::test]
async fn damaged_data_is_reported_with_the_most_telling_line() {
    let folder = folder();
    let mut redis = start(folder.path(), false).await;
    let () = cache(&redis.url()).await.set("kept", 42).await.unwrap();
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
