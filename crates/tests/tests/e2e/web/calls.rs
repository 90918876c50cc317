//! gRPC-Web: the same services, behind the same doors.

use std::io::ErrorKind;

use reqwest::header::CONTENT_TYPE;
use testkit::wire::{PICKUP, a_ride, assert_refused, by, http, refusal_fields};
use testkit::{Rig, until};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tonic::{Code, Request};
use waybill_proto::fleet::v1::fleet_service_client::FleetServiceClient;
use waybill_proto::fleet::v1::watch_drivers_request::Scope;
use waybill_proto::fleet::v1::{DriverIds, GetDriverRequest, SearchDriversRequest, WatchDriversRequest};
use waybill_proto::order::v1::order_service_client::OrderServiceClient;
use waybill_proto::order::v1::{CreateOrderRequest, OrderStatus, WatchOrderRequest};

use super::{browser, origin};
use crate::access::{Doors, in_time};

#[tokio::test]
async fn a_browser_places_an_order_and_watches_it() {
    let doors = Doors::start(Rig::builder()).await;
    doors.drive("cab-1", PICKUP).await;
    let mut orders = OrderServiceClient::with_origin(browser(), origin(&doors.rig));
    let ride = CreateOrderRequest {
        user_id: "anna".to_owned(),
        ..a_ride()
    };
    let placed = orders.create_order(by(Some(&doors.anna()), ride)).await.unwrap();
    let order = placed.into_inner().order.unwrap();
    assert_eq!(order.status(), OrderStatus::Succeeded);

    let watch = WatchOrderRequest {
        order_id: order.order_id,
        after_step_id: Some(0),
    };
    let mut watch = orders
        .watch_order(by(Some(&doors.anna()), watch))
        .await
        .unwrap()
        .into_inner();
    let first = watch.message().await.unwrap().unwrap();
    assert!(first.steps.iter().any(|step| step.step == "assign"), "{first:?}");
    assert_eq!(watch.message().await.unwrap(), None);
}

#[tokio::test]
async fn a_browser_is_refused_as_any_other_client_is() {
    let doors = Doors::start(Rig::builder()).await;
    let mut fleet = FleetServiceClient::with_origin(browser(), origin(&doors.rig));
    let search = SearchDriversRequest::default();
    let refusal = fleet.search_drivers(Request::new(search)).await.unwrap_err();
    assert_refused(&refusal, Code::Unauthenticated, "TOKEN_MISSING");
    let refusal = fleet.search_drivers(by(Some(&doors.anna()), search)).await.unwrap_err();
    assert_refused(&refusal, Code::PermissionDenied, "ROLE_NOT_ALLOWED");
    let dispatcher = doors.token("dispatcher", "dora");
    let refusal = fleet.search_drivers(by(Some(&dispatcher), search)).await.unwrap_err();
    assert_eq!(refusal_fields(&refusal), ["near"]);
}

#[tokio::test]
async fn a_stream_brings_each_change_as_it_comes_and_ends_with_the_tab() {
    let doors = Doors::start(Rig::builder()).await;
    let dispatcher = doors.token("dispatcher", "dora");
    let mut fleet = FleetServiceClient::with_origin(browser(), origin(&doors.rig));
    let request = WatchDriversRequest {
        scope: Some(Scope::Drivers(DriverIds {
            driver_ids: vec!["cab-1".to_owned()],
        })),
        interval: None,
        cursor: String::new(),
    };
    let answer = fleet.watch_drivers(by(Some(&dispatcher), request)).await.unwrap();
    let mut drivers = answer.into_inner();
    assert!(drivers.message().await.unwrap().unwrap().reset);
    doors.drive("cab-1", PICKUP).await;
    let seen = in_time(async {
        loop {
            let message = drivers.message().await.unwrap().unwrap();
            if let Some(driver) = message.drivers.into_iter().next() {
                return driver.driver_id;
            }
        }
    });
    assert_eq!(seen.await, "cab-1");

    let watches = async || doors.rig.metrics().await["locations"]["fleet_watches"].clone();
    assert_eq!(watches().await, 1);
    drop((drivers, fleet));
    until("the server lets the watch go", async || match watches().await {
        left if left == 0 => Ok(()),
        left => Err(left),
    })
    .await;
}

#[tokio::test]
async fn the_listener_of_grpc_still_takes_no_browser() {
    let rig = Rig::builder().start().await;
    let path = "/waybill.fleet.v1.FleetService/GetDriver";
    let mut fleet = FleetServiceClient::with_origin(browser(), format!("http://{}", rig.grpc_addr()).parse().unwrap());
    let request = GetDriverRequest {
        driver_id: "cab-1".to_owned(),
    };
    // It does not begin to speak HTTP/2.
    assert_ne!(fleet.get_driver(request).await.unwrap_err().code(), Code::NotFound);

    // And that for browsers takes what is no gRPC-Web for what it is, whatever it says that it is.
    for content_type in ["application/json", "text/plain", "application/grpc"] {
        let answer = http()
            .post(format!("{}{path}", rig.web()))
            .header(CONTENT_TYPE, content_type)
            .body("{}")
            .send()
            .await;
        let status = answer.unwrap().status().as_u16();
        assert!([400, 415].contains(&status), "{content_type}: {status}");
    }
}

#[tokio::test]
async fn what_is_no_http_is_closed_and_harms_no_one() {
    let rig = Rig::builder().start().await;
    for garbage in [
        "\u{16}\u{3}\u{1}\u{2}",
        "PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n",
        "GET / HTTP/9.9\r\n\r\n",
        "\0\0\0\0\r\n\r\n",
    ] {
        let mut peer = TcpStream::connect(rig.web().trim_start_matches("http://"))
            .await
            .unwrap();
        peer.write_all(garbage.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        let read = in_time(peer.read_to_end(&mut answer)).await;
        let is_closed = read.is_ok() || read.is_err_and(|error| error.kind() == ErrorKind::ConnectionReset);
        assert!(is_closed, "{garbage:?}");
    }
    let mut fleet = FleetServiceClient::with_origin(browser(), origin(&rig));
    let request = GetDriverRequest {
        driver_id: "cab-1".to_owned(),
    };
    assert_eq!(fleet.get_driver(request).await.unwrap_err().code(), Code::NotFound);
    let panics = rig.metrics().await["panics"].clone();
    assert_eq!(panics, 0);
}
