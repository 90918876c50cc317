//! Orders that are not charged in time, and orders that are cancelled while their charge is in doubt: where no charge can have been made none is made any more, and what was charged too late is refunded.

use std::time::Duration;

use testkit::wire::{PICKUP, a_ride};
use testkit::{Builder, Rig, until, until_eq};
use tonic::Code;
use tonic_types::StatusExt as _;
use waybill_proto::order::v1::{FailureReason, Order, OrderStatus};
use waybill_sandbox::payments::{Fault, FaultKind, FaultTarget};
use waybill_sandbox::proxy::Mode;

/// Calls that give up soon, and a provider that answers soon or not at all.
fn impatient() -> Builder {
    Rig::builder().impatient().set("grpc.deadline_default", "1s")
}

/// An order that is not charged when its call ends.
async fn begin(rig: &Rig) -> String {
    rig.driver_at("cab-1", PICKUP.0, PICKUP.1).await;
    let refused = rig.orders().create_order(a_ride()).await.unwrap_err();
    assert_eq!(refused.code(), Code::Aborted, "{refused:?}");
    refused.get_details_error_info().unwrap().metadata["order_id"].clone()
}

/// As if the order had been accepted ten minutes ago. A worker that holds it has read the time before.
async fn let_ten_minutes_pass(rig: &Rig, order: &str) {
    let sql = rig.sql().await;
    let earlier = "update order_sagas set created_at = created_at - interval '10 minutes'
                    where order_id::text = $1 and lease_until is null";
    until("no worker holds it", async || {
        sql.execute(earlier, &[&order]).await.unwrap() == 1
    })
    .await;
}

fn assert_ends(order: &Order, status: OrderStatus, reason: FailureReason) {
    assert_eq!((order.status(), order.failure_reason()), (status, reason), "{order:?}");
    assert_eq!(order.assignment, None);
}

fn on_charges(kind: FaultKind) -> Fault {
    Fault::always(kind).on(FaultTarget::Charge)
}

#[tokio::test]
async fn an_order_that_was_never_sent_fails_in_time_while_the_provider_is_still_away() {
    let rig = impatient().payments_through_proxy().start().await;
    rig.payments_line().set_mode(Mode::Refuse);
    let order = begin(&rig).await;
    let_ten_minutes_pass(&rig, &order).await;
    let order = rig.until_settled(&order).await;
    assert_ends(&order, OrderStatus::Failed, FailureReason::PaymentTimedOut);

    rig.payments_line().set_mode(Mode::Pass);
    let next = rig.place(a_ride()).await;
    assert_eq!((next.status(), rig.movements_count()), (OrderStatus::Succeeded, (1, 0)));
    rig.assert_clean().await;
}

#[tokio::test]
async fn an_order_that_waits_is_charged_as_long_as_it_is_in_time() {
    let rig = impatient().payments_through_proxy().start().await;
    rig.payments_line().set_mode(Mode::Refuse);
    let order = begin(&rig).await;
    rig.payments_line().set_mode(Mode::Pass);
    let order = rig.until_settled(&order).await;
    assert_eq!(
        (order.status(), rig.movements_count()),
        (OrderStatus::Succeeded, (1, 0))
    );
    rig.assert_clean().await;
}

/// The provider got the charge and did nothing with it: only a request under the same key shows that, and ends it.
#[tokio::test]
async fn a_charge_in_doubt_that_was_not_made_is_revoked_and_not_made_late() {
    let rig = impatient().start().await;
    rig.payments().set_fault(on_charges(FaultKind::Hang));
    let order = begin(&rig).await;
    let_ten_minutes_pass(&rig, &order).await;
    rig.payments().clear_faults();
    let order = rig.until_settled(&order).await;
    assert_ends(&order, OrderStatus::Failed, FailureReason::PaymentTimedOut);
    assert_eq!(rig.movements_count(), (0, 0));
    rig.assert_clean().await;
}

#[tokio::test]
async fn a_charge_that_is_found_when_it_is_too_late_is_refunded_and_no_driver_is_assigned() {
    let rig = impatient().start().await;
    rig.payments().set_fault(on_charges(FaultKind::ReplyLost));
    let order = begin(&rig).await;
    let_ten_minutes_pass(&rig, &order).await;
    rig.payments().clear_faults();
    let order = rig.until_settled(&order).await;
    assert_ends(&order, OrderStatus::Refunded, FailureReason::PaymentTimedOut);
    assert_eq!(rig.movements_count(), (1, 1));
    rig.assert_clean().await;
}

