//! Drivers: their positions go, and in orders a pseudonym takes their name's place.

use futures_util::future::join_all;
use jiff::{Timestamp, ToSpan as _};
use testkit::Rig;
use testkit::wire::{PICKUP, a_ride, complete, fix};
use uuid::Uuid;
use waybill_domain::erasure::{Pseudonym, ResumePoint};
use waybill_proto::admin::v1::RetryOrderRequest;
use waybill_proto::driver::v1::SetDutyRequest;
use waybill_proto::driver::v1::driver_service_client::DriverServiceClient;
use waybill_proto::order::v1::{Order, ReleaseDriverRequest};

use super::{admin, assert_gone, driver, erase_driver, tables_with, with_operators};
use crate::access::{Doors, by};
use crate::locations::watched::{Watcher, around, request};

const ZOE: &str = "zoe-of-cab-7";
const CUSTOMERS: &str = "select count(*) from order_saga_steps where requested_by = 'customer anna'";

async fn set_duty(rig: &Rig, name: &str, is_on: bool) {
    let request = SetDutyRequest {
        driver_id: name.to_owned(),
        on_duty: Some(is_on),
        tags: None,
    };
    DriverServiceClient::new(rig.channel()).set_duty(request).await.unwrap();
}

async fn decline(rig: &Rig, order: &Order, name: &str) {
    let request = ReleaseDriverRequest {
        order_id: order.order_id.clone(),
        driver_id: name.to_owned(),
        reason: format!("{name} has a flat tyre"),
    };
    rig.orders().release_driver(request).await.unwrap();
}

fn served_by(order: &Order) -> &str {
    order.assignment.as_ref().map_or("", |assignment| &assignment.driver_id)
}

/// The details of the order's log.
async fn log(rig: &Rig, order: &Order) -> String {
    let sql = rig.sql().await;
    let query = "select string_agg(detail, '|' order by id) from order_saga_steps where order_id::text = $1";
    sql.query_one(query, &[&order.order_id]).await.unwrap().get(0)
}

#[tokio::test]
async fn nothing_is_left_of_a_driver_but_its_orders_under_a_pseudonym() {
    let rig = with_operators().start().await;
    rig.driver_at(ZOE, PICKUP.0, PICKUP.1).await;
    // One that is part of the name is another.
    for other in ["zoe", "cab-7"] {
        rig.driver_at(other, PICKUP.0 + 0.002, PICKUP.1).await;
        set_duty(&rig, other, false).await;
    }
    let request = a_ride();
    let served = rig.place(request.clone()).await;
    assert_eq!(served_by(&served), ZOE);
    rig.orders().complete_order(complete(&served.order_id)).await.unwrap();
    let declined = rig.place(a_ride()).await;
    decline(&rig, &declined, ZOE).await;
    rig.driver_at("cab-2", PICKUP.0 + 0.003, PICKUP.1).await;
    assert_eq!(served_by(&rig.until_settled(&declined.order_id).await), "cab-2");
    rig.orders().complete_order(complete(&declined.order_id)).await.unwrap();
    set_duty(&rig, ZOE, false).await;
    let passed_over = rig.place(a_ride()).await;
    assert_eq!(served_by(&passed_over), "cab-2");
    assert!(log(&rig, &passed_over).await.contains(ZOE));
    rig.until_written().await;

    let erased = erase_driver(&rig, ZOE).await;
    assert_eq!((erased.positions, erased.orders), (1, 3));
    assert_gone(&rig, ZOE).await;

    let pseudonym = erased.pseudonym;
    assert!(pseudonym.starts_with("erased-") && pseudonym.len() == 39, "{pseudonym}");
    assert_eq!(served_by(&rig.order(&served.order_id).await), pseudonym);
    let found = log(&rig, &served).await;
    assert!(
        found.contains(&format!("|{pseudonym}, 0 m away|{pseudonym}")),
        "{found}"
    );
    let found = log(&rig, &declined).await;
    assert!(
        found.contains(&format!("|{pseudonym} declined: {pseudonym} has a flat tyre|")),
        "{found}"
    );
    let found = log(&rig, &passed_over).await;
    assert!(found.contains(&format!("; off duty: {pseudonym}, ")), "{found}");
    // The answer to the key is as it was, but for the name.
    let mut expected = served;
    expected.assignment.as_mut().unwrap().driver_id.clone_from(&pseudonym);
    assert_eq!(rig.place(request).await, expected);
    rig.assert_clean().await;

    // Once more there is nothing to erase, and it is said under no other name.
    let again = erase_driver(&rig, ZOE).await;
    assert_eq!((again.positions, again.orders), (0, 0));
    assert_eq!(rig.count("select count(*) from drivers").await, 3);
}

