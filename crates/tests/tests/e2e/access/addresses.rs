//! Behind a proxy each caller has the limits of its own address, at the gRPC listener and at that for browsers.

use std::collections::HashSet;
use std::net::{Ipv4Addr, SocketAddr};

use futures_util::future::join_all;
use hyper_util::rt::TokioIo;
use testkit::Rig;
use testkit::wire::PICKUP;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpSocket;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Status};
use tower::service_fn;
use waybill_proto::fleet::v1::SearchDriversRequest;
use waybill_proto::fleet::v1::fleet_service_client::FleetServiceClient;
use waybill_proto::tracking::v1::WatchSharedRequest;
use waybill_proto::tracking::v1::tracking_service_client::TrackingServiceClient;

use crate::web::{browser, origin};

const LIMITS: &str = "limits.reads_per_caller.per_second=1 limits.reads_per_caller.burst=10 limits.wait_max=0s \
                      limits.links_per_caller.per_second=1 limits.links_per_caller.burst=10";

/// What one caller may make at once, and so many more as no machine is slow enough for.
const CALLS: usize = 20;

/// A balancer's address, of those that this machine has for itself.
const BALANCER: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 7);

fn by_proxy_for<T>(client: &str, message: T) -> Request<T> {
    let mut request = Request::new(message);
    request
        .metadata_mut()
        .insert("x-forwarded-for", client.parse().unwrap());
    request
}

/// The fleet service, by a connection of the balancer that begins with this header of the PROXY protocol.
fn by_balancer(rig: &Rig, header: &'static [u8]) -> FleetServiceClient<Channel> {
    let to: SocketAddr = rig.grpc_addr().parse().unwrap();
    let connector = service_fn(move |_: http::Uri| async move {
        let socket = TcpSocket::new_v4()?;
        socket.bind(SocketAddr::from((BALANCER, 0)))?;
        let mut stream = socket.connect(to).await?;
        stream.write_all(header).await?;
        Ok::<_, std::io::Error>(TokioIo::new(stream))
    });
    FleetServiceClient::new(Endpoint::from_static("http://waybill").connect_with_connector_lazy(connector))
}

/// How a search for drivers ends that a proxy sends on for this client.
async fn search(rig: &Rig, client: &str) -> Code {
    search_by(rig.fleet(), client).await
}

async fn search_by(mut fleet: FleetServiceClient<Channel>, client: &str) -> Code {
    let near = SearchDriversRequest {
        near: Some(testkit::wire::position(PICKUP)),
        radius_meters: 100.0,
        ..SearchDriversRequest::default()
    };
    let answer = fleet.search_drivers(by_proxy_for(client, near)).await;
    answer.map_or_else(|status| status.code(), |_| Code::Ok)
}

/// How a look at a link ends that a browser sends through a proxy for this client; there is no such link.
async fn follow(rig: &Rig, client: &str) -> Code {
    let link = WatchSharedRequest { token: "a".repeat(43) };
    let mut tracking = TrackingServiceClient::with_origin(browser(), origin(rig));
    let refusal: Status = match tracking.watch_shared(by_proxy_for(client, link)).await {
        Err(status) => status,
        Ok(answer) => answer.into_inner().message().await.unwrap_err(),
    };
    refusal.code()
}

/// Makes these calls at once, and asserts that they share one limit: it lets through its ten, and not all.
async fn assert_one_limit(calls: impl IntoIterator<Item = impl Future<Output = Code>>) {
    let ends = join_all(calls).await;
    let refused = ends.iter().filter(|end| **end == Code::ResourceExhausted).count();
    assert!((1..=ends.len() - 10).contains(&refused), "{ends:?}");
    let others: HashSet<_> = ends.iter().filter(|end| **end != Code::ResourceExhausted).collect();
    assert_eq!(others.len(), 1, "what is let through ends in one way: {ends:?}");
}

#[tokio::test]
async fn callers_behind_a_trusted_proxy_do_not_share_the_limits_of_its_address() {
    let rig = Rig::builder()
        .with(LIMITS)
        .set("proxies.trusted", "127.0.0.0/8")
        .start()
        .await;
    for client in ["192.0.2.60", "192.0.2.61", "2001:db8::7"] {
        assert_one_limit((0..CALLS).map(|_| search(&rig, client))).await;
        assert_one_limit((0..CALLS).map(|_| follow(&rig, client))).await;
    }
    // Addresses of one network of IPv6; and what is no address: the proxy's own, which has its ten.
    let neighbours = ["2001:db8:1::7", "2001:db8:1::8"].repeat(CALLS / 2);
    assert_one_limit(neighbours.into_iter().map(|client| search(&rig, client))).await;
    assert_one_limit((0..CALLS).map(|_| search(&rig, "nonsense"))).await;
}

#[tokio::test]
async fn who_is_no_trusted_proxy_has_one_limit_whatever_it_claims() {
    let rig = Rig::builder().with(LIMITS).start().await;
    let claims: Vec<String> = (1..=CALLS).map(|last| format!("192.0.2.{last}")).collect();
    assert_one_limit(claims.iter().map(|claim| search(&rig, claim))).await;
    assert_one_limit(claims.iter().map(|claim| follow(&rig, claim))).await;
}

#[tokio::test]
async fn who_comes_by_a_balancer_that_does_not_know_it_has_one_limit_whatever_it_claims() {
    let rig = Rig::builder()
        .with(LIMITS)
        .set("proxies.trusted", "127.0.0.7")
        .set("grpc.proxy_protocol", "true")
        .start()
        .await;
    let fleet = by_balancer(&rig, b"PROXY UNKNOWN\r\n");
    let claims: Vec<String> = (1..=CALLS).map(|last| format!("192.0.2.{last}")).collect();
    assert_one_limit(claims.iter().map(|claim| search_by(fleet.clone(), claim))).await;
    let known = by_balancer(&rig, b"PROXY TCP4 192.0.2.60 10.0.0.1 4711 7200\r\n");
    assert_eq!(search_by(known, "192.0.2.61").await, Code::Ok);
}
