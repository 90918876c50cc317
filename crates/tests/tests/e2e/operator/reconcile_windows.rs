//! `waybill reconcile` of an account with a past: window by window it finds what one look at the whole list finds, and after
//! an interruption it goes on where it was.

use jiff::{SignedDuration, Timestamp};
use serde_json::Value;
use testkit::process::{Ended, launch, program, read};
use testkit::rig::account::PastPayment;
use testkit::{Rig, until};
use waybill_sandbox::payments::{Fault, FaultKind, FaultTarget};
use waybill_sandbox::process::Signal;

use crate::cli::on_stores;

const HOUR: SignedDuration = SignedDuration::from_hours(1);

fn time(text: &str) -> Timestamp {
    text.parse().unwrap()
}

/// Past the triggers and keys that guard against it.
async fn plant(rig: &Rig, statements: &str) {
    rig.execute(&format!("set session_replication_role = replica; {statements}"))
        .await;
}

async fn reconcile(rig: &Rig, flags: &[&str]) -> Ended {
    on_stores(rig, &[&["reconcile"], flags].concat()).await
}

fn json(ended: &Ended) -> Value {
    serde_json::from_str(&ended.stdout).unwrap_or_else(|error| panic!("{error}: {ended:?}"))
}

/// The differences as `ORDER kind difference`, in the order of their text.
fn differences(report: &Value) -> Vec<String> {
    let text = |one: &Value, field: &str| one[field].as_str().unwrap().to_owned();
    let shown = report["shown"].as_array().unwrap().iter();
    let mut lines: Vec<String> = shown
        .map(|one| {
            ["order_id", "kind", "difference"]
                .map(|field| text(one, field))
                .join(" ")
        })
        .collect();
    lines.sort();
    lines
}

/// The last line of what was printed.
#[track_caller]
fn assert_last_line(ended: &Ended, line: &str) {
    assert_eq!(ended.stdout.lines().last(), Some(line), "{ended:?}");
}

/// Thirty payments, an hour from each other, of which the first five were refunded a day later.
async fn thirty_hours() -> (Rig, Vec<PastPayment>) {
    let rig = Rig::builder().no_server().start().await;
    let mut payments = PastPayment::series(30, time("2026-03-01T00:30:00Z"), HOUR);
    for payment in payments.iter_mut().take(5) {
        payment.refunded_at = Some(payment.charged_at + HOUR * 24);
    }
    rig.add_past_payments(&payments).await;
    (rig, payments)
}

#[tokio::test]
async fn windows_find_what_one_look_at_the_whole_list_finds() {
    let (rig, payments) = thirty_hours().await;
    let alike = reconcile(&rig, &["--window", "1h"]).await;
    assert_last_line(&alike, "reconcile: 30 charges, 5 refunds, 0 differences");
    assert_eq!(alike.status, Some(0));

    let order = |place: usize| payments[place].order;
    let lacking = PastPayment::at(payments[20].charged_at);
    rig.add_to_ledger(&[lacking]).await;
    let planted = format!(
        "delete from payments where order_id = '{}';
         update payments set captured_amount = 7 where order_id = '{}';
         update payments set provider_charge_id = 'pi_x' where order_id = '{}';
         delete from refunds where order_id = '{}';
         insert into refunds (order_id, number, amount, currency, origin, state, provider_refund_id, settled_at)
         select order_id, 1, amount, currency, 'request', 'succeeded', 're_x', charged_at + interval '1 week'
           from payments where order_id = '{}'",
        order(8),
        order(12),
        order(16),
        order(2),
        order(24),
    );
    plant(&rig, &planted).await;
    let mut expected = vec![
        format!("{} charge not in the ledger", order(8)),
        format!("{} charge another amount", order(12)),
        format!("{} charge another id", order(16)),
        format!("{} refund not in the ledger", order(2)),
        format!("{} refund not at the provider", order(24)),
        format!("{} charge not at the provider", lacking.order),
    ];
    expected.sort();
    for window in ["8784h", "1h", "10m"] {
        let ended = reconcile(&rig, &["--json", "--window", window]).await;
        let report = json(&ended);
        assert_eq!(
            (ended.status, differences(&report)),
            (Some(1), expected.clone()),
            "{window}"
        );
        let counts = ["charges", "refunds", "differences"].map(|field| report[field].as_u64().unwrap());
        assert_eq!((counts, &report["complete"]), ([30, 5, 6], &true.into()), "{window}");
    }
    // Only a part of the time: the differences of that part.
    let flags = ["--from", "2026-03-01T12:00:00Z", "--until", "2026-03-01T13:00:00Z"];
    let part = reconcile(&rig, &flags).await;
    assert_last_line(&part, "reconcile: 1 charges, 0 refunds, 1 differences");
    assert!(part.stdout.contains("another amount"), "{part:?}");
}

