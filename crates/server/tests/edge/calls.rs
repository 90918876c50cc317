//! The layers that a call passes before its service, and how it is counted.

use std::num::NonZeroU32;
use std::time::Duration;

use futures_util::future::join_all;
use futures_util::{StreamExt as _, stream};
use http::header::CONTENT_TYPE;
use tonic::body::Body;
use tonic::transport::Channel;
use tonic::{Code, Request};
use tonic_types::StatusExt as _;
use tower::ServiceExt as _;
use waybill_proto::location::v1::location_service_client::LocationServiceClient;
use waybill_proto::location::v1::{Fix, ReportLocationsRequest, StreamLocationsRequest};
use waybill_server::grpc::edge::{Class, ClassLimit, DeadlineSettings, IngressLimits, IngressSettings, Rate};

use crate::raw::{END_STREAM, HEADERS, RST_STREAM, RawClient};
use crate::rig::{REPORT, Rig, STREAM, Settings, message, report};

/// The error code of a stream that its client no longer wants (RFC 9113, section 7).
const CANCEL: u32 = 8;

#[tokio::test]
async fn only_grpc_is_served() {
    let rig = Rig::start().await;
    let channel = rig.channel().await;
    for (content_type, expected) in [
        ("application/grpc", 200),
        ("application/grpc+proto", 200),
        ("application/grpc;charset=utf-8", 200),
        ("text/plain", 415),
        ("application/json", 415),
        ("application/grpc-web", 415),
        ("application/grpc+json", 415),
    ] {
        let request = http::Request::post(REPORT)
            .header(CONTENT_TYPE, content_type)
            .body(Body::empty())
            .unwrap();
        let response = channel.clone().oneshot(request).await.unwrap();
        assert_eq!(response.status(), expected, "{content_type}");
    }
    assert_eq!(rig.codes(REPORT)["UNKNOWN"], 4, "a refusal is counted too");
}

#[tokio::test]
async fn a_call_that_takes_too_long_is_deadline_exceeded() {
    let deadline = DeadlineSettings {
        default: Duration::from_millis(30),
        ..DeadlineSettings::default()
    };
    let rig = Rig::with(Settings {
        deadline,
        ..Settings::default()
    })
    .await;

    let status = rig.client().await.report_locations(report("hang")).await.unwrap_err();
    assert_eq!(status.code(), Code::DeadlineExceeded);
    assert_eq!(rig.method(REPORT).in_flight, 0, "its handler is dropped");
}

#[tokio::test]
async fn the_service_receives_the_deadline() {
    let rig = Rig::start().await;
    let mut client = rig.client().await;
    let seconds_left = async |timeout: Option<Duration>, client: &mut LocationServiceClient<Channel>| {
        let mut request = Request::new(report("return the deadline"));
        if let Some(timeout) = timeout {
            request.set_timeout(timeout);
        }
        client
            .report_locations(request)
            .await
            .unwrap()
            .into_inner()
            .accepted_count
    };
    // The default, that of the client, and the most there is; some of each is over.
    assert!((5..10).contains(&seconds_left(None, &mut client).await));
    assert!((15..20).contains(&seconds_left(Some(Duration::from_secs(20)), &mut client).await));
    assert!((25..30).contains(&seconds_left(Some(Duration::from_hours(1)), &mut client).await));
}

/// tonic's own timer would make them CANCELLED.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_timeout_of_the_client_is_deadline_exceeded_every_time() {
    let rig = Rig::start().await;
    let mut client = RawClient::connect(rig.address).await;
    for stream in (1..180).step_by(2) {
        client.open(stream, REPORT, &[("grpc-timeout", "20m")]).await;
    }
    rig.until_codes(REPORT, &[("DEADLINE_EXCEEDED", 90)]).await;
}

#[tokio::test]
async fn a_stream_has_the_deadline_of_its_client_and_no_other() {
    let deadline = DeadlineSettings {
        default: Duration::from_millis(1),
        ..DeadlineSettings::default()
    };
    let rig = Rig::with(Settings {
        deadline,
        ..Settings::default()
    })
    .await;
    let mut client = RawClient::connect(rig.address).await;

    client.open(1, STREAM, &[]).await;
    client.open(3, STREAM, &[("grpc-timeout", "20m")]).await;
    // Headers first, then the status in trailers of their own: the answer had begun.
    client
        .until(|frame| frame.stream == 3 && frame.kind == HEADERS && frame.flags & END_STREAM == 0)
        .await;
    client
        .until(|frame| frame.stream == 3 && frame.kind == HEADERS && frame.flags & END_STREAM != 0)
        .await;
    rig.until_codes(STREAM, &[("DEADLINE_EXCEEDED", 1)]).await;
    assert_eq!(rig.method(STREAM).in_flight, 1);
}

