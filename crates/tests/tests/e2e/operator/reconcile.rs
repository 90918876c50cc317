//! `waybill reconcile`: the provider's list against the ledger, each kind of difference planted once.

use std::net::TcpListener;

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use testkit::Rig;
use testkit::process::Ended;
use testkit::table::rows;
use testkit::wire::{PICKUP, a_ride};
use waybill_proto::order::v1::{CompleteOrderRequest, CreateOrderRequest, Money, PaymentMode};

use crate::cli::on_stores;

/// A served and a refunded order, both settled for an hour; their ids.
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
    rig.execute(&format!("set session_replication_role = replica; {statements}"))
        .await;
}

/// Ends with this status and last line, and prints all of these.
#[track_caller]
fn assert_ends(ended: &Ended, status: i32, counts: &str, words: &[&str]) {
    assert_eq!(ended.status, Some(status), "{ended:?}");
    let last = format!("reconcile: {counts} differences");
    assert_eq!(ended.stdout.lines().last(), Some(last.as_str()), "{}", ended.stdout);
    for word in words {
        assert!(ended.stdout.contains(word), "{word:?} in\n{}", ended.stdout);
    }
}

#[tokio::test]
async fn a_ledger_that_agrees_with_the_provider_has_no_difference() {
    let (rig, _, _) = world().await;
    let ended = on_stores(&rig, &["reconcile"]).await;
    assert_ends(&ended, 0, "2 charges, 1 refunds, 0", &[]);
    assert_eq!(ended.errors().len(), 0, "{ended:?}");

    let ended = on_stores(&rig, &["reconcile", "--json"]).await;
    let mut report: Value = serde_json::from_str(&ended.stdout).expect("one JSON object");
    for time in ["from", "compared_until"] {
        let time = report.as_object_mut().unwrap().remove(time).unwrap();
        time.as_str().unwrap().parse::<Timestamp>().expect("a time");
    }
    let expected = json!({
        "complete": true, "charges": 2, "refunds": 1, "without_order": 0, "differences": 0, "in_flight": 0, "shown": [],
    });
    assert_eq!((ended.status, report), (Some(0), expected));
}

/// What is planted, and the words of the difference: of the served order, or of the refunded one.
const DIFFERENCES: &str = "
delete from payments where order_id = SERVED | SERVED charge not~in~the~ledger
delete from refunds | REFUNDED refund not~in~the~ledger
insert into refunds (order_id, number, amount, currency, origin, state, provider_refund_id, settled_at)
    select order_id, 1, amount, currency, 'request', 'succeeded', 're_x', now() from payments where order_id = SERVED
    | SERVED refund not~at~the~provider
update payments set amount = 2000, captured_amount = 2000 where order_id = SERVED | SERVED charge another~amount
update refunds set amount = 1 where order_id = REFUNDED | REFUNDED refund another~amount
update payments set provider_charge_id = 'pi_x' where order_id = SERVED | SERVED charge another~id
";

#[tokio::test]
async fn each_difference_in_the_ledger_is_found_and_named() {
    let (rig, served, refunded) = world().await;
    plant(
        &rig,
        "create table saved as table payments; create table saved_refunds as table refunds",
    )
    .await;
    for (planted, difference) in rows(DIFFERENCES) {
        let statement = planted
            .replace("SERVED", &format!("'{served}'"))
            .replace("REFUNDED", &format!("'{refunded}'"));
        plant(&rig, &statement).await;
        let ended = on_stores(&rig, &["reconcile"]).await;
        let words = difference.replace("SERVED", &served).replace("REFUNDED", &refunded);
        let words = testkit::table::words(&words);
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        assert_ends(&ended, 1, "2 charges, 1 refunds, 1", &words);
        plant(
            &rig,
            "delete from payments; insert into payments select * from saved;
             delete from refunds; insert into refunds select * from saved_refunds",
        )
        .await;
    }
    // The currency is of the charge and of the refund.
    let planted = ["payments", "refunds"]
        .map(|table| format!("update {table} set currency = 'EUR' where order_id = '{refunded}';"))
        .concat();
    plant(&rig, &planted).await;
    let ended = on_stores(&rig, &["reconcile"]).await;
    assert_ends(&ended, 1, "2 charges, 1 refunds, 2", &["another currency"]);
}

