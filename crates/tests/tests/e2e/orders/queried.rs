//! Orders whose key does not say what became of their money: the provider is queried, a person is asked to look, and
//! nothing is concluded from what is not there.

use testkit::sql::one;
use testkit::wire::{PICKUP, a_declined_ride, a_ride};
use testkit::{Rig, until};
use tokio::task::JoinSet;
use tonic::Status;
use waybill_proto::order::v1::{Order, OrderStatus};
use waybill_sandbox::payments::{Fault, FaultKind, FaultTarget};

/// What the order is flagged with.
async fn flag(rig: &Rig) -> Option<String> {
    let query = "select needs_attention from order_sagas";
    one(&rig.sql().await, query, &[]).await.ok()?
}

/// The same once it is flagged, each try made at once instead of at its time.
async fn until_flagged(rig: &Rig) -> String {
    until("a person is asked to look", async || {
        rig.execute("update order_sagas set next_run_at = now() where finished_at is null")
            .await;
        flag(rig).await
    })
    .await
}

/// The provider makes what this operation asks for, and answers with a server error for ever.
fn deny_for_ever(rig: &Rig, operation: FaultTarget) {
    rig.payments()
        .set_fault(Fault::times(FaultKind::ErrorAfterEffectSaved, 1).on(operation));
}

#[tokio::test]
async fn a_charge_that_is_made_and_denied_for_ever_is_found_in_the_providers_list() {
    let rig = Rig::builder().impatient().start().await;
    rig.driver_at("cab-1", PICKUP.0, PICKUP.1).await;
    deny_for_ever(&rig, FaultTarget::Charge);
    let order = rig.place(a_ride()).await;
    assert_eq!(order.status(), OrderStatus::Succeeded);
    assert_eq!(rig.charges().len(), 1);
    let errors = "select server_errors::bigint from payment_attempts";
    assert_eq!(rig.count(errors).await, 3, "the key was believed three times");
    assert_eq!(flag(&rig).await, None, "a settled order needs no one");
    rig.assert_clean().await;
}

#[tokio::test]
async fn a_charge_that_was_given_back_by_hand_pays_for_nothing_when_it_is_found() {
    let rig = Rig::builder().impatient().start().await;
    rig.driver_at("cab-1", PICKUP.0, PICKUP.1).await;
    deny_for_ever(&rig, FaultTarget::Charge);
    let _call = rig.begin(a_ride());
    until("the charge is made", async || rig.charges().len() == 1).await;
    rig.refund_by_hand(&rig.charges()[0].provider_id, 1_999, None).await;
    let flag = until("it is found", async || {
        let flag = until_flagged(&rig).await;
        if flag.contains("refunded") { Ok(flag) } else { Err(flag) }
    })
    .await;
    assert!(flag.contains("found in the provider's list"), "{flag}");
    assert_eq!(rig.count("select count(*) from order_assignments").await, 0);
    assert_eq!(rig.orders_in("charging").await, 1);
}

/// The same key answers `succeeded` for ever, whatever happened since: what is replayed is read again.
#[tokio::test]
async fn a_charge_that_was_given_back_by_hand_pays_for_nothing_when_its_key_is_replayed() {
    let rig = Rig::builder().impatient().start().await;
    rig.driver_at("cab-1", PICKUP.0, PICKUP.1).await;
    rig.payments()
        .set_fault(Fault::always(FaultKind::ReplyLost).on(FaultTarget::Charge));
    let _call = rig.begin(a_ride());
    until("the charge is made", async || rig.charges().len() == 1).await;
    rig.refund_by_hand(&rig.charges()[0].provider_id, 1_999, None).await;
    rig.payments().clear_faults();
    let flag = until_flagged(&rig).await;
    assert!(flag.contains("refunded"), "{flag}");
    assert_eq!(rig.count("select count(*) from order_assignments").await, 0);
    assert_eq!(rig.orders_in("charging").await, 1);
}

/// A page of the provider's list has a hundred payments: this one is on the third.
#[tokio::test]
async fn a_charge_is_found_in_a_bounded_number_of_calls_whatever_else_the_account_has() {
    let rig = Rig::builder().impatient().start().await;
    rig.driver_at("cab-1", PICKUP.0, PICKUP.1).await;
    deny_for_ever(&rig, FaultTarget::Charge);
    let _call = rig.begin(a_ride());
    let sql = rig.sql().await;
    until("the charge is in doubt", async || {
        let defer =
            "with unsure as (update payment_attempts set server_errors = 3 where state = 'unknown' returning order_id)
                     update order_sagas s set next_run_at = now() + interval '1 hour'
                       from unsure where s.order_id = unsure.order_id and s.lease_until is null";
        sql.execute(defer, &[]).await.unwrap() == 1
    })
    .await;
    for _ in 0..210 {
        rig.charge_by_hand(1_999, "usd", None).await;
    }
    let before = rig.payments().requests();
    rig.execute("update order_sagas set next_run_at = now()").await;
    rig.until_all_settled().await;
    assert_eq!(rig.orders_in("succeeded").await, 1);
    let calls = rig.payments().requests() - before;
    assert!(calls <= 2, "{calls} calls");
    rig.assert_clean().await;
}

