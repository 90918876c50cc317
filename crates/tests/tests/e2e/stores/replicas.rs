//! A Redis that fixes wait for replicas on (`redis.replicas`), and that lacks them: no fix is acknowledged, and all else goes on.

use std::net::SocketAddr;

use tempfile::TempDir;
use testkit::wire::{PICKUP, a_ride};
use testkit::{Rig, stores, until};
use tonic::Code;
use waybill_sandbox::{Redis, ServerSettings};

use crate::locations::driver_stream::{be_refused_for_long, fix, report};

/// Where the Redis of this URL listens.
fn address(url: &str) -> SocketAddr {
    let (_, address) = url.split_once("//").unwrap();
    address.split('/').next().unwrap().parse().unwrap()
}

async fn follow(redis: &Redis, leader: SocketAddr) {
    let client = redis::Client::open(redis.url()).unwrap();
    let mut connection = client.get_multiplexed_async_connection().await.unwrap();
    let mut follow = redis::cmd("REPLICAOF");
    follow.arg(leader.ip().to_string()).arg(leader.port());
    follow.exec_async(&mut connection).await.unwrap();
}

/// Another Redis, which follows the one at this URL, and its folder.
pub async fn replica_of(leader: &str) -> (TempDir, Redis) {
    let folder = stores::folder("waybill-replica-");
    let settings = ServerSettings {
        data_dir: folder.path().to_owned(),
        durable: true,
    };
    let replica = Redis::start(settings).await.unwrap();
    follow(&replica, address(leader)).await;
    (folder, replica)
}

/// Where a driver is matters to dispatch though its track is not safe.
#[tokio::test]
async fn drivers_are_found_while_their_fixes_wait_for_a_replica_in_vain() {
    let settings = "redis.replicas=1 locations.ttl=2s";
    let rig = Rig::builder().private_stores().with(settings).start().await;
    be_refused_for_long(&rig, &["cab-1"], Code::Unavailable).await;
    let order = rig.place(a_ride()).await;
    assert_eq!(order.assignment.unwrap().driver_id, "cab-1");
    rig.assert_clean().await;
}

/// A failover behind one address, which leads to the old Redis for a moment more: those who wait for replicas there see that it takes no writes, too.
#[tokio::test]
async fn a_demoted_redis_is_left_by_who_waits_for_its_replicas() {
    let rig = Rig::builder()
        .private_stores()
        .redis_through_proxy()
        .set("redis.replicas", "1")
        .start()
        .await;
    // It is sent again as it was, which moves no one.
    let at = fix("cab-1", PICKUP.0, PICKUP.1);
    let at_pickup = || vec![at.clone()];
    let in_vain = report(&rig, at_pickup()).await.unwrap_err();
    assert!(in_vain.message().contains("live store"), "{in_vain:?}");
    let successor_folder = stores::folder("waybill-successor-");
    let settings = ServerSettings {
        data_dir: successor_folder.path().to_owned(),
        durable: true,
    };
    let successor = Redis::start(settings).await.unwrap();
    let (_folder, _replica) = replica_of(&successor.url()).await;
    let mut demote = redis::cmd("REPLICAOF");
    demote.arg("127.0.0.1").arg(1);
    demote.exec_async(&mut rig.redis().await).await.unwrap();
    for _ in 0..3 {
        report(&rig, at_pickup()).await.unwrap_err();
    }
    // Connections that are open stay where they are.
    rig.redis_line().set_target(address(&successor.url()));
    until("fixes are taken by the successor", async || {
        report(&rig, at_pickup()).await
    })
    .await;
}
