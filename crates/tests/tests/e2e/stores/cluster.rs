//! A Redis Cluster: what belongs together is in one slot, and what is in several goes by itself.

use testkit::redis_cluster::RedisCluster;
use testkit::wire::{PICKUP, a_ride, fix, now, position};
use testkit::{Rig, stores, until, until_eq};
use tonic::Code;
use waybill_proto::fleet::v1::SearchDriversRequest;
use waybill_proto::location::v1::ReportLocationsRequest;
use waybill_proto::order::v1::OrderStatus;

use super::replicas::replica_of;
use crate::cli::on_stores_with;

const DRIVERS: usize = 64;

#[tokio::test]
async fn a_batch_of_many_drivers_is_stored_found_and_assigned() {
    let folder = stores::folder("waybill-cluster-");
    let cluster = RedisCluster::start(folder.path()).await;
    let rig = Rig::builder().redis_cluster(&cluster).start().await;
    let at = now();
    let name = |number: usize| format!("cab-{number:02}");
    let step = |number: usize| f64::from(u32::try_from(number).unwrap()) * 0.000_01;
    let fixes = || {
        let fixes = (0..DRIVERS).map(|number| fix(&name(number), PICKUP.0 + step(number), PICKUP.1, at));
        ReportLocationsRequest { fixes: fixes.collect() }
    };
    let mut locations = rig.locations();
    let accepted = until("the fixes are stored", async || {
        locations.report_locations(fixes()).await
    })
    .await;
    assert_eq!(accepted.into_inner().accepted_count as usize, DRIVERS);

    let found = rig
        .fleet()
        .search_drivers(SearchDriversRequest {
            near: Some(position(PICKUP)),
            radius_meters: 5_000.0,
            max_count: 50,
        })
        .await
        .unwrap()
        .into_inner();
    let found: Vec<_> = found
        .drivers
        .into_iter()
        .map(|near| near.driver.unwrap().driver_id)
        .collect();
    let nearest: Vec<_> = (0..50).map(name).collect();
    assert_eq!(found, nearest, "each where it is, the nearest first");

    let order = rig.place(a_ride()).await;
    assert_eq!(order.status(), OrderStatus::Succeeded);
    assert_eq!(order.assignment.unwrap().driver_id, name(0));
    let written = "select count(*) from driver_locations";
    until_eq(
        "every shard is in the history",
        i64::try_from(DRIVERS).unwrap(),
        async || rig.count(written).await,
    )
    .await;
    let epochs = "select count(distinct epoch) from history_cursors where epoch is not null";
    assert_eq!(rig.count(epochs).await, 3, "each stream is of its own node's epoch");
    rig.assert_clean().await;
}

#[tokio::test]
async fn the_doctor_tells_a_cluster_from_a_redis_and_says_how_many_shards_it_needs() {
    let folder = stores::folder("waybill-cluster-");
    let cluster = RedisCluster::start(folder.path()).await;
    let rig = Rig::builder().no_server().start().await;
    let (urls, first) = (cluster.urls(), cluster.url_of(0));

    let on_urls = ("REDIS_URL", urls.as_str());
    let (is_cluster, eight) = (("WAYBILL_REDIS__CLUSTER", "true"), ("WAYBILL_REDIS__SHARDS", "8"));
    let doctor = async |settings: &[(&str, &str)]| on_stores_with(&rig, &["doctor"], settings).await.stdout;

    let taken_for_one = doctor(&[("REDIS_URL", first.as_str())]).await;
    assert!(taken_for_one.contains("set redis.cluster = true"), "{taken_for_one}");
    let good = doctor(&[on_urls, is_cluster, eight]).await;
    assert!(good.contains("and keeps what it acknowledges"), "{good}");
    // Without its database, of which a cluster has but one.
    let (plain, _) = rig.flags()["redis.url"].rsplit_once('/').unwrap();
    let plain = doctor(&[("REDIS_URL", plain), is_cluster, eight]).await;
    assert!(plain.contains("set redis.cluster = false"), "{plain}");
}

#[tokio::test]
async fn the_doctor_calls_no_cluster_safe_of_which_one_master_is_not_asked() {
    let folder = stores::folder("waybill-cluster-");
    let mut cluster = RedisCluster::start(folder.path()).await;
    let rig = Rig::builder().no_server().start().await;
    cluster.kill(2).await;
    let urls = cluster.urls();
    let settings = [
        ("REDIS_URL", urls.as_str()),
        ("WAYBILL_REDIS__CLUSTER", "true"),
        ("WAYBILL_REDIS__SHARDS", "8"),
    ];
    let mut found = Vec::new();
    found.push(on_stores_with(&rig, &["doctor"], &settings).await);
    // Nor where the others do not know of it, or no more.
    cluster.forget(2).await;
    found.push(on_stores_with(&rig, &["doctor"], &settings).await);
    for doctor in found {
        assert_eq!(doctor.status, Some(1), "{doctor:?}");
        for safe in ["keeps what it acknowledges", "nothing is dropped"] {
            assert!(!doctor.stdout.contains(safe), "{doctor:?}");
        }
    }
}