#[tokio::test]
async fn a_decline_that_is_denied_for_ever_is_found_in_the_providers_list() {
    let rig = Rig::builder().impatient().start().await;
    deny_for_ever(&rig, FaultTarget::Charge);
    let order = rig.place(a_declined_ride()).await;
    assert_eq!(order.status(), OrderStatus::Failed);
    assert_eq!(rig.charges(), []);
    rig.assert_clean().await;
}

#[tokio::test]
async fn a_refund_that_is_made_and_denied_for_ever_is_found_in_the_providers_list() {
    let rig = Rig::builder()
        .impatient()
        .set("orders.assignment_window", "0s")
        .start()
        .await;
    deny_for_ever(&rig, FaultTarget::Refund);
    let order = rig.place(a_ride()).await;
    assert_eq!(order.status(), OrderStatus::Refunded);
    assert_eq!(rig.movements_count(), (1, 1));
    rig.assert_clean().await;
}

#[tokio::test]
async fn a_key_that_only_ever_answers_with_errors_is_flagged_and_still_tried() {
    let rig = Rig::builder().impatient().start().await;
    rig.driver_at("cab-1", PICKUP.0, PICKUP.1).await;
    rig.payments()
        .set_fault(Fault::always(FaultKind::ErrorBeforeEffect).on(FaultTarget::Charge));
    let _call = rig.begin(a_ride());
    let flag = until_flagged(&rig).await;
    assert!(flag.contains("server errors again and again"), "{flag}");
    rig.payments().clear_faults();
    rig.until_all_settled().await;
    assert_eq!(rig.charges().len(), 1, "it was not there, and was sent again");
    rig.assert_clean().await;
}

#[tokio::test]
async fn an_answer_about_another_amount_is_flagged_and_asked_for_again() {
    for kind in [FaultKind::WrongAmount, FaultKind::WrongCurrency] {
        let rig = Rig::builder().impatient().start().await;
        rig.driver_at("cab-1", PICKUP.0, PICKUP.1).await;
        rig.payments().set_fault(Fault::always(kind).on(FaultTarget::Charge));
        let _call = rig.begin(a_ride());
        let flag = until_flagged(&rig).await;
        assert!(flag.contains("another amount or currency"), "{flag}");
        assert_eq!(rig.orders_in("charging").await, 1);
        rig.payments().clear_faults();
        rig.until_all_settled().await;
        assert_eq!(rig.charges().len(), 1);
        rig.assert_clean().await;
    }
}

/// An order whose only send of its charge is thirteen hours old.
async fn aged_order(rig: &Rig, fault: FaultKind) -> JoinSet<Result<Order, Status>> {
    rig.driver_at("cab-1", PICKUP.0, PICKUP.1).await;
    rig.payments().set_fault(Fault::always(fault).on(FaultTarget::Charge));
    let call = rig.begin(a_ride());
    let sql = rig.sql().await;
    until("the charge is in doubt", async || {
        let age = "with unsure as (select order_id from payment_attempts where state = 'unknown'),
                        old as (update payment_attempts a set first_sent_at = now() - interval '13 hours'
                                  from unsure where a.order_id = unsure.order_id)
                   update order_sagas s set next_run_at = now() + interval '1 hour'
                     from unsure where s.order_id = unsure.order_id and s.lease_until is null";
        sql.execute(age, &[]).await.unwrap() == 1
    })
    .await;
    // Whatever is sent from now on is declined, and so is seen.
    rig.payments()
        .set_fault(Fault::times(FaultKind::Decline, 1).on(FaultTarget::Charge));
    call
}

#[tokio::test]
async fn an_old_charge_that_was_made_is_found_and_not_sent_again() {
    let rig = Rig::builder().impatient().start().await;
    let _call = aged_order(&rig, FaultKind::ReplyLost).await;
    rig.execute("update order_sagas set next_run_at = now()").await;
    rig.until_all_settled().await;
    assert_eq!(rig.orders_in("succeeded").await, 1);
    assert_eq!(rig.payments().faults().len(), 1, "nothing was sent");
    rig.assert_clean().await;
}

#[tokio::test]
async fn an_old_charge_that_is_not_to_be_found_is_neither_sent_nor_believed_to_have_failed() {
    let rig = Rig::builder().impatient().start().await;
    let _call = aged_order(&rig, FaultKind::ErrorBeforeEffect).await;
    let flag = until_flagged(&rig).await;
    for words in ["first sent 13 h ago", "does not have it"] {
        assert!(flag.contains(words), "{flag}");
    }
    let requests = rig.payments().requests();
    until("it is looked for again", async || {
        until_flagged(&rig).await;
        rig.payments().requests() > requests
    })
    .await;
    assert_eq!(rig.orders_in("charging").await, 1);
    assert_eq!(rig.payments().faults().len(), 1, "nothing was sent");
    assert_eq!(rig.charges(), []);
}
