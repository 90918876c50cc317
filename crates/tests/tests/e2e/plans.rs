//! How Postgres runs the program's statements: each is planned once a session, and finds its rows by an index.
//!
//! The plans are those of an empty database, of which nothing is known: such are kept for a while when the tables grow.

use serde_json::Value;
use testkit::{Rig, until};
use tokio_postgres::{Client, SimpleQueryMessage};
use waybill_server::storage::postgres::PLANNER;
use waybill_server::storage::{Statement, server_statements};

use crate::driver_races::store;
use crate::orders::grouped::accept;

/// Tables that stay small, whatever is stored.
const SMALL: [&str; 6] = [
    "schema_migrations",
    "payment_accounts",
    "api_keys",
    "history_cursors",
    "trail_cursor",
    "trails",
];
/// Statements that ask for all that is under way or waits for a person, for what is older or newer than something, or for the newest; and the
/// indexes that are read for that.
const NOT_OF_ONE: [(&str, &str); 21] = [
    ("ARRIVALS", "driver_locations_tx_idx"),
    ("CHANGED", "drivers_duty_changes"),
    ("CLAIM_DUE", "order_sagas_due"),
    ("COUNT_UNFINISHED", "order_sagas_due"),
    ("COUNT_UNFINISHED", "order_sagas_flagged"),
    ("EXPIRE_EVENTS", "payment_events_by_age"),
    ("EXPIRE_KEYS", "order_sagas_keys_by_age"),
    ("EXPIRE_LINKS", "order_shares_by_expiry"),
    ("EXPIRING", "payments_held"),
    ("LAST_LINE", "order_saga_steps_pkey"),
    ("LINES_ABOUT_DRIVER", "order_saga_steps_pkey"),
    ("LIST", "order_sagas_due"),
    ("LIST_OF_USER", "order_sagas_due"),
    ("EARLIEST_DUE", "order_sagas_due"),
    ("LIST_UNFINISHED", "order_sagas_due"),
    ("LIST_UNFINISHED", "order_sagas_flagged"),
    ("REVOKE_LINKS", "order_shares_by_expiry"),
    ("SERVING", "drivers_active_order"),
    ("SERVING_SINCE", "order_assignments_one_active"),
    ("WAITING", "driver_locations_tx_idx"),
    ("WAITING", "order_sagas_due"),
];

/// Scans of one of the tables that an order is written to, and rows that they read.
const SCANS: &str = "select sum(idx_scan)::bigint, sum(idx_tup_read)::bigint from pg_stat_user_indexes where relname = 'payment_attempts'";

async fn session(rig: &Rig) -> Client {
    let sql = rig.sql().await;
    for (name, value) in PLANNER {
        sql.batch_execute(&format!("set {name} = {value}")).await.unwrap();
    }
    sql
}

#[tokio::test]
async fn every_statement_is_planned_once_and_finds_its_rows_by_an_index() {
    let rig = Rig::builder().no_server().start().await;
    let sql = session(&rig).await;
    // As a writer makes them.
    sql.batch_execute(
        "create table driver_locations_1 partition of driver_locations for values from ('2026-01-01') to ('2026-01-02');
         create table driver_locations_2 partition of driver_locations for values from ('2026-01-02') to ('2026-01-03');",
    )
    .await
    .unwrap();
    let mut wrong = Vec::new();
    let statements = server_statements();
    assert!(statements.len() > 100, "{} statements", statements.len());
    for (number, statement) in statements.into_iter().enumerate() {
        let plan = plan(&sql, number, statement).await;
        let mut scans = Vec::new();
        scans_of(&plan, &mut scans);
        let unbounded = scans
            .into_iter()
            .filter(|(_, index)| !NOT_OF_ONE.contains(&(statement.name, of_all_days(index).as_str())));
        wrong.extend(unbounded.map(|(table, index)| format!("{}: all of {table} {index}", statement.name)));
    }
    assert!(wrong.is_empty(), "{} scans:\n{}", wrong.len(), wrong.join("\n"));
    let again = "select coalesce(string_agg(name, ' '), '') from pg_prepared_statements where custom_plans > 0";
    let again: String = sql.query_one(again, &[]).await.unwrap().get(0);
    assert_eq!(again, "", "planned anew for each execution");
}

/// Where tables were analyzed while they were empty, as after a restore, Postgres is sure that there is nothing to read, and that to read all of it
/// is best.
#[tokio::test]
async fn plans_of_empty_tables_are_made_anew_while_the_tables_grow() {
    let rig = Rig::builder().no_server().start().await;
    rig.execute("analyze").await;
    let store = store(&rig, "worker");
    // A session tells what it read once a second, after a transaction.
    let read = until("2000 scans are known of", async || {
        for _ in 0..100 {
            accept(&store).await;
        }
        let scans = rig.sql().await.query_one(SCANS, &[]).await.unwrap();
        let (scans, rows): (i64, i64) = (scans.get(0), scans.get(1));
        if scans < 2_000 { Err(scans) } else { Ok(rows / scans) }
    })
    .await;
    assert!(read < 20, "a scan reads {read} rows, and is for one");
}

/// The plan that the session keeps of the statement, whatever its parameters.
async fn plan(sql: &Client, number: usize, statement: Statement) -> Value {
    let parameters = sql.prepare(statement.sql).await.unwrap().params().len();
    sql.batch_execute(&format!("prepare s{number} as {}", statement.sql))
        .await
        .unwrap_or_else(|error| panic!("{}: {error:?}", statement.name));
    let nulls = vec!["null"; parameters].join(", ");
    let arguments = if parameters == 0 {
        String::new()
    } else {
        format!("({nulls})")
    };
    let explain = format!("explain (format json, costs off) execute s{number}{arguments}");
    let messages = sql.simple_query(&explain).await;
    let messages = messages.unwrap_or_else(|error| panic!("{}: {error:?}", statement.name));
    let text = messages.iter().find_map(|message| match message {
        SimpleQueryMessage::Row(row) => row.get(0),
        _ => None,
    });
    serde_json::from_str(text.expect("a plan")).unwrap()
}

/// Scans of growing tables that no equality in a condition of an index bounds: the table and the index, of which one may be unknown.
fn scans_of<'a>(plan: &'a Value, found: &mut Vec<(&'a str, &'a str)>) {
    match plan {
        Value::Object(node) => {
            let text = |name: &str| node.get(name).and_then(Value::as_str).unwrap_or_default();
            let (table, index) = (text("Relation Name"), text("Index Name"));
            let is_scan = text("Node Type").ends_with("Scan") && !(table.is_empty() && index.is_empty());
            // An equality: a range may be all there is.
            let is_bounded = text("Index Cond").contains(" = ") || text("Node Type") == "Bitmap Heap Scan";
            if is_scan && !is_bounded && !SMALL.contains(&table) && !table.starts_with("pg_") {
                found.push((table, index));
            }
            node.values().for_each(|child| scans_of(child, found));
        }
        Value::Array(children) => children.iter().for_each(|child| scans_of(child, found)),
        _ => {}
    }
}

/// The name of an index of the history without its day.
fn of_all_days(index: &str) -> String {
    index.replace("_1_", "_").replace("_2_", "_")
}
