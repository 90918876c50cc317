//! What a peer may do to a connection, and how many there may be.

use std::time::Duration;

use waybill_server::grpc::edge::{ConnectionLimits, Http2Limits};

use crate::raw::{ACK, DATA, END_STREAM, GOAWAY, HEADERS, PING, RST_STREAM, RawClient, SETTINGS, frame};
use crate::rig::{REPORT, Rig, STREAM, Settings, report, until};

const MAX_CONCURRENT_STREAMS: u16 = 3;
const INITIAL_WINDOW_SIZE: u16 = 4;
const MAX_HEADER_LIST_SIZE: u16 = 6;
const REFUSED_STREAM: u32 = 7;

#[tokio::test]
async fn the_limits_are_announced() {
    let rig = Rig::start().await;
    let mut client = RawClient::connect(rig.address).await;
    let settings = client
        .until(|frame| frame.kind == SETTINGS && frame.flags & ACK == 0)
        .await;
    let announced: Vec<(u16, u32)> = settings
        .payload
        .chunks_exact(6)
        .map(|entry| {
            (
                u16::from_be_bytes([entry[0], entry[1]]),
                u32::from_be_bytes(entry[2..].try_into().unwrap()),
            )
        })
        .collect();
    for expected in [
        (MAX_CONCURRENT_STREAMS, 100),
        (INITIAL_WINDOW_SIZE, 65_536),
        (MAX_HEADER_LIST_SIZE, 65_536),
    ] {
        assert!(announced.contains(&expected), "{expected:?} is not in {announced:?}");
    }
}

#[tokio::test]
async fn the_101st_stream_is_refused() {
    let rig = Rig::start().await;
    let mut client = RawClient::connect(rig.address).await;
    client
        .until(|frame| frame.kind == SETTINGS && frame.flags & ACK != 0)
        .await;
    for stream in (1..=201).step_by(2) {
        client.open(stream, REPORT, &[]).await;
    }
    let refusal = client.until(|frame| frame.kind == RST_STREAM).await;
    assert_eq!(
        (refusal.stream, refusal.payload),
        (201, REFUSED_STREAM.to_be_bytes().to_vec())
    );
    until(
        || rig.method(REPORT).in_flight == 100,
        || format!("{:?}", rig.method(REPORT)),
    )
    .await;
}

#[tokio::test]
async fn a_ping_flood_closes_its_connection_and_no_other() {
    let rig = Rig::start().await;
    let mut good = rig.client().await;
    good.report_locations(report("")).await.unwrap();

    let mut flood = RawClient::connect(rig.address).await;
    flood.send_bytes(&frame(PING, 0, 0, b"waybill!").repeat(1_500)).await;
    flood.until_closed().await;
    until(
        || rig.metrics.snapshot().ingress.connections_abusive == 1,
        || format!("{:?}", rig.metrics.snapshot()),
    )
    .await;

    good.report_locations(report("")).await.unwrap();
    until(
        || rig.metrics.snapshot().ingress.connections_open == 1,
        || format!("{:?}", rig.metrics.snapshot()),
    )
    .await;
}

#[tokio::test]
async fn floods_of_settings_and_of_unknown_frames_close_the_connection() {
    let rig = Rig::start().await;
    for kind in [SETTINGS, 0xbe] {
        let mut flood = RawClient::connect(rig.address).await;
        flood.send_bytes(&frame(kind, 0, 0, &[]).repeat(1_500)).await;
        flood.until_closed().await;
    }
    assert_eq!(rig.metrics.snapshot().ingress.connections_abusive, 2);
}

/// As grpc-go does, which measures the bandwidth with a PING for about each frame that it reads. A call here has five
/// frames, two of them the client's.
#[tokio::test]
async fn pings_beside_calls_are_welcome() {
    let connections = ConnectionLimits {
        control_frames_max: 20,
        ..ConnectionLimits::default()
    };
    let rig = Rig::with(Settings {
        connections,
        ..Settings::default()
    })
    .await;
    let mut client = RawClient::connect(rig.address).await;
    for stream in (1..100).step_by(2) {
        client.open(stream, REPORT, &[]).await;
        client.send(DATA, END_STREAM, stream, &[0; 5]).await;
        client
            .until(|frame| frame.kind == HEADERS && frame.flags & END_STREAM != 0)
            .await;
        client.send_bytes(&frame(PING, 0, 0, b"waybill!").repeat(15)).await;
    }
    rig.until_codes(REPORT, &[("OK", 50)]).await;
    assert_eq!(rig.metrics.snapshot().ingress.connections_abusive, 0);
}

#[tokio::test]
async fn a_connection_beyond_the_limit_is_closed_until_there_is_room() {
    let connections = ConnectionLimits {
        connections_max: 1,
        ..ConnectionLimits::default()
    };
    let rig = Rig::with(Settings {
        connections,
        ..Settings::default()
    })
    .await;
    let mut first = RawClient::connect(rig.address).await;
    first.until(|frame| frame.kind == SETTINGS).await;

    RawClient::connect(rig.address).await.until_closed().await;
    assert_eq!(rig.metrics.snapshot().ingress.connections_over_limit, 1);

    drop(first);
    until(
        || rig.metrics.snapshot().ingress.connections_open == 0,
        || format!("{:?}", rig.metrics.snapshot()),
    )
    .await;
    rig.client().await.report_locations(report("")).await.unwrap();
}

#[tokio::test]
async fn a_peer_that_says_nothing_is_closed() {
    let connections = ConnectionLimits {
        handshake_time_max: Duration::from_millis(20),
        ..ConnectionLimits::default()
    };
    let rig = Rig::with(Settings {
        connections,
        ..Settings::default()
    })
    .await;
    let mut good = rig.client().await;
    RawClient::silent(rig.address).await.until_closed_in_silence().await;
    assert_eq!(rig.metrics.snapshot().ingress.connections_abusive, 1);
    good.report_locations(report("")).await.unwrap();
}

#[tokio::test]
async fn an_old_connection_is_asked_to_end_and_its_streams_are_finished() {
    let http2 = Http2Limits {
        connection_age: Some(Duration::from_millis(50)),
        ..Http2Limits::default()
    };
    let rig = Rig::with(Settings {
        http2,
        ..Settings::default()
    })
    .await;
    let mut client = RawClient::connect(rig.address).await;
    client.open(1, STREAM, &[]).await;

    client.until(|frame| frame.kind == GOAWAY).await;
    client.send(DATA, END_STREAM, 1, &[0; 5]).await;
    client
        .until(|frame| frame.stream == 1 && frame.kind == HEADERS && frame.flags & END_STREAM != 0)
        .await;
    client.until_closed().await;
    rig.until_codes(STREAM, &[("OK", 1)]).await;
}
