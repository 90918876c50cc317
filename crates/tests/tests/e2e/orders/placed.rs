//! What becomes of an order when nothing breaks: who serves it, who does not, and where the money is.

use jiff::{Timestamp, ToSpan as _};
use testkit::sql::column;
use testkit::wire::{PICKUP, a_declined_ride, a_ride, assert_refused, fix};
use testkit::{Rig, until_eq};
use tonic::Code;
use waybill_proto::order::v1::{FailureReason, OrderStatus};
use waybill_server::storage::audit::CHECKS;

/// Degrees of latitude in a metre.
const METRE: f64 = 1.0 / 111_195.0;

fn north(metres: f64) -> f64 {
    PICKUP.0 + metres * METRE
}

#[tokio::test]
async fn a_paid_order_gets_the_nearest_driver_that_is_fresh_and_free() {
    let rig = Rig::start().await;
    rig.driver_at("busy", north(10.0), PICKUP.1).await;
    let first = rig.place(a_ride()).await;
    assert_eq!(first.assignment.unwrap().driver_id, "busy");

    rig.report(vec![
        fix("stale", north(20.0), PICKUP.1, Timestamp::now() - 3.minutes()),
        fix("third", north(300.0), PICKUP.1, Timestamp::now()),
        fix("second", north(200.0), PICKUP.1, Timestamp::now()),
        fix("far", north(5_100.0), PICKUP.1, Timestamp::now()),
    ])
    .await;
    let order = rig.place(a_ride()).await;
    assert_eq!(order.status(), OrderStatus::Succeeded);
    assert_eq!(order.assignment.unwrap().driver_id, "second");
    assert_eq!(rig.place(a_ride()).await.assignment.unwrap().driver_id, "third");
    assert_eq!(rig.charges().len(), 3);
    // All checks are made but those that need what a client was answered.
    assert_eq!(rig.assert_clean().await.checks(), CHECKS.len() - 2);
}

#[tokio::test]
async fn an_order_waits_within_its_window_for_a_driver_to_come() {
    let rig = Rig::start().await;
    let mut orders = rig.orders();
    let placed = orders.create_order(a_ride());
    let arrival = async {
        until_eq("the order is charged", 1, async || rig.orders_in("charged").await).await;
        rig.driver_at("late", PICKUP.0, PICKUP.1).await;
    };
    let (placed, ()) = tokio::join!(placed, arrival);
    let order = placed.unwrap().into_inner().order.unwrap();
    assert_eq!(order.assignment.unwrap().driver_id, "late");
    rig.assert_clean().await;
}

#[tokio::test]
async fn a_declined_payment_assigns_no_driver_and_charges_nothing() {
    let rig = Rig::start().await;
    rig.driver_at("cab-1", PICKUP.0, PICKUP.1).await;
    let order = rig.place(a_declined_ride()).await;
    assert_eq!(order.status(), OrderStatus::Failed);
    assert_eq!(order.failure_reason(), FailureReason::PaymentDeclined);
    assert_eq!((order.payment, order.assignment), (None, None));
    assert_eq!(rig.charges(), []);
    assert_eq!(rig.count("select count(*) from order_assignments").await, 0);
    rig.assert_clean().await;
}

#[tokio::test]
async fn an_order_without_a_driver_near_it_is_refunded_in_full() {
    let rig = Rig::builder().set("orders.assignment_window", "1s").start().await;
    rig.driver_at("far", north(5_100.0), PICKUP.1).await;
    let order = rig.place(a_ride()).await;
    assert_eq!(order.status(), OrderStatus::Refunded);
    assert_eq!(order.failure_reason(), FailureReason::NoDriver);
    let payment = order.payment.unwrap();
    assert_eq!(payment.refund_amount, order.amount);

    let window = payment.refunded_at.unwrap().seconds - payment.charged_at.unwrap().seconds;
    assert!(window >= 1, "the window was not waited out");
    let moved = [rig.charges(), rig.refunds()].map(|list| list.iter().map(|one| one.amount_minor).collect::<Vec<_>>());
    assert_eq!(moved, [vec![1_999], vec![1_999]]);
    rig.assert_clean().await;
}

