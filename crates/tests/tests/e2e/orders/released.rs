//! An order whose driver is unassigned goes to the next nearest one, and is not charged again.

use testkit::wire::{PICKUP, a_ride, assert_refused, cancel, complete, refusal_fields};
use testkit::{Rig, until};
use tonic::{Code, Status};
use waybill_proto::order::v1::{CompleteOrderRequest, Order, OrderStatus, ReleaseDriverRequest};

fn request(order: &Order, driver: &str) -> ReleaseDriverRequest {
    ReleaseDriverRequest {
        order_id: order.order_id.clone(),
        driver_id: driver.to_owned(),
        reason: "flat tyre".to_owned(),
    }
}

async fn release(rig: &Rig, order: &Order, driver: &str) -> Result<Order, Status> {
    let answer = rig.orders().release_driver(request(order, driver)).await?;
    Ok(answer.into_inner().order.unwrap())
}

/// A rig with two drivers, `cab-1` the nearer, and an order that `cab-1` serves.
async fn served_order(rig: &Rig) -> Order {
    rig.driver_at("cab-1", PICKUP.0, PICKUP.1).await;
    rig.driver_at("cab-2", PICKUP.0 + 0.001, PICKUP.1).await;
    let order = rig.place(a_ride()).await;
    assert_eq!(order.assignment.as_ref().unwrap().driver_id, "cab-1");
    order
}

#[tokio::test]
async fn an_order_whose_driver_declines_goes_to_the_next_nearest_and_is_charged_once() {
    let rig = Rig::start().await;
    let order = served_order(&rig).await;
    let looking = release(&rig, &order, "cab-1").await.unwrap();
    assert_eq!((looking.status(), looking.assignment), (OrderStatus::Charged, None));

    let now = rig.until_settled(&order.order_id).await;
    assert_eq!(now.status(), OrderStatus::Succeeded);
    assert_eq!(now.assignment.as_ref().unwrap().driver_id, "cab-2");
    assert_eq!(rig.movements_count(), (1, 0));
    let steps: Vec<(&str, &str)> = now.steps.iter().map(|s| (s.step.as_str(), s.status.as_str())).collect();
    let expected = ["assign", "release", "assign"].map(|step| (step, "succeeded"));
    assert_eq!(steps[3..], expected);
    let noted = "select count(*) from order_saga_steps where step = 'release' and detail like 'cab-1 %flat tyre%'";
    assert_eq!(rig.count(noted).await, 1);

    // The driver who declined is free for others, and is not offered this order again.
    assert_eq!(rig.place(a_ride()).await.assignment.unwrap().driver_id, "cab-1");
    rig.assert_clean().await;
}

#[tokio::test]
async fn a_driver_who_declined_is_not_offered_the_order_again() {
    let rig = Rig::builder().set("orders.assignment_window", "1s").start().await;
    rig.driver_at("cab-1", PICKUP.0, PICKUP.1).await;
    let order = rig.place(a_ride()).await;
    release(&rig, &order, "cab-1").await.unwrap();
    let now = rig.until_settled(&order.order_id).await;
    assert_eq!(now.status(), OrderStatus::Refunded, "no other is there");
    assert_eq!(rig.movements_count(), (1, 1));
    // The answer of its first call stays what it was.
    rig.assert_clean().await;
}

#[tokio::test]
async fn a_release_may_be_repeated_and_never_frees_the_next_driver() {
    let rig = Rig::start().await;
    let order = served_order(&rig).await;
    release(&rig, &order, "cab-1").await.unwrap();
    rig.until_settled(&order.order_id).await;
    let again = release(&rig, &order, "cab-1").await.unwrap();
    assert_eq!(again.assignment.unwrap().driver_id, "cab-2");
    assert_eq!(rig.count("select count(*) from past_assignments").await, 1);
    rig.assert_clean().await;
}

#[tokio::test]
async fn an_unassigned_driver_does_not_end_the_service_of_the_next() {
    let rig = Rig::start().await;
    let order = served_order(&rig).await;
    release(&rig, &order, "cab-1").await.unwrap();
    rig.until_settled(&order.order_id).await;
    let by = |driver: &str| CompleteOrderRequest {
        order_id: order.order_id.clone(),
        driver_id: driver.to_owned(),
        final_amount: None,
    };
    let refused = rig.orders().complete_order(by("cab-1")).await.unwrap_err();
    assert_refused(&refused, Code::FailedPrecondition, "DRIVER_NOT_ASSIGNED");
    let active = "select count(*) from order_assignments where released_at is null";
    assert_eq!(rig.count(active).await, 1);
    rig.orders().complete_order(by("cab-2")).await.unwrap();
    rig.assert_clean().await;
}

#[tokio::test]
async fn an_order_can_be_reassigned_again_and_again() {
    let rig = Rig::start().await;
    let order = served_order(&rig).await;
    rig.driver_at("cab-3", PICKUP.0 + 0.002, PICKUP.1).await;
    for driver in ["cab-1", "cab-2"] {
        release(&rig, &order, driver).await.unwrap();
        rig.until_settled(&order.order_id).await;
    }
    assert_eq!(rig.order(&order.order_id).await.assignment.unwrap().driver_id, "cab-3");
    assert_eq!(rig.charges().len(), 1);
    rig.complete(&order.order_id).await.unwrap();
    rig.assert_clean().await;
}

