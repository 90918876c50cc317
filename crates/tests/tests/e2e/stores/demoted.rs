//! Stores that answer, and take no writes: a failover made them the second one, or they are full.

use std::time::Duration;

use jiff::Timestamp;
use testkit::wire::{PICKUP, a_ride, assert_refused_for_now, fix, get};
use testkit::{Rig, stores, until, until_eq};
use tonic::Code;
use waybill_proto::location::v1::ReportLocationsRequest;
use waybill_sandbox::payments::{Fault, FaultKind};

#[tokio::test]
async fn a_postgres_that_takes_no_writes_is_not_ready_and_is_left_for_one_that_does() {
    let rig = Rig::builder().private_stores().start().await;
    rig.driver_at("cab-1", PICKUP.0, PICKUP.1).await;
    rig.place(a_ride()).await;
    let requests = rig.payments().requests();

    // All sessions learn of it, those that are there too.
    rig.execute("alter system set default_transaction_read_only = on").await;
    rig.execute("select pg_reload_conf()").await;
    rig.until_unready().await;
    for _ in 0..3 {
        let refused = rig.orders().create_order(a_ride()).await.unwrap_err();
        assert_refused_for_now(&refused, Code::Unavailable);
    }
    assert_eq!(rig.payments().requests(), requests);
    let (_, body) = get(&format!("{}/readyz", rig.http())).await;
    assert!(body.contains("writes"), "{body}");

    // ALTER SYSTEM cannot be sent with others.
    rig.execute("alter system reset default_transaction_read_only").await;
    rig.execute("select pg_reload_conf()").await;
    rig.driver_at("cab-2", PICKUP.0, PICKUP.1).await;
    let request = a_ride();
    until("orders are accepted again", async || {
        rig.orders().create_order(request.clone()).await
    })
    .await;
    rig.assert_clean().await;
}

/// What a failover, a restart and an administrator do to sessions.
#[tokio::test]
async fn sessions_that_the_server_ends_are_replaced_and_nothing_is_an_internal_error() {
    let rig = Rig::start().await;
    for number in 0..10 {
        rig.driver_at(&format!("cab-{number}"), PICKUP.0, PICKUP.1).await;
        let ended = rig.execute(
            "select pg_terminate_backend(pid) from pg_stat_activity
              where datname = current_database() and pid <> pg_backend_pid()",
        );
        let (placed, ()) = tokio::join!(async { rig.orders().create_order(a_ride()).await }, ended);
        if let Err(refused) = placed {
            assert_refused_for_now(&refused, Code::Unavailable);
        }
    }
    rig.until_all_settled().await;
    rig.assert_clean().await;
}

/// Redis refuses writes, as `made` and `unmade` have it; reads go on.
async fn redis_without_writes(name: &str, made: &[&[&str]], unmade: &[&[&str]]) {
    let rig = Rig::builder().private_stores().start().await;
    rig.driver_at("cab-1", PICKUP.0, PICKUP.1).await;
    rig.place(a_ride()).await;
    rig.driver_at("cab-2", PICKUP.0, PICKUP.1).await;
    let requests = rig.payments().requests();
    let mut redis = rig.redis().await;
    for command in made {
        let mut sent = redis::cmd(command[0]);
        sent.arg(&command[1..]).exec_async(&mut redis).await.unwrap();
    }

    rig.until_unready().await;
    for _ in 0..3 {
        let refused = rig.orders().create_order(a_ride()).await.unwrap_err();
        assert_refused_for_now(&refused, Code::Unavailable);
    }
    assert_eq!(rig.payments().requests(), requests, "{name}: nothing was charged");

    for command in unmade {
        let mut sent = redis::cmd(command[0]);
        sent.arg(&command[1..]).exec_async(&mut redis).await.unwrap();
    }
    let request = a_ride();
    until("orders are accepted again", async || {
        rig.locations().report_locations(fixes("cab-3")).await.map(drop)?;
        rig.orders().create_order(request.clone()).await
    })
    .await;
    rig.assert_clean().await;
}

fn fixes(driver: &str) -> ReportLocationsRequest {
    ReportLocationsRequest {
        fixes: vec![fix(driver, PICKUP.0, PICKUP.1, Timestamp::now())],
    }
}

#[tokio::test]
async fn a_redis_that_was_demoted_is_not_ready_and_no_order_is_charged_on_it() {
    // The master of a replica that never answers: it goes on with what it has, and takes no writes.
    let (made, unmade) = (["replicaof", "127.0.0.1", "1"], ["replicaof", "no", "one"]);
    redis_without_writes("READONLY", &[&made], &[&unmade]).await;
}