#[tokio::test]
async fn fixes_that_are_not_in_the_history_yet_do_not_reach_it_afterwards() {
    let rig = with_operators().set("locations.history_poll", "2s").start().await;
    let now = Timestamp::now();
    let fixes = (0..2_500).map(|second| {
        let name = if second % 2 == 0 { ZOE } else { "cab-2" };
        fix(name, PICKUP.0, PICKUP.1, now - second.seconds())
    });
    for batch in fixes.collect::<Vec<_>>().chunks(500) {
        rig.report(batch.to_vec()).await;
    }
    let erased = erase_driver(&rig, ZOE).await;
    assert_eq!(erased.positions, 1_250);
    rig.until_written().await;
    assert_gone(&rig, ZOE).await;
    assert_eq!(rig.count("select count(*) from driver_locations").await, 1_250);
}

#[tokio::test]
async fn a_token_goes_on_behind_what_is_done_under_the_same_pseudonym() {
    let rig = with_operators().start().await;
    rig.driver_at(ZOE, PICKUP.0, PICKUP.1).await;
    let mut orders = Vec::new();
    for _ in 0..2 {
        let order = rig.place(a_ride()).await;
        rig.orders().complete_order(complete(&order.order_id)).await.unwrap();
        orders.push(order);
    }
    rig.until_written().await;
    let first_log =
        "select max(id) from order_saga_steps where order_id = (select min(order_id::text)::uuid from order_sagas)";
    let pseudonym = Pseudonym::new(Uuid::from_u128(7));
    let from = |after_line| ResumePoint { pseudonym, after_line }.to_token(ZOE);
    let mut request = driver(ZOE);
    request.resume_token = from(rig.count(first_log).await);
    let erased = admin(&rig).erase_driver(request.clone()).await.unwrap().into_inner();
    assert_eq!((erased.pseudonym, erased.orders), (pseudonym.to_string(), 1));
    assert_eq!(served_by(&rig.order(&orders[1].order_id).await), pseudonym.to_string());
    assert_eq!(
        served_by(&rig.order(&orders[0].order_id).await),
        ZOE,
        "an earlier call had done it"
    );

    request.resume_token = from(0);
    assert_eq!(admin(&rig).erase_driver(request).await.unwrap().into_inner().orders, 1);
    assert_gone(&rig, ZOE).await;
    rig.assert_clean().await;
}

#[tokio::test]
async fn a_driver_of_the_same_name_in_another_business_and_a_customer_are_others() {
    let doors = Doors::start(Rig::builder().impatient().set("tenants.names", "acme")).await;
    for tenant in ["", "acme"] {
        doors.report_in(tenant, "anna", PICKUP).await;
        let ride = waybill_proto::order::v1::CreateOrderRequest {
            user_id: "anna".to_owned(),
            ..a_ride()
        };
        let token = doors.token_in(tenant, "customer", "anna");
        let placed = doors.rig.orders().create_order(by(Some(&token), ride)).await.unwrap();
        let placed = placed.into_inner().order.unwrap();
        assert_eq!(served_by(&placed), "anna");
        let by_driver = by(
            Some(&doors.token_in(tenant, "driver", "anna")),
            complete(&placed.order_id),
        );
        doors.rig.orders().complete_order(by_driver).await.unwrap();
    }
    doors.rig.until_written().await;
    let of_customers = doors.rig.count(CUSTOMERS).await;
    let service = doors.token_in("acme", "service", "shop");
    let erased = admin(&doors.rig).erase_driver(by(Some(&service), driver("anna"))).await;
    let erased = erased.unwrap().into_inner();
    assert_eq!((erased.positions, erased.orders), (1, 1));

    assert_eq!(doors.rig.count(CUSTOMERS).await, of_customers);
    let of =
        |prefix: &str, name: &str| format!("select count(*) from order_assignments where driver_id = '{prefix}{name}'");
    assert_eq!(doors.rig.count(&of("", "anna")).await, 1);
    assert_eq!(doors.rig.count(&of("acme/", &erased.pseudonym)).await, 1);
    let asked = "select count(*) from order_saga_steps where requested_by = 'driver anna'";
    assert_eq!(doors.rig.count(asked).await, 1, "of acme's driver it is a pseudonym");
    assert_eq!(
        tables_with(&doors.rig, "acme/anna").await,
        ["order_sagas"],
        "the customer"
    );
    doors.rig.assert_clean().await;
}

