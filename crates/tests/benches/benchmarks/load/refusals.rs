//! Calls that Waybill refuses at its border: they pass through the edge (HTTP/2, deadlines, decoding, validation,
//! metrics) up to the limits of callers, and touch no store. An echo that gives the same answer without looking is
//! their baseline.

use std::time::{Duration, Instant};

use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status};
use waybill_proto::location::v1::location_service_client::LocationServiceClient;
use waybill_proto::location::v1::{Fix, StreamLocationsRequest, StreamLocationsResponse};
use waybill_proto::order::v1::CreateOrderRequest;
use waybill_proto::order::v1::order_service_client::OrderServiceClient;

use super::calls::{self, to_the_last};
use testkit::benchmark::rounds::Turn;

/// Streams at a time, and unanswered messages on each.
pub const STREAMS: usize = 8;
/// See `STREAMS`.
pub const WINDOW: usize = 16;
/// Fixes in a message.
pub const FIXES: usize = 10;

/// The answer to an order without anything in it.
pub async fn refused_order(channel: Channel) -> Status {
    let answer = OrderServiceClient::new(channel)
        .create_order(CreateOrderRequest::default())
        .await;
    let status = answer.expect_err("an empty order is refused");
    assert_eq!(status.code(), Code::InvalidArgument, "{status}");
    status
}

/// The answer to a message whose fixes are of no driver.
pub async fn rejected_message(channel: Channel) -> StreamLocationsResponse {
    let (sender, receiver) = mpsc::channel(1);
    let answers = LocationServiceClient::new(channel)
        .stream_locations(ReceiverStream::new(receiver))
        .await;
    sender.send(message(0)).await.unwrap();
    let answer = answers.unwrap().into_inner().message().await.unwrap().unwrap();
    assert_eq!(answer.rejections.len(), FIXES, "{:?}", answer.rejections);
    answer
}

/// Lets all callers call for so long.
pub async fn run_calls(endpoint: &Endpoint, time: Duration) -> Turn {
    let call = async |channel: Channel| {
        let mut orders = OrderServiceClient::new(channel);
        let status = orders.create_order(CreateOrderRequest::default()).await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument, "{status}");
    };
    calls::run(endpoint, time, call).await
}

/// Lets all streams send for so long.
pub async fn run_streams(endpoint: &Endpoint, time: Duration) -> Turn {
    let began_at = Instant::now();
    let mut streams = JoinSet::new();
    for _ in 0..STREAMS {
        let channel = endpoint.connect_lazy();
        streams.spawn(stream(channel, began_at, time));
    }
    to_the_last(streams, began_at).await
}

async fn stream(channel: Channel, began_at: Instant, time: Duration) -> u64 {
    let (sender, receiver) = mpsc::channel(WINDOW);
    let mut locations = LocationServiceClient::new(channel);
    let answers = locations.stream_locations(ReceiverStream::new(receiver)).await;
    let mut answers = answers.expect("the stream opens").into_inner();
    let (mut sent, mut answered) = (0, 0);
    while answered < sent || began_at.elapsed() < time {
        while sent < answered + WINDOW as u64 && began_at.elapsed() < time {
            sender.send(message(sent)).await.expect("the stream is open");
            sent += 1;
        }
        if answered < sent {
            let answer = answers.message().await.expect("an answer").expect("an answer");
            // One answer may be to several messages.
            assert_eq!(answer.rejections.len() % FIXES, 0);
            answered += (answer.rejections.len() / FIXES) as u64;
        }
    }
    answered
}

fn message(number: u64) -> StreamLocationsRequest {
    StreamLocationsRequest {
        first_sequence: number * FIXES as u64,
        fixes: vec![Fix::default(); FIXES],
    }
}
