//! Behind a proxy each caller has the limits of its own address, at the gRPC listener and at that for browsers.

use testkit::Rig;
use testkit::wire::PICKUP;
use tonic::{Code, Request, Status};
use waybill_proto::fleet::v1::SearchDriversRequest;
use waybill_proto::tracking::v1::WatchSharedRequest;
use waybill_proto::tracking::v1::tracking_service_client::TrackingServiceClient;

use crate::web::{browser, origin};

const LIMITS: &str = "limits.reads_per_caller.per_second=1 limits.reads_per_caller.burst=2 limits.wait_max=0s \
                      limits.links_per_caller.per_second=1 limits.links_per_caller.burst=2";

fn by_proxy_for<T>(client: &str, message: T) -> Request<T> {
    let mut request = Request::new(message);
    request
        .metadata_mut()
        .insert("x-forwarded-for", client.parse().unwrap());
    request
}

/// How a search for drivers ends that a proxy sends on for this client.
async fn search(rig: &Rig, client: &str) -> Code {
    let near = SearchDriversRequest {
        near: Some(testkit::wire::position(PICKUP)),
        radius_meters: 100.0,
        ..SearchDriversRequest::default()
    };
    let answer = rig.fleet().search_drivers(by_proxy_for(client, near)).await;
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

#[tokio::test]
async fn callers_behind_a_trusted_proxy_do_not_share_the_limits_of_its_address() {
    let rig = Rig::builder()
        .with(LIMITS)
        .set("proxies.trusted", "127.0.0.0/8")
        .start()
        .await;
    for client in ["192.0.2.60", "192.0.2.61", "2001:db8::7"] {
        assert_eq!(search(&rig, client).await, Code::Ok, "{client}");
        assert_eq!(search(&rig, client).await, Code::Ok, "{client}");
        assert_eq!(search(&rig, client).await, Code::ResourceExhausted, "{client}");
        let no_link = follow(&rig, client).await;
        assert_ne!(no_link, Code::ResourceExhausted, "{client}");
        assert_eq!(follow(&rig, client).await, no_link, "{client}");
        assert_eq!(follow(&rig, client).await, Code::ResourceExhausted, "{client}");
    }
    // Another address of the same network of IPv6, and what is no address: the proxy's own, which has its two.
    assert_eq!(search(&rig, "2001:db8::8").await, Code::ResourceExhausted);
    assert_eq!(search(&rig, "nonsense").await, Code::Ok);
}

#[tokio::test]
async fn who_is_no_trusted_proxy_has_one_limit_whatever_it_claims() {
    let rig = Rig::builder().with(LIMITS).start().await;
    assert_eq!(search(&rig, "192.0.2.60").await, Code::Ok);
    assert_eq!(search(&rig, "192.0.2.61").await, Code::Ok);
    assert_eq!(search(&rig, "192.0.2.62").await, Code::ResourceExhausted);
    let no_link = follow(&rig, "192.0.2.60").await;
    assert_eq!(follow(&rig, "192.0.2.61").await, no_link);
    assert_eq!(follow(&rig, "192.0.2.62").await, Code::ResourceExhausted);
}
