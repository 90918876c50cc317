//! `RefundOrder`: a part of a served order is refunded, once for each key, and never more than was charged.

use std::time::Duration;

use testkit::wire::{PICKUP, a_ride, assert_refused, refusal_fields};
use testkit::{Builder, Rig, until};
use tonic::{Code, Status};
use waybill_proto::order::v1::{
    CancelOrderRequest, CompleteOrderRequest, Money, Order, OrderStatus, Refund, RefundOrderRequest, RefundStatus,
};
use waybill_sandbox::payments::{Fault, FaultKind, FaultTarget};

fn rig() -> Builder {
    Rig::builder().impatient()
}

/// An order that is served, of 19.99 USD.
async fn served(rig: &Rig) -> Order {
    rig.driver_at("cab-1", PICKUP.0, PICKUP.1).await;
    let order = rig.place(a_ride()).await;
    assert_eq!(order.status(), OrderStatus::Succeeded);
    order
}

fn request(order: &Order, key: &str, minor_units: i64) -> RefundOrderRequest {
    RefundOrderRequest {
        order_id: order.order_id.clone(),
        idempotency_key: format!("{key}-of-sixteen-bytes"),
        amount: Some(Money {
            currency_code: "USD".to_owned(),
            minor_units,
        }),
        reason: "the driver was late".to_owned(),
    }
}

async fn refund(rig: &Rig, request: RefundOrderRequest) -> Result<(Order, Refund), Status> {
    let answer = rig.orders().refund_order(request).await?.into_inner();
    Ok((answer.order.unwrap(), answer.refund.unwrap()))
}

fn amounts(rig: &Rig) -> Vec<i64> {
    rig.refunds().iter().map(|refund| refund.amount_minor).collect()
}

#[tokio::test]
async fn a_part_is_refunded_once_for_each_key_and_the_order_stays_served() {
    let rig = rig().start().await;
    let order = served(&rig).await;
    let (now, first) = refund(&rig, request(&order, "a", 500)).await.unwrap();
    assert_eq!(
        (now.status(), first.status()),
        (OrderStatus::Succeeded, RefundStatus::Succeeded)
    );
    let payment = now.payment.unwrap();
    assert_eq!(payment.refund_amount.unwrap().minor_units, 500);
    assert_eq!(
        (payment.refunds.len(), payment.refunds[0].reason.as_str()),
        (1, "the driver was late")
    );

    let (_, again) = refund(&rig, request(&order, "a", 500)).await.unwrap();
    assert_eq!(again, first);
    let (now, second) = refund(&rig, request(&order, "b", 500)).await.unwrap();
    assert_eq!(second.number, 2);
    assert_eq!(now.payment.unwrap().refund_amount.unwrap().minor_units, 1_000);
    assert_eq!(amounts(&rig), [500, 500]);
    assert_eq!(rig.order(&order.order_id).await.payment.unwrap().refunds.len(), 2);
    // The answer of its first call stays what it was, and the driver serves it.
    rig.complete(&order.order_id).await.unwrap();
    rig.assert_clean().await;
}

/// There is nothing left to refund, and the driver is free.
#[tokio::test]
async fn an_order_that_is_refunded_in_full_is_completed_whatever_it_cost() {
    let rig = rig().start().await;
    let order = served(&rig).await;
    refund(&rig, request(&order, "a", 1_999)).await.unwrap();
    let complete = CompleteOrderRequest {
        order_id: order.order_id.clone(),
        final_amount: request(&order, "b", 1_000).amount,
        ..Default::default()
    };
    rig.orders().complete_order(complete).await.unwrap();
    assert_eq!(amounts(&rig), [1_999]);
    rig.assert_clean().await;
}

/// The least that the provider charges is no limit of what was charged already.
#[tokio::test]
async fn a_final_amount_and_a_fee_may_be_small_where_nothing_is_charged_for_them() {
    let rig = rig().start().await;
    let order = served(&rig).await;
    let complete = CompleteOrderRequest {
        order_id: order.order_id.clone(),
        final_amount: request(&order, "a", 20).amount,
        ..Default::default()
    };
    rig.orders().complete_order(complete).await.unwrap();
    rig.until_settled(&order.order_id).await;
    let order = served(&rig).await;
    let cancel = CancelOrderRequest {
        order_id: order.order_id.clone(),
        cancellation_fee: request(&order, "a", 20).amount,
    };
    rig.orders().cancel_order(cancel).await.unwrap();
    rig.until_settled(&order.order_id).await;
    assert_eq!(amounts(&rig), [1_979, 1_979]);
    rig.assert_clean().await;
}

