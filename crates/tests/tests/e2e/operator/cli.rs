//! The operator at a terminal, where no server needs to run: `waybill orders`.

use serde_json::{Value, json};
use testkit::process::Ended;
use testkit::table::{rows, words};
use testkit::wire::PICKUP;
use testkit::{Rig, ServerProcess};
use uuid::Uuid;
use waybill_domain::text::has_refused;
use waybill_sandbox::payments::FaultKind;

use super::in_doubt::{age_charges, age_refunds, charge_in_doubt, refund_in_doubt, with_operator};
use crate::cli::on_stores;

/// `waybill orders ARGS`; `~` within a word is a space.
async fn orders(rig: &Rig, args: &str) -> Ended {
    let words = words(&format!("orders {args}"));
    on_stores(rig, &words.iter().map(String::as_str).collect::<Vec<_>>()).await
}

/// It succeeded, and all of these are in its output.
#[track_caller]
fn assert_shows(ended: &Ended, words: &[&str]) {
    assert_eq!((ended.status, ended.stderr.as_str()), (Some(0), ""), "{ended:?}");
    for word in words {
        assert!(ended.stdout.contains(word), "{word:?} in\n{}", ended.stdout);
    }
}

/// An order in doubt with no worker.
async fn left_alone() -> (Rig, String) {
    let mut rig = with_operator().start().await;
    let order = charge_in_doubt(&rig, FaultKind::ErrorBeforeEffect).await;
    rig.execute("update order_sagas set needs_attention = 'look at this'")
        .await;
    rig.stop_servers().await;
    (rig, order)
}

#[tokio::test]
async fn stuck_orders_are_listed_as_a_table_and_as_json() {
    let (rig, order) = left_alone().await;
    let table = orders(&rig, "list --stuck").await;
    assert_shows(&table, &[&order, "charging", "look at this"]);
    assert_eq!(table.stdout.lines().last(), Some("orders: 1 stuck"));

    let ended = orders(&rig, "list --stuck --json").await;
    let report: Value = serde_json::from_str(&ended.stdout).expect("one JSON object");
    assert_eq!((ended.status, &report["more"]), (Some(0), &json!(0)));
    let shown = &report["orders"][0];
    let found = json!([shown["order_id"], shown["status"], shown["lease_owner"]]);
    assert_eq!(found, json!([order, "charging", null]));

    // A table that is cut off says so.
    rig.execute(
        "insert into order_sagas (order_id, idempotency_key, user_id, amount, currency, payment_method, status,
                                  pickup_lat, pickup_long, request_hash, fence, needs_attention)
         select gen_random_uuid(), 'an-order-of-long-ago-' || n, 'user-1', 100, 'USD', 'pm_card_visa',
                'started', 1, 1, '\\x00', 1, 'look' from generate_series(1, 100) n",
    )
    .await;
    let table = orders(&rig, "list --stuck").await;
    let expected = Some("orders: 101 stuck, of which 1 more than shown");
    assert_eq!(table.stdout.lines().last(), expected);
}

#[tokio::test]
async fn an_order_is_shown_with_its_log_and_its_attempts() {
    let (rig, order) = left_alone().await;
    let shown = orders(&rig, &format!("show {order}")).await;
    let words = ["charging", "look at this", "create", "unknown", "19.99 USD", "-charge"];
    assert_shows(&shown, &[&[order.as_str()][..], &words].concat());
    let ended = orders(&rig, &format!("show {order} --json")).await;
    let report: Value = serde_json::from_str(&ended.stdout).expect("one JSON object");
    let create = &report["steps"][0];
    assert_eq!((&create["step"], &create["fence"]), (&json!("create"), &json!(1)));
    let actor = create["actor"].as_str().unwrap();
    assert!(actor.starts_with(&format!("{}-", std::process::id())), "{actor}");
}

/// Texts of others, and of releases that took more than this one, are in the stores.
#[tokio::test]
async fn what_a_terminal_would_obey_is_printed_by_its_code() {
    let (rig, order) = left_alone().await;
    rig.execute(
        r"update order_sagas set needs_attention = E'look \u202E at this\u001B[2J';
          insert into order_saga_steps (order_id, step, status, detail, fence, actor, requested_by)
          select order_id, 'retry', 'requested', E'by\u2028hand\nand by bank', fence, E'operator an\u00ADna', E'service sh\u200Eop'
            from order_sagas",
    )
    .await;
    let show = format!("show {order}");
    let attention = r"look \u{202e} at this\u{1b}[2J";
    let details = [
        r"by\u{2028}hand\u{a}and by bank",
        r"operator an\u{ad}na for service sh\u{200e}op",
        attention,
    ];
    for (args, shown) in [(show.as_str(), &details[..]), ("list --stuck", &[attention])] {
        let ended = orders(&rig, args).await;
        assert_shows(&ended, shown);
        assert!(!has_refused(&ended.stdout.replace('\n', "")), "{:?}", ended.stdout);
    }
    // For programs it is what it was.
    let ended = orders(&rig, &format!("{show} --json")).await;
    assert!(!has_refused(ended.stdout.trim_end()), "{:?}", ended.stdout);
    let report: Value = serde_json::from_str(&ended.stdout).expect("one JSON object");
    assert_eq!(report["needs_attention"], "look \u{202e} at this\u{1b}[2J", "{report}");
}

