//! An audit that cannot be red is worth nothing: each of its checks is shown a violation of its promise.

use std::collections::BTreeSet;

use jiff::Timestamp;
use uuid::Uuid;
use waybill_proto::order::v1::OrderStatus;
use waybill_server::app::{Sources, run_audit};
use waybill_server::storage::audit::CHECKS;

use crate::rig::{PICKUP, Rig, a_ride, until};

/// The world before the violation.
struct World {
    rig: Rig,
    served: String,
    refunded: String,
}

/// How a promise is broken.
enum Violation {
    /// In our books. `SERVED` and `REFUNDED` stand for the two orders.
    Books(&'static str),
    /// At the provider: movements as (order, charged, refunded), in this order.
    Provider(&'static [(Order, i64, &'static [i64])]),
    /// The client was told something else.
    Answered(Order, &'static str),
    /// The client was told of a fix that nobody has.
    Acknowledged,
}

#[derive(Clone, Copy)]
enum Order {
    Served,
    Unknown,
}

use Violation::{Acknowledged, Answered, Books, Provider};

/// What the audit must say, and what was done.
const CASES: &[(&str, Violation)] = &[
    (
        "charged twice by the provider",
        Provider(&[(Order::Served, 1_999, &[])]),
    ),
    (
        "refunded twice by the provider",
        Provider(&[(Order::Served, 1_999, &[1_000, 999])]),
    ),
    (
        "refunded more than charged",
        Provider(&[(Order::Unknown, 5_000, &[]), (Order::Served, 0, &[5_000])]),
    ),
    (
        "money moved for an unknown order",
        Provider(&[(Order::Unknown, 1, &[])]),
    ),
    (
        "not settled after 60 s, and not flagged",
        Books(
            "update order_sagas set status = 'charging', finished_at = null, created_at = now() - interval '61 s' where order_id = SERVED",
        ),
    ),
    (
        "paid, neither served nor refunded",
        Books("delete from order_assignments"),
    ),
    (
        "paid, neither served nor refunded",
        Books("update order_assignments set released_at = now(), released_seq = 9, release_reason = 'cancelled'"),
    ),
    (
        "served but not paid",
        Books("delete from payments where order_id = SERVED"),
    ),
    (
        "served but not paid",
        Books(
            "update payments set refunded_at = now(), refund_amount = amount, provider_refund_id = 'x'
                where order_id = SERVED",
        ),
    ),
    (
        "an answered order is lost or changed",
        Answered(Order::Served, "refunded"),
    ),
    (
        "an answered order is lost or changed",
        Answered(Order::Unknown, "succeeded"),
    ),
    (
        "the log lacks a step",
        Books("delete from order_saga_steps where order_id = SERVED and step = 'assign'"),
    ),
    (
        "the log lacks a step",
        Books("delete from order_saga_steps where order_id = REFUNDED and step = 'refund'"),
    ),
    (
        "ledger and provider differ on a charge",
        Books("update payments set amount = 2000 where order_id = SERVED"),
    ),
    (
        "ledger and provider differ on a charge",
        Books("delete from payments where order_id = REFUNDED"),
    ),
    (
        "ledger and provider differ on a refund",
        Books("update payments set refund_amount = 1 where order_id = REFUNDED"),
    ),
    (
        "the provider lacks a movement of the ledger",
        Books("update payments set provider_charge_id = 'pi_of_nobody' where order_id = SERVED"),
    ),
    (
        "the provider lacks a movement of the ledger",
        Books("update payments set provider_refund_id = 're_of_nobody' where order_id = REFUNDED"),
    ),
    (
        "the provider lacks a movement of the ledger",
        Books("update payments set currency = 'EUR' where order_id = SERVED"),
    ),
    (
        "a driver with two active orders",
        Books(
            "drop index order_assignments_one_active;
               insert into order_assignments (order_id, driver_id, assigned_seq) values (REFUNDED, 'cab-1', 9)",
        ),
    ),
    (
        "a driver held two orders at once",
        Books(
            "insert into order_assignments
                      (order_id, driver_id, assigned_seq, released_at, released_seq, release_reason)
               values (REFUNDED, 'cab-1', 9, now(), 10, 'completed')",
        ),
    ),
    (
        "a driver held two orders at once",
        Books(
            "insert into past_assignments (order_id, driver_id, assigned_at, assigned_seq, released_seq, release_reason)
               values (REFUNDED, 'cab-1', now(), 0, 9, 'silent')",
        ),
    ),
    (
        "a worker wrote after it lost the order",
        Books(
            "insert into order_saga_steps (order_id, step, status, fence, actor)
               values (REFUNDED, 'refund', 'unknown', 0, 'a zombie')",
        ),
    ),
    (
        "a driver's state and assignments differ",
        Books("update drivers set active_order_id = null"),
    ),
    ("an acknowledged fix is not stored", Acknowledged),
    (
        "a fix behind the cursor is not stored",
        Books("delete from driver_locations"),
    ),
];

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
    save_books(&world).await;
    world
}

