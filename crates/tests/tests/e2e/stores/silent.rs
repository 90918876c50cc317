//! Stores that are there and say nothing.

use std::time::Duration;

use futures_util::future::join_all;
use jiff::Timestamp;
use testkit::wire::{PICKUP, a_ride, fix, get};
use testkit::{Rig, ServerProcess, until};
use tokio::net::TcpListener;
use tonic::{Code, Request};
use waybill_proto::location::v1::ReportLocationsRequest;
use waybill_sandbox::payments::{Fault, FaultKind};
use waybill_sandbox::process::Signal;
use waybill_sandbox::proxy::Mode;

async fn breaker(rig: &Rig, store: &str) -> String {
    rig.metrics().await["dependencies"]["breakers"][store]
        .as_str()
        .unwrap()
        .to_owned()
}

/// Calls that are given up by their callers after so long.
async fn place(rig: &Rig, count: usize, patience: Duration) {
    let calls = (0..count).map(|_| async {
        let mut request = Request::new(a_ride());
        request.set_timeout(patience);
        rig.orders().create_order(request).await.unwrap_err()
    });
    for refused in join_all(calls).await {
        // A deadline that passes is the caller's own, whose client may say so first.
        let code = refused.code();
        assert!(
            [Code::Unavailable, Code::DeadlineExceeded, Code::Cancelled].contains(&code),
            "{refused:?}"
        );
    }
}

/// A postgres that froze while orders were charged, and whose callers give up before the server does.
#[tokio::test]
async fn a_frozen_postgres_opens_the_breaker_and_is_never_called_ready() {
    let mut rig = Rig::builder().private_stores().start().await;
    rig.driver_at("cab-1", PICKUP.0, PICKUP.1).await;
    rig.place(a_ride()).await;
    let slow = Fault::always(FaultKind::Latency).delayed(Duration::from_millis(500));
    rig.payments().set_fault(slow);
    let charged = rig.payments().requests();
    let begun: Vec<_> = (0..40).map(|_| rig.begin(a_ride())).collect();
    until("charges are under way", async || {
        rig.payments().requests() > charged + 30
    })
    .await;
    rig.stores().postgres().signal_all(Signal::SIGSTOP).unwrap();
    rig.payments().clear_faults();

    let readyz = format!("{}/readyz", rig.http());
    rig.until_unready().await;
    // All connections of the pool are in use, and then none.
    for callers in [30, 1, 1] {
        place(&rig, callers, Duration::from_secs(1)).await;
        let (status, body) = get(&readyz).await;
        assert_eq!(status, 503, "{body}");
    }
    until("the breaker is open", async || {
        match breaker(&rig, "postgres").await.as_str() {
            "open" => Ok(()),
            other => Err(other.to_owned()),
        }
    })
    .await;

    rig.stores().postgres().signal_all(Signal::SIGCONT).unwrap();
    let request = a_ride();
    until("orders are accepted again", async || {
        rig.driver_at("cab-2", PICKUP.0, PICKUP.1).await;
        rig.orders().create_order(request.clone()).await
    })
    .await;
    until("it is ready", async || get(&readyz).await.0 == 200).await;
    drop(begun);
    rig.until_all_settled().await;
    rig.assert_clean().await;
}

/// A failover leaves the old address without a word, while new connections reach the new server. One call finds that out, and not one for each connection
/// that the pool has.
#[tokio::test]
async fn connections_that_say_nothing_any_more_are_left_for_new_ones() {
    let rig = Rig::builder()
        .postgres_through_proxy()
        .with("postgres.statement_timeout=5s orders.lease=30s orders.assignment_window=1s")
        .start()
        .await;
    join_all((0..40).map(|_| rig.place(a_ride()))).await;
    let line = rig.postgres_line();
    line.fail_over(line.target());

    let request = a_ride();
    until("orders are accepted on new connections", async || {
        rig.orders().create_order(request.clone()).await
    })
    .await;
    rig.until_all_settled().await;
    rig.assert_clean().await;
}

#[tokio::test]
async fn a_connection_to_redis_that_says_nothing_any_more_is_left_for_a_new_one() {
    let rig = Rig::builder().redis_through_proxy().start().await;
    rig.driver_at("cab-1", PICKUP.0, PICKUP.1).await;
    rig.place(a_ride()).await;
    let line = rig.redis_line();
    line.fail_over(line.target());

    let request = a_ride();
    until("orders are accepted on a new connection", async || {
        let fixes = ReportLocationsRequest {
            fixes: vec![fix("cab-2", PICKUP.0, PICKUP.1, Timestamp::now())],
        };
        rig.locations().report_locations(fixes).await?;
        rig.orders().create_order(request.clone()).await
    })
    .await;
    rig.assert_clean().await;
}

#[tokio::test]
async fn a_redis_that_says_nothing_opens_the_breaker() {
    let rig = Rig::builder().redis_through_proxy().start().await;
    rig.driver_at("cab-1", PICKUP.0, PICKUP.1).await;
    rig.redis_line().set_mode(Mode::Blackhole);
    until("the breaker is open", async || {
        place(&rig, 1, Duration::from_secs(5)).await;
        match breaker(&rig, "redis").await.as_str() {
            "open" => Ok(()),
            other => Err(other.to_owned()),
        }
    })
    .await;
    rig.redis_line().set_mode(Mode::Pass);
    until("fixes are taken again", async || {
        let fixes = ReportLocationsRequest {
            fixes: vec![fix("cab-2", PICKUP.0, PICKUP.1, Timestamp::now())],
        };
        rig.locations().report_locations(fixes).await
    })
    .await;
}

/// The first host takes connections and says nothing, as one that is frozen does.
#[tokio::test]
async fn of_several_hosts_of_postgres_the_second_is_used_while_the_first_says_nothing() {
    let rig = Rig::builder().no_server().start().await;
    let frozen = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let first = format!("@{},", frozen.local_addr().unwrap());
    let url = rig.flags()["postgres.url"].replacen('@', &first, 1);
    let settings = [("postgres.url", url.as_str()), ("postgres.acquire_timeout", "1s")];
    let server = ServerProcess::start(&rig, &settings).await;
    let fixes = ReportLocationsRequest {
        fixes: vec![fix("cab-1", PICKUP.0, PICKUP.1, Timestamp::now())],
    };
    server.locations().report_locations(fixes).await.unwrap();
    server.orders().create_order(a_ride()).await.unwrap();
    assert_eq!(rig.orders_in("succeeded").await, 1);
}
