//! The whole world: started, used, killed with its owner, taken over.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::Stdio;

use redis::AsyncCommands;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::Command;
use tokio_postgres::{Client, NoTls};
use tokio_util::task::TaskTracker;
use waybill_sandbox::{Error, Settings, World};

use crate::wait::{folder, is_released, until};

const OWNER_FOLDER: &str = "SANDBOX_TEST_OWNER_FOLDER";

fn settings(folder: &Path) -> Settings {
    Settings {
        data_dir: folder.to_owned(),
        durable: true,
        postgres_url: None,
        redis_url: None,
        payments_addr: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
    }
}

async fn database(url: &str) -> Client {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await.unwrap();
    TaskTracker::new().spawn(connection);
    client
}

async fn cache(url: &str) -> redis::aio::MultiplexedConnection {
    redis::Client::open(url)
        .unwrap()
        .get_multiplexed_async_connection()
        .await
        .unwrap()
}

/// Not a test: the other process of the test below, which runs this test binary once more.
#[tokio::test]
#[ignore = "runs only as the owner that another test kills"]
async fn owner_of_a_world() {
    let Some(folder) = std::env::var_os(OWNER_FOLDER) else {
        return;
    };
    let world = World::start(settings(Path::new(&folder))).await.unwrap();
    let sql = "create table kept (id int); insert into kept values (42)";
    database(&world.database_url).await.batch_execute(sql).await.unwrap();
    let () = cache(&world.redis_url).await.set("kept", 42).await.unwrap();
    eprintln!("ready");
    std::future::pending::<()>().await;
}

#[tokio::test]
async fn a_world_whose_owner_was_killed_is_gone_and_starts_again_with_its_data() {
    let folder = folder();
    let mut owner = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "world::owner_of_a_world", "--ignored", "--nocapture"])
        .env(OWNER_FOLDER, folder.path())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(owner.stderr.take().unwrap()).lines();
    until("the world is ready", async || {
        lines.next_line().await.unwrap().expect("the owner lives") == "ready"
    })
    .await;

    let error = World::start(settings(folder.path())).await.unwrap_err().to_string();
    let holder = format!("is in use by another running process (process {})", owner.id().unwrap());
    assert!(error.contains(&holder), "{error}");
    assert_eq!(error.lines().count(), 1);

    owner.kill().await.unwrap(); // SIGKILL: no code of the owner runs

    for server in ["postgres", "redis"] {
        let log = folder.path().join(server).join("log");
        until("all processes of the server are gone", async || is_released(&log)).await;
    }
    let world = World::start(settings(folder.path())).await.unwrap();
    let row = database(&world.database_url)
        .await
        .query_one("select id from kept", &[])
        .await
        .unwrap();
    assert_eq!(row.get::<_, i32>(0), 42);
    assert_eq!(cache(&world.redis_url).await.get::<_, i32>("kept").await.unwrap(), 42);
    world.stop().await.unwrap();
}

#[tokio::test]
async fn a_stopped_world_leaves_no_process_and_its_folder_free() {
    let folder = folder();
    let world = World::start(settings(folder.path())).await.unwrap();
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let faults = reqwest::get(format!("{}/_sandbox/faults", world.payments_url))
        .await
        .unwrap();
    assert_eq!(faults.status(), 200);

    world.stop().await.unwrap();

    for server in ["postgres", "redis"] {
        assert!(is_released(&folder.path().join(server).join("log")), "{server}");
    }
    World::start(settings(folder.path()))
        .await
        .unwrap()
        .stop()
        .await
        .unwrap();
}

#[tokio::test]
async fn what_is_given_by_url_is_not_started() {
    let folder = folder();
    let (postgres_url, redis_url) = (
        "postgres://elsewhere/orders".to_owned(),
        "redis://elsewhere/3".to_owned(),
    );
    let given = Settings {
        postgres_url: Some(postgres_url.clone()),
        redis_url: Some(redis_url.clone()),
        ..settings(folder.path())
    };

    let world = World::start(given).await.unwrap();

    assert_eq!((&world.database_url, &world.redis_url), (&postgres_url, &redis_url));
    assert!(world.postgres.is_none() && world.redis.is_none());
    assert!(!folder.path().join("postgres").exists() && !folder.path().join("redis").exists());
    world.stop().await.unwrap();
}

#[tokio::test]
async fn a_world_that_cannot_start_whole_leaves_nothing_running() {
    let folder = folder();
    let taken = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let payments_addr = taken.local_addr().unwrap();

    let error = World::start(Settings {
        payments_addr,
        ..settings(folder.path())
    })
    .await
    .unwrap_err();

    assert!(
        matches!(error, Error::PortInUse { address } if address == payments_addr),
        "{error}"
    );
    let log = folder.path().join("redis/log");
    until("what was started is gone", async || !log.exists() || is_released(&log)).await;
    let world = World::start(settings(folder.path())).await.unwrap();
    world.stop().await.unwrap();
}
