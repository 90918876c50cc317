//! What one bad thing must not do: keep an order from its end, or take others down with it.

use testkit::wire::{PICKUP, a_declined_ride, a_ride};
use testkit::{Rig, until};
use waybill_proto::order::v1::OrderStatus;
use waybill_sandbox::payments::{Fault, FaultKind, FaultTarget};

/// An error that no retry repairs must not hold the money for ever: the window ends all the same.
#[tokio::test]
async fn a_search_that_always_fails_ends_in_a_refund() {
    let rig = Rig::builder().set("orders.assignment_window", "1s").start().await;
    let other = rig.place(a_declined_ride()).await.order_id;
    // A name that this version cannot read, among those that every search reads.
    let plant = format!("insert into drivers (driver_id, active_order_id) values ('no driver {{at all}}', '{other}')");
    rig.execute(&plant).await;

    let order = rig.place(a_ride()).await;

    assert_eq!(order.status(), OrderStatus::Refunded);
}

#[tokio::test]
async fn a_member_of_the_index_that_is_no_driver_hides_no_driver() {
    let rig = Rig::start().await;
    rig.driver_at("cab-1", PICKUP.0, PICKUP.1).await;
    let mut redis = rig.redis().await;
    let mut plant = redis::cmd("GEOADD");
    plant
        .arg("drivers:geo")
        .arg(PICKUP.1)
        .arg(PICKUP.0)
        .arg("no driver {at all}");
    plant.query_async::<()>(&mut redis).await.unwrap();

    let order = rig.place(a_ride()).await;

    assert_eq!(order.assignment.unwrap().driver_id, "cab-1");
}

/// An instance of another version may know more than this one.
#[tokio::test]
async fn an_order_that_cannot_be_read_is_quarantined_and_the_others_go_on() {
    let rig = Rig::builder().set("orders.assignment_window", "0s").start().await;
    let sql = rig.sql().await;
    // Two orders whose workers are gone; the older one is in a currency that does not exist.
    for (user, currency, age) in [("ada", "QQQ", "2 minutes"), ("bob", "USD", "1 minute")] {
        let plant = format!(
            "insert into order_sagas (order_id, idempotency_key, user_id, amount, currency, payment_method, status,
                                      pickup_lat, pickup_long, request_hash, fence, next_run_at)
             values (gen_random_uuid(), 'a-key-of-16-bytes', '{user}', 500, '{currency}', 'pm_card_visa', 'started',
                     0, 0, '\\x00', 1, now() - interval '{age}')"
        );
        sql.batch_execute(&plant).await.unwrap();
    }

    let refunded = "select count(*) from order_sagas where user_id = 'bob' and status = 'refunded'";
    until("the readable order is settled", async || rig.count(refunded).await == 1).await;

    let quarantined = "select count(*) from order_sagas where user_id = 'ada' and status = 'started'
                     and needs_attention is not null and lease_until is null and next_run_at > now()";
    until("the other is quarantined", async || rig.count(quarantined).await == 1).await;
}

#[tokio::test]
async fn the_answer_to_the_first_call_is_not_marked_as_replayed_though_a_later_worker_settled_it() {
    let rig = Rig::start().await;
    rig.driver_at("cab-1", PICKUP.0, PICKUP.1).await;
    rig.payments()
        .set_fault(Fault::times(FaultKind::ErrorAfterEffect, 1).on(FaultTarget::Charge));
    let request = a_ride();

    let first = rig.orders().create_order(request.clone()).await.unwrap();
    assert!(first.metadata().get("idempotent-replayed").is_none());

    let second = rig.orders().create_order(request).await.unwrap();
    assert_eq!(second.metadata().get("idempotent-replayed").unwrap(), "true");
    assert_eq!(first.into_inner(), second.into_inner());
}
