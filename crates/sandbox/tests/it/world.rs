//! The whole world: started, used, killed with its owner, taken over.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;

use redis::AsyncCommands;
use waybill_sandbox::{Error, World, WorldSettings};

use crate::rig::{cache, folder, is_released, spawn_owner, sql, until};

const OWNER_FOLDER: &str = "SANDBOX_TEST_OWNER_FOLDER";

fn settings(folder: &Path) -> WorldSettings {
    WorldSettings {
        data_dir: folder.to_owned(),
        durable: true,
        postgres_url: None,
        redis_url: None,
        payments_addr: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
    }
}

/// Not a test: the other process of the test below, which runs this test binary once more.
#[tokio::test]
#[ignore = "runs only as the owner that another test kills"]
async fn owner_of_a_world() {
    let Some(folder) = std::env::var_os(OWNER_FOLDER) else {
        return;
    };
    let world = World::start(settings(Path::new(&folder))).await.unwrap();
    let create = "create table kept (id int); insert into kept values (42)";
    sql(&world.database_url).await.batch_execute(create).await.unwrap();
    let () = cache(&world.redis_url).await.set("kept", 42).await.unwrap();
    eprintln!("ready");
    std::future::pending::<()>().await;
}

#[tokio::test]
async fn a_world_whose_owner_was_killed_is_gone_and_starts_again_with_its_data() {
    let folder = folder();
    let mut owner = spawn_owner("world::owner_of_a_world", OWNER_FOLDER, folder.path()).await;

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
    let client = sql(&world.database_url).await;
    let row = client.query_one("select id from kept", &[]).await.unwrap();
    assert_eq!(row.get::<_, i32>(0), 42);
    assert_eq!(cache(&world.redis_url).await.get::<_, i32>("kept").await.unwrap(), 42);
    world.stop().await.unwrap();
}

#[tokio::test]
async fn a_stopped_world_leaves_no_process_and_its_folder_free() {
    let folder = folder();
    let world = World::start(settings(folder.path())).await.unwrap();
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let page = format!("{}/_sandbox/faults", world.payments_url);
    assert_eq!(reqwest::get(page).await.unwrap().status(), 200);

    world.stop().await.unwrap();

    for server in ["postgres", "redis"] {
        assert!(is_released(&folder.path().join(server).join("log")), "{server}");
    }
    let world = World::start(settings(folder.path())).await.unwrap();
    world.stop().await.unwrap();
}

#[tokio::test]
async fn stores_that_are_given_by_url_are_not_started() {
    let folder = folder();
    let postgres_url = Some("postgres://elsewhere/orders".to_owned());
    let redis_url = Some("redis://elsewhere/3".to_owned());

    let world = World::start(WorldSettings {
        postgres_url: postgres_url.clone(),
        redis_url: redis_url.clone(),
        ..settings(folder.path())
    })
    .await
    .unwrap();

    assert_eq!(Some(&world.database_url), postgres_url.as_ref());
    assert_eq!(Some(&world.redis_url), redis_url.as_ref());
    assert!(world.postgres.is_none() && world.redis.is_none());
    assert!(!folder.path().join("postgres").exists() && !folder.path().join("redis").exists());
    world.stop().await.unwrap();
}

#[tokio::test]
async fn a_world_that_fails_to_start_leaves_nothing_running() {
    let folder = folder();
    let taken = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let payments_addr = taken.local_addr().unwrap();

    let error = World::start(WorldSettings {
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
    until("the servers that were started are gone", async || {
        !log.exists() || is_released(&log)
    })
    .await;
    let world = World::start(settings(folder.path())).await.unwrap();
    world.stop().await.unwrap();
}
