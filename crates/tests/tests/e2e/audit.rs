//! An audit that cannot be red is worth nothing: each of its checks is shown a violation of its promise.

use std::collections::BTreeSet;

use jiff::Timestamp;
use serde_json::Value;
use testkit::table::rows;
use testkit::wire::{PICKUP, a_ride};
use testkit::{Rig, until};
use tokio_postgres::SimpleQueryMessage;
use uuid::Uuid;
use waybill_proto::order::v1::OrderStatus;
use waybill_server::app::{Sources, run_audit};
use waybill_server::storage::all_statements;
use waybill_server::storage::audit::CHECKS;

/// The world before the violation.
struct World {
    rig: Rig,
    served: String,
    refunded: String,
}

#[derive(Clone, Copy)]
enum Order {
    Served,
    Unknown,
}

type Movement = (Order, i64, &'static [i64]);

/// What the audit must report, and what was planted in the ledger. `SERVED` and `REFUNDED` stand for the two orders.
const IN_THE_LEDGER: &str = "
not settled after 60 s, and not flagged | update order_sagas
    set status = 'charging', finished_at = null, created_at = now() - interval '61 s' where order_id = SERVED
paid, neither served nor refunded | delete from order_assignments
paid, neither served nor refunded | update order_assignments
    set released_at = now(), released_seq = 9, release_reason = 'cancelled'
captured more than was decided, and not refunded | update payments set to_capture = 1000 where order_id = SERVED
served but not paid | delete from payments where order_id = SERVED
served but not paid | insert into refunds
    (order_id, number, amount, currency, origin, state, provider_refund_id, settled_at)
    select order_id, 1, amount, currency, 'compensation', 'succeeded', 'x', now() from payments where order_id = SERVED
a refund or a capture is open, and no worker is to make it | update payments
    set captured_amount = null, captured_at = null, to_capture = 1 where order_id = SERVED
served but not paid | update payments set captured_amount = null, captured_at = null where order_id = SERVED;
    update order_sagas set payment_mode = 'capture_at_assignment' where order_id = SERVED
refunded what was to be kept as a fee | update payments set kept_amount = 1 where order_id = REFUNDED
a payment differs from the sum of its refunds | update payments set refund_amount = 1 where order_id = REFUNDED
a refund or a capture is open, and no worker is to make it | insert into refunds (order_id, number, amount, currency, origin)
    select order_id, 1, 100, currency, 'request' from payments where order_id = SERVED
the log lacks a step | delete from order_saga_steps where order_id = SERVED and step = 'assign'
the log lacks a step | delete from order_saga_steps where order_id = REFUNDED and step = 'refund'
ledger and provider differ on a charge | update payments set amount = 2000, captured_amount = 2000 where order_id = SERVED
ledger and provider differ on a charge | delete from payments where order_id = REFUNDED
ledger and provider differ on a refund | delete from refunds where order_id = REFUNDED
the provider lacks a movement of the ledger | update payments
    set provider_charge_id = 'pi_unknown' where order_id = SERVED
the provider lacks a movement of the ledger | update refunds
    set provider_refund_id = 're_unknown' where order_id = REFUNDED
the provider lacks a movement of the ledger | update payments set currency = 'EUR' where order_id = SERVED
a driver with two active orders | drop index order_assignments_one_active;
    insert into order_assignments (order_id, driver_id, assigned_seq) values (REFUNDED, 'cab-1', 9)
a driver held two orders at once | insert into order_assignments
    (order_id, driver_id, assigned_seq, released_at, released_seq, release_reason)
    values (REFUNDED, 'cab-1', 9, now(), 10, 'completed')
a driver held two orders at once | insert into past_assignments
    (order_id, driver_id, assigned_at, assigned_seq, released_seq, release_reason)
    values (REFUNDED, 'cab-1', now(), 0, 9, 'silent')
a worker wrote after it lost the order | insert into order_saga_steps (order_id, step, status, fence, actor)
    values (REFUNDED, 'refund', 'unknown', 0, 'a zombie')
a driver's state and assignments differ | update drivers set active_order_id = null
money moved at another account than the order's | update order_sagas set payment_account = 'acme' where order_id = SERVED
a fix behind the cursor is not stored | delete from driver_locations
";

/// What the audit must report, and the movements at the provider: (order, charged, refunded), in this order.
const AT_THE_PROVIDER: &[(&str, &[Movement])] = &[
    ("charged twice by the provider", &[(Order::Served, 1_999, &[])]),
    (
        "refunded by the provider, and not in the ledger",
        &[(Order::Unknown, 5_000, &[]), (Order::Served, 0, &[1_000, 999])],
    ),
    (
        "refunded more than charged",
        &[(Order::Unknown, 5_000, &[]), (Order::Served, 0, &[5_000])],
    ),
    ("money moved for an unknown order", &[(Order::Unknown, 100, &[])]),
];

/// What the audit must report, and an answer that no order has.
const AT_THE_CLIENTS: &[(&str, Order, &str)] = &[
    ("an answered order is lost or changed", Order::Served, "refunded"),
    ("an answered order is lost or changed", Order::Unknown, "succeeded"),
];
const LOST_FIX: &str = "an acknowledged fix is not stored";

/// One order that was served by cab-1, one that was refunded, and a fix in the history; the audit is clean.
async fn world() -> World {
    let rig = Rig::builder().set("orders.assignment_window", "0s").start().await;
    rig.driver_at("cab-1", PICKUP.0, PICKUP.1).await;
    let served = rig.place(a_ride()).await;
    assert_eq!(served.status(), OrderStatus::Succeeded);
    let refunded = rig.place(a_ride()).await;
    assert_eq!(refunded.status(), OrderStatus::Refunded);
    until("the fix is in the history", async || {
        rig.count("select count(*) from driver_locations").await == 1
    })
    .await;
    rig.assert_clean().await;
    let world = World {
        rig,
        served: served.order_id,
        refunded: refunded.order_id,
    };
    save_ledger(&world).await;
    world
}

impl World {
    /// All of the evidence, which agrees with the ledger.
    fn evidence(&self) -> Sources {
        Sources {
            provider: true,
            stream: true,
            answered_orders: Some(vec![(self.id(Order::Served), "succeeded".to_owned())]),
            acknowledged_fixes: Some(Vec::new()),
        }
    }

    /// This check finds something.
    async fn assert_found(&self, expected: &str, evidence: Sources) {
        let report = run_audit(&self.rig.config_past_proxies(), evidence).await.unwrap();
        assert_eq!(report.checks(), CHECKS.len(), "every check has its evidence");
        let red = report.findings.iter().filter(|finding| finding.count > 0);
        let red: BTreeSet<_> = red.map(|finding| finding.check.violation).collect();
        assert!(red.contains(expected), "{expected}: found {red:?}");
    }

    fn id(&self, order: Order) -> Uuid {
        match order {
            Order::Served => self.served.parse().unwrap(),
            Order::Unknown => Uuid::now_v7(),
        }
    }
}

/// Past the triggers and foreign keys that guard against it.
async fn change_ledger(world: &World, statements: &str) {
    let planted = format!("set session_replication_role = replica; {statements}");
    world.rig.execute(&planted).await;
}

/// What a case may touch.
const TABLES: [&str; 8] = [
    "order_sagas",
    "order_saga_steps",
    "payments",
    "refunds",
    "drivers",
    "order_assignments",
    "past_assignments",
    "driver_locations",
];

async fn save_ledger(world: &World) {
    let save = TABLES.map(|table| format!("create table saved.{table} as table {table};"));
    change_ledger(world, &format!("create schema saved; {}", save.concat())).await;
}

async fn restore_ledger(world: &World) {
    let restore = TABLES.map(|table| {
        format!("delete from {table}; insert into {table} overriding system value select * from saved.{table};")
    });
    let index = "create unique index if not exists order_assignments_one_active
                     on order_assignments (driver_id) where released_at is null";
    change_ledger(world, &format!("{}{index}", restore.concat())).await;
}

/// Charges and refunds at the provider, behind the server's back. A refund without a charge of its own is of the charge
/// before it, in another order's name.
async fn move_money(world: &World, movements: &[Movement]) {
    let mut intent = String::new();
    for (order, charged, refunded) in movements {
        let order = world.id(*order).to_string();
        if *charged > 0 {
            intent = world.rig.charge_by_hand(*charged, "usd", Some(&order)).await;
        }
        for amount in *refunded {
            world.rig.refund_by_hand(&intent, *amount, Some(&order)).await;
        }
    }
}

#[tokio::test]
async fn every_check_of_the_audit_finds_its_violation() {
    let shared = world().await;
    for (expected, planted) in rows(IN_THE_LEDGER) {
        let statement = planted
            .replace("SERVED", &format!("'{}'", shared.served))
            .replace("REFUNDED", &format!("'{}'", shared.refunded));
        change_ledger(&shared, &statement).await;
        shared.assert_found(&expected, shared.evidence()).await;
        restore_ledger(&shared).await;
    }
    for (expected, order, status) in AT_THE_CLIENTS {
        let mut evidence = shared.evidence();
        evidence.answered_orders = Some(vec![(shared.id(*order), (*status).to_owned())]);
        shared.assert_found(expected, evidence).await;
    }
    let mut evidence = shared.evidence();
    evidence.acknowledged_fixes = Some(vec![("ghost".to_owned(), Timestamp::now())]);
    shared.assert_found(LOST_FIX, evidence).await;
    shared.rig.assert_clean().await;

    // What was moved at the provider cannot be taken back: such a case has a world of its own.
    for (expected, movements) in AT_THE_PROVIDER {
        let own = world().await;
        move_money(&own, movements).await;
        own.assert_found(expected, own.evidence()).await;
    }
}

#[test]
fn every_check_of_the_audit_has_a_case() {
    let checks: BTreeSet<_> = CHECKS.iter().map(|check| check.violation.to_owned()).collect();
    let mut cases: BTreeSet<_> = rows(IN_THE_LEDGER)
        .into_iter()
        .map(|(violation, _)| violation)
        .collect();
    let others = AT_THE_PROVIDER.iter().map(|(violation, _)| *violation);
    let others = others.chain(AT_THE_CLIENTS.iter().map(|(violation, ..)| *violation));
    cases.extend(others.chain([LOST_FIX]).map(str::to_owned));
    assert_eq!(checks, cases, "a check without a case here has never been red");
}

/// Assignments of one driver.
const ASSIGNMENTS: i32 = 100_000;

/// Rows that a node of a plan and those below it had, thrown away or not.
fn rows_of(plan: &Value) -> f64 {
    let number = |name: &str| plan[name].as_f64().unwrap_or_default();
    let each = number("Actual Rows") + number("Rows Removed by Filter") + number("Rows Removed by Join Filter");
    let own = each * number("Actual Loops");
    let below = plan["Plans"].as_array().into_iter().flatten().map(rows_of);
    below.sum::<f64>() + own
}

/// No time is measured: a check that compares each with each other one passes billions of rows.
#[tokio::test]
async fn what_an_audit_reads_grows_as_the_ledger_does() {
    let rig = Rig::builder().no_server().start().await;
    rig.execute(&format!(
        "set session_replication_role = replica;
         insert into drivers (driver_id, assignment_seq) values ('cab-1', 2 * {ASSIGNMENTS});
         insert into past_assignments (order_id, driver_id, assigned_at, assigned_seq, released_seq, release_reason)
         select lpad(to_hex(n), 32, '0')::uuid, 'cab-1', now(), 2 * n - 1, 2 * n, 'declined' from generate_series(1, {ASSIGNMENTS}) n;
         analyze"
    ))
    .await;
    let sql = rig.sql().await;
    let of_drivers = |name: &str| name.starts_with("DRIVER_");
    for statement in all_statements().into_iter().filter(|one| of_drivers(one.name)) {
        let explain = format!("explain (analyze, timing off, format json) {}", statement.sql);
        let answer = sql.simple_query(&explain).await.unwrap();
        let text = answer.iter().find_map(|message| match message {
            SimpleQueryMessage::Row(row) => row.get(0),
            _ => None,
        });
        let plan: Value = serde_json::from_str(text.expect("a plan")).unwrap();
        let read = rows_of(&plan[0]["Plan"]);
        assert!(
            read < 12.0 * f64::from(ASSIGNMENTS),
            "{} passes {read} rows of {ASSIGNMENTS}",
            statement.name
        );
    }
    let report = run_audit(&rig.config_past_proxies(), Sources::default()).await.unwrap();
    assert_eq!(report.violations(), 0);
}