#[tokio::test]
async fn a_cancellation_of_an_order_that_cannot_have_been_charged_charges_nothing() {
    for fault in [FaultKind::RateLimited, FaultKind::Rejected] {
        let rig = impatient().start().await;
        rig.payments().set_fault(on_charges(fault));
        let order = begin(&rig).await;
        rig.cancel(&order).await.unwrap();
        let order = rig.until_settled(&order).await;
        assert_ends(&order, OrderStatus::Failed, FailureReason::Cancelled);
        assert_eq!(rig.movements_count(), (0, 0), "{fault:?}");
        rig.assert_clean().await;
    }
}

#[tokio::test]
async fn a_cancellation_ends_an_order_uncharged_where_the_secret_is_not_accepted_or_no_one_listens() {
    let unauthorized = impatient()
        .set("payments.secret_key", "rk_of_another_kind")
        .start()
        .await;
    let unreachable = impatient().payments_through_proxy().start().await;
    unreachable.payments_line().set_mode(Mode::Refuse);
    for rig in [&unauthorized, &unreachable] {
        let order = begin(rig).await;
        rig.cancel(&order).await.unwrap();
        let order = rig.until_settled(&order).await;
        assert_ends(&order, OrderStatus::Failed, FailureReason::Cancelled);
        assert_eq!(rig.payments().ledger(), []);
    }
}

#[tokio::test]
async fn a_cancellation_of_a_charge_in_doubt_revokes_it_or_refunds_what_was_charged() {
    for (fault, status, moved) in [
        (FaultKind::Hang, OrderStatus::Failed, (0, 0)),
        (FaultKind::ErrorBeforeEffect, OrderStatus::Failed, (0, 0)),
        (FaultKind::ReplyLost, OrderStatus::Refunded, (1, 1)),
        (FaultKind::ErrorAfterEffectSaved, OrderStatus::Refunded, (1, 1)),
    ] {
        let rig = impatient().start().await;
        rig.payments().set_fault(on_charges(fault));
        let order = begin(&rig).await;
        rig.cancel(&order).await.unwrap();
        rig.payments().clear_faults();
        let order = rig.until_settled(&order).await;
        assert_ends(&order, status, FailureReason::Cancelled);
        assert_eq!(rig.movements_count(), moved, "{fault:?}");
        rig.assert_clean().await;
    }
}

/// The provider breaks down over the revocation, and answers so to its key for ever.
#[tokio::test]
async fn a_revocation_that_is_denied_for_ever_has_its_key_nevertheless() {
    let rig = impatient().start().await;
    rig.payments().set_fault(on_charges(FaultKind::Hang));
    let order = begin(&rig).await;
    rig.payments()
        .set_fault(Fault::times(FaultKind::ErrorAfterEffectSaved, 1).on(FaultTarget::Charge));
    rig.cancel(&order).await.unwrap();
    let order = rig.until_settled(&order).await;
    assert_ends(&order, OrderStatus::Failed, FailureReason::Cancelled);
    assert_eq!(rig.payments().faults(), [], "the fault was met");
    assert_eq!(rig.movements_count(), (0, 0));
    rig.assert_clean().await;
}

/// A charge that comes after its time-out, and after the cancellation: the provider refuses it, or the order is refunded.
#[tokio::test]
async fn a_late_success_and_a_cancellation_do_not_leave_a_charge_behind() {
    let rig = impatient().start().await;
    rig.payments()
        .set_fault(Fault::times(FaultKind::LateSuccess, 1).delayed(Duration::from_millis(1500)));
    let order = begin(&rig).await;
    rig.cancel(&order).await.unwrap();
    let order = rig.until_settled(&order).await;
    assert_ends(&order, OrderStatus::Refunded, FailureReason::Cancelled);
    assert_eq!(rig.movements_count(), (1, 1));
    rig.assert_clean().await;
}

/// Twelve tries without a connection to the provider: none is counted, each reason is logged once, and no flag is set.
#[tokio::test]
async fn tries_that_send_nothing_are_not_counted_and_set_no_flag() {
    let rig = impatient().payments_through_proxy().start().await;
    rig.payments_line().set_mode(Mode::Refuse);
    let order = begin(&rig).await;
    let claims = format!("select fence from order_sagas where order_id = '{order}'");
    until("it is claimed twelve times", async || {
        rig.execute("update order_sagas set next_run_at = now() where lease_until is null")
            .await;
        let fence = rig.count(&claims).await;
        if fence > 12 { Ok(()) } else { Err(fence) }
    })
    .await;
    until_eq("tries, flags, equal lines in a row", (true, 0, 0), async || {
        let sql = rig.sql().await;
        let query = "select (select max(attempts) <= 2 from order_sagas),
                            (select count(needs_attention) from order_sagas),
                            (select count(*) from (
                                select detail = lag(detail) over (order by id) as again from order_saga_steps
                                 where status = 'postponed') lines where again)";
        let row = sql.query_one(query, &[]).await.unwrap();
        (row.get::<_, bool>(0), row.get::<_, i64>(1), row.get::<_, i64>(2))
    })
    .await;
}
