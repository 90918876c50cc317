//! What must never be, whatever goes wrong.

use std::collections::BTreeMap;

use tokio_postgres::Client;
use waybill_sandbox::payments::{Movement, MovementKind};

use super::findings::Findings;
use super::ledger_view;

/// What must never be, not even for a moment: money that moved twice, by the provider's ledger.
pub fn check_ledger(ledger: &[Movement], findings: &Findings) {
    let mut orders: BTreeMap<&str, (u32, u32, i64)> = BTreeMap::new();
    for movement in ledger {
        let Some(order) = &movement.order_id else {
            findings.add("M1", &format!("money moved for no order: {movement:?}"));
            continue;
        };
        let (charges, refunds, balance) = orders.entry(order).or_default();
        match movement.kind {
            MovementKind::Charge => {
                *charges += 1;
                *balance += movement.amount_minor;
            }
            MovementKind::Refund => {
                *refunds += 1;
                *balance -= movement.amount_minor;
            }
            MovementKind::FailedRefund => {
                *refunds -= 1;
                *balance += movement.amount_minor;
            }
            // A bank's, not ours.
            MovementKind::DisputeWithdrawal | MovementKind::DisputeReinstatement => {}
        }
    }
    for (order, (charges, refunds, balance)) in orders {
        if charges > 1 || balance < 0 {
            let what = format!("order {order}: {charges} charges, {refunds} refunds, {balance} left");
            findings.add("M1", &what);
        }
    }
}

/// As above, by the database: a driver with two orders, a worker that writes without its lease.
pub async fn check_ledger_view(sql: &Client, findings: &Findings) -> Result<(), tokio_postgres::Error> {
    for driver in ledger_view::drivers_with_two_orders(sql).await? {
        findings.add("D1", &format!("{driver} holds two orders"));
    }
    for line in ledger_view::stale_lines(sql).await? {
        findings.add("D3", &format!("a worker wrote that had lost its lease: {line}"));
    }
    Ok(())
}

/// What no fault outside excuses: a panic, or an error of the log that is no store's absence.
pub fn is_defect(line: &str) -> bool {
    let is_error = line.contains("\"level\":\"ERROR\"");
    let ours = [
        "call failed",
        "order left to the sweeper",
        "cannot be read",
        "payment event not stored",
    ];
    line.contains("panicked") || is_error && ours.iter().any(|message| line.contains(message))
}
