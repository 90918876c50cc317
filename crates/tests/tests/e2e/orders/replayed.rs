//! Idempotency: the same key gives the same answer and nothing else, whoever asks how often.

use std::collections::HashSet;

use prost::Message as _;
use testkit::wire::{PICKUP, a_declined_ride, a_ride, assert_refused, retry_after};
use testkit::{Rig, until};
use tonic::{Code, Response};
use waybill_proto::order::v1::{CreateOrderRequest, CreateOrderResponse, OrderStatus};
use waybill_sandbox::payments::{Fault, FaultKind};

fn is_replayed(answer: &Response<CreateOrderResponse>) -> bool {
    answer
        .metadata()
        .get("idempotent-replayed")
        .is_some_and(|value| value == "true")
}

/// Places it twice, with a restart of the server in between and one after: the bytes must be the same each time.
async fn replays(rig: &mut Rig, request: CreateOrderRequest, expected: OrderStatus) {
    let first = rig.orders().create_order(request.clone()).await.unwrap();
    assert!(!is_replayed(&first));
    let first = first.into_inner();
    assert_eq!(first.order.as_ref().unwrap().status(), expected);
    let requests = rig.payments().requests();
    for restart in [false, true] {
        if restart {
            rig.restart_server().await;
        }
        let again = rig.orders().create_order(request.clone()).await.unwrap();
        assert!(is_replayed(&again), "restarted: {restart}");
        let again = again.into_inner().encode_to_vec();
        assert_eq!(again, first.encode_to_vec(), "restarted: {restart}");
    }
    // A replay asks nothing of the provider.
    assert_eq!(rig.payments().requests(), requests);
    rig.assert_clean().await;
}

#[tokio::test]
async fn a_served_order_is_answered_with_the_same_bytes_again() {
    let mut rig = Rig::start().await;
    rig.driver_at("cab-1", PICKUP.0, PICKUP.1).await;
    replays(&mut rig, a_ride(), OrderStatus::Succeeded).await;
}

#[tokio::test]
async fn a_declined_order_is_answered_with_the_same_bytes_again() {
    let mut rig = Rig::start().await;
    replays(&mut rig, a_declined_ride(), OrderStatus::Failed).await;
}

#[tokio::test]
async fn a_refunded_order_is_answered_with_the_same_bytes_again() {
    let mut rig = Rig::builder().set("orders.assignment_window", "0s").start().await;
    replays(&mut rig, a_ride(), OrderStatus::Refunded).await;
}

#[tokio::test]
async fn the_answer_stays_what_it_was_when_the_order_is_cancelled_later() {
    let rig = Rig::start().await;
    rig.driver_at("cab-1", PICKUP.0, PICKUP.1).await;
    let request = a_ride();
    let first = rig.place(request.clone()).await;
    rig.cancel(&first.order_id).await.unwrap();
    assert_eq!(rig.order(&first.order_id).await.status(), OrderStatus::Refunded);
    assert_eq!(rig.place(request).await, first);
    rig.assert_clean().await;
}

#[tokio::test]
async fn the_same_key_for_another_request_is_refused_and_reveals_nothing_of_the_first() {
    let rig = Rig::start().await;
    rig.driver_at("cab-1", PICKUP.0, PICKUP.1).await;
    let request = a_ride();
    let first = rig.place(request.clone()).await;
    let changes: [fn(&mut CreateOrderRequest); 4] = [
        |other| other.amount.as_mut().unwrap().minor_units += 1,
        |other| other.amount.as_mut().unwrap().currency_code = "EUR".to_owned(),
        |other| *other.pickup.as_mut().unwrap().latitude.as_mut().unwrap() += 0.001,
        |other| other.drop_off = other.pickup,
    ];
    for change in changes {
        let mut other = request.clone();
        change(&mut other);
        let refused = rig.orders().create_order(other).await.unwrap_err();
        assert_refused(&refused, Code::FailedPrecondition, "IDEMPOTENCY_KEY_REUSED");
        let text = format!("{refused:?}{}", String::from_utf8_lossy(refused.details()));
        assert!(!text.contains(&first.order_id) && !text.contains("1999"), "{text}");
    }
    assert_eq!(rig.charges().len(), 1);
    assert_eq!(rig.count("select count(*) from order_sagas").await, 1);
    rig.assert_clean().await;
}