#[tokio::test]
async fn a_second_charge_in_another_window_is_a_charge_too_many() {
    let rig = Rig::builder().no_server().start().await;
    let [first, again] = ["2026-03-01T10:59:59Z", "2026-03-01T11:00:01Z"].map(time);
    let payment = PastPayment::at(first);
    rig.add_past_payments(&[payment]).await;
    rig.charge_again(&payment, "pi_again", again);
    for flags in [
        ["--from", "2026-03-01T10:00:00Z", "--window", "1h"],
        ["--from", "2026-03-01T11:00:00Z", "--window", "1h"],
        ["--from", "2026-03-01T10:00:00Z", "--window", "4h"],
    ] {
        let ended = reconcile(&rig, &[&flags[..], &["--json"]].concat()).await;
        let report = json(&ended);
        let expected = format!("{} charge at the provider 2 times", payment.order);
        assert_eq!(differences(&report), [expected], "{flags:?}");
        let theirs = report["shown"][0]["at_the_provider"].to_string();
        assert!(
            theirs.contains("pi_again") && theirs.contains(&payment.charge_id()),
            "{theirs}"
        );
    }
}

#[tokio::test]
async fn a_payment_that_the_provider_has_for_another_order_is_a_difference() {
    let (rig, payments) = thirty_hours().await;
    let [one, other] = [payments[10], payments[20]];
    let swap = [
        (one, "pi_kept".to_owned()),
        (other, one.charge_id()),
        (one, other.charge_id()),
    ];
    for (payment, id) in swap {
        let order = payment.order;
        plant(
            &rig,
            &format!("update payments set provider_charge_id = '{id}' where order_id = '{order}'"),
        )
        .await;
    }
    let report = json(&reconcile(&rig, &["--json"]).await);
    let mut expected = [one, other].map(|payment| format!("{} charge another order", payment.order));
    expected.sort();
    assert_eq!(differences(&report), expected);
}

/// The ledger has the time of the answer, and the provider that of the request: seconds lie between them, or days if the
/// outcome was unknown.
#[tokio::test]
async fn a_movement_that_the_ledger_has_under_a_later_time_is_no_difference() {
    let rig = Rig::builder().no_server().start().await;
    let mut payments = PastPayment::series(3, time("2026-03-01T09:59:58Z"), HOUR);
    payments[1].refunded_at = Some(time("2026-03-04T12:59:59Z"));
    rig.add_to_provider(&payments);
    for (payment, late) in payments.iter_mut().zip([3, 5, 48 * 3_600]) {
        let late = SignedDuration::from_secs(late);
        payment.charged_at += late;
        payment.refunded_at = payment.refunded_at.map(|at| at + late);
    }
    rig.add_to_ledger(&payments).await;
    for flags in [
        &["--window", "1h"][..],
        &["--window", "8784h"],
        &["--from", "2026-03-01T10:00:00Z", "--window", "1h"],
        &["--until", "2026-03-01T10:00:00Z"],
    ] {
        let ended = reconcile(&rig, flags).await;
        assert_eq!(ended.status, Some(0), "{flags:?}: {ended:?}");
    }
}

#[tokio::test]
async fn money_from_before_the_first_order_is_compared_too() {
    let (rig, _) = thirty_hours().await;
    let old = PastPayment::at(time("2025-01-01T00:00:00Z"));
    let rig_of_old = Rig::builder().no_server().start().await;
    rig_of_old.add_to_provider(&[old]);
    let ended = reconcile(&rig_of_old, &[]).await;
    assert_last_line(&ended, "reconcile: 1 charges, 0 refunds, 1 differences");
    // In an account without any, there is nothing to find.
    let empty = Rig::builder().no_server().start().await;
    assert_last_line(
        &reconcile(&empty, &[]).await,
        "reconcile: 0 charges, 0 refunds, 0 differences",
    );
    assert_last_line(
        &reconcile(&rig, &[]).await,
        "reconcile: 30 charges, 5 refunds, 0 differences",
    );
}

