//! The operator's desk at a terminal, where no server needs to run: `waybill orders`.

use serde_json::Value;
use uuid::Uuid;
use waybill_sandbox::payments::FaultKind;

use crate::cli::on_stores;
use crate::desk::{age_charges, in_doubt_about_its_charge, in_doubt_about_its_refund, refund_by_hand, with_desk};
use crate::rig::process::Ended;
use crate::rig::{PICKUP, Rig};

/// `waybill orders ARGS`, its words parted by spaces; `~` within a word is one.
async fn orders(rig: &Rig, args: &str) -> Ended {
    let words: Vec<String> = args.split(' ').map(|word| word.replace('~', " ")).collect();
    let words: Vec<&str> = ["orders"].into_iter().chain(words.iter().map(String::as_str)).collect();
    on_stores(rig, &words).await
}

/// One line, which names all of these.
#[track_caller]
fn is_refused(ended: &Ended, status: i32, named: &[&str]) {
    assert_eq!(ended.status, Some(status), "{ended:?}");
    assert_eq!(ended.stdout, "", "{ended:?}");
    for name in named {
        assert!(ended.stderr.contains(name), "{name:?} is not in {:?}", ended.stderr);
    }
}

/// An order in doubt with nobody to work on it.
async fn left_alone() -> (Rig, String) {
    let mut rig = with_desk().start().await;
    let order = in_doubt_about_its_charge(&rig, FaultKind::ErrorBeforeEffect).await;
    let flag = "update order_sagas set needs_attention = 'look at this'";
    rig.sql().await.batch_execute(flag).await.unwrap();
    rig.stop_servers().await;
    (rig, order)
}

#[tokio::test]
async fn stuck_orders_are_listed_as_a_table_and_as_json() {
    let (rig, order) = left_alone().await;
    let table = orders(&rig, "list --stuck").await;
    assert_eq!((table.status, table.stderr.as_str()), (Some(0), ""), "{table:?}");
    for word in [order.as_str(), "charging", "look at this"] {
        assert!(table.stdout.contains(word), "{word:?} in\n{}", table.stdout);
    }
    assert_eq!(table.stdout.lines().last(), Some("orders: 1 stuck"));

    let json = orders(&rig, "list --stuck --json").await;
    let report: Value = serde_json::from_str(&json.stdout).expect("one JSON object");
    assert_eq!((json.status, &report["more"]), (Some(0), &Value::from(0)));
    let shown = &report["orders"][0];
    assert_eq!(
        (&shown["order_id"], &shown["status"]),
        (&Value::from(order), &Value::from("charging"))
    );
    assert_eq!(shown["lease_owner"], Value::Null);

    // A table that is cut off says so.
    let flag = "insert into order_sagas (order_id, idempotency_key, user_id, amount, currency, payment_method, status,
                                         pickup_lat, pickup_long, request_hash, fence, needs_attention)
                select gen_random_uuid(), 'a-forgotten-order-' || n, 'user-1', 100, 'USD', 'pm_card_visa',
                       'started', 1, 1, '\\x00', 1, 'look' from generate_series(1, 100) n";
    rig.sql().await.batch_execute(flag).await.unwrap();
    let table = orders(&rig, "list --stuck").await;
    assert_eq!(
        table.stdout.lines().last(),
        Some("orders: 101 stuck, of which 1 more than shown")
    );
}

#[tokio::test]
async fn an_order_is_shown_with_its_log_and_its_attempts() {
    let (rig, order) = left_alone().await;
    let shown = orders(&rig, &format!("show {order}")).await;
    assert_eq!((shown.status, shown.stderr.as_str()), (Some(0), ""), "{shown:?}");
    for word in [
        order.as_str(),
        "charging",
        "look at this",
        "create",
        "unknown",
        "19.99 USD",
        "-charge",
    ] {
        assert!(shown.stdout.contains(word), "{word:?} in\n{}", shown.stdout);
    }
    let json = orders(&rig, &format!("show {order} --json")).await;
    let report: Value = serde_json::from_str(&json.stdout).expect("one JSON object");
    let create = &report["steps"][0];
    assert_eq!(
        (&create["step"], &create["fence"]),
        (&Value::from("create"), &Value::from(1))
    );
    assert!(
        create["actor"]
            .as_str()
            .unwrap()
            .starts_with(&format!("{}-", std::process::id()))
    );
}

#[tokio::test]
async fn an_order_is_retried_by_whoever_says_so() {
    let (rig, order) = left_alone().await;
    let retried = orders(&rig, &format!("retry {order} --by mara --reason the~provider~is~back")).await;
    assert_eq!(retried.status, Some(0), "{retried:?}");
    assert_eq!(retried.stdout, format!("order {order} is due now\n"));
    let query = "select s.next_run_at <= now() and s.needs_attention is not null and s.fence = t.fence,
                        t.actor, t.detail
                   from order_sagas s join order_saga_steps t using (order_id) where t.step = 'retry'";
    let row = rig.sql().await.query_one(query, &[]).await.unwrap();
    assert_eq!(
        (row.get(0), row.get(1), row.get(2)),
        (true, "operator mara", "the provider is back")
    );
}