#[tokio::test]
async fn what_people_wrote_about_a_driver_and_its_cancelled_orders_have_the_name_no_more() {
    let rig = with_operators().start().await;
    rig.driver_at(ZOE, PICKUP.0, PICKUP.1).await;
    let order = rig.place(a_ride()).await;
    rig.cancel(&order.order_id).await.unwrap();
    rig.until_settled(&order.order_id).await;
    assert!(
        log(&rig, &order)
            .await
            .ends_with(&format!("|{ZOE}|{}", last_refund(&rig).await)),
        "{}",
        log(&rig, &order).await
    );
    let retry = RetryOrderRequest {
        order_id: order.order_id.clone(),
        operator: "olga".to_owned(),
        reason: format!("driver:{ZOE} never came"),
    };
    admin(&rig).retry_order(retry).await.unwrap();
    rig.until_all_settled().await;
    rig.until_written().await;
    erase_driver(&rig, ZOE).await;
    assert_gone(&rig, ZOE).await;
    rig.assert_clean().await;
}

/// The provider's id of the refund, which ends the log of a cancelled order, with the key before it.
async fn last_refund(rig: &Rig) -> String {
    let sql = rig.sql().await;
    let query = "select a.provider_key || '|' || r.provider_refund_id from refunds r join payment_attempts a using (order_id, number)
                  where a.operation = 'refund'";
    sql.query_one(query, &[]).await.unwrap().get(0)
}

#[tokio::test]
async fn a_name_that_is_a_number_changes_no_distance() {
    let rig = with_operators().start().await;
    rig.driver_at("cab-2", PICKUP.0 + 0.003, PICKUP.1).await;
    let order = rig.place(a_ride()).await;
    let before = log(&rig, &order).await;
    assert!(before.ends_with("cab-2, 334 m away"), "{before}");
    rig.driver_at("334", PICKUP.0, PICKUP.1).await;
    rig.until_written().await;
    let erased = erase_driver(&rig, "334").await;
    assert_eq!((erased.positions, erased.orders), (1, 0));
    assert_eq!(log(&rig, &order).await, before);
}

#[tokio::test]
async fn drivers_who_are_erased_at_once_do_not_bring_each_other_back() {
    let rig = with_operators().start().await;
    let all = ["ada-1", "bob-2", "cem-3", "dan-4"];
    for name in all {
        rig.driver_at(name, PICKUP.0, PICKUP.1).await;
        set_duty(&rig, name, false).await;
    }
    rig.driver_at("cab-2", PICKUP.0 + 0.003, PICKUP.1).await;
    let mut orders = Vec::new();
    for _ in 0..20 {
        let order = rig.place(a_ride()).await;
        rig.orders().complete_order(complete(&order.order_id)).await.unwrap();
        orders.push(order);
    }
    rig.until_written().await;
    // Two run at once, and the others wait for their turn.
    let erased = all.map(|name| {
        let mut admin = admin(&rig);
        async move { admin.erase_driver(driver(name)).await.unwrap().into_inner() }
    });
    for erased in join_all(erased).await {
        assert_eq!((erased.resume_token.as_str(), erased.orders), ("", 20));
    }
    for name in all {
        assert_gone(&rig, name).await;
    }
    rig.assert_clean().await;
}

#[tokio::test]
async fn who_follows_the_fleet_does_not_begin_anew_when_the_last_fix_is_erased() {
    let rig = with_operators().set("locations.ttl", "3s").start().await;
    rig.driver_at("cab-2", PICKUP.0, PICKUP.1).await;
    let stream = rig.fleet().watch_drivers(request(around())).await;
    let mut watcher = Watcher::of(stream.unwrap().into_inner());
    watcher.until(|known| known.contains_key("cab-2")).await;
    rig.driver_at(ZOE, PICKUP.0, PICKUP.1).await;
    watcher.until(|known| known.contains_key(ZOE)).await;
    rig.until_written().await;
    let resets = watcher.resets;
    erase_driver(&rig, ZOE).await;
    watcher.until(|known| !known.contains_key(ZOE)).await;
    rig.driver_at("cab-3", PICKUP.0, PICKUP.1).await;
    watcher.until(|known| known.contains_key("cab-3")).await;
    assert_eq!(watcher.resets, resets);
}
