//! Stores that answer, and take no writes: a failover made them the second one, they are full, cannot write to their disk, or load what they have.

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::path::PathBuf;
use std::time::Duration;

use jiff::Timestamp;
use testkit::wire::{PICKUP, a_ride, assert_refused_for_now, fix, get, get_json};
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

/// Sends a command to the rig's Redis.
async fn send(rig: &Rig, command: &[&str]) {
    let mut sent = redis::cmd(command[0]);
    sent.arg(&command[1..])
        .exec_async(&mut rig.redis().await)
        .await
        .unwrap();
}

/// Waits until the server is not ready, and says that Redis answers with this code: those who look for it in the runbook find it by that.
async fn until_redis_answers(readyz: &str, code: &str) {
    until("Redis answers with the code", async || match get_json(readyz).await {
        (503, report)
            if report["checks"]["redis"]
                .as_str()
                .is_some_and(|said| said.contains(code)) =>
        {
            Ok(())
        }
        other => Err(other),
    })
    .await;
}

/// Redis refuses writes with this code from `made` on, until `unmade`; reads go on.
async fn redis_without_writes(code: &str, made: impl AsyncFnOnce(&Rig), unmade: impl AsyncFnOnce(&Rig)) {
    let rig = Rig::builder().private_stores().start().await;
    rig.driver_at("cab-1", PICKUP.0, PICKUP.1).await;
    rig.place(a_ride()).await;
    rig.driver_at("cab-2", PICKUP.0, PICKUP.1).await;
    let requests = rig.payments().requests();
    made(&rig).await;

    until_redis_answers(&format!("{}/readyz", rig.http()), code).await;
    for _ in 0..3 {
        let refused = rig.orders().create_order(a_ride()).await.unwrap_err();
        assert_refused_for_now(&refused, Code::Unavailable);
    }
    assert_eq!(rig.payments().requests(), requests, "{code}: nothing was charged");

    unmade(&rig).await;
    until_orders_are_accepted(&rig, "cab-3").await;
    rig.assert_clean().await;
}

/// Fixes of this driver are taken again, and then an order is.
async fn until_orders_are_accepted(rig: &Rig, driver: &str) {
    let request = a_ride();
    until("orders are accepted again", async || {
        rig.locations().report_locations(fixes(driver)).await.map(drop)?;
        rig.orders().create_order(request.clone()).await
    })
    .await;
}

fn fixes(driver: &str) -> ReportLocationsRequest {
    ReportLocationsRequest {
        fixes: vec![fix(driver, PICKUP.0, PICKUP.1, Timestamp::now())],
    }
}

#[tokio::test]
async fn a_redis_that_was_demoted_is_not_ready_and_no_order_is_charged_on_it() {
    // The master of a replica that never answers: it goes on with what it has, and takes no writes.
    redis_without_writes(
        "READONLY",
        async |rig| send(rig, &["replicaof", "127.0.0.1", "1"]).await,
        async |rig| send(rig, &["replicaof", "no", "one"]).await,
    )
    .await;
}

#[tokio::test]
async fn a_redis_that_is_full_is_not_ready_and_no_order_is_charged_on_it() {
    redis_without_writes(
        "OOM",
        async |rig| send(rig, &["config", "set", "maxmemory", "1"]).await,
        async |rig| send(rig, &["config", "set", "maxmemory", "0"]).await,
    )
    .await;
}

#[tokio::test]
async fn a_redis_that_lacks_replicas_to_write_to_is_not_ready_and_no_order_is_charged_on_it() {
    redis_without_writes(
        "NOREPLICAS",
        async |rig| send(rig, &["config", "set", "min-replicas-to-write", "1"]).await,
        async |rig| send(rig, &["config", "set", "min-replicas-to-write", "0"]).await,
    )
    .await;
}

/// A snapshot fails where its file cannot be replaced: here a folder has the name. Redis tries again by itself, every five seconds.
#[tokio::test]
async fn a_redis_whose_snapshots_fail_is_not_ready_and_no_order_is_charged_on_it() {
    let snapshot = |rig: &Rig| rig.folder().join("redis/data/dump.rdb");
    redis_without_writes(
        "MISCONF",
        async |rig| {
            fs::create_dir(snapshot(rig)).unwrap();
            send(rig, &["config", "set", "stop-writes-on-bgsave-error", "yes"]).await;
            send(rig, &["config", "set", "save", "1 1"]).await;
        },
        async |rig| fs::remove_dir(snapshot(rig)).unwrap(),
    )
    .await;
}

/// Commands as Redis keeps them, in a database of their own, which take it some seconds to do again when it starts. After each thousand of them
/// it answers those who wait: that it loads.
fn commands_to_load() -> String {
    let command = |words: &[&str]| {
        let words = words.iter().map(|word| format!("${}\r\n{word}\r\n", word.len()));
        let words: Vec<String> = words.collect();
        format!("*{}\r\n{}", words.len(), words.concat())
    };
    let members = (0..40).map(|number| command(&["ZADD", "members", &number.to_string(), &format!("member-{number}")]));
    let members: String = members.collect();
    let unions = command(&["ZUNIONSTORE", "union", "1", "members"]).repeat(200_000);
    [command(&["SELECT", "7"]), members, unions].concat()
}

/// The file in which Redis keeps its last commands.
fn last_commands(rig: &Rig) -> PathBuf {
    let folder = fs::read_dir(rig.folder().join("redis/data/appendonlydir")).unwrap();
    let mut paths = folder.map(|entry| entry.unwrap().path());
    let found = paths.find(|path| path.to_string_lossy().ends_with(".incr.aof"));
    found.expect("Redis 7 keeps its last commands apart")
}

#[tokio::test]
async fn a_redis_that_loads_what_it_has_is_not_ready_and_no_order_is_charged_on_it() {
    let mut rig = Rig::builder().private_stores().start().await;
    rig.driver_at("cab-1", PICKUP.0, PICKUP.1).await;
    rig.place(a_ride()).await;
    let requests = rig.payments().requests();
    rig.stores().redis().stop().await.unwrap();
    let mut log = OpenOptions::new().append(true).open(last_commands(&rig)).unwrap();
    log.write_all(commands_to_load().as_bytes()).unwrap();

    let (readyz, mut orders) = (format!("{}/readyz", rig.http()), rig.orders());
    let loads = async {
        until_redis_answers(&readyz, "LOADING").await;
        for _ in 0..3 {
            let refused = orders.create_order(a_ride()).await.unwrap_err();
            assert_refused_for_now(&refused, Code::Unavailable);
        }
    };
    // It returns when Redis has loaded all.
    let (restarted, ()) = tokio::join!(rig.stores().redis().restart(), loads);
    restarted.unwrap();
    assert_eq!(rig.payments().requests(), requests, "nothing was charged");
    until_orders_are_accepted(&rig, "cab-2").await;
    rig.assert_clean().await;
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
    let refused = "select count(*) from order_saga_steps where step = 'charge' and detail like '%limits our rate%'";
    until_eq("the provider has no room for it", 1, async || rig.count(refused).await).await;
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
