//! An app follows what its driver serves: each assignment, each loss and why, at any server.

use testkit::wire::{PICKUP, a_ride, assert_refused_for_now, position, refusal_fields};
use testkit::{Builder, Rig};
use tonic::{Code, Streaming};
use waybill_proto::driver::v1::driver_service_client::DriverServiceClient;
use waybill_proto::driver::v1::{AssignmentEnd, WatchAssignmentsRequest, WatchAssignmentsResponse};
use waybill_proto::order::v1::{CreateOrderRequest, ReleaseDriverRequest};

use super::{IN_TIME, drivers};

struct App {
    stream: Streaming<WatchAssignmentsResponse>,
}

impl App {
    async fn begin(rig: &Rig, server: usize, driver: &str, cursor: &str) -> App {
        let request = WatchAssignmentsRequest {
            driver_id: driver.to_owned(),
            cursor: cursor.to_owned(),
        };
        let mut drivers = DriverServiceClient::new(rig.channel_of(server));
        let stream = drivers.watch_assignments(request).await.unwrap().into_inner();
        App { stream }
    }

    async fn next(&mut self) -> WatchAssignmentsResponse {
        let message = tokio::time::timeout(IN_TIME, self.stream.message()).await;
        let message = message.expect("a message comes in time");
        message.unwrap().expect("the stream goes on")
    }

    /// The next message in which there is something new: those without come after 10 s of silence.
    async fn news(&mut self, known: &str) -> WatchAssignmentsResponse {
        loop {
            let message = self.next().await;
            if message.cursor != known || message.ended.is_some() {
                return message;
            }
        }
    }
}

fn served(message: &WatchAssignmentsResponse) -> &str {
    message
        .assignment
        .as_ref()
        .map_or("", |assignment| &assignment.order_id)
}

fn ended(message: &WatchAssignmentsResponse) -> (&str, AssignmentEnd) {
    let ended = message.ended.as_ref().expect("an assignment ended");
    (&ended.order_id, ended.reason())
}

fn two_servers() -> Builder {
    Rig::builder().servers(2)
}

#[tokio::test]
async fn an_app_learns_of_each_order_and_how_its_service_ended_whichever_server_did_it() {
    let rig = two_servers().start().await;
    let mut app = App::begin(&rig, 1, "cab-1", "").await;
    let first = app.next().await;
    assert_eq!((served(&first), first.cursor.as_str(), &first.ended), ("", "", &None));

    rig.driver_at("cab-1", PICKUP.0, PICKUP.1).await;
    let ride = CreateOrderRequest {
        drop_off: Some(position((37.78, -122.41))),
        ..a_ride()
    };
    let order = rig.place(ride.clone()).await;
    let message = app.news("").await;
    let assignment = message.assignment.clone().unwrap();
    assert_eq!(assignment.order_id, order.order_id);
    assert_eq!((assignment.pickup, assignment.drop_off), (ride.pickup, ride.drop_off));
    assert_eq!(assignment.assigned_at, order.assignment.unwrap().assigned_at);
    assert_eq!(message.ended, None);

    rig.complete(&order.order_id).await.unwrap();
    let message = app.news(&message.cursor).await;
    assert_eq!((served(&message), message.cursor.as_str()), ("", ""));
    assert_eq!(ended(&message), (order.order_id.as_str(), AssignmentEnd::Completed));

    let order = rig.place(a_ride()).await;
    let message = app.news("").await;
    assert_eq!((served(&message), &message.ended), (order.order_id.as_str(), &None));
    rig.cancel(&order.order_id).await.unwrap();
    let message = app.news(&message.cursor).await;
    assert_eq!(ended(&message), (order.order_id.as_str(), AssignmentEnd::Cancelled));

    let order = rig.place(a_ride()).await;
    let message = app.news("").await;
    rig.driver_at("cab-2", PICKUP.0, PICKUP.1).await;
    let release = ReleaseDriverRequest {
        order_id: order.order_id.clone(),
        driver_id: "cab-1".to_owned(),
        reason: "a flat tyre".to_owned(),
    };
    rig.orders().release_driver(release).await.unwrap();
    let message = app.news(&message.cursor).await;
    assert_eq!(ended(&message), (order.order_id.as_str(), AssignmentEnd::Released));
    assert_eq!(served(&message), "");
}

#[tokio::test]
async fn a_broken_stream_goes_on_at_another_server_with_what_was_lost_meanwhile() {
    let rig = two_servers().start().await;
    rig.driver_at("cab-1", PICKUP.0, PICKUP.1).await;
    let first = rig.place(a_ride()).await;
    let cursor = App::begin(&rig, 0, "cab-1", "").await.next().await.cursor;
    // The app is in a tunnel.
    rig.complete(&first.order_id).await.unwrap();
    let second = rig.place(a_ride()).await;

    let message = App::begin(&rig, 1, "cab-1", &cursor).await.next().await;
    assert_eq!(ended(&message), (first.order_id.as_str(), AssignmentEnd::Completed));
    assert_eq!(served(&message), second.order_id);
    // What it knows already is no news.
    let again = App::begin(&rig, 1, "cab-1", &message.cursor).await.next().await;
    assert_eq!((served(&again), &again.ended), (second.order_id.as_str(), &None));
    // What is no cursor of this driver counts as none, and shows nothing of another one's orders.
    for other in [
        "garbage",
        first.order_id.as_str(),
        "00000000-0000-7000-8000-000000000000",
    ] {
        let message = App::begin(&rig, 0, "cab-2", other).await.next().await;
        assert_eq!((served(&message), &message.ended), ("", &None), "{other}");
    }
}

#[tokio::test]
async fn an_app_hears_something_also_when_nothing_happens() {
    let rig = Rig::start().await;
    let mut app = App::begin(&rig, 0, "cab-1", "").await;
    let first = app.next().await;
    let second = app.next().await;
    assert_eq!((&second.assignment, &second.ended), (&None, &None));
    assert!(second.now.unwrap().seconds > first.now.unwrap().seconds);
}

#[tokio::test]
async fn a_watch_that_cannot_be_is_refused_with_why() {
    let rig = Rig::builder().set("orders.assignment_watchers_max", "2").start().await;
    let request = |driver: &str| WatchAssignmentsRequest {
        driver_id: driver.to_owned(),
        cursor: String::new(),
    };
    for bad in ["", "a b", "x/cab-1"] {
        let refused = drivers(&rig).watch_assignments(request(bad)).await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument);
        assert_eq!(refusal_fields(&refused), ["driver_id"], "{bad:?}");
    }
    let _first = App::begin(&rig, 0, "cab-1", "").await;
    let second = App::begin(&rig, 0, "cab-2", "").await;
    let refused = drivers(&rig).watch_assignments(request("cab-3")).await.unwrap_err();
    assert_refused_for_now(&refused, Code::ResourceExhausted);
    assert_eq!(rig.metrics().await["orders"]["assignment_watches"], 2);
    // A place that is left is free again.
    drop(second);
    testkit::until("there is a place", async || {
        drivers(&rig).watch_assignments(request("cab-3")).await.map(drop)
    })
    .await;
}

#[tokio::test]
async fn a_stream_of_a_server_that_drains_ends_with_a_reason_to_go_on_elsewhere() {
    let mut rig = Rig::builder().servers(2).start().await;
    let mut app = App::begin(&rig, 1, "cab-1", "").await;
    app.next().await;
    rig.shut_down(1).await;
    let end = tokio::time::timeout(IN_TIME, app.stream.message()).await.unwrap();
    assert_refused_for_now(&end.unwrap_err(), Code::Unavailable);
}