#[tokio::test]
async fn no_time_at_all_and_a_time_that_is_none_are_answered_at_once() {
    let rig = Rig::start().await;
    let mut client = RawClient::connect(rig.address).await;
    client.open(1, REPORT, &[("grpc-timeout", "0n")]).await;
    client.open(3, REPORT, &[("grpc-timeout", "abc")]).await;
    rig.until_codes(REPORT, &[("DEADLINE_EXCEEDED", 1), ("INVALID_ARGUMENT", 1)])
        .await;
}

#[tokio::test]
async fn a_panic_is_internal_and_the_connection_lives() {
    let rig = Rig::start().await;
    let mut client = rig.client().await;
    let mut acknowledgements = client
        .stream_locations(stream::iter([message(1, "panic")]))
        .await
        .unwrap()
        .into_inner();

    let status = client.report_locations(report("panic")).await.unwrap_err();
    assert_eq!((status.code(), status.message()), (Code::Internal, "internal error"));
    let status = acknowledgements.message().await.unwrap_err();
    assert_eq!(
        (status.code(), status.message()),
        (Code::Internal, "internal error"),
        "also once an answer has begun"
    );

    client.report_locations(report("")).await.unwrap();
    let counted = rig.metrics.snapshot();
    assert_eq!(
        (counted.panics, counted.total_errors, counted.ingress.connections_open),
        (2, 2, 1)
    );
}

#[tokio::test]
async fn a_message_over_the_limit_is_resource_exhausted() {
    let rig = Rig::start().await;
    let mut client = rig.client().await;
    let large = vec![
        Fix {
            driver_id: "d".repeat(64),
            ..Fix::default()
        };
        1_000
    ];

    let status = client
        .report_locations(ReportLocationsRequest { fixes: large.clone() })
        .await
        .unwrap_err();
    assert_eq!(status.code(), Code::ResourceExhausted);
    assert!(
        status.message().contains("limit is: 65536 bytes"),
        "{}",
        status.message()
    );

    let messages = stream::iter([StreamLocationsRequest {
        first_sequence: 1,
        fixes: large,
    }]);
    let mut acknowledgements = client.stream_locations(messages).await.unwrap().into_inner();
    assert_eq!(
        acknowledgements.message().await.unwrap_err().code(),
        Code::ResourceExhausted
    );
    assert_eq!(rig.codes(STREAM)["RESOURCE_EXHAUSTED"], 1);

    let status = client.report_locations(report("out of range")).await.unwrap_err();
    assert_eq!(
        status.code(),
        Code::OutOfRange,
        "a status of the service itself is left alone"
    );
}

#[tokio::test]
async fn calls_are_counted_by_how_they_end() {
    let rig = Rig::start().await;
    let mut client = rig.client().await;
    client.report_locations(report("")).await.unwrap();
    client.report_locations(report("not found")).await.unwrap_err();
    let unknown = http::Request::post("/no.Such/Method").header(CONTENT_TYPE, "application/grpc");
    rig.channel()
        .await
        .oneshot(unknown.body(Body::empty()).unwrap())
        .await
        .unwrap();

    let mut leaver = RawClient::connect(rig.address).await;
    leaver.open(1, STREAM, &[]).await;
    leaver.until(|frame| frame.kind == HEADERS).await;
    assert_eq!((rig.method(STREAM).count, rig.method(STREAM).in_flight), (0, 1));
    leaver.send(RST_STREAM, 0, 1, &CANCEL.to_be_bytes()).await;
    rig.until_codes(STREAM, &[("CANCELLED", 1)]).await;

    let finished = client
        .stream_locations(stream::iter([message(1, ""), message(2, "")]))
        .await
        .unwrap();
    assert_eq!(finished.into_inner().count().await, 2);

    rig.until_codes(REPORT, &[("NOT_FOUND", 1), ("OK", 1)]).await;
    rig.until_codes(STREAM, &[("CANCELLED", 1), ("OK", 1)]).await;
    rig.until_codes("unknown", &[("UNIMPLEMENTED", 1)]).await;
    let counted = rig.method(REPORT);
    assert_eq!((counted.count, counted.errors, counted.in_flight), (2, 1, 0));
    assert!(
        counted.max_latency_ms >= counted.avg_latency_ms && counted.last_latency_ms > 0.0,
        "{counted:?}"
    );
    assert_eq!(
        (
            rig.metrics.snapshot().total_requests,
            rig.metrics.snapshot().total_errors
        ),
        (5, 3)
    );
}

