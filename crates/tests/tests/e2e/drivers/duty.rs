//! Duty: who is off duty, or cannot do what an order requires, is not assigned; and is seen all the same.

use std::collections::BTreeMap;

use testkit::wire::{PICKUP, a_ride, refusal_fields};
use testkit::{Rig, until};
use tonic::Code;
use waybill_proto::driver::v1::SetDutyRequest;
use waybill_proto::fleet::v1::{Driver, GetDriverRequest, SearchDriversRequest};
use waybill_proto::order::v1::{CreateOrderRequest, FailureReason, Order, OrderStatus};

use super::{drivers, off, on, with};
use crate::locations::watched::{Watcher, around, request};

/// An order whose driver must be able to do this.
fn requiring(tags: &[&str]) -> CreateOrderRequest {
    CreateOrderRequest {
        required_tags: tags.iter().map(|&tag| tag.to_owned()).collect(),
        ..a_ride()
    }
}

/// Who serves it.
fn driver(order: &Order) -> &str {
    let assignment = order.assignment.as_ref();
    assignment.map_or("", |assignment| &assignment.driver_id)
}

/// The details of the step that assigned a driver.
async fn assigned(rig: &Rig, order: &Order) -> String {
    let sql = rig.sql().await;
    let query = "select detail from order_saga_steps where order_id::text = $1 and step = 'assign'";
    sql.query_one(query, &[&order.order_id]).await.unwrap().get(0)
}

async fn set(rig: &Rig, request: SetDutyRequest) {
    drivers(rig).set_duty(request).await.unwrap();
}

#[tokio::test]
async fn who_is_off_duty_is_passed_over_until_it_is_on_again() {
    let rig = Rig::start().await;
    rig.driver_at("near", PICKUP.0, PICKUP.1).await;
    rig.driver_at("far", PICKUP.0 + 0.01, PICKUP.1).await;
    set(&rig, off("near")).await;
    let order = rig.place(a_ride()).await;
    assert_eq!(driver(&order), "far");
    assert!(assigned(&rig, &order).await.ends_with("; off duty: near"));

    set(&rig, on("near")).await;
    assert_eq!(driver(&rig.place(a_ride()).await), "near");
    rig.assert_clean().await;
}

#[tokio::test]
async fn an_order_whose_only_drivers_are_off_duty_is_refunded_and_one_who_comes_on_duty_gets_it() {
    let rig = Rig::builder().set("orders.assignment_window", "2s").start().await;
    // More than one transaction proposes at once.
    for number in 0..20 {
        let name = format!("cab-{number}");
        rig.driver_at(&name, PICKUP.0 + 0.0001 * f64::from(number), PICKUP.1)
            .await;
        set(&rig, off(&name)).await;
    }
    let order = rig.place(a_ride()).await;
    assert_eq!(order.status(), OrderStatus::Refunded);
    assert_eq!(order.failure_reason(), FailureReason::NoDriver);
    assert_eq!(assigned(&rig, &order).await, "no free driver who is on duty was near");

    // The twenty-first is found behind them, although eight are proposed at a time.
    rig.driver_at("behind", PICKUP.0 + 0.01, PICKUP.1).await;
    let order = rig.place(a_ride()).await;
    assert_eq!(driver(&order), "behind");

    // Whoever comes on duty while an order searches gets it.
    let mut searching = rig.begin(a_ride());
    until("it searches", async || match rig.orders_in("charged").await {
        1 => Ok(()),
        count => Err(count),
    })
    .await;
    set(&rig, on("cab-7")).await;
    let order = searching.join_next().await.unwrap().unwrap().unwrap();
    assert_eq!(driver(&order), "cab-7");
    rig.assert_clean().await;
}

#[tokio::test]
async fn an_order_goes_to_the_nearest_who_can_do_all_that_it_requires() {
    let rig = Rig::builder().set("orders.assignment_window", "1s").start().await;
    for (number, (name, tags)) in [
        ("plain", &[][..]),
        ("large", &["xl"]),
        ("both", &["wheelchair", "xl"]),
        ("cold", &["cold"]),
    ]
    .into_iter()
    .enumerate()
    {
        rig.driver_at(
            name,
            PICKUP.0 + 0.001 * f64::from(u32::try_from(number).unwrap()),
            PICKUP.1,
        )
        .await;
        set(&rig, with(name, tags)).await;
    }
    let order = rig.place(requiring(&["xl", "wheelchair"])).await;
    assert_eq!(driver(&order), "both");
    assert_eq!(order.required_tags, ["wheelchair", "xl"]);
    assert!(
        assigned(&rig, &order)
            .await
            .ends_with("; without what it requires: plain, large")
    );
    assert_eq!(driver(&rig.place(requiring(&["xl"])).await), "large");
    assert_eq!(driver(&rig.place(requiring(&[])).await), "plain");

    let order = rig.place(requiring(&["xl"])).await;
    assert_eq!(order.status(), OrderStatus::Refunded);
    let read = rig.order(&order.order_id).await;
    let why = read.steps.iter().find(|step| step.step == "assign").unwrap();
    assert_eq!(
        (why.status.as_str(), why.detail.as_str()),
        ("failed", "no free driver with xl was near")
    );
    rig.assert_clean().await;
}

