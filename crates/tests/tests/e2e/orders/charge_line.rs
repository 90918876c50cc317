//! More orders than the payment provider can charge: what is accepted is charged, the oldest first, and the rest is refused
//! in time.

use std::time::Duration;

use futures_util::future::join_all;
use testkit::wire::{PICKUP, a_ride, assert_refused_for_now, retry_after};
use testkit::{Rig, until, until_eq};
use tokio::task::JoinSet;
use tonic::{Code, Status};
use waybill_proto::order::v1::{CreateOrderRequest, Order, OrderStatus};
use waybill_sandbox::payments::{Fault, FaultKind, FaultTarget, MovementKind};

/// So many orders are offered at most; each of them would be served by a driver of its own.
const OFFERED_MAX: usize = 100;

async fn drivers(rig: &Rig) {
    let fixes = (0..OFFERED_MAX).map(|n| {
        let now = jiff::Timestamp::now();
        testkit::wire::fix(&format!("cab-{n}"), PICKUP.0, PICKUP.1, now)
    });
    rig.report(fixes.collect()).await;
}

fn place(rig: &Rig, calls: &mut JoinSet<Result<Order, Status>>, request: CreateOrderRequest) {
    let mut orders = rig.orders();
    calls.spawn(async move {
        let answer = orders.create_order(request).await?;
        Ok(answer.into_inner().order.expect("an order"))
    });
}

/// Places orders, each as soon as the one before is accepted, until one is refused. The calls of the others, which go on;
/// and the refusal.
async fn offer_until_refused(rig: &Rig) -> (JoinSet<Result<Order, Status>>, Status) {
    let sql = rig.sql().await;
    let accepted = async || -> i64 {
        let query = "select count(*) from order_sagas";
        sql.query_one(query, &[]).await.unwrap().get(0)
    };
    let before = accepted().await;
    let mut calls = JoinSet::new();
    for offered in 1..=OFFERED_MAX {
        place(rig, &mut calls, a_ride());
        let refused = until("the order is accepted or refused", async || {
            if let Some(ended) = calls.try_join_next() {
                // An order that is served in between makes room for the next.
                return ended.unwrap().err().map(Some);
            }
            (accepted().await - before >= i64::try_from(offered).unwrap()).then_some(None)
        })
        .await;
        if let Some(refused) = refused {
            return (calls, refused);
        }
    }
    panic!("{OFFERED_MAX} orders are accepted");
}

/// All orders that were accepted are settled in this state.
async fn assert_all(rig: &Rig, status: &str) {
    let accepted = rig.count("select count(*) from order_sagas").await;
    assert_eq!(rig.orders_in(status).await, accepted);
}

#[tokio::test]
async fn orders_above_what_can_be_charged_are_refused_and_those_accepted_are_charged_in_their_order() {
    let rig = Rig::builder()
        .with("payments.in_flight_max=1 orders.sweep_interval=100ms grpc.deadline_default=30s")
        .start()
        .await;
    drivers(&rig).await;
    let first = a_ride();
    let served = rig.place(first.clone()).await;
    let slow = Fault::always(FaultKind::Latency).delayed(Duration::from_millis(400));
    rig.payments().set_fault(slow.on(FaultTarget::Charge));

    let (calls, refused) = offer_until_refused(&rig).await;
    assert_refused_for_now(&refused, Code::ResourceExhausted);
    assert!(retry_after(&refused) < Some(Duration::from_mins(1)), "{refused:?}");
    // What is answered already needs no charge.
    assert_eq!(rig.place(first).await.order_id, served.order_id);

    for call in calls.join_all().await {
        match call {
            Ok(order) => assert_eq!(order.status(), OrderStatus::Succeeded),
            Err(status) => assert_eq!(status.code(), Code::ResourceExhausted, "{status:?}"),
        }
    }
    rig.until_all_settled().await;
    assert_all(&rig, "succeeded").await;
    let accepted = "select order_id::text from order_sagas order by created_at";
    let accepted: Vec<String> = rig
        .sql()
        .await
        .query(accepted, &[])
        .await
        .unwrap()
        .iter()
        .map(|row| row.get(0))
        .collect();
    let charged: Vec<String> = rig.charges().into_iter().filter_map(|charge| charge.order_id).collect();
    assert_eq!(charged, accepted);
    let postponed = "select count(*) from order_saga_steps where status in ('postponed', 'unknown')";
    assert_eq!(rig.count(postponed).await, 0, "no order lost its place in the line");

    rig.payments().clear_faults();
    assert_eq!(rig.place(a_ride()).await.status(), OrderStatus::Succeeded);
    rig.assert_clean().await;
}

#[tokio::test]
async fn a_provider_that_hangs_leads_to_refusals_and_orders_are_admitted_again_when_it_answers() {
    let rig = Rig::builder()
        .with("payments.in_flight_max=1 orders.sweep_interval=100ms grpc.deadline_default=30s")
        .with("payments.attempt_timeout=3s payments.total_timeout=3s")
        .start()
        .await;
    drivers(&rig).await;
    let hang = Fault::always(FaultKind::Hang).on(FaultTarget::Charge);
    rig.payments().set_fault(hang);
    let (calls, refused) = offer_until_refused(&rig).await;
    assert_refused_for_now(&refused, Code::ResourceExhausted);

    rig.payments().clear_faults();
    for call in calls.join_all().await {
        assert_eq!(call.unwrap().status(), OrderStatus::Succeeded);
    }
    rig.until_all_settled().await;
    assert_all(&rig, "succeeded").await;
    assert_eq!(rig.place(a_ride()).await.status(), OrderStatus::Succeeded);
    rig.assert_clean().await;
}

