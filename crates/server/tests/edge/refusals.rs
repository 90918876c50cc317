//! Calls that are refused before their request is read, whose requests are still on their way.

use crate::raw::{DATA, END_STREAM, HEADERS};
use crate::rig::{REPORT, Rig, STREAM, client_with_stream, until_stream_ends};

/// The calls of one connection that are open at once, beside the stream.
const AT_ONCE: u32 = 90;

/// It is what all callers behind a proxy share: else it was closed, with all their calls.
#[tokio::test]
async fn a_connection_outlives_thousands_of_refused_calls() {
    let rig = Rig::start().await;
    let mut client = client_with_stream(&rig).await;
    // By the edge, and by the service, for a message that says that it has 4 GiB.
    let refused = [
        (REPORT, "soon", [].as_slice()),
        (STREAM, "soon", &[]),
        (REPORT, "0n", &[]),
        (REPORT, "1H", &[0, 255, 255, 255, 255]),
    ];
    for (round, (path, timeout, begins)) in (0..48).zip(refused.iter().cycle()) {
        let calls = (0..AT_ONCE).map(|number| 3 + 2 * (round * AT_ONCE + number));
        for call in calls.clone() {
            client.open(call, path, &[("grpc-timeout", *timeout)]).await;
            if !begins.is_empty() {
                client.send(DATA, 0, call, begins).await;
            }
        }
        for _ in calls.clone() {
            let answer = client.until(|frame| frame.stream > 1 && frame.kind == HEADERS).await;
            assert!(answer.flags & END_STREAM != 0, "{answer:?}");
        }
        for call in calls {
            client.send(DATA, END_STREAM, call, &[0; 5]).await;
        }
    }
    until_stream_ends(&mut client).await;
    assert_eq!(rig.metrics.snapshot().ingress.connections_abusive, 0);
}