#[tokio::test]
async fn an_order_whose_driver_was_unassigned_can_be_cancelled() {
    let rig = Rig::start().await;
    rig.driver_at("cab-1", PICKUP.0, PICKUP.1).await;
    let order = rig.place(a_ride()).await;
    release(&rig, &order, "cab-1").await.unwrap();
    let cancelled = rig.cancel(&order.order_id).await.unwrap();
    assert_eq!(cancelled.status(), OrderStatus::Refunded);
    rig.assert_clean().await;
}

#[tokio::test]
async fn who_does_not_serve_the_order_cannot_be_released_from_it() {
    let rig = Rig::start().await;
    let order = served_order(&rig).await;
    let refused = release(&rig, &order, "cab-2").await.unwrap_err();
    assert_refused(&refused, Code::FailedPrecondition, "DRIVER_NOT_ASSIGNED");
    rig.complete(&order.order_id).await.unwrap();
    // The service was rendered.
    let refused = release(&rig, &order, "cab-1").await.unwrap_err();
    assert_refused(&refused, Code::FailedPrecondition, "DRIVER_NOT_ASSIGNED");

    let unknown = Order {
        order_id: "01a20315-5e19-7147-aacf-821719f49b3a".to_owned(),
        ..Order::default()
    };
    let refused = release(&rig, &unknown, "cab-1").await.unwrap_err();
    assert_eq!(refused.code(), Code::NotFound);
    rig.assert_clean().await;
}

#[tokio::test]
async fn a_release_names_every_bad_field() {
    let rig = Rig::start().await;
    let bad = ReleaseDriverRequest {
        order_id: "7".to_owned(),
        driver_id: String::new(),
        reason: " ".to_owned(),
    };
    let refused = rig.orders().release_driver(bad).await.unwrap_err();
    assert_eq!(refusal_fields(&refused), ["driver_id", "order_id", "reason"]);
}

#[tokio::test]
async fn completion_cancellation_and_release_at_once_have_one_winner() {
    let rig = Rig::builder().servers(2).start().await;
    for n in 0..12 {
        rig.driver_at(&format!("cab-{n}"), PICKUP.0, PICKUP.1).await;
    }
    for _ in 0..10 {
        let order = rig.place(a_ride()).await;
        let driver = order.assignment.as_ref().unwrap().driver_id.clone();
        let (mut one, mut two, mut three) = (rig.orders_of(0), rig.orders_of(1), rig.orders_of(0));
        let order_id = order.order_id.clone();
        let (completed, cancelled, released) = tokio::join!(
            one.complete_order(complete(&order_id)),
            two.cancel_order(cancel(&order_id)),
            three.release_driver(request(&order, &driver)),
        );
        let now = rig.until_settled(&order_id).await;
        match (completed.is_ok(), cancelled.is_ok()) {
            // Whom it was completed with is whoever served it then.
            (true, false) => assert_eq!(now.status(), OrderStatus::Succeeded),
            (false, true) => assert_eq!(now.status(), OrderStatus::Refunded),
            // The release won, and neither found a driver to free or an order to cancel at that moment.
            (false, false) => assert!(released.is_ok(), "{completed:?} {cancelled:?}"),
            (true, true) => panic!("completed and cancelled: {now:?}"),
        }
    }
    rig.assert_clean().await;
}

/// A server that takes a driver for gone after three seconds.
async fn short_liveness() -> Rig {
    Rig::with("locations.ttl=3s orders.driver_liveness_timeout=3s").await
}

/// How often it was checked that drivers are still seen.
async fn liveness_checks(rig: &Rig) -> u64 {
    rig.metrics().await["orders"]["driver_liveness_checks"]
        .as_u64()
        .unwrap()
}

/// All drivers but `cab-1` go on reporting where they are, until the end.
async fn reassigned_from_cab_1(rig: &Rig, order: &Order) -> Order {
    until("another driver has the order", async || {
        rig.driver_at("cab-2", PICKUP.0 + 0.001, PICKUP.1).await;
        let now = rig.order(&order.order_id).await;
        match &now.assignment {
            Some(assignment) if assignment.driver_id == "cab-2" => Ok(now),
            _ => Err(now),
        }
    })
    .await
}

#[tokio::test]
async fn an_order_whose_driver_is_not_seen_any_more_goes_to_the_next_nearest() {
    let rig = short_liveness().await;
    let order = served_order(&rig).await;
    let now = reassigned_from_cab_1(&rig, &order).await;
    assert_eq!(now.status(), OrderStatus::Succeeded);
    assert_eq!(rig.charges().len(), 1);
    let noted = "select count(*) from order_saga_steps where step = 'release' and detail like '%silent%'";
    assert_eq!(rig.count(noted).await, 1);
    rig.assert_clean().await;
}

#[tokio::test]
async fn many_drivers_not_seen_at_once_keep_their_orders() {
    let rig = short_liveness().await;
    for n in 0..5 {
        rig.driver_at(&format!("cab-{n}"), PICKUP.0, PICKUP.1).await;
        rig.place(a_ride()).await;
    }
    until("all five are not seen for long", async || {
        rig.driver_at("cab-seen", PICKUP.0, PICKUP.1).await;
        liveness_checks(&rig).await >= 30
    })
    .await;
    assert_eq!(rig.count("select count(*) from past_assignments").await, 0);
    assert_eq!(rig.count("select count(*) from order_assignments").await, 5);
}

#[tokio::test]
async fn while_no_driver_is_seen_none_is_unassigned() {
    let rig = short_liveness().await;
    let order = served_order(&rig).await;
    until("cab-1 is not seen for long", async || liveness_checks(&rig).await >= 30).await;
    assert_eq!(rig.order(&order.order_id).await.assignment.unwrap().driver_id, "cab-1");
    assert_eq!(rig.count("select count(*) from past_assignments").await, 0);
}
