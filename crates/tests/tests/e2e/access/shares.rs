//! Links: whoever holds one follows the order, without an account, and learns nothing else (X1, X4).

use std::time::Duration;

use jiff::Timestamp;
use prost::Message as _;
use testkit::wire::{PICKUP, assert_refused, by, refusal_fields};
use testkit::{Rig, until};
use tonic::{Code, Status, Streaming};
use waybill_proto::order::v1::{
    CancelOrderRequest, Order, ReleaseDriverRequest, RevokeShareRequest, ShareOrderRequest, ShareOrderResponse,
};
use waybill_proto::tracking::v1::tracking_service_client::TrackingServiceClient;
use waybill_proto::tracking::v1::{SharedDriver, TrackingStatus, WatchSharedRequest, WatchSharedResponse};

use super::{Doors, in_time};

impl Doors {
    async fn share(&self, request: ShareOrderRequest) -> Result<ShareOrderResponse, Status> {
        let shared = self.orders().share_order(by(Some(&self.anna()), request)).await;
        shared.map(tonic::Response::into_inner)
    }

    async fn link(&self, order: &Order) -> ShareOrderResponse {
        let request = ShareOrderRequest {
            order_id: order.order_id.clone(),
            lifetime: None,
        };
        self.share(request).await.unwrap()
    }

    /// Whoever has the link, and nothing else.
    pub(super) async fn follow(&self, token: &str) -> Result<Streaming<WatchSharedResponse>, Status> {
        let request = WatchSharedRequest {
            token: token.to_owned(),
        };
        let followed = TrackingServiceClient::new(self.rig.channel())
            .watch_shared(request)
            .await;
        followed.map(tonic::Response::into_inner)
    }

    /// What becomes of who follows the link: the error of the call, or of the stream.
    pub(super) async fn refused(&self, token: &str) -> Status {
        match self.follow(token).await {
            Ok(mut stream) => in_time(ended(&mut stream)).await,
            Err(status) => status,
        }
    }
}

/// The error with which the stream ends.
async fn ended(stream: &mut Streaming<WatchSharedResponse>) -> Status {
    loop {
        match stream.message().await {
            Ok(message) => assert!(message.is_some(), "the stream ended well"),
            Err(status) => return status,
        }
    }
}

/// The next message that is as it should be.
async fn until_message(
    stream: &mut Streaming<WatchSharedResponse>,
    is_right: impl Fn(&WatchSharedResponse) -> bool,
) -> WatchSharedResponse {
    in_time(async {
        loop {
            let message = stream.message().await.unwrap().expect("the stream goes on");
            if is_right(&message) {
                return message;
            }
        }
    })
    .await
}

#[tokio::test]
async fn whoever_has_the_link_follows_the_order_to_its_end_and_learns_nothing_else() {
    let doors = Doors::start(Rig::builder()).await;
    let order = doors.annas().await;
    let link = doors.link(&order).await;
    assert_eq!(link.token.len(), 22, "128 bits");
    let mut stream = doors.follow(&link.token).await.unwrap();
    let first = stream.message().await.unwrap().unwrap();
    assert_eq!(first.status(), TrackingStatus::DriverAssigned);
    assert_eq!(first.pickup, order.pickup);
    assert_eq!(first.driver.as_ref().unwrap().position, order.pickup);

    let nearer = (PICKUP.0 + 0.001, PICKUP.1);
    doors.drive("cab-1", nearer).await;
    let moved = until_message(&mut stream, |message| {
        let position = message.driver.as_ref().and_then(|driver| driver.position);
        position.is_some_and(|position| (position.latitude() - nearer.0).abs() < 1e-4)
    })
    .await;

    doors.complete("cab-1", &order.order_id).await;
    let last = until_message(&mut stream, |message| message.status() == TrackingStatus::Completed).await;
    assert_eq!(last.driver, None, "it serves the order no more");
    assert_eq!(stream.message().await.unwrap(), None);
    // For a while the link shows how it ended.
    let again = doors
        .follow(&link.token)
        .await
        .unwrap()
        .message()
        .await
        .unwrap()
        .unwrap();
    assert_eq!(again.status(), TrackingStatus::Completed);

    for message in [first, moved, last, again] {
        let bytes = message.encode_to_vec();
        for secret in ["anna", "cab-1", &order.order_id, &link.share_id, &link.token] {
            let found = bytes.windows(secret.len()).any(|part| part == secret.as_bytes());
            assert!(!found, "{secret} in {message:?}");
        }
    }
}

