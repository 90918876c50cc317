//! Places that callers keep for a while: orders in flight, watches, links that are followed. No business and no caller takes them all.

use futures_util::StreamExt as _;
use futures_util::future::join_all;
use testkit::wire::{PICKUP, by};
use testkit::{Rig, until};
use tokio::sync::oneshot;
use tonic::{Code, Status, Streaming};
use waybill_proto::location::v1::StreamLocationsResponse;
use waybill_proto::location::v1::location_service_client::LocationServiceClient;
use waybill_proto::order::v1::{ShareOrderRequest, WatchOrderRequest, WatchOrderResponse};
use waybill_proto::tracking::v1::WatchSharedRequest;
use waybill_proto::tracking::v1::tracking_service_client::TrackingServiceClient;
use waybill_sandbox::payments::{Fault, FaultKind, FaultTarget};

use super::Doors;
use super::accounts::{Account, of_two};

#[track_caller]
fn assert_none_left<T>(found: Result<T, Status>, of: &str) {
    let refused = found.err().expect("there is no place left");
    let is_said = refused.message().contains(of);
    assert!(refused.code() == Code::ResourceExhausted && is_said, "{refused:?}");
}

/// The id of an order of this business that searches for a driver for longer than a test takes.
async fn searching(doors: &Doors, tenant: &str) -> String {
    doors.try_to_place(doors.orders(), tenant).await.unwrap_err();
    let sql = doors.rig.sql().await;
    let query = "select order_id::text from order_sagas where tenant_of(user_id) = $1";
    sql.query_one(query, &[&tenant]).await.unwrap().get(0)
}

/// A stream of fixes on which none comes. Its client ends it when this is dropped: the answer alone is kept open by the request.
type SilentStream = (oneshot::Sender<()>, Streaming<StreamLocationsResponse>);

async fn silent_stream(doors: &Doors, token: &str) -> Result<SilentStream, Status> {
    let (open, ended) = oneshot::channel();
    let silent = by(Some(token), tokio_stream::pending().take_until(ended));
    let mut locations = LocationServiceClient::new(doors.rig.channel());
    let opened = locations.stream_locations(silent).await;
    opened.map(|answer| (open, answer.into_inner()))
}

async fn watch(doors: &Doors, token: &str, order: &str) -> Result<Streaming<WatchOrderResponse>, Status> {
    let request = WatchOrderRequest {
        order_id: order.to_owned(),
        after_step_id: None,
    };
    let watched = doors.orders().watch_order(by(Some(token), request)).await;
    watched.map(tonic::Response::into_inner)
}

#[tokio::test]
async fn orders_that_wait_for_one_business_leave_room_for_another() {
    let account = Account::start().await;
    let builder = account.is_in(Rig::builder().set("tenants.names", "acme,beta"));
    let builder = builder.with("orders.in_flight_max=4 grpc.deadline_default=2s");
    let doors = Doors::start(builder).await;
    for tenant in ["", "acme"] {
        doors.report_in(tenant, "cab-1", PICKUP).await;
    }
    account
        .provider
        .set_fault(Fault::always(FaultKind::Hang).on(FaultTarget::Charge));
    let two = [0, 1].map(|_| doors.try_to_place(doors.orders(), "acme"));
    for placed in join_all(two).await {
        assert_eq!(
            placed.unwrap_err().code(),
            Code::Aborted,
            "it is charged for longer than that"
        );
    }
    assert_none_left(doors.try_to_place(doors.orders(), "acme").await, "in progress");
    doors.place(doors.orders(), "").await;
}

#[tokio::test]
async fn watches_of_one_business_leave_room_for_another() {
    let builder = of_two().with("orders.watchers_max=4 orders.assignment_window=5m");
    let doors = Doors::start(builder).await;
    let orders = [searching(&doors, "").await, searching(&doors, "acme").await];
    let acmes = doors.token_in("acme", "service", "shop");
    let mut open = Vec::new();
    for _ in 0..2 {
        open.push(watch(&doors, &acmes, &orders[1]).await.unwrap());
    }
    assert_none_left(watch(&doors, &acmes, &orders[1]).await, "watched");
    let ours = doors.token_in("", "service", "shop");
    for _ in 0..2 {
        open.push(watch(&doors, &ours, &orders[0]).await.unwrap());
    }
    assert_none_left(watch(&doors, &ours, &orders[0]).await, "watched");
}

#[tokio::test]
async fn one_customer_watches_no_more_than_fifty_times() {
    let builder = of_two().with("orders.assignment_window=5m");
    let doors = Doors::start(builder).await;
    let order = searching(&doors, "").await;
    let anna = doors.anna();
    let mut open = Vec::new();
    for _ in 0..50 {
        open.push(watch(&doors, &anna, &order).await.unwrap());
    }
    assert_none_left(watch(&doors, &anna, &order).await, "watched");
    let shop = doors.token("service", "shop");
    open.push(watch(&doors, &shop, &order).await.unwrap());
    open.remove(0);
    until("her place is free again", async || watch(&doors, &anna, &order).await).await;
}

#[tokio::test]
async fn streams_of_fixes_of_one_business_leave_room_for_another() {
    let doors = Doors::start(of_two().set("locations.streams_max", "4")).await;
    let [acmes, ours] = ["acme", ""].map(|tenant| doors.token_in(tenant, "service", "gateway"));
    let mut open = Vec::new();
    for token in [&acmes, &ours] {
        for _ in 0..2 {
            open.push(silent_stream(&doors, token).await.unwrap());
        }
        assert_none_left(silent_stream(&doors, token).await, "streams of fixes");
    }
}

#[tokio::test]
async fn one_driver_has_no_more_than_sixteen_streams() {
    let doors = Doors::start(Rig::builder()).await;
    let [cab, other] = ["cab-1", "cab-2"].map(|driver| doors.token("driver", driver));
    let mut open = Vec::new();
    for _ in 0..16 {
        open.push(silent_stream(&doors, &cab).await.unwrap());
    }
    assert_none_left(silent_stream(&doors, &cab).await, "streams of fixes");
    open.push(silent_stream(&doors, &other).await.unwrap());
    open.remove(0);
    until("its place is free again", async || silent_stream(&doors, &cab).await).await;
}

#[tokio::test]
async fn followers_of_one_business_leave_room_for_another() {
    let doors = Doors::start(of_two().set("tracking.followers_max", "4")).await;
    let mut secrets = Vec::new();
    for tenant in ["", "acme"] {
        doors.report_in(tenant, "cab-1", PICKUP).await;
        let request = ShareOrderRequest {
            order_id: doors.place_in(tenant).await.order_id,
            lifetime: None,
        };
        let token = doors.token_in(tenant, "service", "shop");
        let shared = doors.orders().share_order(by(Some(&token), request)).await.unwrap();
        secrets.push(shared.into_inner().token);
    }
    let follow = async |secret: &str| {
        let request = WatchSharedRequest {
            token: secret.to_owned(),
        };
        TrackingServiceClient::new(doors.rig.channel())
            .watch_shared(request)
            .await
    };
    let mut open = Vec::new();
    for secret in [&secrets[1], &secrets[1]] {
        open.push(follow(secret).await.unwrap());
    }
    assert_none_left(follow(&secrets[1]).await, "follow");
    open.push(follow(&secrets[0]).await.unwrap());
    open.push(follow(&secrets[0]).await.unwrap());
    assert_none_left(follow(&secrets[0]).await, "follow");
}
