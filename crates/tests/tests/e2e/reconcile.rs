//! `waybill reconcile`: the provider's list against our books, each kind of difference planted once.

use serde_json::Value;

use crate::cli::on_stores;
use crate::desk::{charge_by_hand, refund_by_hand};
use crate::rig::process::Ended;
use crate::rig::{PICKUP, Rig, a_ride};

/// A served and a refunded order, both of them at rest for an hour; their ids.
async fn world() -> (Rig, String, String) {
    let rig = Rig::builder().set("orders.assignment_window", "0s").start().await;
    rig.driver_at("cab-1", PICKUP.0, PICKUP.1).await;
    let served = rig.place(a_ride()).await.order_id;
    let refunded = rig.place(a_ride()).await.order_id;
    plant(&rig, "update order_sagas set updated_at = now() - interval '1 hour'").await;
    (rig, served, refunded)
}

/// Past the triggers and keys that guard against it.
async fn plant(rig: &Rig, statements: &str) {
    let planted = format!("set session_replication_role = replica; {statements}");
    rig.sql().await.batch_execute(&planted).await.unwrap();
}

async fn reconcile(rig: &Rig) -> Ended {
    on_stores(rig, &["reconcile"]).await
}

#[track_caller]
fn ends(ended: &Ended, status: i32, last_line: &str) {
    assert_eq!(ended.status, Some(status), "{ended:?}");
    assert_eq!(ended.stdout.lines().last(), Some(last_line), "{}", ended.stdout);
}

#[tokio::test]
async fn books_that_agree_with_the_provider_have_no_difference() {
    let (rig, _, _) = world().await;
    let ended = reconcile(&rig).await;
    ends(&ended, 0, "reconcile: 2 charges, 1 refunds, 0 differences");
    assert_eq!(ended.stderr, "");

    let json = on_stores(&rig, &["reconcile", "--json"]).await;
    let report: Value = serde_json::from_str(&json.stdout).expect("one JSON object");
    let expected = serde_json::json!({
        "charges": 2, "refunds": 1, "without_order": 0, "differences": 0, "in_flight": 0, "shown": [],
    });
    assert_eq!((json.status, report), (Some(0), expected));
}

#[tokio::test]
async fn each_difference_in_our_books_is_found_and_named() {
    let (rig, served, refunded) = world().await;
    let save = "create table saved as table payments";
    plant(&rig, save).await;
    for (planted, order, kind, difference) in [
        (
            "delete from payments where order_id = SERVED",
            &served,
            "charge",
            "not in the ledger",
        ),
        (
            "update payments set refunded_at = null, refund_amount = null, provider_refund_id = null",
            &refunded,
            "refund",
            "not in the ledger",
        ),
        (
            "update payments set refunded_at = now(), refund_amount = amount, provider_refund_id = 're_x'
              where order_id = SERVED",
            &served,
            "refund",
            "not at the provider",
        ),
        (
            "update payments set amount = 2000 where order_id = SERVED",
            &served,
            "charge",
            "another amount",
        ),
        (
            "update payments set refund_amount = 1 where order_id = REFUNDED",
            &refunded,
            "refund",
            "another amount",
        ),
        (
            "update payments set provider_charge_id = 'pi_x' where order_id = SERVED",
            &served,
            "charge",
            "another id",
        ),
    ] {
        let statement = planted
            .replace("SERVED", &format!("'{served}'"))
            .replace("REFUNDED", &format!("'{refunded}'"));
        plant(&rig, &statement).await;
        let ended = reconcile(&rig).await;
        ends(&ended, 1, "reconcile: 2 charges, 1 refunds, 1 differences");
        for word in [order.as_str(), kind, difference] {
            assert!(ended.stdout.contains(word), "{planted}: {word:?} in\n{}", ended.stdout);
        }
        plant(&rig, "delete from payments; insert into payments select * from saved").await;
    }
    // The currency is of the charge and of the refund.
    plant(
        &rig,
        &format!("update payments set currency = 'EUR' where order_id = '{refunded}'"),
    )
    .await;
    let ended = reconcile(&rig).await;
    ends(&ended, 1, "reconcile: 2 charges, 1 refunds, 2 differences");
    assert!(ended.stdout.contains("another currency"), "{}", ended.stdout);
}

#[tokio::test]
async fn a_charge_that_is_at_the_provider_twice_is_a_difference() {
    let (rig, served, _) = world().await;
    let id = charge_by_hand(&rig, 1_999, "usd", Some(&served)).await;
    let ended = reconcile(&rig).await;
    ends(&ended, 1, "reconcile: 3 charges, 1 refunds, 1 differences");
    assert!(
        ended.stdout.contains("2 times") && ended.stdout.contains(&id),
        "{}",
        ended.stdout
    );
}

#[tokio::test]
async fn money_of_an_order_that_we_do_not_know_is_a_difference() {
    let (rig, _, _) = world().await;
    let unknown = uuid::Uuid::now_v7().to_string();
    charge_by_hand(&rig, 500, "usd", Some(&unknown)).await;
    let ended = on_stores(&rig, &["reconcile", "--json"]).await;
    let report: Value = serde_json::from_str(&ended.stdout).expect("one JSON object");
    let shown = &report["shown"][0];
    assert_eq!((ended.status, &report["differences"]), (Some(1), &Value::from(1)));
    assert_eq!(
        (&shown["order_id"], &shown["order_status"], &shown["difference"]),
        (&Value::from(unknown), &Value::Null, &Value::from("not in the ledger"))
    );
}

#[tokio::test]
async fn an_order_that_changed_in_the_last_minute_is_in_flight_and_no_difference() {
    let (rig, served, _) = world().await;
    let change = format!(
        "delete from payments where order_id = '{served}';
         update order_sagas set updated_at = now() where order_id = '{served}'"
    );
    plant(&rig, &change).await;
    let ended = reconcile(&rig).await;
    ends(&ended, 0, "reconcile: 2 charges, 1 refunds, 0 differences");
    assert!(
        ended.stdout.contains("in flight") && ended.stdout.contains(&served),
        "{}",
        ended.stdout
    );
}

#[tokio::test]
async fn money_that_carries_no_order_is_counted_and_no_difference() {
    let (rig, served, _) = world().await;
    let shop = charge_by_hand(&rig, 700, "usd", None).await;
    refund_by_hand(&rig, &shop, 700).await;
    let ended = reconcile(&rig).await;
    ends(&ended, 0, "reconcile: 3 charges, 2 refunds, 0 differences");
    assert!(
        ended.stdout.contains("2 movements without an order"),
        "{}",
        ended.stdout
    );
    assert!(!ended.stdout.contains(&served), "{}", ended.stdout);
}

#[tokio::test]
async fn a_provider_that_is_not_there_is_told_in_one_line() {
    let (rig, _, _) = world().await;
    let gone = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let ended = on_stores(&rig, &["reconcile", "--payments-url", &format!("http://{gone}")]).await;
    assert_eq!((ended.status, ended.stderr.lines().count()), (Some(69), 1), "{ended:?}");
}

#[tokio::test]
async fn a_wrong_key_is_said_once_and_names_the_setting() {
    let rig = Rig::start().await;
    let ended = on_stores(&rig, &["reconcile", "--payments-secret-key", "of_somebody_else"]).await;
    assert_eq!(ended.status, Some(69), "{ended:?}");
    assert_eq!(ended.stderr.matches("credentials").count(), 1, "{ended:?}");
    assert!(ended.stderr.contains("payments.secret_key"), "{ended:?}");
}
