//! Behind balancers and proxies: who a call is from, and how many connections one address may have.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpSocket, TcpStream};
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request};
use tower::service_fn;
use waybill_proto::location::v1::location_service_client::LocationServiceClient;
use waybill_server::grpc::edge::{ConnectionLimits, ForwardedHeader, Proxies, network};

use crate::raw::{RawClient, SETTINGS};
use crate::rig::{ADDRESS, Rig, Settings, report, until};

/// A balancer's address, of those that this machine has for itself.
const BALANCER: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 7);
/// One of another machine.
const STRANGER: Ipv4Addr = Ipv4Addr::new(127, 0, 9, 9);

const TCP4: &str = "PROXY TCP4 192.0.2.60 10.0.0.1 4711 7200\r\n";

fn behind(proxy_protocol: bool, header: Option<ForwardedHeader>) -> Settings {
    Settings {
        proxies: Proxies {
            trusted: vec![network("127.0.0.0/24").unwrap()],
            header,
        },
        proxy_protocol,
        ..Settings::default()
    }
}

async fn connect(from: Ipv4Addr, to: SocketAddr, first: &[u8]) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(SocketAddr::from((from, 0))).unwrap();
    let mut stream = socket.connect(to).await.unwrap();
    stream.set_nodelay(true).unwrap();
    stream.write_all(first).await.unwrap();
    stream
}

/// A client whose connection comes from there and begins with these bytes.
fn client(from: Ipv4Addr, rig: &Rig, first: &'static [u8]) -> LocationServiceClient<Channel> {
    let to = rig.address;
    let connector = service_fn(move |_| async move {
        let stream = connect(from, to, first).await;
        Ok::<_, std::io::Error>(hyper_util::rt::TokioIo::new(stream))
    });
    let channel = Endpoint::from_static("http://waybill").connect_with_connector_lazy(connector);
    LocationServiceClient::new(channel)
}

