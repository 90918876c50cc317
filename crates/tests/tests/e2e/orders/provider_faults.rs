//! A payment provider that fails in every way that providers do: money moves once or not at all, and the order ends.

use std::time::Duration;

use testkit::wire::{PICKUP, a_ride, assert_refused_for_now};
use testkit::{Rig, until, until_eq};
use tonic::Code;
use waybill_proto::order::v1::{FailureReason, OrderStatus};
use waybill_sandbox::payments::{Fault, FaultKind, FaultTarget};
use waybill_sandbox::proxy::Mode;

/// The charge meets the fault: the order is served in the end, and was paid once.
async fn charge_meets(fault: Fault) {
    let rig = Rig::builder().impatient().start().await;
    rig.driver_at("cab-1", PICKUP.0, PICKUP.1).await;
    rig.payments().set_fault(fault.on(FaultTarget::Charge));
    let order = rig.place(a_ride()).await;
    assert_eq!(order.status(), OrderStatus::Succeeded);
    assert_eq!(rig.payments().faults(), [], "the fault was met");
    assert_eq!(rig.charges().len(), 1);
    rig.assert_clean().await;
}

/// The refund meets the fault: the money is back in the end, once.
async fn refund_meets(fault: Fault) {
    let rig = Rig::builder()
        .impatient()
        .set("orders.assignment_window", "0s")
        .start()
        .await;
    rig.payments().set_fault(fault.on(FaultTarget::Refund));
    let order = rig.place(a_ride()).await;
    assert_eq!(order.status(), OrderStatus::Refunded);
    assert_eq!(rig.payments().faults(), [], "the fault was met");
    assert_eq!(rig.movements_count(), (1, 1));
    rig.assert_clean().await;
}

/// Two tests of one fault: `charge` and `refund`.
macro_rules! both_operations_survive {
    ($($name:ident: $fault:expr;)+) => {$(
        mod $name {
            use super::*;

            #[tokio::test]
            async fn charge() {
                charge_meets($fault).await;
            }

            #[tokio::test]
            async fn refund() {
                refund_meets($fault).await;
            }
        }
    )+};
}

// Twice each: the second attempt within the call meets it too, so the saga has to come back.
both_operations_survive! {
    an_error_before_the_money_moves: Fault::times(FaultKind::ErrorBeforeEffect, 2);
    an_error_after_the_money_moved: Fault::times(FaultKind::ErrorAfterEffect, 1);
    a_lost_reply: Fault::times(FaultKind::ReplyLost, 1);
    a_hang: Fault::times(FaultKind::Hang, 2);
    a_success_that_comes_after_the_timeout: Fault::times(FaultKind::LateSuccess, 1).delayed(Duration::from_millis(900));
    an_answer_that_is_no_json: Fault::times(FaultKind::Garbage, 1);
    an_answer_with_another_amount: Fault::times(FaultKind::WrongAmount, 1);
    an_answer_with_another_currency: Fault::times(FaultKind::WrongCurrency, 1);
    an_answer_with_nothing_in_it: Fault::times(FaultKind::EmptyBody, 1);
    an_answer_at_a_byte_a_second: Fault::times(FaultKind::SlowBody, 1);
    too_many_requests: Fault::times(FaultKind::RateLimited, 2);
    a_key_in_use: Fault::times(FaultKind::InProgress, 2);
}

#[tokio::test]
async fn a_slow_provider_holds_no_connection_to_the_database() {
    let rig = Rig::builder()
        .impatient()
        .with("payments.attempt_timeout=2s payments.total_timeout=3s postgres.pool_max=3")
        .start()
        .await;
    let slow = Fault::always(FaultKind::Latency).delayed(Duration::from_secs(1));
    rig.payments().set_fault(slow);
    let mut calls = tokio::task::JoinSet::new();
    for n in 0..8 {
        rig.driver_at(&format!("cab-{n}"), PICKUP.0, PICKUP.1).await;
        let mut orders = rig.orders();
        calls.spawn(async move { orders.create_order(a_ride()).await.unwrap().into_inner().order.unwrap() });
    }
    let sql = rig.sql().await;
    // All eight wait for the provider, and no session is in a transaction.
    until_eq::<(i64, i64)>("orders charging, busy sessions", (8, 0), async || {
        let query = "select (select count(*) from order_sagas where status = 'charging'),
                            (select count(*) from pg_stat_activity
                              where datname = current_database() and application_name = 'waybill'
                                and state <> 'idle')";
        let row = sql.query_one(query, &[]).await.unwrap();
        (row.get(0), row.get(1))
    })
    .await;
    let orders = calls.join_all().await;
    assert!(orders.iter().all(|order| order.status() == OrderStatus::Succeeded));
    rig.assert_clean().await;
}

