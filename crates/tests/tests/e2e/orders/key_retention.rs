//! What expires after its time, and what does not: idempotency keys with their answers, and the provider's events.

use testkit::sql::column;
use testkit::wire::{PICKUP, a_ride};
use testkit::{Rig, until, until_eq};
use tonic::Code;
use waybill_proto::order::v1::{CreateOrderRequest, ListOrdersRequest, OrderStatus};
use waybill_sandbox::payments::{Fault, FaultKind};

/// A server that expires keys as soon as it may. They are retained for the 30 days of the defaults.
async fn expiring() -> Rig {
    Rig::builder().set("orders.key_expiry_interval", "20ms").start().await
}

/// Puts the end of a user's orders back by so many days.
async fn age(rig: &Rig, request: &CreateOrderRequest, days: i32) {
    let back = "update order_sagas set finished_at = finished_at - make_interval(days => $2) where user_id = $1";
    let aged = rig.sql().await.execute(back, &[&request.user_id, &days]).await.unwrap();
    assert_eq!(aged, 1);
}

/// Waits until the key of the user's order has expired.
async fn until_expired(rig: &Rig, request: &CreateOrderRequest) {
    let sql = rig.sql().await;
    until("the key has expired", async || {
        let kept = "select 1 from order_sagas where user_id = $1 and idempotency_key is not null";
        sql.query_opt(kept, &[&request.user_id]).await.unwrap().is_none()
    })
    .await;
}

#[tokio::test]
async fn a_key_expires_after_30_days_and_then_makes_a_new_order() {
    let rig = expiring().await;
    rig.driver_at("cab-1", PICKUP.0, PICKUP.1).await;
    rig.driver_at("cab-2", PICKUP.0, PICKUP.1).await;
    let request = a_ride();
    let first = rig.place(request.clone()).await;
    let before = rig.order(&first.order_id).await;
    age(&rig, &request, 31).await;
    until_expired(&rig, &request).await;
    let answers = "select count(*) from order_sagas where response_body is not null";
    assert_eq!(rig.count(answers).await, 0, "its answer expires with it");

    let second = rig.orders().create_order(request.clone()).await.unwrap();
    assert!(second.metadata().get("idempotent-replayed").is_none());
    let second = second.into_inner().order.unwrap();
    assert_ne!(second.order_id, first.order_id);
    let again = rig.place(request.clone()).await;
    assert_eq!(again, second, "the new order has the key now");
    assert_eq!(rig.charges().len(), 2);

    let after = rig.order(&first.order_id).await;
    assert_eq!(after, before, "the order, its money and its log stay");
    let of_user = ListOrdersRequest {
        user_id: request.user_id,
        ..ListOrdersRequest::default()
    };
    let listed = rig.orders().list_orders(of_user).await.unwrap().into_inner().orders;
    assert_eq!(listed.len(), 2);
    until_eq("it is counted", 1.into(), async || {
        rig.metrics().await["orders"]["keys_expired"].clone()
    })
    .await;
    rig.assert_clean().await;
}

#[tokio::test]
async fn a_key_is_retained_for_30_days_and_for_as_long_as_its_order_is_unfinished() {
    let rig = expiring().await;
    let (too_old, old_enough, running) = (a_ride(), a_ride(), a_ride());
    for (request, driver) in [(&too_old, "cab-1"), (&old_enough, "cab-2")] {
        rig.driver_at(driver, PICKUP.0, PICKUP.1).await;
        rig.place(request.clone()).await;
    }
    let answer = rig.place(old_enough.clone()).await;
    rig.payments().set_fault(Fault::always(FaultKind::ErrorAfterEffect));
    let mut call = tonic::Request::new(running.clone());
    call.set_timeout(std::time::Duration::from_secs(1));
    assert_eq!(rig.orders().create_order(call).await.unwrap_err().code(), Code::Aborted);
    let back = "update order_sagas
                   set created_at = created_at - interval '1 year', updated_at = updated_at - interval '1 year'
                 where user_id = $1";
    rig.sql().await.execute(back, &[&running.user_id]).await.unwrap();

    age(&rig, &old_enough, 29).await;
    age(&rig, &too_old, 31).await;
    until_expired(&rig, &too_old).await;
    let keys = "select count(*) from order_sagas where idempotency_key is not null";
    assert_eq!(rig.count(keys).await, 2);
    assert_eq!(rig.place(old_enough).await, answer);
    rig.payments().clear_faults();
    rig.driver_at("cab-3", PICKUP.0, PICKUP.1).await;
    rig.until_all_settled().await;
    // A year late, its charge is refunded.
    assert_eq!(rig.place(running).await.status(), OrderStatus::Refunded);
    assert_eq!(rig.charges().len(), 3, "nothing was ordered twice");
    rig.assert_clean().await;
}

#[tokio::test]
async fn an_order_whose_key_has_expired_is_cancelled_like_any_other() {
    let rig = expiring().await;
    rig.driver_at("cab-1", PICKUP.0, PICKUP.1).await;
    let request = a_ride();
    let order_id = rig.place(request.clone()).await.order_id;
    age(&rig, &request, 31).await;
    until_expired(&rig, &request).await;
    let cancelled = rig.cancel(&order_id).await.unwrap();
    assert_eq!(cancelled.status(), OrderStatus::Refunded);
    let answers = "select count(*) from order_sagas where response_body is not null";
    // No one can ask for an answer without its key.
    assert_eq!(rig.count(answers).await, 0);
    rig.assert_clean().await;
}

#[tokio::test]
async fn events_of_the_provider_expire_with_keys_of_their_age_however_many_there_are() {
    let rig = expiring().await;
    rig.execute(
        "insert into payment_events (event_id, type, received_at)
         select 'evt_' || n, 'refund.updated', now() - interval '31 days' from generate_series(1, 2500) n;
         insert into payment_events (event_id, type, received_at)
         values ('evt_young', 'refund.updated', now() - interval '29 days')",
    )
    .await;
    let sql = rig.sql().await;
    until_eq("only the young one is left", vec!["evt_young".to_owned()], async || {
        let left = "select event_id from payment_events order by event_id limit 10";
        column(&sql, left, &[]).await.unwrap()
    })
    .await;
}

#[tokio::test]
async fn links_are_kept_for_30_days_after_they_ended() {
    let rig = expiring().await;
    rig.driver_at("cab-1", PICKUP.0, PICKUP.1).await;
    let order = rig.place(a_ride()).await.order_id;
    let shared = "insert into order_shares (share_id, order_id, token_hash, expires_at)
                  select gen_random_uuid(), $1::text::uuid, sha256(days::text::bytea), now() - make_interval(days => days)
                    from unnest(array[-1, 29, 31, 400]) days";
    rig.sql().await.execute(shared, &[&order]).await.unwrap();
    until_eq("those that ended long ago are gone", 2, async || {
        rig.count("select count(*) from order_shares").await
    })
    .await;
    assert_eq!(
        rig.count("select count(*) from order_shares where expires_at > now() - interval '30 days'")
            .await,
        2
    );
}