#[tokio::test]
async fn a_principal_over_its_rate_is_refused_with_retry_info_and_others_are_not() {
    let orders = ClassLimit {
        principal: Rate::new(1, 3),
        all: Rate::new(1_000, 1_000),
    };
    let rig = Rig::with(Settings {
        ingress: IngressSettings {
            orders,
            ..Default::default()
        },
        ..Settings::default()
    })
    .await;
    let mut client = rig.client().await;
    for _ in 0..3 {
        client.report_locations(report("alice")).await.unwrap();
    }

    let status = client.report_locations(report("alice")).await.unwrap_err();
    assert_eq!(status.code(), Code::ResourceExhausted);
    let retry_after = status
        .get_details_retry_info()
        .and_then(|info| info.retry_delay)
        .expect("a time to come back");
    assert!(
        retry_after > Duration::from_millis(100) && retry_after <= Duration::from_secs(1),
        "{retry_after:?}"
    );
    assert!(status.metadata().contains_key("grpc-retry-pushback-ms"));
    client.report_locations(report("bob")).await.unwrap();

    let counted = rig.metrics.snapshot();
    assert_eq!(counted.ingress.rate_limit_refusals["orders"], 1);
    assert_eq!(
        (counted.rate_limit_waits, counted.rate_limit_wait_ms),
        (0, 0),
        "a wait that is too long is not begun"
    );
}

#[tokio::test]
async fn a_short_wait_is_waited_and_counted() {
    let orders = ClassLimit {
        principal: Rate::new(20, 1),
        all: Rate::new(1_000, 1_000),
    };
    let ingress = IngressSettings {
        orders,
        wait_max: Duration::from_secs(10),
        ..Default::default()
    };
    let rig = Rig::with(Settings {
        ingress,
        ..Settings::default()
    })
    .await;
    let client = rig.client().await;

    let calls = (0..5).map(|_| client.clone());
    let answers = join_all(calls.map(async |mut client| client.report_locations(report("alice")).await)).await;
    assert!(answers.iter().all(Result::is_ok), "{answers:?}");
    let counted = rig.metrics.snapshot();
    assert!(
        counted.rate_limit_waits >= 1 && counted.rate_limit_wait_ms > 0,
        "{counted:?}"
    );
}

#[tokio::test]
async fn no_call_waits_past_its_deadline() {
    let orders = ClassLimit {
        principal: Rate::new(1, 1),
        all: Rate::new(1_000, 1_000),
    };
    let ingress = IngressSettings {
        orders,
        wait_max: Duration::from_mins(1),
        ..Default::default()
    };
    let deadline = DeadlineSettings {
        default: Duration::from_millis(500),
        ..Default::default()
    };
    let rig = Rig::with(Settings {
        deadline,
        ingress,
        ..Settings::default()
    })
    .await;
    let mut client = rig.client().await;
    client.report_locations(report("alice")).await.unwrap();

    let status = client.report_locations(report("alice")).await.unwrap_err();
    assert_eq!(
        status.code(),
        Code::ResourceExhausted,
        "it is refused while the caller still listens"
    );
}

#[tokio::test]
async fn a_principal_over_its_own_rate_takes_nothing_from_the_rate_of_all() {
    let rig = Rig::start().await;
    let orders = ClassLimit {
        principal: Rate::new(1, 1),
        all: Rate::new(1, 3),
    };
    let limits = IngressLimits::new(
        &IngressSettings {
            orders,
            ..Default::default()
        },
        rig.metrics.clone(),
    );
    limits.admit(Class::Orders, "alice", None).await.unwrap();
    for _ in 0..10 {
        limits.admit(Class::Orders, "alice", None).await.unwrap_err();
    }
    limits.admit(Class::Orders, "bob", None).await.unwrap();
    limits.admit(Class::Orders, "carol", None).await.unwrap();
    limits
        .admit(Class::Orders, "dave", None)
        .await
        .expect_err("the rate of all is used up");
}

