//! Requests that do not end: what they have sent is not kept in memory for ever, whoever sends it.

use std::collections::BTreeMap;

use testkit::Rig;
use tonic::client::Grpc;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::Channel;
use tonic::{Code, Request, Status};
use tonic_health::pb::health_client::HealthClient;
use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse};
use tonic_prost::ProstCodec;

use super::{Doors, by, in_time};

/// How a call ends whose message never comes.
async fn unfinished(channel: Channel, path: &'static str, token: Option<&str>) -> Status {
    let mut client = Grpc::new(channel);
    client.ready().await.unwrap();
    let none = by(token, tokio_stream::pending::<HealthCheckRequest>());
    let codec = ProstCodec::<HealthCheckRequest, HealthCheckResponse>::default();
    let answer = client.streaming(none, PathAndQuery::from_static(path), codec).await;
    answer.expect_err("there is nothing to stream")
}

#[tokio::test]
async fn a_stream_whose_request_does_not_end_is_given_up_in_the_time_of_a_call() {
    let doors = Doors::start(Rig::builder().set("grpc.deadline_default", "1s")).await;
    let shop = doors.token("service", "shop");
    let mut codes = BTreeMap::new();
    for (path, token) in [
        ("/grpc.health.v1.Health/Watch", None),
        ("/waybill.tracking.v1.TrackingService/WatchShared", None),
        ("/waybill.order.v1.OrderService/WatchOrder", Some(&*shop)),
        ("/waybill.fleet.v1.FleetService/WatchDrivers", Some(&*shop)),
        ("/waybill.fleet.v1.FleetService/ReplayLocations", Some(&*shop)),
        ("/waybill.driver.v1.DriverService/WatchAssignments", Some(&*shop)),
    ] {
        let end = in_time(unfinished(doors.rig.channel(), path, token)).await;
        codes.insert(path, end.code());
    }
    let given_up = codes.values().all(|code| *code == Code::DeadlineExceeded);
    assert!(given_up, "{codes:?}");
}

#[tokio::test]
async fn the_health_service_takes_no_large_message() {
    let rig = Rig::start().await;
    let asked = |length: usize| {
        let request = HealthCheckRequest {
            service: "x".repeat(length),
        };
        let mut client = HealthClient::new(rig.channel());
        async move { client.check(Request::new(request)).await.unwrap_err().code() }
    };
    assert_eq!(asked(500).await, Code::NotFound);
    assert_eq!(asked(2_000).await, Code::ResourceExhausted);
}
