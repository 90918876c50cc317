//! A provider that answers 400 for a reason that is ours, such as another account's key or a kind of payment method that
//! is not activated: no order is declined for that, and operators learn of it.

use testkit::wire::{PICKUP, a_ride, get};
use testkit::{Rig, until, until_eq};
use tonic::Code;
use waybill_proto::order::v1::{CreateOrderRequest, FailureReason, OrderStatus};
use waybill_sandbox::payments::{Fault, FaultKind, FaultTarget};

const ORDERS: i64 = 4;

#[tokio::test]
async fn a_rejection_that_is_not_about_the_payment_declines_no_order_and_makes_the_server_unready() {
    let rig = Rig::builder()
        .impatient()
        .set("grpc.deadline_default", "1s")
        .start()
        .await;
    rig.payments()
        .set_fault(Fault::always(FaultKind::Rejected).on(FaultTarget::Charge));
    for n in 0..ORDERS {
        rig.driver_at(&format!("cab-{n}"), PICKUP.0, PICKUP.1).await;
        let refused = rig.orders().create_order(a_ride()).await.unwrap_err();
        assert!(
            [Code::Aborted, Code::Unavailable].contains(&refused.code()),
            "{refused:?}"
        );
    }
    let url = format!("{}/readyz", rig.http());
    let why = "payment_intent_invalid_parameter";
    until("the server says what it is not ready for", async || {
        match get(&url).await {
            (503, body) if body.contains("\"payments\"") && body.contains(why) => Ok(()),
            other => Err(other),
        }
    })
    .await;
    // No more orders are accepted that could not be charged.
    let refused = rig.orders().create_order(a_ride()).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unavailable, "{refused:?}");

    assert_eq!(rig.orders_in("failed").await, 0);
    let flagged = format!("select least(count(*), 1) from order_sagas where needs_attention like '%{why}%'");
    until_eq("an order is flagged", 1, async || rig.count(&flagged).await).await;
    let answers = &rig.metrics().await["dependencies"]["provider_answers"];
    assert!(answers["rejected"].as_u64() >= Some(3), "{answers}");

    let begun = rig.count("select count(*) from order_sagas").await;
    rig.payments().clear_faults();
    rig.until_all_settled().await;
    assert_eq!(rig.orders_in("succeeded").await, begun);
    assert_eq!(i64::try_from(rig.charges().len()).unwrap(), begun);
    until("the server is ready", async || match get(&url).await {
        (200, _) => Ok(()),
        other => Err(other),
    })
    .await;
    rig.assert_clean().await;
}

/// What some customers send keeps no others out, and is declined.
#[tokio::test]
async fn payment_methods_that_do_not_exist_are_declined_and_keep_no_others_out() {
    let rig = Rig::builder()
        .impatient()
        .set("grpc.deadline_default", "1s")
        .start()
        .await;
    let unknown = || CreateOrderRequest {
        payment_method: "pm_of_no_one".to_owned(),
        ..a_ride()
    };
    // Not before the provider has shown that it knows any.
    for _ in 0..2 {
        let refused = rig.orders().create_order(unknown()).await.unwrap_err();
        assert_eq!(refused.code(), Code::Aborted, "{refused:?}");
    }
    rig.driver_at("cab-1", PICKUP.0, PICKUP.1).await;
    assert_eq!(rig.place(a_ride()).await.status(), OrderStatus::Succeeded);
    for _ in 0..5 {
        let declined = rig.place(unknown()).await;
        assert_eq!(declined.failure_reason(), FailureReason::PaymentDeclined);
    }
    rig.driver_at("cab-2", PICKUP.0, PICKUP.1).await;
    assert_eq!(rig.place(a_ride()).await.status(), OrderStatus::Succeeded);
    rig.until_all_settled().await;
    assert_eq!(rig.orders_in("failed").await, 7, "the first two, too");
    rig.assert_clean().await;
}

/// The provider answers 401 to all: its key is not accepted.
#[tokio::test]
async fn a_secret_that_the_provider_does_not_accept_makes_the_server_unready() {
    let rig = Rig::builder()
        .impatient()
        .with("payments.secret_key=rk_of_another_kind grpc.deadline_default=1s")
        .start()
        .await;
    for _ in 0..3 {
        rig.orders().create_order(a_ride()).await.unwrap_err();
    }
    let url = format!("{}/readyz", rig.http());
    until("the server says what it is not ready for", async || {
        match get(&url).await {
            (503, body) if body.contains("payments.secret_key") => Ok(()),
            other => Err(other),
        }
    })
    .await;
    assert_eq!(rig.orders_in("failed").await, 0);
}