/// What was refunded meanwhile is not taken off the price. So much of it need not be refunded again.
#[tokio::test]
async fn an_order_of_which_a_part_was_refunded_is_completed_at_its_price_or_below() {
    let rig = rig().start().await;
    for (price, refunds) in [(1_999, vec![500]), (1_700, vec![500]), (1_000, vec![500, 499])] {
        let order = served(&rig).await;
        let before = amounts(&rig).len();
        refund(&rig, request(&order, "a", 500)).await.unwrap();
        let complete = |minor_units| CompleteOrderRequest {
            order_id: order.order_id.clone(),
            final_amount: request(&order, "b", minor_units).amount,
            ..Default::default()
        };
        let refused = rig.orders().complete_order(complete(2_000)).await.unwrap_err();
        assert_refused(&refused, Code::FailedPrecondition, "AMOUNT_TOO_LARGE");
        assert!(refused.message().contains("1999"), "{refused:?}");
        rig.orders().complete_order(complete(price)).await.unwrap();
        rig.until_settled(&order.order_id).await;
        assert_eq!(amounts(&rig)[before..], refunds, "{price}");
    }
    rig.assert_clean().await;
}

#[tokio::test]
async fn fifty_calls_at_once_with_one_key_are_one_refund() {
    let rig = rig().start().await;
    let order = served(&rig).await;
    let mut calls = tokio::task::JoinSet::new();
    for _ in 0..50 {
        let (mut orders, request) = (rig.orders(), request(&order, "a", 500));
        calls.spawn(async move { orders.refund_order(request).await });
    }
    let answers: Vec<_> = calls.join_all().await;
    let numbers: Vec<i32> = answers
        .into_iter()
        .map(|answer| answer.unwrap().into_inner().refund.unwrap().number)
        .collect();
    assert_eq!(numbers, [1; 50]);
    assert_eq!(amounts(&rig), [500]);
    rig.assert_clean().await;
}

#[tokio::test]
async fn refunds_never_exceed_what_was_charged_however_many_are_requested_at_once() {
    let rig = rig().start().await;
    let order = served(&rig).await;
    let mut calls = tokio::task::JoinSet::new();
    for n in 0..8 {
        let (mut orders, request) = (rig.orders(), request(&order, &format!("{n}"), 500));
        calls.spawn(async move { orders.refund_order(request).await });
    }
    let answers: Vec<_> = calls.join_all().await;
    let refused: Vec<_> = answers.iter().filter_map(|answer| answer.as_ref().err()).collect();
    assert_eq!(refused.len(), 5, "three of 5.00 fit into 19.99: {refused:?}");
    for refused in refused {
        assert_refused(refused, Code::FailedPrecondition, "REFUND_TOO_LARGE");
    }
    assert_eq!(amounts(&rig), [500, 500, 500]);
    // What is left can be refunded to the last cent, and not beyond.
    let refused = refund(&rig, request(&order, "x", 500)).await.unwrap_err();
    assert!(refused.message().contains("left"), "{refused:?}");
    refund(&rig, request(&order, "y", 499)).await.unwrap();
    let refused = refund(&rig, request(&order, "z", 1)).await.unwrap_err();
    assert_refused(&refused, Code::FailedPrecondition, "REFUND_TOO_LARGE");
    rig.assert_clean().await;
}