#[tokio::test]
async fn refunds_go_before_the_charges_that_wait() {
    let rig = Rig::builder()
        .with("payments.in_flight_max=1 payments.attempt_timeout=8s payments.total_timeout=8s")
        .with("orders.assignment_window=5m grpc.deadline_default=30s")
        .start()
        .await;
    let mut calls = JoinSet::new();
    place(&rig, &mut calls, a_ride());
    until_eq("the first looks for a driver", 1, async || {
        rig.orders_in("charged").await
    })
    .await;
    let requests = rig.payments().requests();
    rig.payments()
        .set_fault(Fault::times(FaultKind::Latency, 1).delayed(Duration::from_secs(7)));
    place(&rig, &mut calls, a_ride());
    until("the second is at the provider", async || {
        rig.payments().requests() > requests
    })
    .await;
    for _ in 0..4 {
        place(&rig, &mut calls, a_ride());
    }
    let accepted = "select count(*) from order_sagas";
    until_eq("four charges wait", 6, async || rig.count(accepted).await).await;
    let first = rig.charges()[0].order_id.clone().unwrap();
    rig.cancel(&first).await.unwrap();
    until_eq("all are charged", 6, async || rig.charges().len()).await;
    // The second, which was at the provider, and the first of those that wait, whose turn it was already.
    let kinds: Vec<MovementKind> = rig.payments().ledger().iter().map(|movement| movement.kind).collect();
    let refund = kinds.iter().position(|kind| *kind == MovementKind::Refund).unwrap();
    assert!(refund <= 3, "{kinds:?}");
    let others: Vec<String> = rig
        .charges()
        .into_iter()
        .skip(1)
        .filter_map(|charge| charge.order_id)
        .collect();
    for cancelled in join_all(others.iter().map(|order| rig.cancel(order))).await {
        cancelled.unwrap();
    }
    calls.join_all().await;
    rig.assert_clean().await;
}

/// The sweeper claims it when the others stand in the line already.
#[tokio::test]
async fn an_order_that_was_deferred_goes_before_the_younger_ones_that_wait() {
    let rig = Rig::builder()
        .with("payments.in_flight_max=1 orders.charge_wait_max=1m orders.sweep_interval=100ms")
        .with("grpc.deadline_default=30s")
        .start()
        .await;
    drivers(&rig).await;
    let slow = Fault::always(FaultKind::Latency).delayed(Duration::from_millis(300));
    // Both attempts of its first call.
    let throttled = Fault::times(FaultKind::RateLimited, 2);
    rig.payments()
        .set_faults([throttled, slow].map(|fault| fault.on(FaultTarget::Charge)));
    let mut calls = JoinSet::new();
    place(&rig, &mut calls, a_ride());
    let postponed = "select count(*) from order_saga_steps where step = 'charge' and status = 'postponed'";
    until_eq("the first is deferred", 1, async || rig.count(postponed).await).await;
    for _ in 0..12 {
        place(&rig, &mut calls, a_ride());
    }
    for call in calls.join_all().await {
        assert_eq!(call.unwrap().status(), OrderStatus::Succeeded);
    }
    let oldest = "select order_id::text from order_sagas order by created_at limit 1";
    let oldest: String = rig.sql().await.query_one(oldest, &[]).await.unwrap().get(0);
    let charges = rig.charges();
    assert_ne!(charges.last().unwrap().order_id, Some(oldest), "{charges:?}");
    rig.assert_clean().await;
}

#[tokio::test]
async fn an_order_that_is_cancelled_while_it_waits_in_the_line_is_not_charged() {
    let rig = Rig::builder()
        .with("payments.in_flight_max=1 payments.attempt_timeout=8s payments.total_timeout=8s")
        .with("orders.sweep_interval=100ms grpc.deadline_default=30s")
        .start()
        .await;
    drivers(&rig).await;
    rig.payments()
        .set_fault(Fault::times(FaultKind::Latency, 1).delayed(Duration::from_secs(7)));
    let mut calls = JoinSet::new();
    place(&rig, &mut calls, a_ride());
    until("the first is at the provider", async || rig.payments().requests() > 0).await;
    let waiting = a_ride();
    place(&rig, &mut calls, waiting.clone());
    let find = format!(
        "select order_id::text from order_sagas where idempotency_key = '{}'",
        waiting.idempotency_key
    );
    let sql = rig.sql().await;
    let order = until("the second is accepted", async || {
        let row = sql.query_opt(&find, &[]).await.unwrap();
        row.map(|row| row.get::<_, String>(0))
    })
    .await;
    rig.cancel(&order).await.unwrap();
    assert_eq!(rig.until_settled(&order).await.status(), OrderStatus::Failed);
    calls.join_all().await;
    assert_eq!(rig.movements_count(), (1, 0));
    rig.assert_clean().await;
}
