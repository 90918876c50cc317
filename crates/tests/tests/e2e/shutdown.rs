//! SIGTERM: who is answered, what is kept, and how long it takes.

use std::time::Duration;

use testkit::wire::{a_ride, channel, get, get_json};
use testkit::{Rig, ServerProcess, until};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tonic::Code;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use waybill_proto::order::v1::OrderStatus;
use waybill_sandbox::payments::{Fault, FaultKind};
use waybill_sandbox::process::Signal;

use crate::locations::driver_stream::{DriverStream, fix, history, track};

/// Within the time that the drain is given for work, and far more than it takes.
const PROMPT: Duration = Duration::from_secs(10);

/// It was signalled to end, and does so by itself, soon, with status 0.
async fn ends_well(server: ServerProcess) {
    let ended = timeout(PROMPT, server.ended()).await.expect("the server ends soon");
    assert_eq!(ended.code(), Some(0));
}

#[tokio::test]
async fn a_stream_gets_its_last_acknowledgement_then_a_status_and_all_of_it_is_kept() {
    let rig = Rig::builder().no_server().start().await;
    let server = ServerProcess::start(&rig, &[]).await;
    let mut stream = DriverStream::open(server.locations()).await;
    // The history falls behind: what is acknowledged is still to be written when the signal comes.
    stream.store(0, track("cab-1", 5)).await;
    let held = rig.hold_history().await;
    stream.store(10, track("cab-2", 60)).await;
    server.signal(Signal::SIGTERM);

    let (acknowledged, status) = stream.rest().await;
    assert_eq!((acknowledged, status.code()), (None, Code::Unavailable), "{status:?}");
    held.batch_execute("rollback").await.unwrap();
    ends_well(server).await;
    assert_eq!(history(&rig, "cab-1").await.len(), 5);
    assert_eq!(history(&rig, "cab-2").await.len(), 60);
}

/// The writer has read what there is, and is writing it; then comes more, then the end.
#[tokio::test]
async fn what_came_while_the_history_was_written_is_in_it_when_the_server_ends() {
    let rig = Rig::builder().no_server().start().await;
    let patient = [
        ("postgres.lock_timeout", "20s"),
        ("postgres.statement_timeout", "20s"),
        ("orders.lease", "1m"),
    ];
    let server = ServerProcess::start(&rig, &patient).await;
    let mut stream = DriverStream::open(server.locations()).await;
    stream.store(0, track("cab-1", 1)).await;
    rig.until_written().await;
    let (held, sql) = (rig.hold_history().await, rig.sql().await);
    stream.store(1, track("cab-2", 1)).await;
    until("the writer waits to move the cursor", async || {
        let waits = "select 1 from pg_stat_activity
                      where datname = current_database() and wait_event_type = 'Lock'
                        and query like 'update history_cursors set last_id = $3, updated_at%'";
        sql.query_opt(waits, &[]).await.unwrap()
    })
    .await;
    stream.store(2, track("cab-3", 1)).await;
    server.signal(Signal::SIGTERM);
    let (_, status) = stream.rest().await;
    assert_eq!(status.code(), Code::Unavailable, "{status:?}");
    until("no connection is taken any more", async || {
        TcpStream::connect(server.grpc_addr()).await.is_err()
    })
    .await;

    held.batch_execute("rollback").await.unwrap();
    ends_well(server).await;
    for driver in ["cab-2", "cab-3"] {
        assert_eq!(history(&rig, driver).await.len(), 1, "{driver}");
    }
}

#[tokio::test]
async fn what_was_sent_before_the_end_of_a_stream_is_acknowledged_or_not_stored() {
    let rig = Rig::builder().no_server().start().await;
    let server = ServerProcess::start(&rig, &[]).await;
    let mut stream = DriverStream::open(server.locations()).await;
    stream.store(0, track("cab-0", 1)).await;
    for number in 1..60 {
        stream.send(number, track(&format!("cab-{number}"), 1)).await;
    }
    server.signal(Signal::SIGTERM);

    let (acknowledged, status) = stream.rest().await;
    assert_eq!(status.code(), Code::Unavailable, "{status:?}");
    ends_well(server).await;
    for number in 0..=acknowledged.unwrap_or(0) {
        assert_eq!(history(&rig, &format!("cab-{number}")).await.len(), 1, "cab-{number}");
    }
    rig.assert_clean().await;
}

#[tokio::test]
async fn an_order_in_flight_is_answered() {
    let rig = Rig::builder().no_server().start().await;
    rig.payments()
        .set_fault(Fault::always(FaultKind::Latency).delayed(Duration::from_secs(1)));
    let server = ServerProcess::start(&rig, &[]).await;
    DriverStream::open(server.locations())
        .await
        .store(0, vec![fix("cab-1", 37.77, -122.42)])
        .await;
    let mut orders = server.orders();
    let call = orders.create_order(a_ride());
    let stopping = async {
        until("the provider is asked", async || rig.payments().requests() > 0).await;
        server.signal(Signal::SIGTERM);
    };
    let (answer, ()) = tokio::join!(call, stopping);

    let order = answer.expect("an answer").into_inner().order.unwrap();
    assert!(matches!(order.status(), OrderStatus::Succeeded), "{order:?}");
    ends_well(server).await;
    rig.assert_clean().await;
}