#[tokio::test]
async fn what_cannot_be_refunded_is_refused_by_name_and_changes_nothing() {
    let rig = rig().set("orders.assignment_window", "0s").start().await;
    let order = served(&rig).await;
    refund(&rig, request(&order, "a", 500)).await.unwrap();
    let same_key = [
        request(&order, "a", 501),
        RefundOrderRequest {
            reason: "another reason".to_owned(),
            ..request(&order, "a", 500)
        },
    ];
    for another in same_key {
        let refused = refund(&rig, another).await.unwrap_err();
        assert_refused(&refused, Code::FailedPrecondition, "IDEMPOTENCY_KEY_REUSED");
    }
    let mut in_euro = request(&order, "b", 100);
    in_euro.amount.as_mut().unwrap().currency_code = "EUR".to_owned();
    let refused = refund(&rig, in_euro).await.unwrap_err();
    assert_eq!(refusal_fields(&refused), ["amount.currency_code"]);
    // There is no second driver: it is refunded as a whole.
    let refunded = rig.place(a_ride()).await;
    assert_eq!(refunded.status(), OrderStatus::Refunded);
    let refused = refund(&rig, request(&refunded, "c", 100)).await.unwrap_err();
    assert_refused(&refused, Code::FailedPrecondition, "ORDER_NOT_REFUNDABLE");
    let unknown = Order {
        order_id: uuid::Uuid::now_v7().to_string(),
        ..order.clone()
    };
    assert_eq!(
        refund(&rig, request(&unknown, "d", 100)).await.unwrap_err().code(),
        Code::NotFound
    );
    let wrong = RefundOrderRequest {
        order_id: "7".to_owned(),
        idempotency_key: "short".to_owned(),
        amount: None,
        reason: String::new(),
    };
    let refused = refund(&rig, wrong).await.unwrap_err();
    assert_eq!(
        refusal_fields(&refused),
        ["amount", "idempotency_key", "order_id", "reason"]
    );
    let refused = refund(&rig, request(&order, "e", 0)).await.unwrap_err();
    assert_eq!(refusal_fields(&refused), ["amount.minor_units"]);
    assert_eq!(amounts(&rig), [500, 1_999]);
    rig.assert_clean().await;
}

#[tokio::test]
async fn each_fault_of_the_provider_ends_in_one_refund_of_the_part() {
    for fault in [
        FaultKind::ErrorAfterEffect,
        FaultKind::ErrorBeforeEffect,
        FaultKind::ErrorAfterEffectSaved,
        FaultKind::ReplyLost,
        FaultKind::RateLimited,
        FaultKind::InProgress,
        FaultKind::RefundPending,
    ] {
        let rig = rig().set("grpc.deadline_default", "1s").start().await;
        let order = served(&rig).await;
        rig.payments().set_fault(Fault::times(fault, 1).on(FaultTarget::Refund));
        let _ = refund(&rig, request(&order, "a", 500)).await;
        if fault == FaultKind::RefundPending {
            until("the refund is pending", async || rig.refund_ids().await.len() == 1).await;
            rig.payments().settle_refund(&rig.refund_ids().await[0]).await.unwrap();
            rig.execute("update order_sagas set next_run_at = now() where finished_at is null")
                .await;
        }
        rig.until_all_settled().await;
        let (now, refund) = refund(&rig, request(&order, "a", 500)).await.unwrap();
        assert_eq!(
            (now.status(), refund.status()),
            (OrderStatus::Succeeded, RefundStatus::Succeeded),
            "{fault:?}"
        );
        assert_eq!(amounts(&rig), [500], "{fault:?}");
        rig.assert_clean().await;
    }
}

#[tokio::test]
async fn a_call_whose_time_is_up_learns_that_the_refund_is_pending_and_it_goes_on() {
    let rig = rig().start().await;
    let order = served(&rig).await;
    rig.payments()
        .set_fault(Fault::always(FaultKind::ErrorBeforeEffect).on(FaultTarget::Refund));
    let mut call = tonic::Request::new(request(&order, "a", 500));
    call.set_timeout(Duration::from_secs(1));
    let answer = rig.orders().refund_order(call).await.unwrap().into_inner();
    assert_eq!(answer.refund.unwrap().status(), RefundStatus::Pending);
    rig.payments().clear_faults();
    rig.until_settled(&order.order_id).await;
    assert_eq!(amounts(&rig), [500]);
    rig.assert_clean().await;
}

/// The refund that was requested is made, and the cancellation refunds the rest of it.
#[tokio::test]
async fn a_cancellation_refunds_what_the_requested_refund_left() {
    let rig = rig().set("grpc.deadline_default", "1s").start().await;
    let order = served(&rig).await;
    rig.payments()
        .set_fault(Fault::always(FaultKind::ErrorBeforeEffect).on(FaultTarget::Refund));
    let (_, open) = refund(&rig, request(&order, "a", 500)).await.unwrap();
    assert_eq!(open.status(), RefundStatus::Pending);
    let _ = rig.cancel(&order.order_id).await;
    rig.payments().clear_faults();
    let now = rig.until_settled(&order.order_id).await;
    assert_eq!(now.status(), OrderStatus::Refunded);
    assert_eq!(amounts(&rig), [500, 1_499]);
    rig.assert_clean().await;
}