#[tokio::test]
async fn a_redis_that_is_full_is_not_ready_and_no_order_is_charged_on_it() {
    let (made, unmade) = (["config", "set", "maxmemory", "1"], ["config", "set", "maxmemory", "0"]);
    redis_without_writes("OOM", &[&made], &[&unmade]).await;
}

#[tokio::test]
async fn a_redis_that_lacks_replicas_to_write_to_is_not_ready_and_no_order_is_charged_on_it() {
    let (made, unmade) = (
        ["config", "set", "min-replicas-to-write", "1"],
        ["config", "set", "min-replicas-to-write", "0"],
    );
    redis_without_writes("NOREPLICAS", &[&made], &[&unmade]).await;
}

/// Positions that are not written are old soon, and then no one is found: that does not count as part of the window either.
#[tokio::test]
async fn an_order_that_searches_while_redis_takes_no_writes_waits_for_it() {
    let rig = Rig::builder()
        .private_stores()
        .set("orders.assignment_window", "5s")
        .start()
        .await;
    let slow = Fault::times(FaultKind::Latency, 1).delayed(Duration::from_millis(500));
    rig.payments().set_fault(slow);
    let begun = rig.begin(a_ride());
    let orders = "select count(*) from order_sagas";
    until_eq("the charge is under way", 1, async || rig.count(orders).await).await;
    let mut demote = redis::cmd("replicaof");
    demote.arg("127.0.0.1").arg(1);
    demote.exec_async(&mut rig.redis().await).await.unwrap();
    let late = "select count(*) from order_sagas where created_at < now() - interval '9 s'";
    until_eq("its window is long over", 1, async || rig.count(late).await).await;
    let mut promote = redis::cmd("replicaof");
    promote.arg("no").arg("one");
    promote.exec_async(&mut rig.redis().await).await.unwrap();
    until("fixes are taken again", async || {
        rig.locations().report_locations(fixes("cab-1")).await
    })
    .await;
    rig.until_all_settled().await;
    assert_eq!(rig.orders_in("succeeded").await, 1);
    drop(begun);
    rig.assert_clean().await;
}

/// It was accepted while all was well, and waits for the provider. What is asked before an order is accepted is asked before it is charged, too.
#[tokio::test]
async fn an_order_that_is_not_charged_yet_is_not_while_redis_takes_no_writes() {
    let rig = Rig::builder().private_stores().start().await;
    rig.payments().set_fault(Fault::always(FaultKind::RateLimited));
    let begun = rig.begin(a_ride());
    until_eq("the order is accepted", 1, async || {
        rig.count("select count(*) from order_sagas").await
    })
    .await;
    let mut demote = redis::cmd("replicaof");
    demote.arg("127.0.0.1").arg(1);
    demote.exec_async(&mut rig.redis().await).await.unwrap();

    rig.payments().clear_faults();
    let looked_at = "select count(*) from order_saga_steps where detail like '%positions are not available%'";
    until("the charge came up", async || {
        rig.count(looked_at).await > 0 || !rig.charges().is_empty()
    })
    .await;
    assert_eq!(rig.charges().len(), 0);

    let mut promote = redis::cmd("replicaof");
    promote.arg("no").arg("one");
    promote.exec_async(&mut rig.redis().await).await.unwrap();
    until("fixes are taken again", async || {
        rig.locations().report_locations(fixes("cab-1")).await
    })
    .await;
    rig.until_all_settled().await;
    assert_eq!(rig.orders_in("succeeded").await, 1);
    drop(begun);
    rig.assert_clean().await;
}

/// A failover behind one address: the old server is there, and is a replica now.
#[tokio::test]
async fn the_connection_to_a_redis_that_was_demoted_is_left_for_one_to_its_successor() {
    let folder = stores::folder("waybill-successor-");
    let (_postgres, successor) = stores::start(folder.path(), false).await;
    let rig = Rig::builder().private_stores().redis_through_proxy().start().await;
    rig.driver_at("cab-1", PICKUP.0, PICKUP.1).await;
    rig.place(a_ride()).await;

    let successor = successor.url();
    let (_, address) = successor.split_once("//").unwrap();
    rig.redis_line()
        .set_target(address.split('/').next().unwrap().parse().unwrap());
    let mut demote = redis::cmd("replicaof");
    demote.arg("127.0.0.1").arg(1);
    demote.exec_async(&mut rig.redis().await).await.unwrap();

    let request = a_ride();
    until("orders are accepted with the successor", async || {
        rig.locations().report_locations(fixes("cab-2")).await?;
        rig.orders().create_order(request.clone()).await
    })
    .await;
    until("it is ready", async || {
        get(&format!("{}/readyz", rig.http())).await.0 == 200
    })
    .await;
}