/// The provider does not answer for longer than the drain lasts: the order is left to whoever comes next.
#[tokio::test]
async fn an_order_that_cannot_end_in_time_is_settled_by_the_next_server() {
    let rig = Rig::builder()
        .no_server()
        .with(
            "orders.assignment_window=100ms orders.lease=4s payments.attempt_timeout=1s payments.total_timeout=3s \
            postgres.statement_timeout=500ms postgres.lock_timeout=300ms",
        )
        .start()
        .await;
    rig.payments().set_fault(Fault::always(FaultKind::Hang));
    let server = ServerProcess::start(&rig, &[("drain.work", "500ms"), ("drain.hard_stop", "20s")]).await;
    let mut orders = server.orders();
    let call = orders.create_order(a_ride());
    let stopping = async {
        until("the provider is asked", async || rig.payments().requests() > 0).await;
        server.signal(Signal::SIGTERM);
        ends_well(server).await;
    };
    let (answer, ()) = tokio::join!(call, stopping);
    assert!(answer.is_err(), "no false answer: {answer:?}");

    rig.payments().clear_faults();
    let next = ServerProcess::start(&rig, &[]).await;
    rig.assert_clean().await;
    assert_eq!(rig.orders_in("refunded").await, 1);
    next.stop().await;
}

#[tokio::test]
async fn a_draining_server_says_so_and_still_serves() {
    let rig = Rig::builder().no_server().start().await;
    let server = ServerProcess::start(&rig, &[("drain.unready", "2s")]).await;
    let mut stream = DriverStream::open(server.locations()).await;
    server.signal(Signal::SIGTERM);
    server.until_logged("draining").await;

    let mut health = HealthClient::new(channel(server.grpc_addr()));
    for service in [
        "",
        "waybill.order.v1.OrderService",
        "waybill.location.v1.LocationService",
    ] {
        let request = HealthCheckRequest {
            service: service.to_owned(),
        };
        until("the server is not serving", async || {
            health.check(request.clone()).await.unwrap().into_inner().status() == ServingStatus::NotServing
        })
        .await;
    }
    let (status, body) = get(&format!("{}/readyz", server.http())).await;
    assert!(status == 503 && body.contains("draining"), "{status} {body}");
    stream.store(0, track("cab-1", 1)).await;
    ends_well(server).await;
}

/// Whoever does not close a connection, does not read its answers, or sends faster than it may must not hold up the
/// end for the others.
#[tokio::test]
async fn a_client_that_does_not_let_go_does_not_hold_up_the_end() {
    let rig = Rig::builder()
        .no_server()
        .with("limits.fixes_per_driver.per_second=1 limits.fixes_per_driver.burst=1")
        .start()
        .await;
    let server = ServerProcess::start(&rig, &[]).await;
    // A peer that speaks HTTP/2 as far as its first frame and then sends nothing, and ignores GOAWAY.
    let mut idle = TcpStream::connect(server.grpc_addr()).await.unwrap();
    idle.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0")
        .await
        .unwrap();
    // A stream whose driver has used up its rate for the next minutes.
    let mut fast = DriverStream::open(server.locations()).await;
    fast.send(0, track("cab-1", 500)).await;
    until("the fast driver waits", async || {
        let (_, metrics) = get_json(&format!("{}/metrics", server.http())).await;
        metrics["rate_limit_waits"].as_u64() > Some(0)
    })
    .await;

    server.signal(Signal::SIGTERM);

    let (acknowledged, status) = fast.rest().await;
    assert_eq!((acknowledged, status.code()), (None, Code::Unavailable), "{status:?}");
    ends_well(server).await;
    drop(idle);
}

/// The windows of HTTP/2 let an answer of a few bytes through for long: thousands of messages fill them.
#[tokio::test]
async fn a_client_that_does_not_read_its_answers_does_not_hold_up_the_end() {
    let rig = Rig::builder()
        .no_server()
        .with("limits.fixes_per_driver.per_second=1000000 limits.fixes_per_driver.burst=1000000")
        .start()
        .await;
    let server = ServerProcess::start(&rig, &[]).await;
    let unread = DriverStream::open(server.locations()).await;
    // Each answer names what was rejected, and so is long.
    let bad = || vec![fix("no driver", 1.0, 1.0); 500];
    let mut sent = 0;
    while timeout(Duration::from_secs(1), unread.send(sent * 500, bad()))
        .await
        .is_ok()
    {
        sent += 1;
        assert!(sent < 10_000, "the server reads on though its answers are not read");
    }
    server.signal(Signal::SIGTERM);
    ends_well(server).await;
    drop(unread);
}

#[tokio::test]
async fn a_second_signal_ends_the_server_at_once() {
    let rig = Rig::builder().no_server().start().await;
    let server = ServerProcess::start(&rig, &[("drain.unready", "9s")]).await;
    server.signal(Signal::SIGTERM);
    server.until_logged("draining").await;
    // The second signal is the one that `stop` sends.
    let ended = timeout(Duration::from_secs(5), server.stop()).await.expect("at once");
    assert_eq!(ended.code(), Some(130));
}
