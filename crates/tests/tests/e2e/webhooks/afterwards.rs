//! What happens to a payment after its order was settled: a refund that fails, a refund by hand. The provider reports it, and
//! the order's payment is compared with the provider's record.

use testkit::wire::{PICKUP, a_ride, assert_refused, refusal_reason};
use testkit::{Builder, Rig, until, until_eq};
use tonic::Code;
use waybill_proto::admin::v1::{OrderFile, RefundAgainRequest};
use waybill_proto::order::v1::{CreateOrderRequest, Money, Order, OrderStatus, PaymentMode, RefundOrderRequest};

use super::events::{endpoint, listening};
use crate::operator::in_doubt::{operator, show};

pub(super) fn rig() -> Builder {
    listening().with("grpc.services=order,location,fleet,operator")
}

pub(super) async fn start(builder: Builder) -> Rig {
    let rig = builder.start().await;
    rig.payments().set_webhooks(Some(endpoint(&rig)));
    rig
}

/// An order without a driver: charged and refunded.
pub(super) async fn refunded(rig: &Rig) -> Order {
    let order = rig.place(a_ride()).await;
    assert_eq!(order.status(), OrderStatus::Refunded);
    order
}

pub(super) async fn served(rig: &Rig) -> Order {
    rig.driver_at("cab-1", PICKUP.0, PICKUP.1).await;
    let order = rig.place(a_ride()).await;
    assert_eq!(order.status(), OrderStatus::Succeeded);
    order
}

pub(super) async fn until_flagged(rig: &Rig, order: &Order, with: &str) -> OrderFile {
    until("the order is flagged", async || {
        let file = show(rig, &order.order_id).await.unwrap();
        if file.needs_attention.contains(with) {
            Ok(())
        } else {
            Err((file.status, file.needs_attention))
        }
    })
    .await;
    show(rig, &order.order_id).await.unwrap()
}

pub(super) fn states(file: &OrderFile) -> Vec<(&str, &str)> {
    let states = file
        .refunds
        .iter()
        .map(|refund| (refund.origin.as_str(), refund.state.as_str()));
    states.collect()
}

/// A call refunds 5 of the order's dollars, which the provider confirms.
pub(super) async fn request_refund(rig: &Rig, order: &Order) {
    request_refund_as(rig, order, "a").await;
}

/// The same, under a key of this name.
pub(super) async fn request_refund_as(rig: &Rig, order: &Order, key: &str) {
    let request = RefundOrderRequest {
        order_id: order.order_id.clone(),
        idempotency_key: format!("{key}-key-of-sixteen-bytes"),
        amount: Some(Money {
            currency_code: "USD".to_owned(),
            minor_units: 500,
        }),
        reason: "late".to_owned(),
    };
    rig.orders().refund_order(request).await.unwrap();
}

pub(super) async fn refund_again(rig: &Rig, order: &Order) -> Result<Order, tonic::Status> {
    let request = RefundAgainRequest {
        order_id: order.order_id.clone(),
        operator: "mara".to_owned(),
        reason: "the customer has a new card".to_owned(),
    };
    let answer = operator(rig).refund_again(request).await?;
    Ok(answer.into_inner().order.unwrap())
}