#[tokio::test]
async fn tags_are_part_of_what_a_key_asks_for() {
    let rig = Rig::start().await;
    rig.driver_at("cab-1", PICKUP.0, PICKUP.1).await;
    set(&rig, with("cab-1", &["xl", "cold"])).await;
    let first = requiring(&["xl", "cold"]);
    let order = rig.place(first.clone()).await;
    let spelt_otherwise = CreateOrderRequest {
        required_tags: vec!["cold".to_owned(), "xl".to_owned(), "cold".to_owned()],
        ..first.clone()
    };
    assert_eq!(rig.place(spelt_otherwise).await, order);
    let other = CreateOrderRequest {
        required_tags: vec!["xl".to_owned()],
        ..first
    };
    let refused = rig.orders().create_order(other).await.unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition);
}

#[tokio::test]
async fn who_goes_off_duty_in_the_middle_of_a_service_ends_it_first() {
    let rig = Rig::builder().set("orders.assignment_window", "1s").start().await;
    rig.driver_at("cab-1", PICKUP.0, PICKUP.1).await;
    let order = rig.place(a_ride()).await;
    set(&rig, off("cab-1")).await;
    let completed = rig.complete(&order.order_id).await.unwrap();
    assert_eq!(completed.status(), OrderStatus::Succeeded);
    assert_eq!(rig.place(a_ride()).await.status(), OrderStatus::Refunded);
}

#[tokio::test]
async fn what_is_set_is_answered_and_what_is_not_stays() {
    let rig = Rig::start().await;
    let set = async |request| {
        drivers(&rig)
            .set_duty(request)
            .await
            .unwrap()
            .into_inner()
            .duty
            .unwrap()
    };
    let duty = set(with("cab-1", &["xl", "cold", "xl"])).await;
    assert_eq!(
        (duty.on_duty, duty.tags),
        (true, vec!["cold".to_owned(), "xl".to_owned()])
    );
    let duty = set(off("cab-1")).await;
    assert_eq!((duty.on_duty, duty.tags.len()), (false, 2));
    let duty = set(with("cab-1", &[])).await;
    assert_eq!((duty.on_duty, duty.tags.len()), (false, 0));
    let duty = set(on("cab-1")).await;
    assert!(duty.on_duty);
}

#[tokio::test]
async fn what_is_no_duty_is_refused_by_field() {
    let rig = Rig::start().await;
    let long = "a".repeat(33);
    let many: Vec<String> = (0..17).map(|number| format!("tag-{number}")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    let nothing = SetDutyRequest {
        on_duty: None,
        ..off("cab-1")
    };
    for (request, fields) in [
        (nothing, vec!["on_duty"]),
        (off(""), vec!["driver_id"]),
        (with("cab-1", &["XL"]), vec!["tags"]),
        (with("cab-1", &[""]), vec!["tags"]),
        (with("cab-1", &[&long]), vec!["tags"]),
        (with("cab-1", &many), vec!["tags"]),
        (with("a b", &["x y"]), vec!["driver_id", "tags"]),
    ] {
        let refused = drivers(&rig).set_duty(request.clone()).await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument, "{request:?}");
        assert_eq!(refusal_fields(&refused), fields, "{request:?}");
    }
    for tags in [&["XL"][..], &["a b"], &[&long], &many] {
        let refused = rig.orders().create_order(requiring(tags)).await.unwrap_err();
        assert_eq!(refusal_fields(&refused), ["required_tags"]);
    }
}

#[tokio::test]
async fn who_is_off_duty_is_seen_and_is_not_among_those_who_are_free() {
    let rig = Rig::start().await;
    for (name, lat) in [("cab-1", PICKUP.0), ("cab-2", PICKUP.0 + 0.001)] {
        rig.driver_at(name, lat, PICKUP.1).await;
    }
    set(&rig, off("cab-1")).await;
    set(&rig, with("cab-1", &["xl"])).await;
    let search = SearchDriversRequest {
        near: a_ride().pickup,
        ..SearchDriversRequest::default()
    };
    let found = rig.fleet().search_drivers(search).await.unwrap().into_inner();
    let names: Vec<String> = found
        .drivers
        .into_iter()
        .map(|near| near.driver.unwrap().driver_id)
        .collect();
    assert_eq!(names, ["cab-2"]);
    let get = async |name: &str| -> Driver {
        let request = GetDriverRequest {
            driver_id: name.to_owned(),
        };
        let answer = rig.fleet().get_driver(request).await.unwrap();
        answer.into_inner().driver.unwrap()
    };
    let seen = get("cab-1").await;
    assert_eq!((seen.off_duty, seen.tags), (true, vec!["xl".to_owned()]));
    let seen = get("cab-2").await;
    assert_eq!((seen.off_duty, seen.tags.len()), (false, 0));
}

#[tokio::test]
async fn who_watches_an_area_sees_who_is_off_duty_and_who_comes_on() {
    let rig = Rig::start().await;
    rig.driver_at("before", PICKUP.0, PICKUP.1).await;
    set(&rig, off("before")).await;
    set(&rig, off("later")).await;
    let stream = rig.fleet().watch_drivers(request(around())).await.unwrap();
    let mut watcher = Watcher::of(stream.into_inner());
    let is_off = |name: &'static str, expected| {
        move |known: &BTreeMap<String, Driver>| known.get(name).is_some_and(|driver| driver.off_duty == expected)
    };
    watcher.until(is_off("before", true)).await;
    // It was off duty before it was there.
    rig.driver_at("later", PICKUP.0, PICKUP.1).await;
    watcher.until(is_off("later", true)).await;
    set(&rig, on("before")).await;
    watcher.until(is_off("before", false)).await;
    set(&rig, off("before")).await;
    watcher.until(is_off("before", true)).await;
}