#[tokio::test]
async fn a_charge_that_is_at_the_provider_twice_is_a_difference() {
    let (rig, served, _) = world().await;
    let id = rig.charge_by_hand(1_999, "usd", Some(&served)).await;
    let ended = on_stores(&rig, &["reconcile"]).await;
    assert_ends(&ended, 1, "3 charges, 1 refunds, 1", &["2 times", &id]);
}

#[tokio::test]
async fn money_of_an_unknown_order_is_a_difference() {
    let (rig, _, _) = world().await;
    let unknown = uuid::Uuid::now_v7().to_string();
    rig.charge_by_hand(500, "usd", Some(&unknown)).await;
    let ended = on_stores(&rig, &["reconcile", "--json"]).await;
    let report: Value = serde_json::from_str(&ended.stdout).expect("one JSON object");
    assert_eq!((ended.status, &report["differences"]), (Some(1), &json!(1)));
    let shown = &report["shown"][0];
    let found = json!([shown["order_id"], shown["order_status"], shown["difference"]]);
    assert_eq!(found, json!([unknown, null, "not in the ledger"]));
}

#[tokio::test]
async fn an_order_that_changed_in_the_last_minute_is_in_flight_and_no_difference() {
    let (rig, served, _) = world().await;
    let change = format!(
        "delete from payments where order_id = '{served}';
         update order_sagas set updated_at = now() where order_id = '{served}'"
    );
    plant(&rig, &change).await;
    let ended = on_stores(&rig, &["reconcile"]).await;
    assert_ends(&ended, 0, "2 charges, 1 refunds, 0", &["in flight", &served]);
}

#[tokio::test]
async fn money_that_carries_no_order_is_counted_and_no_difference() {
    let (rig, served, _) = world().await;
    let shop = rig.charge_by_hand(700, "usd", None).await;
    rig.refund_by_hand(&shop, 700, None).await;
    let ended = on_stores(&rig, &["reconcile"]).await;
    let words = ["2 movements without an order"];
    assert_ends(&ended, 0, "3 charges, 2 refunds, 0", &words);
    assert!(!ended.stdout.contains(&served), "{}", ended.stdout);
}

#[tokio::test]
async fn a_provider_that_is_not_there_is_reported_in_one_line() {
    let (rig, _, _) = world().await;
    let gone = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let ended = on_stores(&rig, &["reconcile", "--payments-url", &format!("http://{gone}")]).await;
    assert_eq!((ended.status, ended.errors().len()), (Some(69), 1), "{ended:?}");
}

#[tokio::test]
async fn a_wrong_key_is_reported_once_with_the_setting() {
    let rig = Rig::start().await;
    let ended = on_stores(&rig, &["reconcile", "--payments-secret-key", "of_another"]).await;
    assert_eq!(ended.status, Some(69), "{ended:?}");
    assert_eq!(ended.stderr.matches("credentials").count(), 1, "{ended:?}");
    assert!(ended.stderr.contains("payments.secret_key"), "{ended:?}");
}

/// It is looked up by its id where the provider has it at another time.
#[tokio::test]
async fn a_hold_that_was_captured_in_part_is_as_much_as_was_captured_at_whatever_time_it_is_found() {
    let rig = Rig::builder().impatient().start().await;
    rig.driver_at("cab-1", PICKUP.0, PICKUP.1).await;
    let held = CreateOrderRequest {
        payment_mode: PaymentMode::CaptureAtCompletion.into(),
        ..a_ride()
    };
    let order = rig.place(held).await;
    let complete = CompleteOrderRequest {
        order_id: order.order_id.clone(),
        final_amount: Some(Money {
            currency_code: "USD".to_owned(),
            minor_units: 1_500,
        }),
        ..CompleteOrderRequest::default()
    };
    rig.orders().complete_order(complete).await.unwrap();
    rig.until_settled(&order.order_id).await;
    rig.execute(
        "update payments set charged_at = charged_at - interval '2 hours';
         set session_replication_role = replica;
         update order_sagas set updated_at = updated_at - interval '2 hours'",
    )
    .await;
    let time = |hours| (Timestamp::now() - SignedDuration::from_hours(hours)).to_string();
    let (from, until) = (time(3), time(1));
    let ended = on_stores(&rig, &["reconcile", "--from", &from, "--until", &until]).await;
    assert_ends(&ended, 0, "0 charges, 0 refunds, 0", &[]);
}