#[tokio::test]
async fn a_driver_who_is_replaced_is_shown_no_more() {
    let doors = Doors::start(Rig::builder()).await;
    let order = doors.annas().await;
    let mut stream = doors.follow(&doors.link(&order).await.token).await.unwrap();
    until_message(&mut stream, |message| message.driver.is_some()).await;
    let request = ReleaseDriverRequest {
        order_id: order.order_id.clone(),
        driver_id: "cab-1".to_owned(),
        reason: "flat tyre".to_owned(),
    };
    let by_driver = by(Some(&doors.token("driver", "cab-1")), request);
    doors.orders().release_driver(by_driver).await.unwrap();
    let searching = until_message(&mut stream, |message| message.status() == TrackingStatus::Searching).await;
    assert_eq!(searching.driver, None);
}

#[tokio::test]
async fn a_link_that_was_revoked_ends_and_whoever_follows_it_is_cut_off() {
    let doors = Doors::start(Rig::builder()).await;
    let order = doors.annas().await;
    let (one, other) = (doors.link(&order).await, doors.link(&order).await);
    let mut followed = doors.follow(&one.token).await.unwrap();
    followed.message().await.unwrap().unwrap();
    let revoke = async |share_id: &str| {
        let request = RevokeShareRequest {
            order_id: order.order_id.clone(),
            share_id: share_id.to_owned(),
        };
        let revoked = doors.orders().revoke_share(by(Some(&doors.anna()), request)).await;
        revoked.map(drop)
    };
    revoke(&one.share_id).await.unwrap();
    revoke(&one.share_id).await.expect("it may be repeated");
    let cut_off = in_time(ended(&mut followed)).await;
    assert_refused(&cut_off, Code::NotFound, "LINK_ENDED");
    assert_refused(&doors.refused(&one.token).await, Code::NotFound, "LINK_ENDED");
    doors.follow(&other.token).await.unwrap();
    revoke("").await.unwrap();
    assert_refused(&doors.refused(&other.token).await, Code::NotFound, "LINK_ENDED");
    let unknown = revoke("01a20315-5e19-7147-aacf-821719f49b3a").await.unwrap_err();
    assert_eq!(unknown.code(), Code::NotFound);
}

/// Whatever a link ended by, and one that never was: the same answer, to the byte.
#[tokio::test]
async fn links_that_ended_are_refused_alike() {
    let doors = Doors::start(Rig::builder()).await;
    let order = doors.annas().await;
    let (expired, of_past) = (doors.link(&order).await, doors.link(&order).await);
    let hurry = format!(
        "update order_shares set expires_at = now() where share_id = '{}'",
        expired.share_id
    );
    doors.rig.execute(&hurry).await;
    let mut answers = vec![doors.refused(&expired.token).await];
    doors.complete("cab-1", &order.order_id).await;
    doors
        .rig
        .execute("update order_assignments set released_at = now() - interval '14 minutes'")
        .await;
    doors
        .follow(&of_past.token)
        .await
        .unwrap()
        .message()
        .await
        .unwrap()
        .unwrap();
    doors
        .rig
        .execute("update order_assignments set released_at = now() - interval '15 minutes'")
        .await;
    answers.push(doors.refused(&of_past.token).await);
    for never in ["AAAAAAAAAAAAAAAAAAAAAA", "x", "ä", &"a".repeat(10_000), &order.order_id] {
        answers.push(doors.refused(never).await);
    }
    for answer in &answers {
        assert_refused(answer, Code::NotFound, "LINK_ENDED");
        assert_eq!(
            (answer.message(), answer.details()),
            (answers[0].message(), answers[0].details())
        );
    }
    let empty = doors.refused("").await;
    assert_eq!(
        (empty.code(), refusal_fields(&empty)),
        (Code::InvalidArgument, vec!["token".to_owned()])
    );
}