#[tokio::test]
async fn an_order_is_resolved_while_no_server_runs_and_settles_when_one_does() {
    let mut rig = with_desk().start().await;
    let order = in_doubt_about_its_charge(&rig, FaultKind::ErrorAfterEffectSaved).await;
    rig.driver_at("cab-1", PICKUP.0, PICKUP.1).await;
    rig.stop_servers().await;
    let id = rig.charges()[0].provider_id.clone();
    let args = format!("resolve {order} --as charged --provider-id {id} --by mara --reason looked~it~up");
    let resolved = orders(&rig, &args).await;
    assert_eq!(resolved.status, Some(0), "{resolved:?}");
    assert_eq!(resolved.stdout, format!("order {order} is charged\n"));

    let server = crate::rig::process::ServerProcess::start(&rig, &[]).await;
    rig.until_all_settled().await;
    let query = "select count(*) from order_sagas where status = 'succeeded' and needs_attention is null";
    assert_eq!(rig.count(query).await, 1);
    assert_eq!(server.stop().await.code(), Some(0));
    rig.assert_clean().await;
}

#[tokio::test]
async fn refunds_are_resolved_with_and_without_the_providers_word() {
    let mut rig = with_desk().set("orders.assignment_window", "0s").start().await;
    let by_hand = in_doubt_about_its_refund(&rig).await;
    let elsewhere = in_doubt_about_its_refund(&rig).await;
    rig.stop_servers().await;
    let id = refund_by_hand(&rig, &rig.charges()[0].provider_id, 1_999).await;
    for args in [
        format!("resolve {by_hand} --as refunded --provider-id {id} --by mara --reason by~hand"),
        format!("resolve {elsewhere} --as refunded --provider-id transfer~17 --unverified --by mara --reason by~bank"),
    ] {
        let resolved = orders(&rig, &args).await;
        assert_eq!(resolved.status, Some(0), "{resolved:?}");
        assert!(resolved.stdout.ends_with(" is refunded\n"), "{resolved:?}");
    }
    rig.assert_clean().await;
    let ended = on_stores(&rig, &["reconcile"]).await;
    assert_eq!(
        (ended.status, ended.stdout.lines().last()),
        (Some(0), Some("reconcile: 2 charges, 1 refunds, 0 differences"))
    );
}

#[tokio::test]
async fn each_refusal_has_its_exit_status_and_names_what_is_wrong() {
    let (rig, order) = left_alone().await;
    let unknown = Uuid::now_v7();
    let resolve = "--by mara --reason looked~it~up";
    for (args, status, named) in [
        ("show seven".to_owned(), 64, "UUID"),
        ("retry seven --by mara".to_owned(), 64, "UUID"),
        (format!("show {unknown}"), 1, "no such order"),
        (format!("retry {unknown} --by mara"), 1, "no such order"),
        (
            format!("resolve {unknown} --as not-charged {resolve}"),
            1,
            "no such order",
        ),
        (format!("resolve {order} --as not-charged --by mara"), 64, "--reason"),
        (
            format!("resolve {order} --as not-charged --by mara --reason ~"),
            64,
            "--reason",
        ),
        (
            format!("resolve {order} --as not-charged --by mara --reason two\nlines"),
            64,
            "--reason",
        ),
        (
            format!(
                "resolve {order} --as not-charged --by mara --reason {}",
                "a".repeat(501)
            ),
            64,
            "--reason",
        ),
        (format!("resolve {order} --as lost {resolve}"), 64, "--as"),
        (format!("resolve {order} --as charged {resolve}"), 64, "--provider-id"),
        (
            format!("resolve {order} --as not-charged --provider-id pi_1 {resolve}"),
            64,
            "--provider-id",
        ),
        (
            format!("resolve {order} --as charged --provider-id pi_1 --unverified {resolve}"),
            64,
            "--unverified",
        ),
        (
            format!("resolve {order} --as charged --provider-id pi_nobody {resolve}"),
            1,
            "pi_nobody",
        ),
        (
            format!("resolve {order} --as refunded --provider-id re_1 {resolve}"),
            1,
            "charging",
        ),
    ] {
        is_refused(&orders(&rig, &args).await, status, &[named]);
    }
    let steps = "select count(*) from order_saga_steps where step in ('retry', 'resolve')";
    assert_eq!(rig.count(steps).await, 0, "nothing of all this is in the log");

    age_charges(&rig).await;
    orders(&rig, &format!("resolve {order} --as not-charged {resolve}")).await;
    is_refused(&orders(&rig, &format!("retry {order} --by mara")).await, 1, &["failed"]);
}
