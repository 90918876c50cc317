//! Metadata over the limit: the call is answered as such, and the other calls of its connection go on.

use http::HeaderMap;
use tonic::{Code, Request};

use crate::raw::{DATA, END_STREAM, HEADERS};
use crate::rig::{REPORT, Rig, STREAM, client_with_stream, report, until_stream_ends};

/// So many headers of a kilobyte each.
fn kilobytes(count: usize) -> HeaderMap {
    let header = |number: usize| {
        let name = http::HeaderName::try_from(format!("x-metadata-{number}")).unwrap();
        (name, http::HeaderValue::try_from("a".repeat(1_000)).unwrap())
    };
    (0..count).map(header).collect()
}

/// How a call with this metadata ends, and its text.
async fn ends(rig: &Rig, headers: HeaderMap) -> (Code, String) {
    let mut request = Request::new(report(""));
    *request.metadata_mut() = tonic::metadata::MetadataMap::from_headers(headers);
    let answer = rig.client().await.report_locations(request).await;
    answer.map_or_else(
        |status| (status.code(), status.message().to_owned()),
        |_| (Code::Ok, String::new()),
    )
}

#[tokio::test]
async fn metadata_over_the_limit_is_resource_exhausted_however_it_is_made_up() {
    let rig = Rig::start().await;
    assert_eq!(ends(&rig, kilobytes(14)).await.0, Code::Ok);
    let one_value = |len: usize| {
        let value = http::HeaderValue::try_from("a".repeat(len)).unwrap();
        HeaderMap::from_iter([(http::HeaderName::from_static("x-metadata"), value)])
    };
    for headers in [kilobytes(16), kilobytes(40), one_value(17_000), one_value(50_000)] {
        let (code, text) = ends(&rig, headers).await;
        assert_eq!(code, Code::ResourceExhausted, "{text}");
        assert!(text.contains("16384 bytes"), "{text}");
    }
    rig.until_codes(REPORT, &[("OK", 1), ("RESOURCE_EXHAUSTED", 4)]).await;
}

#[tokio::test]
async fn other_calls_of_its_connection_go_on() {
    let rig = Rig::start().await;
    let mut client = client_with_stream(&rig).await;
    // The first is answered by the service, the others before there is a call: 431.
    for (stream, count) in [(3, 40), (5, 70), (7, 85)] {
        let headers = kilobytes(count);
        let headers: Vec<(&str, &str)> = headers
            .iter()
            .map(|(name, value)| (name.as_str(), value.to_str().unwrap()))
            .collect();
        client.open(stream, REPORT, &headers).await;
        let answer = client
            .until(|frame| frame.stream == stream && frame.kind == HEADERS)
            .await;
        assert!(answer.flags & END_STREAM != 0, "{answer:?}");
        client.send(DATA, END_STREAM, stream, &[]).await;
    }
    rig.until_codes(REPORT, &[("RESOURCE_EXHAUSTED", 1)]).await;

    until_stream_ends(&mut client).await;
    rig.until_codes(STREAM, &[("OK", 1)]).await;
    assert_eq!(rig.metrics.snapshot().ingress.connections_abusive, 0);
}
