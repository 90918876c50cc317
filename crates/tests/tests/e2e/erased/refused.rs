//! What stands against erasing somebody, and is said.

use testkit::Rig;
use testkit::wire::{PICKUP, a_ride, assert_refused, assert_refused_for_now, complete, refusal_fields};
use tonic::{Code, Status};
use uuid::Uuid;
use waybill_domain::erasure::{Pseudonym, ResumePoint};
use waybill_proto::order::v1::{CreateOrderRequest, Order, RefundOrderRequest};

use super::{admin, age, driver, erase_driver, erase_user, user, with_operators};

async fn user_refused(rig: &Rig, name: &str) -> Status {
    admin(rig).erase_user(user(name)).await.unwrap_err()
}

async fn served_order(rig: &Rig) -> Order {
    rig.driver_at("cab-1", PICKUP.0, PICKUP.1).await;
    let ride = CreateOrderRequest {
        user_id: "mia".to_owned(),
        ..a_ride()
    };
    rig.place(ride).await
}

#[tokio::test]
async fn a_driver_is_not_erased_while_it_serves_an_order() {
    let rig = with_operators().start().await;
    let order = served_order(&rig).await;
    let refused = admin(&rig).erase_driver(driver("cab-1")).await.unwrap_err();
    assert_refused(&refused, Code::FailedPrecondition, "DRIVER_ON_ORDER");
    assert!(refused.message().contains(&order.order_id), "{}", refused.message());
    // It is still there, and on duty.
    assert_eq!(
        rig.count("select count(*) from drivers where off_duty_since is null")
            .await,
        1
    );
    let redis: Vec<String> = redis::AsyncCommands::keys(&mut rig.redis().await, "driver:*")
        .await
        .unwrap();
    assert_eq!(redis, ["driver:cab-1"]);
    rig.orders().complete_order(complete(&order.order_id)).await.unwrap();
    rig.until_written().await;
    assert_eq!(erase_driver(&rig, "cab-1").await.orders, 1);
}

#[tokio::test]
async fn a_driver_is_not_erased_while_the_history_cannot_take_up_what_it_sent() {
    let rig = with_operators().start().await;
    let held = rig.hold_history().await;
    rig.driver_at("cab-1", PICKUP.0, PICKUP.1).await;
    let refused = admin(&rig).erase_driver(driver("cab-1")).await.unwrap_err();
    assert_refused_for_now(&refused, Code::Unavailable);
    drop(held);
    rig.until_written().await;
    assert_eq!(erase_driver(&rig, "cab-1").await.positions, 1);
}

#[tokio::test]
async fn a_customer_is_not_erased_while_an_order_stands_against_it() {
    let rig = with_operators().start().await;
    let order = served_order(&rig).await;
    let id = &order.order_id;
    age(&rig, 3).await;
    let refused = user_refused(&rig, "mia").await;
    assert_refused(&refused, Code::FailedPrecondition, "ORDER_NOT_ERASABLE");
    assert_eq!(refused.message(), format!("the order {id} is being served"));
    rig.orders().complete_order(complete(id)).await.unwrap();

    rig.execute("update order_sagas set needs_attention = 'a dispute'")
        .await;
    assert_eq!(
        user_refused(&rig, "mia").await.message(),
        format!("the order {id} is flagged for an operator")
    );
    rig.execute("update order_sagas set needs_attention = null, finished_at = null")
        .await;
    assert_eq!(
        user_refused(&rig, "mia").await.message(),
        format!("the order {id} is not settled")
    );
    rig.execute(
        "update order_sagas set finished_at = now() - interval '3 days', created_at = now() - interval '47 hours'",
    )
    .await;
    let recent = format!(
        "the order {id} was placed, charged or refunded within two days, and a repeated call would do so again"
    );
    assert_eq!(user_refused(&rig, "mia").await.message(), recent);
    rig.execute("update order_sagas set created_at = now() - interval '49 hours'")
        .await;

    // A refund of today: without its key, a repeated call would be another one.
    let refund = RefundOrderRequest {
        order_id: id.clone(),
        idempotency_key: "a-refund-of-the-order".to_owned(),
        amount: order.amount.clone(),
        reason: "it was late".to_owned(),
    };
    rig.orders().refund_order(refund).await.unwrap();
    rig.until_settled(id).await;
    assert_eq!(user_refused(&rig, "mia").await.message(), recent);
    assert_eq!(rig.order(id).await.user_id, "mia");
    age(&rig, 2).await;
    assert_eq!(erase_user(&rig, "mia").await.orders, 1);
}

#[tokio::test]
async fn what_is_no_name_or_no_token_is_refused_by_its_field() {
    let rig = with_operators().start().await;
    let mut bad = driver("a b");
    bad.resume_token = "mallory.7.0011223344556677".to_owned();
    let refused = admin(&rig).erase_driver(bad).await.unwrap_err();
    assert_eq!(refusal_fields(&refused), ["driver_id", "resume_token"]);
    let pseudonym = Pseudonym::new(Uuid::from_u128(7));
    let of_ben = ResumePoint::start(pseudonym).to_token("ben");
    let mut bad = user("");
    for token in ["mallory", "erased-019ac4e2b7d17c3f8a52d0c61e9b7f04.0", &of_ben] {
        bad.resume_token = token.to_owned();
        let refused = admin(&rig).erase_user(bad.clone()).await.unwrap_err();
        assert_eq!(refusal_fields(&refused), ["resume_token", "user_id"], "{token}");
    }
    bad.user_id = "ben".to_owned();
    let erased = admin(&rig).erase_user(bad).await.unwrap().into_inner();
    assert_eq!(erased.pseudonym, pseudonym.to_string());
}