#[tokio::test]
async fn an_order_is_retried_by_a_named_operator() {
    let (rig, order) = left_alone().await;
    let retried = orders(&rig, &format!("retry {order} --by mara --reason the~provider~is~back")).await;
    assert_shows(&retried, &[&format!("order {order} is due now\n")]);
    let query = "select s.next_run_at <= now() and s.needs_attention is not null and s.fence = t.fence,
                        t.actor, t.detail
                   from order_sagas s join order_saga_steps t using (order_id) where t.step = 'retry'";
    let row = rig.sql().await.query_one(query, &[]).await.unwrap();
    let found: (bool, &str, &str) = (row.get(0), row.get(1), row.get(2));
    assert_eq!(found, (true, "operator mara", "the provider is back"));
}

#[tokio::test]
async fn an_order_is_resolved_while_no_server_runs_and_settles_when_one_does() {
    let mut rig = with_operator().start().await;
    let order = charge_in_doubt(&rig, FaultKind::ErrorAfterEffectSaved).await;
    rig.driver_at("cab-1", PICKUP.0, PICKUP.1).await;
    rig.stop_servers().await;
    let id = rig.charges()[0].provider_id.clone();
    let args = format!("resolve {order} --as charged --provider-id {id} --by mara --reason looked~it~up");
    assert_shows(&orders(&rig, &args).await, &[&format!("order {order} is charged\n")]);

    let server = ServerProcess::start(&rig, &[]).await;
    rig.until_all_settled().await;
    let query = "select count(*) from order_sagas where status = 'succeeded' and needs_attention is null";
    assert_eq!(rig.count(query).await, 1);
    assert_eq!(server.stop().await.code(), Some(0));
    rig.assert_clean().await;
}

#[tokio::test]
async fn refunds_are_resolved_with_and_without_the_providers_word() {
    let mut rig = with_operator().set("orders.assignment_window", "0s").start().await;
    let by_hand = refund_in_doubt(&rig).await;
    let elsewhere = refund_in_doubt(&rig).await;
    age_refunds(&rig).await;
    rig.stop_servers().await;
    let id = rig.refund_by_hand(&rig.charges()[0].provider_id, 1_999, None).await;
    for args in [
        format!("resolve {by_hand} --as refunded --provider-id {id} --by mara --reason by~hand"),
        format!("resolve {elsewhere} --as refunded --provider-id transfer~17 --unverified --by mara --reason by~bank"),
    ] {
        assert_shows(&orders(&rig, &args).await, &[" is refunded\n"]);
    }
    rig.assert_clean().await;
    let ended = on_stores(&rig, &["reconcile"]).await;
    assert_shows(&ended, &["reconcile: 2 charges, 1 refunds, 0 differences\n"]);
}

/// What is asked, and the exit status and a word of the refusal. `ORDER` is in doubt, `UNKNOWN` no order, `BY` a valid
/// end.
const REFUSED: &str = "
show seven | 64 UUID
retry seven --by mara | 64 UUID
show UNKNOWN | 1 no such order
retry UNKNOWN --by mara | 1 no such order
resolve UNKNOWN --as not-charged BY | 1 no such order
resolve ORDER --as not-charged --by mara | 64 --reason
resolve ORDER --as not-charged --by mara --reason ~ | 64 --reason
resolve ORDER --as not-charged --by mara --reason two%lines | 64 --reason
resolve ORDER --as not-charged --by mara --reason LONG | 64 --reason
resolve ORDER --as lost BY | 64 --as
resolve ORDER --as charged BY | 64 --provider-id
resolve ORDER --as not-charged --provider-id pi_1 BY | 64 --provider-id
resolve ORDER --as charged --provider-id pi_1 --unverified BY | 64 --unverified
resolve ORDER --as charged --provider-id pi_unknown BY | 1 pi_unknown
resolve ORDER --as refunded --provider-id re_1 BY | 1 charging
";

/// Ends with this status, prints nothing, and names what is wrong.
#[track_caller]
fn assert_refused(ended: &Ended, status: i32, named: &str) {
    assert_eq!((ended.status, ended.stdout.as_str()), (Some(status), ""), "{ended:?}");
    assert!(ended.stderr.contains(named), "{named:?} is not in {:?}", ended.stderr);
}

#[tokio::test]
async fn each_refusal_has_its_exit_status_and_names_what_is_wrong() {
    let (rig, order) = left_alone().await;
    let filled = |args: &str| {
        args.replace("UNKNOWN", &Uuid::now_v7().to_string())
            .replace("ORDER", &order)
            .replace("BY", "--by mara --reason looked~it~up")
            .replace("LONG", &"a".repeat(501))
            .replace('%', "\n")
    };
    for (args, refusal) in rows(REFUSED) {
        let (status, named) = refusal.split_once(' ').unwrap();
        let ended = orders(&rig, &filled(&args)).await;
        assert_refused(&ended, status.parse().unwrap(), named);
    }
    let steps = "select count(*) from order_saga_steps where step in ('retry', 'resolve')";
    assert_eq!(rig.count(steps).await, 0, "nothing of all this is in the log");

    age_charges(&rig).await;
    orders(&rig, &filled("resolve ORDER --as not-charged BY")).await;
    assert_refused(&orders(&rig, &format!("retry {order} --by mara")).await, 1, "failed");
}