/// As the settings of production have it: a confirmation that comes late is one.
#[tokio::test]
async fn ten_charges_that_take_six_seconds_each_leave_the_breaker_closed_and_are_served() {
    let rig = Rig::with("grpc.deadline_default=30s").await;
    let slow = Fault::always(FaultKind::Latency).delayed(Duration::from_secs(6));
    rig.payments().set_fault(slow.on(FaultTarget::Charge));
    let mut calls = tokio::task::JoinSet::new();
    for n in 0..10 {
        rig.driver_at(&format!("cab-{n}"), PICKUP.0, PICKUP.1).await;
        let mut orders = rig.orders();
        calls.spawn(async move { orders.create_order(a_ride()).await });
    }
    for order in calls.join_all().await {
        let order = order.unwrap().into_inner().order.unwrap();
        assert_eq!(order.status(), OrderStatus::Succeeded);
    }
    let metrics = rig.metrics().await;
    assert_eq!(metrics["dependencies"]["breakers"]["payments"], "closed", "{metrics}");
    assert_eq!(
        metrics["dependencies"]["provider_answers"]["unknown"],
        serde_json::Value::Null
    );
    rig.assert_clean().await;
}

#[tokio::test]
async fn while_the_provider_is_down_new_orders_are_refused_and_those_begun_settle_when_it_is_back() {
    let rig = Rig::builder()
        .impatient()
        .payments_through_proxy()
        .set("grpc.deadline_default", "1s")
        .start()
        .await;
    for n in 0..12 {
        rig.driver_at(&format!("cab-{n}"), PICKUP.0, PICKUP.1).await;
    }
    rig.payments_line().set_mode(Mode::Refuse);
    let mut calls = tokio::task::JoinSet::new();
    for _ in 0..8 {
        let mut orders = rig.orders();
        calls.spawn(async move { orders.create_order(a_ride()).await.unwrap_err().code() });
    }
    for code in calls.join_all().await {
        assert!([Code::Aborted, Code::Unavailable].contains(&code), "{code:?}");
    }
    let refused = until("the breaker is open", async || {
        let refused = rig.orders().create_order(a_ride()).await.unwrap_err();
        if refused.code() == Code::Unavailable {
            Ok(refused)
        } else {
            Err(refused)
        }
    })
    .await;
    assert_refused_for_now(&refused, Code::Unavailable);
    assert_eq!(rig.payments().requests(), 0);

    let begun = rig.count("select count(*) from order_sagas").await;
    rig.payments_line().set_mode(Mode::Pass);
    rig.until_all_settled().await;
    assert_eq!(rig.orders_in("succeeded").await, begun);
    assert_eq!(i64::try_from(rig.charges().len()).unwrap(), begun);
    rig.assert_clean().await;
}

#[tokio::test]
async fn a_line_that_is_cut_in_the_middle_of_an_answer_charges_once() {
    let rig = Rig::builder().impatient().payments_through_proxy().start().await;
    rig.driver_at("cab-1", PICKUP.0, PICKUP.1).await;
    rig.payments_line().set_mode(Mode::CutAfter(40));
    let mut orders = rig.orders();
    let placed = orders.create_order(a_ride());
    let repaired = async {
        until("the money has moved", async || !rig.charges().is_empty()).await;
        let sql = rig.sql().await;
        until("the outcome is in doubt", async || {
            let query = "select 1 from order_saga_steps where step = 'charge' and status = 'unknown'";
            sql.query_opt(query, &[]).await.unwrap().is_some()
        })
        .await;
        rig.payments_line().set_mode(Mode::Pass);
    };
    let (placed, ()) = tokio::join!(placed, repaired);
    let order = placed.unwrap().into_inner().order.unwrap();
    assert_eq!(order.status(), OrderStatus::Succeeded);
    assert_eq!(rig.charges().len(), 1);
    rig.assert_clean().await;
}

#[tokio::test]
async fn a_refund_survives_a_provider_that_is_down_for_a_while() {
    let rig = Rig::builder().impatient().payments_through_proxy().start().await;
    rig.driver_at("cab-1", PICKUP.0, PICKUP.1).await;
    let order = rig.place(a_ride()).await;
    rig.payments_line().set_mode(Mode::Refuse);
    let cancelled = rig.cancel(&order.order_id);
    let back = async {
        let sql = rig.sql().await;
        until("the refund is deferred", async || {
            let query = "select 1 from order_saga_steps where step = 'refund' and status in ('postponed', 'unknown')";
            sql.query_opt(query, &[]).await.unwrap().is_some()
        })
        .await;
        rig.payments_line().set_mode(Mode::Pass);
    };
    let (cancelled, ()) = tokio::join!(cancelled, back);
    let order = cancelled.unwrap();
    assert_eq!(order.status(), OrderStatus::Refunded);
    assert_eq!(order.failure_reason(), FailureReason::Cancelled);
    assert_eq!(rig.refunds().len(), 1);
    rig.assert_clean().await;
}
