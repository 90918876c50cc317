//! A customer follows the driver of its own order in the live feed, and no one else (X1, X3, W4).

use testkit::Rig;
use testkit::wire::{PICKUP, assert_refused, by, refusal_fields};
use tonic::{Code, Status};
use uuid::Uuid;
use waybill_proto::driver::v1::SetDutyRequest;
use waybill_proto::driver::v1::driver_service_client::DriverServiceClient;
use waybill_proto::fleet::v1::fleet_service_client::FleetServiceClient;
use waybill_proto::fleet::v1::watch_drivers_request::Scope;
use waybill_proto::order::v1::ReleaseDriverRequest;

use super::Doors;
use crate::locations::watched::{Watcher, around, named, request};

impl Doors {
    async fn watch(&self, token: &str, scope: Scope) -> Result<Watcher, Status> {
        let mut fleet = FleetServiceClient::new(self.rig.channel());
        let watched = fleet.watch_drivers(by(Some(token), request(scope))).await?;
        Ok(Watcher::of(watched.into_inner()))
    }
}

fn of(order: &str) -> Scope {
    Scope::OrderId(order.to_owned())
}

#[tokio::test]
async fn a_customer_sees_the_driver_of_its_order_come_until_the_service_is_over() {
    let doors = Doors::start(Rig::builder()).await;
    let order = doors.annas().await.order_id;
    doors.drive("cab-2", PICKUP).await;
    let mut watcher = doors.watch(&doors.anna(), of(&order)).await.unwrap();
    watcher.until(|known| known.len() == 1).await;
    assert_eq!(watcher.names(), ["cab-1"]);
    doors.drive("cab-1", (PICKUP.0 + 0.2, PICKUP.1)).await;
    let is_there = |latitude: f64| (latitude - PICKUP.0 - 0.2).abs() < 1e-6;
    watcher
        .until(|known| is_there(known["cab-1"].position.unwrap().latitude()))
        .await;
    doors.complete("cab-1", &order).await;
    watcher.until_ended().await;
    assert!(watcher.known.is_empty(), "it is no longer anna's to see");
    // What is over has no driver.
    let mut again = doors.watch(&doors.anna(), of(&order)).await.unwrap();
    again.until_ended().await;
    assert!(again.known.is_empty());
}

/// How a driver's day goes is not for who waits for it: the last ride before its end is like any other.
#[tokio::test]
async fn a_customer_does_not_learn_that_its_driver_goes_off_duty() {
    let doors = Doors::start(Rig::builder()).await;
    let order = doors.annas().await.order_id;
    let mut watcher = doors.watch(&doors.anna(), of(&order)).await.unwrap();
    watcher.until(|known| known.len() == 1).await;
    let dora = doors.token("dispatcher", "dora");
    let mut hers = doors.watch(&dora, around()).await.unwrap();
    let off = SetDutyRequest {
        on_duty: Some(false),
        ..SetDutyRequest::default()
    };
    let mut own = DriverServiceClient::new(doors.rig.channel());
    own.set_duty(by(Some(&doors.token("driver", "cab-1")), off))
        .await
        .unwrap();
    hers.until(|known| known.get("cab-1").is_some_and(|driver| driver.off_duty))
        .await;
    doors.drive("cab-1", (PICKUP.0 + 0.001, PICKUP.1)).await;
    watcher
        .until(|known| known["cab-1"].position.unwrap().latitude() > PICKUP.0)
        .await;
    assert!(!watcher.known["cab-1"].off_duty);
}

#[tokio::test]
async fn a_driver_who_is_unassigned_is_gone_and_the_next_one_is_seen() {
    let doors = Doors::start(Rig::builder()).await;
    let order = doors.annas().await.order_id;
    let mut watcher = doors.watch(&doors.anna(), of(&order)).await.unwrap();
    watcher.until(|known| known.contains_key("cab-1")).await;
    let release = ReleaseDriverRequest {
        order_id: order.clone(),
        driver_id: "cab-1".to_owned(),
        reason: "a flat tyre".to_owned(),
    };
    let dora = doors.token("dispatcher", "dora");
    doors.orders().release_driver(by(Some(&dora), release)).await.unwrap();
    watcher.until(|known| !known.contains_key("cab-1")).await;
    doors.drive("cab-2", PICKUP).await;
    watcher.until(|known| known.contains_key("cab-2")).await;
    assert_eq!(watcher.names(), ["cab-2"]);
}

#[tokio::test]
async fn a_customer_follows_nothing_but_its_own_orders() {
    let doors = Doors::start(Rig::builder()).await;
    let order = doors.annas().await.order_id;
    for (scope, field) in [(around(), "area"), (named(&["cab-1"]), "drivers")] {
        let refused = doors.watch(&doors.anna(), scope).await.err().unwrap();
        assert_refused(&refused, Code::PermissionDenied, "NOT_PERMITTED");
        assert_eq!(refusal_fields(&refused), [field]);
    }
    let ben = doors.token("customer", "ben");
    let foreign = doors.watch(&ben, of(&order)).await.err().unwrap();
    let absent = doors.watch(&ben, of(&Uuid::now_v7().to_string())).await.err().unwrap();
    assert_eq!(foreign.code(), Code::NotFound);
    assert_eq!(
        (foreign.code(), foreign.message(), foreign.details()),
        (absent.code(), absent.message(), absent.details())
    );
    let cab = doors.token("driver", "cab-1");
    let refused = doors.watch(&cab, of(&order)).await.err().unwrap();
    assert_refused(&refused, Code::PermissionDenied, "ROLE_NOT_ALLOWED");
}