#[tokio::test]
async fn a_refund_that_fails_days_later_is_owed_again_and_paid_again_by_an_operator_only() {
    let rig = start(rig().set("orders.assignment_window", "0s")).await;
    let order = refunded(&rig).await;
    let first = rig.refunds()[0].provider_id.clone();
    rig.payments().fail_refund(&first, "lost_or_stolen_card").await.unwrap();
    let file = until_flagged(&rig, &order, "failed").await;
    assert_eq!(file.status, "refunding");
    assert_eq!(states(&file), [("compensation", "failed")]);
    assert!(file.payment.as_ref().unwrap().refund_amount.is_none(), "{file:?}");

    // However often it is claimed, it is not sent again by itself.
    let requests = rig.payments().requests();
    rig.execute("update order_sagas set next_run_at = now()").await;
    until("it is compared again", async || rig.payments().requests() > requests).await;
    assert_eq!(rig.refunds().len(), 1);

    assert_eq!(
        refund_again(&rig, &order).await.unwrap().status(),
        OrderStatus::Refunding
    );
    let now = rig.until_settled(&order.order_id).await;
    assert_eq!(now.status(), OrderStatus::Refunded);
    let file = show(&rig, &order.order_id).await.unwrap();
    assert_eq!(states(&file), [("compensation", "replaced"), ("again", "succeeded")]);
    let keys: Vec<_> = file
        .attempts_at_provider
        .iter()
        .map(|one| one.provider_key.as_str())
        .collect();
    assert!(keys[2].ends_with("-refund-2"), "{keys:?}");
    assert_eq!(file.needs_attention, "");
    let refused = refund_again(&rig, &order).await.unwrap_err();
    assert_refused(&refused, Code::FailedPrecondition, "NO_FAILED_REFUND");
    rig.assert_clean().await;
}

/// A person refunds a part by hand before the operator has it refunded again: only the rest of it is.
#[tokio::test]
async fn what_is_refunded_again_is_at_most_what_is_left() {
    let rig = start(rig().set("orders.assignment_window", "0s")).await;
    let order = refunded(&rig).await;
    rig.payments()
        .fail_refund(&rig.refunds()[0].provider_id, "unknown")
        .await
        .unwrap();
    until_flagged(&rig, &order, "failed").await;
    rig.refund_by_hand(&rig.charges()[0].provider_id, 500, None).await;
    until("it is refunded again", async || {
        refund_again(&rig, &order).await.map(drop)
    })
    .await;
    let now = rig.until_settled(&order.order_id).await;
    assert_eq!(now.status(), OrderStatus::Refunded);
    let amounts: Vec<i64> = rig.refunds().iter().map(|refund| refund.amount_minor).collect();
    assert_eq!(amounts, [1_999, 500, 1_499], "the first of them failed");
    rig.assert_clean().await;
}

/// A person refunded all of it by hand: nothing is left to refund again, and the order is settled without its flag.
#[tokio::test]
async fn an_order_of_which_nothing_is_left_is_settled_after_it_was_to_be_refunded_again() {
    let rig = start(rig()).await;
    let order = served(&rig).await;
    request_refund(&rig, &order).await;
    let refund = rig.refunds()[0].provider_id.clone();
    rig.payments().fail_refund(&refund, "unknown").await.unwrap();
    until_flagged(&rig, &order, "failed").await;
    rig.refund_by_hand(&rig.charges()[0].provider_id, 1_999, None).await;
    // The report of the refund by hand may be first: then nothing is to be refunded again.
    until("it is refunded again, or needs not", async || {
        match refund_again(&rig, &order).await {
            Err(status) if refusal_reason(&status) != "NO_FAILED_REFUND" => Err(status),
            _ => Ok(()),
        }
    })
    .await;
    // It was served all along, so that its status says nothing of when.
    until_eq("the flag is gone", String::new(), async || {
        show(&rig, &order.order_id).await.unwrap().needs_attention
    })
    .await;
    assert_eq!(rig.refunds().len(), 2);
    rig.assert_clean().await;
}

#[tokio::test]
async fn a_refund_by_hand_of_a_served_order_is_taken_over_into_its_ledger() {
    let rig = start(rig()).await;
    let order = served(&rig).await;
    rig.refund_by_hand(&rig.charges()[0].provider_id, 500, None).await;
    until("the ledger has it", async || {
        let payment = rig.order(&order.order_id).await.payment.unwrap();
        payment.refund_amount.is_some_and(|amount| amount.minor_units == 500)
    })
    .await;
    let now = rig.until_settled(&order.order_id).await;
    assert_eq!(now.status(), OrderStatus::Succeeded);
    assert_eq!(
        states(&show(&rig, &order.order_id).await.unwrap()),
        [("provider", "succeeded")]
    );
    rig.assert_clean().await;
}