#[tokio::test]
async fn an_interrupted_run_says_where_to_go_on_and_the_rest_is_found_from_there() {
    let (rig, payments) = thirty_hours().await;
    let changed = [1, 28].map(|place: usize| payments[place].order);
    let planted = format!(
        "update payments set amount = 2000, captured_amount = 2000 where order_id in ('{}', '{}')",
        changed[0], changed[1]
    );
    plant(&rig, &planted).await;

    // Windows of a minute, and longer ones where nothing is: hundreds of calls, all of them refused from some moment on.
    let before = rig.payments().requests();
    let (interrupted, ()) = tokio::join!(reconcile(&rig, &["--window", "1m", "--json"]), async {
        // The first difference is in the 91st window, of two calls.
        until("the first difference is passed", async || {
            rig.payments().requests() > before + 300
        })
        .await;
        let fault = Fault::always(FaultKind::ErrorBeforeEffect).on(FaultTarget::List);
        rig.payments().set_fault(fault);
    });
    rig.payments().clear_faults();
    assert_eq!(interrupted.status, Some(69), "{interrupted:?}");
    let report = json(&interrupted);
    assert_eq!(report["complete"], false);
    assert_eq!(differences(&report), [format!("{} charge another amount", changed[0])]);
    let next = report["compared_until"].as_str().unwrap();
    assert_eq!(interrupted.errors().len(), 1, "{interrupted:?}");
    let hint = format!("waybill reconcile --from {next} --window 1m --json");
    assert!(
        interrupted.stderr.contains("500") && interrupted.stderr.contains(&hint),
        "{interrupted:?}"
    );

    let rest = reconcile(&rig, &["--from", next, "--json"]).await;
    let rest = json(&rest);
    assert_eq!(differences(&rest), [format!("{} charge another amount", changed[1])]);
    let charges = |report: &Value| report["charges"].as_u64().unwrap();
    assert_eq!(charges(&report) + charges(&rest), 30);
}

#[tokio::test]
async fn ctrl_c_ends_a_run_with_what_was_found_and_where_to_go_on() {
    let (rig, payments) = thirty_hours().await;
    let planted = format!("delete from payments where order_id = '{}'", payments[0].order);
    plant(&rig, &planted).await;
    let (log, before) = (rig.folder().join("reconcile.log"), rig.payments().requests());
    let keys = ["postgres.url", "payments.url", "payments.secret_key"];
    let settings = keys.map(|key| (key, rig.flags()[key].as_str()));
    // So slowly that it is not at its end when it is stopped.
    let settings = settings.into_iter().chain([("payments.rate_per_second", "20")]);
    let mut process = launch(&program(), &["reconcile", "--window", "1m"], settings, &log);
    until("some windows are compared", async || {
        rig.payments().requests() > before + 60
    })
    .await;
    process.signal(Signal::SIGINT).unwrap();
    assert_eq!(process.wait().await.unwrap().code(), Some(130));
    let printed = read(&log);
    let hint = printed.lines().last().unwrap();
    assert!(hint.contains("stopped; compared until 2026-03-0"), "{printed}");
    assert!(hint.contains("waybill reconcile --from 2026-03-0"), "{printed}");
    assert!(
        printed.contains("charges, 0 refunds, 1 differences, compared until 2026-03-0"),
        "{printed}"
    );
    assert!(printed.contains(&payments[0].order.to_string()), "{printed}");
}

#[tokio::test]
async fn a_span_of_time_that_has_none_is_refused() {
    let rig = Rig::builder().no_server().start().await;
    for (flags, named) in [
        (
            ["--from", "2026-03-02T00:00:00Z", "--until", "2026-03-01T00:00:00Z"],
            "--until",
        ),
        (["--from", "yesterday", "--window", "1h"], "yesterday"),
        (["--from", "2026-03-02T00:00:00Z", "--window", "0s"], "0s"),
    ] {
        let ended = reconcile(&rig, &flags).await;
        assert_eq!(ended.status, Some(64), "{ended:?}");
        assert!(ended.stderr.contains(named), "{ended:?}");
    }
}
