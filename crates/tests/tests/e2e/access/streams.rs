//! X4: a stream ends with its token.

use std::time::Duration;

use jiff::Timestamp;
use testkit::Rig;
use testkit::wire::{PICKUP, assert_refused, fix};
use tokio_stream::StreamExt as _;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Code;
use waybill_proto::location::v1::location_service_client::LocationServiceClient;
use waybill_proto::location::v1::{Fix, StreamLocationsRequest};
use waybill_proto::order::v1::WatchOrderRequest;
use waybill_proto::order::v1::order_service_client::OrderServiceClient;

use super::{Doors, by, in_time};

/// Long enough for a stream to begin.
const LIVES: Duration = Duration::from_secs(3);

#[tokio::test]
async fn a_drivers_stream_ends_with_its_token_and_all_that_was_sent_is_acknowledged() {
    let doors = Doors::start(Rig::builder()).await;
    let token = doors.signer.token("driver", "cab-1", LIVES).unwrap();
    let (messages, receiver) = tokio::sync::mpsc::channel(1);
    let call = by(Some(&token), ReceiverStream::new(receiver));
    let mut answers = LocationServiceClient::new(doors.rig.channel())
        .stream_locations(call)
        .await
        .unwrap()
        .into_inner();
    let mut sequence = 0;
    let end = in_time(async {
        loop {
            sequence += 1;
            let message = StreamLocationsRequest {
                first_sequence: sequence,
                fixes: vec![fix("cab-1", PICKUP.0, PICKUP.1, Timestamp::now())],
            };
            // The stream may end while this is sent.
            let _ = messages.send(message).await;
            match answers.next().await.unwrap() {
                Ok(answer) => assert_eq!(answer.acknowledged_sequence, sequence),
                Err(status) => break status,
            }
        }
    })
    .await;
    assert_refused(&end, Code::Unauthenticated, "TOKEN_EXPIRED");
    assert!(sequence > 1, "the token was good for some");
}

/// A message whose fixes wait for the driver's rate limit waits no longer than the token is good.
#[tokio::test]
async fn a_message_that_waits_for_its_rate_limit_ends_with_the_token() {
    let limits = "limits.fixes_per_driver.per_second=1 limits.fixes_per_driver.burst=1";
    let doors = Doors::start(Rig::builder().with(limits)).await;
    let message = |first_sequence, fixes| StreamLocationsRequest { first_sequence, fixes };
    // A minute of them; and of messages without a good fix, each of which is answered as well.
    let good = vec![message(1, vec![fix("cab-1", PICKUP.0, PICKUP.1, Timestamp::now()); 60])];
    let bad = (1..=60).map(|first| message(first, vec![Fix::default()])).collect();
    for messages in [good, bad] {
        let token = doors.signer.token("driver", "cab-1", LIVES).unwrap();
        let call = by(
            Some(&token),
            tokio_stream::iter(messages).chain(tokio_stream::pending()),
        );
        let mut locations = LocationServiceClient::new(doors.rig.channel());
        let mut answers = locations.stream_locations(call).await.unwrap().into_inner();
        let mut acknowledged = 0;
        let end = in_time(async {
            loop {
                match answers.next().await.unwrap() {
                    Ok(answer) => acknowledged = answer.acknowledged_sequence,
                    Err(status) => break status,
                }
            }
        })
        .await;
        assert_refused(&end, Code::Unauthenticated, "TOKEN_EXPIRED");
        assert!(acknowledged < 60, "it waits");
    }
    // None of it was stored: the client sends it again.
    assert_eq!(doors.rig.count("select count(*) from driver_locations").await, 0);
}

#[tokio::test]
async fn who_watches_an_order_is_told_when_its_token_expires() {
    let doors = Doors::start(Rig::builder()).await;
    let order_id = doors.searching("anna").await;
    let token = doors.signer.token("customer", "anna", LIVES).unwrap();
    let watch = WatchOrderRequest {
        order_id,
        after_step_id: None,
    };
    let mut orders = OrderServiceClient::new(doors.rig.channel());
    let mut changes = orders.watch_order(by(Some(&token), watch)).await.unwrap().into_inner();
    let mut last = changes.next().await.unwrap();
    while last.is_ok() {
        last = in_time(changes.next()).await.expect("the watch ends with a reason");
    }
    assert_refused(&last.unwrap_err(), Code::Unauthenticated, "TOKEN_EXPIRED");
}