/// To the ledger the amount is held until the order is completed. What was refunded of it is taken over then.
#[tokio::test]
async fn a_refund_by_hand_of_what_a_person_captured_of_a_hold_is_taken_over_with_the_capture() {
    let rig = start(rig()).await;
    rig.driver_at("cab-1", PICKUP.0, PICKUP.1).await;
    let held = CreateOrderRequest {
        payment_mode: PaymentMode::CaptureAtCompletion.into(),
        ..a_ride()
    };
    let order = rig.place(held).await;
    let list = rig.at_provider_get("payment_intents").await;
    let payment = list["data"][0]["id"].as_str().unwrap().to_owned();
    rig.at_provider(&format!("payment_intents/{payment}/capture"), &[])
        .await;
    rig.refund_by_hand(&payment, 500, None).await;
    let reported = "select count(*) from payment_events where type like '%refund%'";
    until("it is reported", async || rig.count(reported).await > 0).await;
    rig.until_settled(&order.order_id).await;
    rig.complete(&order.order_id).await.unwrap();
    let now = rig.until_settled(&order.order_id).await;
    let payment = now.payment.unwrap();
    let minor = |money: Option<Money>| money.map(|money| money.minor_units);
    assert_eq!(
        (minor(payment.captured_amount), minor(payment.refund_amount)),
        (Some(1_999), Some(500))
    );
    rig.assert_clean().await;
}

/// The second refund is made when the worker has read the provider's list, and has not written yet what it learned.
#[tokio::test]
async fn a_refund_by_hand_that_is_reported_during_a_comparison_is_taken_over_by_the_next() {
    let rig = start(rig()).await;
    let order = served(&rig).await;
    let charge = rig.charges()[0].provider_id.clone();
    let sql = rig.sql().await;
    // Read after the provider's list.
    sql.batch_execute("begin; lock table disputes in access exclusive mode")
        .await
        .unwrap();
    rig.refund_by_hand(&charge, 500, None).await;
    let waits = "select count(*) from pg_locks where relation = 'disputes'::regclass and not granted";
    until("the comparison waits", async || rig.count(waits).await > 0).await;
    let events = "select count(*) from payment_events where type like '%refund%'";
    let reported = rig.count(events).await;
    rig.refund_by_hand(&charge, 300, None).await;
    until("the second is reported", async || rig.count(events).await > reported).await;
    sql.batch_execute("commit").await.unwrap();
    until("the ledger has both", async || {
        let refund = rig.order(&order.order_id).await.payment.unwrap().refund_amount;
        match refund {
            Some(amount) if amount.minor_units == 800 => Ok(()),
            other => Err(other),
        }
    })
    .await;
    rig.until_settled(&order.order_id).await;
    rig.assert_clean().await;
}

/// What failed needs no second try once all of it is back in another way.
#[tokio::test]
async fn an_order_that_was_refunded_in_full_by_hand_can_be_cancelled_though_a_refund_failed() {
    let rig = start(rig().set("grpc.deadline_default", "1s")).await;
    let order = served(&rig).await;
    request_refund(&rig, &order).await;
    let refund = rig.refunds()[0].provider_id.clone();
    rig.payments().fail_refund(&refund, "unknown").await.unwrap();
    until_flagged(&rig, &order, "failed").await;
    rig.refund_by_hand(&rig.charges()[0].provider_id, 1_999, None).await;
    until("the ledger has it", async || {
        let payment = rig.order(&order.order_id).await.payment.unwrap();
        payment.refund_amount.is_some_and(|amount| amount.minor_units == 1_999)
    })
    .await;
    let _ = rig.cancel(&order.order_id).await;
    let now = rig.until_settled(&order.order_id).await;
    assert_eq!(now.status(), OrderStatus::Refunded);
    assert_eq!(show(&rig, &order.order_id).await.unwrap().needs_attention, "");
    assert_eq!(rig.refunds().len(), 2);
    rig.assert_clean().await;
}
