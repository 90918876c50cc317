//! Holds that were ended outside of the service: they expired, or a person captured or refunded at the provider.

use testkit::Rig;
use testkit::wire::PICKUP;
use waybill_proto::order::v1::{Money, OrderStatus};
use waybill_sandbox::payments::{Fault, FaultKind, FaultTarget};

use super::{
    AT_ASSIGNMENT, AT_COMPLETION, cancel, captured, complete, money, newest_hold, refunded, ride, rig, served, usd,
};

/// What a person does at the provider: captures all of the hold, or the part that is given.
async fn capture_by_hand(rig: &Rig, payment: &str, part: &[(&str, String)]) {
    rig.at_provider(&format!("payment_intents/{payment}/capture"), part)
        .await;
}

/// Nothing is owed of it any more.
#[tokio::test]
async fn a_hold_that_was_gone_flags_no_order_that_is_given_back_in_full() {
    let rig = rig().start().await;
    rig.driver_at("cab-1", PICKUP.0, PICKUP.1).await;
    rig.payments()
        .set_fault(Fault::always(FaultKind::ErrorBeforeEffect).on(FaultTarget::Capture));
    let order = rig.place(ride(AT_ASSIGNMENT)).await;
    rig.payments().expire_hold(&newest_hold(&rig).await).await.unwrap();
    let _ = cancel(&rig, &order, None).await;
    rig.payments().clear_faults();
    let now = rig.until_settled(&order.order_id).await;
    assert_eq!(now.status(), OrderStatus::Refunded);
    let flagged = "select count(*) from order_sagas where needs_attention is not null";
    assert_eq!(rig.count(flagged).await, 0);
    rig.assert_clean().await;
}

/// The network, or a person at the provider, ended the hold while the driver was on the way.
#[tokio::test]
async fn a_hold_that_is_gone_before_its_capture_flags_the_order_and_is_not_charged_anew() {
    let rig = rig().start().await;
    let order = served(&rig, AT_COMPLETION).await;
    let payment = newest_hold(&rig).await;
    rig.payments().expire_hold(&payment).await.unwrap();
    complete(&rig, &order, None).await.unwrap();
    let now = rig.until_settled(&order.order_id).await;
    assert_eq!((now.status(), money(&now).0), (OrderStatus::Succeeded, None));
    let flagged = "select count(*) from order_sagas where needs_attention like '%hold was gone%'";
    assert_eq!(rig.count(flagged).await, 1);
    assert_eq!(captured(&rig), [] as [i64; 0]);
    rig.assert_clean().await;

    // A cancellation of such an order has nothing to release.
    let other = served(&rig, AT_COMPLETION).await;
    let payment = newest_hold(&rig).await;
    rig.payments().expire_hold(&payment).await.unwrap();
    cancel(&rig, &other, usd(300)).await.unwrap();
    let now = rig.until_settled(&other.order_id).await;
    assert_eq!((now.status(), money(&now)), (OrderStatus::Refunded, (None, None, None)));
    rig.assert_clean().await;
}

#[tokio::test]
async fn a_hold_that_a_person_captured_is_taken_over_with_what_was_captured() {
    let rig = rig().start().await;
    let order = served(&rig, AT_COMPLETION).await;
    let payment = newest_hold(&rig).await;
    capture_by_hand(&rig, &payment, &[]).await;
    // Cancelled: what the person took is refunded.
    cancel(&rig, &order, None).await.unwrap();
    let now = rig.until_settled(&order.order_id).await;
    assert_eq!(
        (now.status(), money(&now)),
        (OrderStatus::Refunded, (Some(1_999), None, Some(1_999)))
    );
    assert_eq!((captured(&rig), refunded(&rig)), (vec![1_999], vec![1_999]));
    rig.assert_clean().await;
}

#[tokio::test]
async fn what_a_person_captured_beyond_the_final_amount_is_refunded() {
    let rig = rig().start().await;
    let order = served(&rig, AT_COMPLETION).await;
    let payment = newest_hold(&rig).await;
    capture_by_hand(&rig, &payment, &[]).await;
    complete(&rig, &order, usd(1_200)).await.unwrap();
    let now = rig.until_settled(&order.order_id).await;
    assert_eq!(
        (now.status(), money(&now)),
        (OrderStatus::Succeeded, (Some(1_999), None, Some(799)))
    );
    assert_eq!((captured(&rig), refunded(&rig)), (vec![1_999], vec![799]));
    rig.assert_clean().await;
}

/// The person who captured it may have refunded of it, too: the customer pays what was decided, and no less.
#[tokio::test]
async fn what_a_person_captured_and_refunded_of_a_hold_is_counted_before_the_rest_is_refunded() {
    let rig = rig().start().await;
    for (fee, by_hand, by_us) in [(None, 700, 99), (usd(1_200), 700, 99), (usd(300), 100, 1_599)] {
        let before = refunded(&rig).len();
        let order = served(&rig, AT_COMPLETION).await;
        let payment = newest_hold(&rig).await;
        capture_by_hand(&rig, &payment, &[]).await;
        rig.refund_by_hand(&payment, by_hand, None).await;
        if fee.is_some() {
            cancel(&rig, &order, fee.clone()).await.unwrap();
        } else {
            complete(&rig, &order, usd(1_200)).await.unwrap();
        }
        let now = rig.until_settled(&order.order_id).await;
        let minor = |money: &Option<Money>| money.as_ref().map(|money| money.minor_units);
        assert_eq!(money(&now), (Some(1_999), minor(&fee), Some(by_hand + by_us)));
        assert_eq!(refunded(&rig)[before..], [by_hand, by_us], "{fee:?}");
        rig.assert_clean().await;
    }
}

/// Also where that person captured as much as was decided: the fee is kept.
#[tokio::test]
async fn what_a_person_refunded_of_a_fee_that_was_captured_by_hand_is_taken_over() {
    let rig = rig().start().await;
    let order = served(&rig, AT_COMPLETION).await;
    let payment = newest_hold(&rig).await;
    capture_by_hand(&rig, &payment, &[]).await;
    rig.refund_by_hand(&payment, 300, None).await;
    complete(&rig, &order, None).await.unwrap();
    let now = rig.until_settled(&order.order_id).await;
    assert_eq!(money(&now), (Some(1_999), None, Some(300)));
    rig.assert_clean().await;
}

#[tokio::test]
async fn a_hold_of_which_a_person_captured_less_than_was_decided_flags_the_order() {
    let rig = rig().start().await;
    let order = served(&rig, AT_COMPLETION).await;
    let payment = newest_hold(&rig).await;
    let part = [("amount_to_capture", "700".to_owned())];
    capture_by_hand(&rig, &payment, &part).await;
    complete(&rig, &order, None).await.unwrap();
    let now = rig.until_settled(&order.order_id).await;
    assert_eq!(
        (now.status(), money(&now)),
        (OrderStatus::Succeeded, (Some(700), None, None))
    );
    let flagged = "select count(*) from order_sagas where needs_attention like '%only 700 of 1999%'";
    assert_eq!(rig.count(flagged).await, 1);
    rig.assert_clean().await;
}