/// More of them than a search proposes, and no time to look again.
#[tokio::test]
async fn a_free_driver_behind_many_busy_ones_is_found_within_one_look() {
    let rig = Rig::builder().set("orders.assignment_window", "0s").start().await;
    for n in 1..=10 {
        rig.driver_at(&format!("cab-{n}"), north(10.0 * f64::from(n)), PICKUP.1)
            .await;
    }
    for n in 1..=10 {
        let order = rig.place(a_ride()).await;
        assert_eq!(order.assignment.expect("a driver").driver_id, format!("cab-{n}"));
    }
    let logged = "select detail from order_saga_steps where step = 'assign' order by id limit 3";
    let logged: Vec<String> = column(&rig.sql().await, logged, &[]).await.unwrap();
    assert_eq!(
        logged,
        [
            "cab-1, 10 m away",
            "cab-2, 20 m away; busy: cab-1",
            "cab-3, 30 m away; busy: cab-1, cab-2"
        ]
    );
    rig.assert_clean().await;
}

#[tokio::test]
async fn of_two_orders_for_one_driver_one_is_served_and_the_other_refunded() {
    let rig = Rig::builder().set("orders.assignment_window", "1s").start().await;
    rig.driver_at("only", PICKUP.0, PICKUP.1).await;
    let (one, other) = tokio::join!(rig.place(a_ride()), rig.place(a_ride()));
    let mut ends = [one.status(), other.status()];
    ends.sort();
    assert_eq!(ends, [OrderStatus::Succeeded, OrderStatus::Refunded]);
    assert_eq!(rig.movements_count(), (2, 1));
    rig.assert_clean().await;
}

#[tokio::test]
async fn servers_on_the_same_stores_never_share_a_driver_among_orders() {
    let rig = Rig::builder()
        .servers(2)
        .set("orders.assignment_window", "1s")
        .start()
        .await;
    for n in 0..4 {
        rig.driver_at(&format!("cab-{n}"), north(f64::from(n)), PICKUP.1).await;
    }
    let mut calls = tokio::task::JoinSet::new();
    for n in 0..8 {
        let mut orders = rig.orders_of(n % 2);
        calls.spawn(async move { orders.create_order(a_ride()).await.unwrap().into_inner().order.unwrap() });
    }
    let orders = calls.join_all().await;
    let assigned = orders.into_iter().filter_map(|order| order.assignment);
    let mut drivers: Vec<_> = assigned.map(|assignment| assignment.driver_id).collect();
    drivers.sort();
    assert_eq!(drivers, ["cab-0", "cab-1", "cab-2", "cab-3"]);
    rig.assert_clean().await;
}

#[tokio::test]
async fn a_completed_order_frees_its_driver_for_the_next_and_may_be_completed_again() {
    let rig = Rig::builder().set("orders.assignment_window", "0s").start().await;
    rig.driver_at("cab-1", PICKUP.0, PICKUP.1).await;
    let first = rig.place(a_ride()).await;
    // The driver is busy.
    assert_eq!(rig.place(a_ride()).await.status(), OrderStatus::Refunded);

    let done = rig.complete(&first.order_id).await.unwrap();
    let again = rig.complete(&first.order_id).await.unwrap();
    let assignment = done.assignment.as_ref().unwrap();
    assert_eq!(assignment.release_reason, "completed");
    assert!(assignment.released_at.is_some());
    assert_eq!(done, again);

    let next = rig.place(a_ride()).await;
    assert_eq!(next.assignment.unwrap().driver_id, "cab-1");
    rig.assert_clean().await;
}

#[tokio::test]
async fn an_order_without_a_driver_cannot_be_completed() {
    let rig = Rig::builder().set("orders.assignment_window", "0s").start().await;
    let order = rig.place(a_ride()).await;
    let refused = rig.complete(&order.order_id).await.unwrap_err();
    assert_refused(&refused, Code::FailedPrecondition, "ORDER_NOT_COMPLETABLE");
    assert_eq!(rig.order(&order.order_id).await.updated_at, order.updated_at);
}
