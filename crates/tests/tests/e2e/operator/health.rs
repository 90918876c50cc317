//! How a server is, as an operator sees it.

use testkit::wire::{PICKUP, a_ride, assert_refused, by};
use testkit::{Rig, until};
use tonic::Code;
use waybill_proto::admin::v1::admin_service_client::AdminServiceClient;
use waybill_proto::admin::v1::{HealthCheck, MethodHealth, ShowHealthRequest, ShowHealthResponse};

use super::in_doubt::{operator, with_operator};
use crate::access::Doors;

async fn health(rig: &Rig) -> ShowHealthResponse {
    let shown = operator(rig).show_health(ShowHealthRequest {}).await;
    shown.unwrap().into_inner()
}

fn check<'a>(health: &'a ShowHealthResponse, name: &str) -> &'a HealthCheck {
    health.checks.iter().find(|check| check.name == name).expect(name)
}

fn breaker<'a>(health: &'a ShowHealthResponse, dependency: &str) -> &'a str {
    let breaker = health.breakers.iter().find(|breaker| breaker.dependency == dependency);
    &breaker.expect(dependency).state
}

fn method<'a>(health: &'a ShowHealthResponse, name: &str) -> &'a MethodHealth {
    health.methods.iter().find(|method| method.method == name).expect(name)
}

#[tokio::test]
async fn a_server_shows_how_it_is_and_what_it_did() {
    let rig = with_operator().start().await;
    rig.driver_at("cab-1", PICKUP.0, PICKUP.1).await;
    rig.place(a_ride()).await;

    let shown = health(&rig).await;
    assert_eq!(shown.status, "ready");
    assert_eq!(shown.version, env!("CARGO_PKG_VERSION"));
    assert!(shown.started_at.unwrap().seconds <= shown.now.unwrap().seconds);
    for name in ["postgres", "redis", "payments"] {
        assert!(check(&shown, name).is_ok, "{shown:?}");
        assert_eq!(breaker(&shown, name), "closed");
    }
    assert_eq!(shown.fixes_stored, 1);
    let created = method(&shown, "waybill.order.v1.OrderService/CreateOrder");
    assert_eq!((created.calls, created.errors, created.in_flight), (1, 0, 0));
    assert_eq!(created.latency_counts.len(), shown.latency_bounds.len() + 1);
    assert_eq!(created.latency_counts.iter().sum::<i64>(), 1);
    let own = method(&shown, "waybill.admin.v1.AdminService/ShowHealth");
    assert_eq!(own.in_flight, 1);
    let uncalled = |method: &MethodHealth| method.calls + method.in_flight == 0;
    assert!(!shown.methods.iter().any(uncalled), "{:?}", shown.methods);
}

#[tokio::test]
async fn a_store_that_is_away_is_named_with_why() {
    let mut rig = with_operator().private_stores().start().await;
    rig.stores().redis().kill().await.unwrap();
    until("it is noticed", async || {
        let shown = health(&rig).await;
        let redis = check(&shown, "redis");
        let is_noticed = shown.status == "not ready" && !redis.is_ok && !redis.message.is_empty();
        if is_noticed && check(&shown, "postgres").is_ok {
            Ok(())
        } else {
            Err(shown)
        }
    })
    .await;
}

/// It counts what all businesses do together, and names the payment accounts of each.
#[tokio::test]
async fn how_a_shared_server_is_is_not_for_one_of_its_businesses() {
    let doors = Doors::start(Rig::builder().set("tenants.names", "acme")).await;
    let mut admin = AdminServiceClient::new(doors.rig.channel());
    let of_acme = doors.token_in("acme", "operator", "olga");
    let refused = admin.show_health(by(Some(&of_acme), ShowHealthRequest {})).await;
    assert_refused(&refused.unwrap_err(), Code::PermissionDenied, "NOT_PERMITTED");
    let of_none = doors.token("operator", "olga");
    admin
        .show_health(by(Some(&of_none), ShowHealthRequest {}))
        .await
        .unwrap();
}