#[tokio::test]
async fn two_users_may_use_the_same_key() {
    let rig = Rig::builder().set("orders.assignment_window", "0s").start().await;
    let request = a_ride();
    let mut other = a_ride();
    other.idempotency_key.clone_from(&request.idempotency_key);
    let (one, other) = (rig.place(request).await, rig.place(other).await);
    assert_ne!(one.order_id, other.order_id);
    assert_eq!(rig.charges().len(), 2);
    rig.assert_clean().await;
}

#[tokio::test]
async fn fifty_calls_at_once_with_one_key_make_one_order_one_charge_and_one_answer() {
    let rig = Rig::builder().servers(2).start().await;
    rig.driver_at("cab-1", PICKUP.0, PICKUP.1).await;
    let request = a_ride();
    let mut calls = tokio::task::JoinSet::new();
    for n in 0..50 {
        let (mut orders, request) = (rig.orders_of(n % 2), request.clone());
        calls.spawn(async move { orders.create_order(request).await.unwrap() });
    }
    let answers = calls.join_all().await;
    assert_eq!(answers.iter().filter(|answer| !is_replayed(answer)).count(), 1);
    let bytes = answers.into_iter().map(|answer| answer.into_inner().encode_to_vec());
    assert_eq!(bytes.collect::<HashSet<_>>().len(), 1, "all answers are the same");
    assert_eq!(rig.charges().len(), 1);
    assert_eq!(rig.count("select count(*) from order_sagas").await, 1);
    rig.assert_clean().await;
}

#[tokio::test]
async fn a_client_that_hangs_up_changes_nothing() {
    let rig = Rig::start().await;
    let slow = Fault::times(FaultKind::Latency, 1).delayed(std::time::Duration::from_millis(300));
    rig.payments().set_fault(slow);
    rig.driver_at("cab-1", PICKUP.0, PICKUP.1).await;
    let request = a_ride();
    let (mut orders, sql) = (rig.orders(), rig.sql().await);
    tokio::select! {
        answer = orders.create_order(request.clone()) => panic!("answered before it hung up: {answer:?}"),
        () = until("the order is begun", async || {
            sql.query_opt("select order_id from order_sagas", &[]).await.unwrap().is_some()
        }) => {}
    }
    drop(orders);
    rig.until_all_settled().await;
    let order = rig.place(request).await;
    assert_eq!(order.status(), OrderStatus::Succeeded);
    assert_eq!(rig.charges().len(), 1);
    rig.assert_clean().await;
}

#[tokio::test]
async fn a_call_whose_time_is_up_learns_which_order_runs_on_and_when_to_ask_again() {
    let rig = Rig::builder().set("grpc.deadline_default", "1s").start().await;
    let request = a_ride();
    let refused = rig.orders().create_order(request.clone()).await.unwrap_err();
    assert_refused(&refused, Code::Aborted, "ORDER_IN_PROGRESS");
    assert!(retry_after(&refused).is_some());
    let again = rig.orders().create_order(request.clone()).await.unwrap_err();
    assert_eq!(again.code(), Code::Aborted, "a second call waits for the same order");

    rig.driver_at("cab-1", PICKUP.0, PICKUP.1).await;
    rig.until_all_settled().await;
    let answer = rig.orders().create_order(request).await.unwrap();
    assert!(is_replayed(&answer));
    let order = answer.into_inner().order.unwrap();
    assert!(String::from_utf8_lossy(refused.details()).contains(&order.order_id));
    assert_eq!(order.status(), OrderStatus::Succeeded);
    rig.assert_clean().await;
}

#[tokio::test]
async fn a_call_with_hardly_any_time_left_begins_nothing() {
    let rig = Rig::builder().set("grpc.deadline_default", "400ms").start().await;
    let refused = rig.orders().create_order(a_ride()).await.unwrap_err();
    assert_eq!(refused.code(), Code::DeadlineExceeded);
    assert_eq!(rig.count("select count(*) from order_sagas").await, 0);
    assert_eq!(rig.payments().requests(), 0);
}
