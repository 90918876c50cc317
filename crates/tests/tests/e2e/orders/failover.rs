//! A database that fails over to a replica which has not seen the last commits, and a client that repeats its request: the
//! order is new, and its charge is the one that was made before.

use testkit::Rig;
use testkit::wire::{PICKUP, a_declined_ride, a_ride};
use waybill_proto::order::v1::{CreateOrderRequest, FailureReason, Order, OrderStatus, PaymentMode};

/// As a snapshot from before the order: nothing of it is left.
async fn restore_snapshot(rig: &Rig, order: &Order) {
    let tables = [
        "order_saga_steps",
        "payment_attempts",
        "payments",
        "order_assignments",
        "payment_events",
    ];
    let id = &order.order_id;
    let deletes = tables.map(|table| format!("delete from {table} where order_id = '{id}';"));
    rig.execute(&format!(
        "set session_replication_role = replica;
         {}
         update drivers set active_order_id = null where active_order_id = '{id}';
         delete from order_sagas where order_id = '{id}';
         set session_replication_role = origin",
        deletes.concat()
    ))
    .await;
    assert_eq!(rig.count("select count(*) from order_sagas").await, 0);
}

async fn place_twice(rig: &Rig, request: CreateOrderRequest) -> (Order, Order) {
    rig.driver_at("cab-1", PICKUP.0, PICKUP.1).await;
    let lost = rig.place(request.clone()).await;
    restore_snapshot(rig, &lost).await;
    let repeated = rig.place(request).await;
    assert_ne!(repeated.order_id, lost.order_id);
    (lost, repeated)
}

#[tokio::test]
async fn a_request_that_is_repeated_after_its_order_was_lost_is_not_charged_twice() {
    let rig = Rig::builder().impatient().start().await;
    let (_, repeated) = place_twice(&rig, a_ride()).await;
    assert_eq!(repeated.status(), OrderStatus::Succeeded);
    assert_eq!(rig.charges().len(), 1, "the repeat meets the first charge");
    rig.assert_clean().await;
    // What is owed is given back once.
    rig.cancel(&repeated.order_id).await.unwrap();
    assert_eq!(
        rig.until_settled(&repeated.order_id).await.status(),
        OrderStatus::Refunded
    );
    assert_eq!(rig.movements_count(), (1, 1));
    rig.assert_clean().await;
}

#[tokio::test]
async fn a_decline_that_was_lost_is_a_decline_again() {
    let rig = Rig::builder().impatient().start().await;
    let (lost, repeated) = place_twice(&rig, a_declined_ride()).await;
    assert_eq!(
        (lost.status(), repeated.status()),
        (OrderStatus::Failed, OrderStatus::Failed)
    );
    assert_eq!(rig.charges(), []);
    rig.assert_clean().await;
}

/// The hold of the first was voided, since there was no driver: nothing is held any more.
#[tokio::test]
async fn a_hold_that_was_voided_for_a_lost_order_is_no_payment_of_the_next() {
    let rig = Rig::builder()
        .impatient()
        .set("orders.assignment_window", "0s")
        .start()
        .await;
    let held = CreateOrderRequest {
        payment_mode: PaymentMode::CaptureAtCompletion.into(),
        ..a_ride()
    };
    let lost = rig.place(held.clone()).await;
    assert_eq!(rig.until_settled(&lost.order_id).await.status(), OrderStatus::Refunded);
    restore_snapshot(&rig, &lost).await;
    rig.driver_at("cab-1", PICKUP.0, PICKUP.1).await;
    let repeated = rig.place(held).await;
    assert_eq!(
        (repeated.status(), repeated.failure_reason()),
        (OrderStatus::Failed, FailureReason::PaymentDeclined)
    );
    assert_eq!(rig.charges(), []);
    rig.assert_clean().await;
}

/// Another key, another user, another amount: another charge.
#[tokio::test]
async fn another_request_is_another_charge() {
    let rig = Rig::builder().impatient().start().await;
    let first = a_ride();
    let lost = {
        rig.driver_at("cab-1", PICKUP.0, PICKUP.1).await;
        rig.place(first.clone()).await
    };
    restore_snapshot(&rig, &lost).await;
    let others = [
        CreateOrderRequest {
            idempotency_key: "another-key-of-this-user".to_owned(),
            ..first.clone()
        },
        CreateOrderRequest {
            user_id: "another".to_owned(),
            ..first.clone()
        },
    ];
    for (n, other) in others.into_iter().enumerate() {
        rig.driver_at(&format!("cab-{n}-2"), PICKUP.0, PICKUP.1).await;
        assert_eq!(rig.place(other).await.status(), OrderStatus::Succeeded);
    }
    assert_eq!(rig.charges().len(), 3);
}