/// The checks that find something, once the violation is there; the books are as before afterwards.
async fn found(world: &World, violation: &Violation) -> BTreeSet<&'static str> {
    let mut sources = Sources {
        provider: true,
        stream: true,
        answered_orders: Some(vec![(id(world, Order::Served), "succeeded".to_owned())]),
        acknowledged_fixes: Some(Vec::new()),
    };
    match violation {
        Books(statement) => {
            let statement = statement
                .replace("SERVED", &format!("'{}'", world.served))
                .replace("REFUNDED", &format!("'{}'", world.refunded));
            change_books(world, &statement).await;
        }
        Provider(movements) => move_money(world, movements).await,
        Answered(order, status) => sources.answered_orders = Some(vec![(id(world, *order), (*status).to_owned())]),
        Acknowledged => sources.acknowledged_fixes = Some(vec![("ghost".to_owned(), Timestamp::now())]),
    }
    let report = run_audit(&world.rig.config_past_proxies(), sources).await.unwrap();
    assert_eq!(report.checks(), CHECKS.len(), "every check has its witness");
    restore_books(world).await;
    let red = report.findings.iter().filter(|finding| finding.count > 0);
    red.map(|finding| finding.check.violation).collect()
}

/// Past the triggers and foreign keys that guard against it.
async fn change_books(world: &World, statements: &str) {
    let planted = format!("set session_replication_role = replica; {statements}");
    world.rig.sql().await.batch_execute(&planted).await.unwrap();
}

/// What a case may touch.
const TABLES: [&str; 7] = [
    "order_sagas",
    "order_saga_steps",
    "payments",
    "drivers",
    "order_assignments",
    "past_assignments",
    "driver_locations",
];

async fn save_books(world: &World) {
    let save = TABLES.map(|table| format!("create table saved.{table} as table {table};"));
    change_books(world, &format!("create schema saved; {}", save.concat())).await;
}

async fn restore_books(world: &World) {
    let restore = TABLES.map(|table| {
        format!("delete from {table}; insert into {table} overriding system value select * from saved.{table};")
    });
    let index = "create unique index if not exists order_assignments_one_active
                     on order_assignments (driver_id) where released_at is null";
    change_books(world, &format!("{}{index}", restore.concat())).await;
}

fn id(world: &World, order: Order) -> Uuid {
    match order {
        Order::Served => world.served.parse().unwrap(),
        Order::Unknown => Uuid::now_v7(),
    }
}

/// Charges and refunds at the provider, behind the server's back. A refund without a charge of its own is of the charge
/// before it, in another order's name.
async fn move_money(world: &World, movements: &[(Order, i64, &[i64])]) {
    let mut intent = String::new();
    for (order, charged, refunded) in movements {
        let order = id(world, *order).to_string();
        if *charged > 0 {
            let form = [
                ("amount", charged.to_string()),
                ("currency", "usd".to_owned()),
                ("payment_method", "pm_card_visa".to_owned()),
                ("confirm", "true".to_owned()),
                ("metadata[order_id]", order.clone()),
            ];
            intent = world.rig.at_provider("payment_intents", &form).await;
        }
        for amount in *refunded {
            let form = [
                ("payment_intent", intent.clone()),
                ("amount", amount.to_string()),
                ("metadata[order_id]", order.clone()),
            ];
            world.rig.at_provider("refunds", &form).await;
        }
    }
}

#[tokio::test]
async fn every_check_of_the_audit_finds_its_violation() {
    let shared = world().await;
    for (expected, violation) in CASES {
        // What was moved at the provider cannot be taken back: such a case has a world of its own.
        let found = match violation {
            Provider(_) => found(&world().await, violation).await,
            _ => found(&shared, violation).await,
        };
        assert!(found.contains(expected), "{expected}: found {found:?}");
    }
    shared.rig.assert_clean().await;
}

#[test]
fn every_check_of_the_audit_has_a_case() {
    let checks: BTreeSet<_> = CHECKS.iter().map(|check| check.violation).collect();
    let cases: BTreeSet<_> = CASES.iter().map(|(violation, _)| *violation).collect();
    assert_eq!(checks, cases, "a check without a case here has never been red");
}
