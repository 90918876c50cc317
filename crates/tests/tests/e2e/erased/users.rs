//! Customers: their names, keys, links and addresses go, and amounts and times stay.

use testkit::Rig;
use testkit::wire::{PICKUP, a_ride, by, complete, position};
use waybill_proto::order::v1::{CreateOrderRequest, ListOrdersRequest, Money, RefundOrderRequest, ShareOrderRequest};

use super::{admin, age, assert_gone, erase_user, user, with_operators};
use crate::access::Doors;

const MIA: &str = "mia.meier";

#[tokio::test]
async fn nothing_is_left_of_a_customer_but_the_ledger() {
    let rig = with_operators().start().await;
    rig.driver_at("cab-1", PICKUP.0, PICKUP.1).await;
    let request = CreateOrderRequest {
        idempotency_key: "the first order of mia.meier".to_owned(),
        user_id: MIA.to_owned(),
        drop_off: Some(position((52.567_89, 13.456_78))),
        ..a_ride()
    };
    let order = rig.place(request.clone()).await;
    let share = ShareOrderRequest {
        order_id: order.order_id.clone(),
        lifetime: None,
    };
    rig.orders().share_order(share).await.unwrap();
    rig.orders().complete_order(complete(&order.order_id)).await.unwrap();
    let refund = RefundOrderRequest {
        order_id: order.order_id.clone(),
        idempotency_key: "a-refund-of-mia.meier".to_owned(),
        amount: Some(Money {
            minor_units: 100,
            ..order.amount.clone().unwrap()
        }),
        reason: "mia.meier, who waited".to_owned(),
    };
    rig.orders().refund_order(refund).await.unwrap();
    rig.until_settled(&order.order_id).await;
    let other = rig.place(a_ride()).await;
    let before = rig.order(&order.order_id).await;
    age(&rig, 3).await;
    rig.execute("update order_sagas set payment_method = 'pm_of_mia', provider_customer = 'cus_of_mia' where user_id = 'mia.meier'")
        .await;

    let erased = erase_user(&rig, MIA).await;
    assert_eq!(erased.orders, 1);
    for text in [MIA, "pm_of_mia", "cus_of_mia"] {
        assert_gone(&rig, text).await;
    }
    assert_eq!(rig.count("select count(*) from order_shares").await, 0);

    let after = rig.order(&order.order_id).await;
    assert_eq!(after.user_id, erased.pseudonym);
    assert_eq!(
        (after.pickup, after.drop_off),
        (Some(position((37.8, -122.4))), Some(position((52.6, 13.5))))
    );
    let mut payment = before.payment.clone().unwrap();
    payment.refunds[0].reason = format!("{}, who waited", erased.pseudonym);
    assert_eq!((&after.amount, &after.payment), (&before.amount, &Some(payment)));
    assert_eq!(after.status, before.status);
    assert_eq!(after.steps.len(), before.steps.len());
    assert_eq!(rig.order(&other.order_id).await.user_id, other.user_id);
    rig.assert_clean().await;

    // The key is that of no order now, and the name of no customer.
    let of_mia = ListOrdersRequest {
        user_id: MIA.to_owned(),
        ..ListOrdersRequest::default()
    };
    assert_eq!(rig.orders().list_orders(of_mia).await.unwrap().into_inner().orders, []);
    assert_eq!(erase_user(&rig, MIA).await.orders, 0);
}

#[tokio::test]
async fn more_orders_than_one_transaction_takes_are_erased() {
    let rig = with_operators().set("orders.assignment_window", "0s").start().await;
    let first = rig
        .place(CreateOrderRequest {
            user_id: MIA.to_owned(),
            ..a_ride()
        })
        .await;
    age(&rig, 3).await;
    // Copies of the order and of its log.
    rig.execute(
        "insert into order_sagas (order_id, user_id, amount, currency, payment_method, status, failure_reason, pickup_lat,
                                  pickup_long, request_hash, fence, created_at, finished_at, payment_key)
         select gen_random_uuid(), user_id, amount, currency, payment_method, status, failure_reason, pickup_lat,
                pickup_long, request_hash, fence, created_at, finished_at, gen_random_uuid()::text
           from order_sagas, generate_series(1, 999)",
    )
    .await;
    let erased = erase_user(&rig, MIA).await;
    assert_eq!(erased.orders, 1_000);
    assert_gone(&rig, MIA).await;
    assert_eq!(rig.order(&first.order_id).await.user_id, erased.pseudonym);
}

#[tokio::test]
async fn a_customer_of_the_same_name_in_another_business_is_another() {
    let doors = Doors::start(Rig::builder().impatient().set("tenants.names", "acme")).await;
    for tenant in ["", "acme"] {
        doors.report_in(tenant, "cab-1", PICKUP).await;
        let ride = CreateOrderRequest {
            user_id: "anna".to_owned(),
            ..a_ride()
        };
        let token = doors.token_in(tenant, "customer", "anna");
        let placed = doors.rig.orders().create_order(by(Some(&token), ride)).await.unwrap();
        let id = placed.into_inner().order.unwrap().order_id;
        let by_driver = by(Some(&doors.token_in(tenant, "driver", "cab-1")), complete(&id));
        doors.rig.orders().complete_order(by_driver).await.unwrap();
    }
    age(&doors.rig, 3).await;
    let operator = doors.token_in("", "operator", "olga");
    let erased = admin(&doors.rig).erase_user(by(Some(&operator), user("anna"))).await;
    assert_eq!(erased.unwrap().into_inner().orders, 1);
    let left = "select count(*) from order_sagas where user_id = 'acme/anna'";
    assert_eq!(doors.rig.count(left).await, 1);
    // The lines of the other one still have the name.
    let asked = "select count(distinct order_id) from order_saga_steps where requested_by = 'customer anna'";
    assert_eq!(doors.rig.count(asked).await, 1);
    doors.rig.assert_clean().await;
}