#[tokio::test]
async fn what_cannot_be_shared_says_why() {
    let doors = Doors::start(Rig::builder()).await;
    let order = doors.annas().await;
    let request = |seconds, nanos| ShareOrderRequest {
        order_id: order.order_id.clone(),
        lifetime: Some(prost_types::Duration { seconds, nanos }),
    };
    for bad in [
        (0, 0),
        (59, 0),
        (-60, 0),
        (604_801, 0),
        (i64::MAX, 0),
        (60, -1),
        (60, i32::MAX),
    ] {
        let refused = doors.share(request(bad.0, bad.1)).await.unwrap_err();
        let found = (refused.code(), refusal_fields(&refused));
        assert_eq!(found, (Code::InvalidArgument, vec!["lifetime".to_owned()]), "{bad:?}");
    }
    let week = doors.share(request(604_800, 0)).await.unwrap();
    let until = week.expires_at.unwrap().seconds - Timestamp::now().as_second();
    assert!((604_000..=604_801).contains(&until), "{until}");
    let no_id = ShareOrderRequest {
        order_id: "7".to_owned(),
        lifetime: None,
    };
    assert_eq!(refusal_fields(&doors.share(no_id).await.unwrap_err()), ["order_id"]);

    for _ in 1..20 {
        doors.link(&order).await;
    }
    let more = doors.share(request(60, 0)).await.unwrap_err();
    assert_refused(&more, Code::FailedPrecondition, "TOO_MANY_LINKS");
    doors.complete("cab-1", &order.order_id).await;
    let over = doors.share(request(60, 0)).await.unwrap_err();
    assert_refused(&over, Code::FailedPrecondition, "ORDER_ENDED");
}

#[tokio::test]
async fn a_link_is_stored_as_its_hash_and_followed_by_a_few() {
    let doors =
        Doors::start(Rig::builder().with("limits.links_per_caller.burst=1000 limits.links_in_all.burst=1000")).await;
    let order = doors.annas().await;
    let link = doors.link(&order).await;
    let sql = doors.rig.sql().await;
    let row = sql
        .query_one("select order_shares::text from order_shares", &[])
        .await
        .unwrap();
    let row: String = row.get(0);
    assert!(row.contains(&link.share_id) && !row.contains(&link.token), "{row}");
    assert!(row.contains("customer anna"), "who shared it: {row}");

    let mut followers = Vec::new();
    for _ in 0..50 {
        let mut stream = doors.follow(&link.token).await.unwrap();
        stream.message().await.unwrap().unwrap();
        followers.push(stream);
    }
    let one_more = doors.refused(&link.token).await;
    assert_eq!(one_more.code(), Code::ResourceExhausted, "{one_more:?}");
    // Another link of the same customer counts for her, too.
    let other = doors.refused(&doors.link(&order).await.token).await;
    assert_eq!(other.code(), Code::ResourceExhausted, "{other:?}");
    drop(followers);
    until("there is room again", async || {
        let mut stream = doors.follow(&link.token).await.map_err(|status| status.code())?;
        stream.message().await.map(drop).map_err(|status| status.code())
    })
    .await;
}

/// A proxy cuts what is silent for a minute.
#[tokio::test]
async fn nothing_new_is_said_now_and_then() {
    let doors = Doors::start(Rig::builder()).await;
    let order = doors.annas().await;
    let mut stream = doors.follow(&doors.link(&order).await.token).await.unwrap();
    let first = stream.message().await.unwrap().unwrap();
    let second = tokio::time::timeout(Duration::from_mins(1), stream.message()).await;
    let second = second.expect("it is said").unwrap().unwrap();
    let place = |driver: Option<SharedDriver>| driver.map(|driver| (driver.position, driver.recorded_at));
    assert_eq!(
        (first.status, place(first.driver)),
        (second.status, place(second.driver))
    );
}

/// A refund or a dispute long after takes an order up again. Its links stay what they are.
#[tokio::test]
async fn a_link_does_not_come_back_with_its_order() {
    let doors = Doors::start(Rig::builder()).await;
    let order = doors.annas().await;
    let link = doors.link(&order).await;
    let cancel = CancelOrderRequest {
        order_id: order.order_id.clone(),
        cancellation_fee: None,
    };
    let dora = doors.token("dispatcher", "dora");
    doors.orders().cancel_order(by(Some(&dora), cancel)).await.unwrap();
    doors.rig.until_all_settled().await;
    let mut ended = doors.follow(&link.token).await.unwrap();
    let message = ended.message().await.unwrap().unwrap();
    assert_eq!((message.status(), message.driver), (TrackingStatus::Ended, None));
    let hours_later = "
        update order_assignments set assigned_at = assigned_at - interval '2 hours', released_at = released_at - interval '2 hours';
        update order_sagas set cancel_requested_at = cancel_requested_at - interval '2 hours';
        update order_sagas set finished_at = null, next_run_at = now() + interval '1 hour', reopened_at = now()";
    doors.rig.execute(hours_later).await;
    assert_refused(&doors.refused(&link.token).await, Code::NotFound, "LINK_ENDED");
    let request = ShareOrderRequest {
        order_id: order.order_id.clone(),
        lifetime: None,
    };
    assert_refused(
        &doors.share(request).await.unwrap_err(),
        Code::FailedPrecondition,
        "ORDER_ENDED",
    );
}