/// No replica follows: nothing that waits for one is acknowledged, and it is said why.
#[tokio::test]
async fn a_fix_that_no_replica_has_is_not_acknowledged_where_one_is_asked_for() {
    let mut rig = Rig::builder().private_stores().set("redis.replicas", "1").start().await;
    let leader = rig.stores().redis().url();
    let mut fixes = rig.locations();
    let request = || ReportLocationsRequest {
        fixes: vec![fix("cab-1", PICKUP.0, PICKUP.1, now())],
    };
    let refused = fixes.report_locations(request()).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unavailable, "{refused:?}");

    let (_folder, _replica) = replica_of(&leader).await;
    until("a replica has the fix", async || {
        fixes.report_locations(request()).await
    })
    .await;
    rig.assert_clean().await;
}

/// Each shard waits by itself, which is no trouble of Redis's; and what waits in vain is stored once, however often it is sent again.
#[tokio::test]
async fn fixes_that_wait_for_replicas_in_vain_keep_no_other_call_waiting_and_are_stored_once() {
    let rig = Rig::builder()
        .private_stores()
        .with("redis.replicas=1 redis.shards=8")
        .start()
        .await;
    let mut fixes = rig.locations();
    let batch = || {
        let fixes = (0..DRIVERS).map(|number| fix(&format!("cab-{number}"), PICKUP.0, PICKUP.1, now()));
        ReportLocationsRequest { fixes: fixes.collect() }
    };
    for _ in 0..8 {
        let refused = fixes.report_locations(batch()).await.unwrap_err();
        assert_eq!(refused.code(), Code::Unavailable, "{refused:?}");
        let near = SearchDriversRequest {
            near: Some(position(PICKUP)),
            radius_meters: 5_000.0,
            max_count: 50,
        };
        rig.fleet().search_drivers(near).await.unwrap();
    }
    let metrics = rig.metrics().await;
    assert_eq!(metrics["dependencies"]["breakers"]["redis"], "closed", "{metrics}");

    let mut redis = rig.redis().await;
    let mut command = redis::cmd("INFO");
    command.arg("commandstats");
    let info: String = command.query_async(&mut redis).await.unwrap();
    let line = info.lines().find_map(|line| line.strip_prefix("cmdstat_xadd:calls="));
    let appended: usize = line.and_then(|line| line.split(',').next()).unwrap().parse().unwrap();
    assert!((1..=DRIVERS).contains(&appended), "{appended} of {DRIVERS} fixes");
}

/// The drivers of its shards are not seen: too few for a network that failed, while others are seen.
#[tokio::test]
async fn a_driver_whose_master_takes_no_writes_keeps_the_order() {
    let folder = stores::folder("waybill-cluster-");
    let cluster = RedisCluster::start(folder.path()).await;
    let rig = Rig::builder()
        .redis_cluster(&cluster)
        .with("locations.ttl=2s orders.driver_liveness_timeout=2s")
        .start()
        .await;
    // By their names the shard of cab-1 is at the first master, and that of cab-2 at the second.
    let report = async |driver: &str| {
        let north = if driver == "cab-1" { 0.0 } else { 0.001 };
        let fixes = vec![fix(driver, PICKUP.0 + north, PICKUP.1, now())];
        rig.locations().report_locations(ReportLocationsRequest { fixes }).await
    };
    report("cab-2").await.unwrap();
    report("cab-1").await.unwrap();
    let order = rig.place(a_ride()).await;
    assert_eq!(order.assignment.unwrap().driver_id, "cab-1");

    let first = redis::Client::open(cluster.url_of(0)).unwrap();
    let mut first = first.get_multiplexed_async_connection().await.unwrap();
    let mut lacking = redis::cmd("CONFIG");
    lacking.arg("SET").arg("min-replicas-to-write").arg(1);
    lacking.exec_async(&mut first).await.unwrap();
    let late = "select count(*) from order_sagas where created_at < now() - interval '10 s'";
    until("cab-1 is not seen for long, and cab-2 is", async || {
        let (seen, unseen) = (report("cab-2").await, report("cab-1").await);
        let is_late = rig.count(late).await == 1;
        (is_late && seen.is_ok() && unseen.is_err()).then_some(())
    })
    .await;

    assert_eq!(rig.count("select count(*) from past_assignments").await, 0);
    let order = rig.order(&order.order_id).await;
    assert_eq!(order.assignment.unwrap().driver_id, "cab-1");
}