/// Whom the server takes for the caller.
async fn seen(mut client: LocationServiceClient<Channel>, headers: &[(&'static str, &str)]) -> String {
    let mut request = Request::new(report(ADDRESS));
    for (name, value) in headers {
        request.metadata_mut().append(*name, value.parse().unwrap());
    }
    let status = client.report_locations(request).await.unwrap_err();
    assert_eq!(status.code(), Code::NotFound, "{status:?}");
    status.message().to_owned()
}

#[tokio::test]
async fn a_trusted_proxy_says_who_calls_and_no_one_else_can() {
    let rig = Rig::with(behind(false, Some(ForwardedHeader::XForwardedFor))).await;
    let header = [("x-forwarded-for", "198.51.100.1, 192.0.2.60")];
    assert_eq!(seen(client(BALANCER, &rig, b""), &header).await, "192.0.2.60");
    assert_eq!(seen(client(STRANGER, &rig, b""), &header).await, "127.0.9.9");
    let garbage = [("x-forwarded-for", "nonsense")];
    assert_eq!(seen(client(BALANCER, &rig, b""), &garbage).await, "127.0.0.7");
    let two = [("x-forwarded-for", "192.0.2.60"), ("x-forwarded-for", "127.0.0.9")];
    assert_eq!(seen(client(BALANCER, &rig, b""), &two).await, "192.0.2.60");
}

/// A proxy quotes the host that its caller calls, and the caller may call any.
#[tokio::test]
async fn what_a_caller_has_its_proxy_quote_is_no_address_of_it() {
    let rig = Rig::with(behind(false, Some(ForwardedHeader::Forwarded))).await;
    for line in [
        r#"host="a,for=198.51.100.1";for=192.0.2.60"#,
        r#"for="198.51.100.1, for=192.0.2.60;host="a;for=198.51.100.1""#,
    ] {
        let header = [("forwarded", line)];
        assert_eq!(seen(client(BALANCER, &rig, b""), &header).await, "192.0.2.60", "{line}");
    }
}

#[tokio::test]
async fn a_balancer_says_with_the_proxy_protocol_whose_a_connection_is() {
    let rig = Rig::with(behind(true, None)).await;
    let binary: &[u8] = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\xc0\0\x02\x3d\x0a\0\0\x01\x12\x67\x1c\x20";
    let local: &[u8] = b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0";
    assert_eq!(seen(client(BALANCER, &rig, TCP4.as_bytes()), &[]).await, "192.0.2.60");
    assert_eq!(seen(client(BALANCER, &rig, binary), &[]).await, "192.0.2.61");
    assert_eq!(seen(client(BALANCER, &rig, local), &[]).await, "127.0.0.7");
    // From elsewhere connections have no header, and one that is there is no HTTP/2.
    assert_eq!(seen(client(STRANGER, &rig, b""), &[]).await, "127.0.9.9");
    let refusal = client(STRANGER, &rig, TCP4.as_bytes())
        .report_locations(report(ADDRESS))
        .await
        .unwrap_err();
    assert_ne!(refusal.code(), Code::NotFound, "{refusal:?}");
}

/// A proxy of HTTP behind a balancer of TCP: the header is believed of whom the connection is from.
#[tokio::test]
async fn a_caller_who_comes_by_the_proxy_protocol_cannot_claim_another_address() {
    let rig = Rig::with(behind(true, Some(ForwardedHeader::XForwardedFor))).await;
    let header = [("x-forwarded-for", "198.51.100.1")];
    assert_eq!(
        seen(client(BALANCER, &rig, TCP4.as_bytes()), &header).await,
        "192.0.2.60"
    );
    let proxy: &[u8] = b"PROXY TCP4 127.0.0.8 10.0.0.1 4711 7200\r\n";
    assert_eq!(seen(client(BALANCER, &rig, proxy), &header).await, "198.51.100.1");
}

/// A balancer that takes connections by a socket of its own machine, or of a protocol that it does not know, and one that calls itself.
#[tokio::test]
async fn who_comes_by_a_balancer_that_does_not_say_for_whom_can_claim_no_address() {
    let unix = [&b"\r\n\r\n\0\r\nQUIT\n\x21\x31\0\xd8"[..], &[b'/'; 216]].concat();
    let unix: &'static [u8] = unix.leak();
    let without_an_address: [&'static [u8]; 6] = [
        b"PROXY UNKNOWN\r\n",
        b"PROXY UNKNOWN 192.0.2.60 10.0.0.1 4711 7200\r\n",
        b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0",
        b"\r\n\r\n\0\r\nQUIT\n\x20\x11\0\x0c\xc0\0\x02\x3d\x0a\0\0\x01\x12\x67\x1c\x20",
        b"\r\n\r\n\0\r\nQUIT\n\x21\0\0\0",
        unix,
    ];
    for (header, name, line) in [
        (ForwardedHeader::XForwardedFor, "x-forwarded-for", "198.51.100.1"),
        (ForwardedHeader::Forwarded, "forwarded", "for=198.51.100.1"),
    ] {
        let rig = Rig::with(behind(true, Some(header))).await;
        for first in without_an_address {
            assert_eq!(
                seen(client(BALANCER, &rig, first), &[(name, line)]).await,
                "127.0.0.7",
                "{name} {}",
                first.escape_ascii()
            );
        }
        // A proxy of HTTP that the balancer names is believed.
        let proxy: &[u8] = b"PROXY TCP4 127.0.0.8 10.0.0.1 4711 7200\r\n";
        assert_eq!(
            seen(client(BALANCER, &rig, proxy), &[(name, line)]).await,
            "198.51.100.1"
        );
    }
}

#[tokio::test]
async fn a_balancers_connection_without_a_good_header_in_time_is_closed_and_holds_up_no_other() {
    let connections = ConnectionLimits {
        handshake_time_max: Duration::from_millis(300),
        ..ConnectionLimits::default()
    };
    let rig = Rig::with(Settings {
        connections,
        ..behind(true, None)
    })
    .await;
    let refused = || rig.metrics.snapshot().ingress.connections_without_header;
    let long = [b"PROXY TCP4 ", [b'1'; 200].as_slice()].concat();
    let bad: [&[u8]; 5] = [
        b"",
        b"PROXY TCP4 192.0.2",
        b"PROXY TCP4 a b c d\r\n",
        &long,
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    ];
    for (count, first) in (1..).zip(bad) {
        let stream = connect(BALANCER, rig.address, first).await;
        // While it waits, others are served.
        assert_eq!(seen(client(BALANCER, &rig, TCP4.as_bytes()), &[]).await, "192.0.2.60");
        RawClient::over(stream).until_closed_in_silence().await;
        until(|| refused() == count, || format!("{} of {count}", refused())).await;
    }
    // A balancer that looks whether anyone listens.
    drop(connect(BALANCER, rig.address, b"").await);
    assert_eq!(seen(client(BALANCER, &rig, TCP4.as_bytes()), &[]).await, "192.0.2.60");
    assert_eq!(refused(), 5);
}

#[tokio::test]
async fn an_address_has_no_more_connections_than_it_may_and_leaves_room_for_others() {
    let connections = ConnectionLimits {
        connections_per_address_max: 2,
        ..ConnectionLimits::default()
    };
    let rig = Rig::with(Settings {
        connections,
        ..behind(true, None)
    })
    .await;
    let refused = || rig.metrics.snapshot().ingress.connections_over_address_limit;
    let served = async |from, first: &[u8]| {
        let mut served = RawClient::begin(connect(from, rig.address, first).await).await;
        served.until(|frame| frame.kind == SETTINGS).await;
        served
    };
    let of_one = [
        served(BALANCER, TCP4.as_bytes()).await,
        served(BALANCER, TCP4.as_bytes()).await,
    ];
    RawClient::begin(connect(BALANCER, rig.address, TCP4.as_bytes()).await)
        .await
        .until_closed()
        .await;
    assert_eq!(refused(), 1);

    // Of others by the same balancer, and of the balancer itself, as many as all may have.
    let _other = served(BALANCER, b"PROXY TCP4 192.0.2.61 10.0.0.1 1 2\r\n").await;
    let mut own = Vec::new();
    for _ in 0..3 {
        own.push(served(BALANCER, b"PROXY UNKNOWN\r\n").await);
    }
    let _strangers = [served(STRANGER, b"").await, served(STRANGER, b"").await];
    RawClient::begin(connect(STRANGER, rig.address, b"").await)
        .await
        .until_closed()
        .await;
    assert_eq!(refused(), 2);

    let open = || rig.metrics.snapshot().ingress.connections_open;
    assert_eq!(open(), 8);
    drop(of_one);
    until(|| open() == 6, || open().to_string()).await;
    served(BALANCER, TCP4.as_bytes()).await;
}