#[tokio::test]
async fn a_wait_for_the_rate_of_all_costs_one_token_of_ones_own() {
    let rig = Rig::start().await;
    let orders = ClassLimit {
        principal: Rate::new(1, 1),
        all: Rate::new(5, 1),
    };
    let settings = IngressSettings {
        orders,
        wait_max: Duration::from_millis(500),
        ..Default::default()
    };
    let limits = IngressLimits::new(&settings, rig.metrics.clone());
    limits.admit(Class::Orders, "alice", None).await.unwrap();
    limits.admit(Class::Orders, "bob", None).await.unwrap();
    assert_eq!(rig.metrics.snapshot().rate_limit_waits, 1);
}

#[tokio::test]
async fn a_stream_is_slowed_not_refused_even_for_more_than_a_burst() {
    let rig = Rig::start().await;
    let fixes = ClassLimit {
        principal: Rate::new(100_000, 100_000),
        all: Rate::new(100, 10),
    };
    let limits = IngressLimits::new(
        &IngressSettings {
            fixes,
            ..Default::default()
        },
        rig.metrics.clone(),
    );

    limits.pace_passed(Class::Fixes, "driver", 35).await;

    // One wait, however often it wakes.
    let counted = rig.metrics.snapshot();
    assert_eq!(counted.rate_limit_waits, 1);
    assert!(counted.rate_limit_wait_ms > 0, "{counted:?}");
}

#[tokio::test]
async fn a_call_of_more_than_all_may_have_at_once_takes_all_of_that() {
    let rig = Rig::start().await;
    let fixes = ClassLimit {
        principal: Rate::new(1, 100),
        all: Rate::new(1, 50),
    };
    let settings = IngressSettings {
        fixes,
        wait_max: Duration::ZERO,
        ..Default::default()
    };
    let limits = IngressLimits::new(&settings, rig.metrics.clone());
    limits.admit_passed(Class::Fixes, "cab-1", 60, None).await.unwrap();
    let refused = limits.admit_passed(Class::Fixes, "cab-2", 60, None).await;
    refused.expect_err("nothing is left");
}

/// Before a call is read no one knows whether it repeats another.
#[tokio::test]
async fn no_caller_takes_all_that_is_read_while_there_is_no_room() {
    let rig = Rig::start().await;
    let limits = IngressLimits::new(&IngressSettings::default(), rig.metrics.clone());
    let read = |caller: &str| (0..1_000).filter(|_| limits.may_be_a_repeat(caller)).count();
    for caller in ["anna", "ben"] {
        let read = read(caller);
        assert!((25..50).contains(&read), "{read} of {caller}");
    }
    let of_one_business: usize = ["acme/anna", "acme/ben", "acme/zoe"].map(read).iter().sum();
    assert!((25..=75).contains(&of_one_business), "{of_one_business}");
}

/// A call that is heavier than what a tenant may take at once passes, and takes all of that.
#[tokio::test]
async fn a_heavy_call_takes_all_that_its_tenant_has_and_no_more_than_there_is() {
    let rig = Rig::start().await;
    let reads = ClassLimit {
        principal: Rate::new(1, 30),
        all: Rate::new(1, 40),
    };
    let settings = IngressSettings {
        reads,
        tenant_share: 0.5,
        wait_max: Duration::ZERO,
        ..Default::default()
    };
    let limits = IngressLimits::new(&settings, rig.metrics.clone());
    let (heavy, request) = (NonZeroU32::new(100).unwrap(), Request::new(()));
    // It counts as 30: all that its caller has.
    let heavy = limits.admit_weighted(Class::Reads, "acme/anna", heavy, &request);
    heavy.await.unwrap();
    limits.admit(Class::Reads, "acme/anna", None).await.unwrap_err();
    limits.admit(Class::Reads, "acme/ben", None).await.unwrap_err();
    limits.admit(Class::Reads, "beta/zoe", None).await.unwrap();
}
