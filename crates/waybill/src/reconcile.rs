//! `waybill reconcile`: the payment provider's list beside the ledger.

use std::path::Path;

use serde_json::{Value, json};
use waybill_server::app::{Difference, Entry, Reconciled, run_reconcile};

use crate::Failure;
use crate::cli::{AuditArgs, load};
use crate::table::{amount, table};

#[allow(clippy::print_stdout, reason = "the command's answer")]
pub async fn run(file: Option<&Path>, args: AuditArgs) -> Result<(), Failure> {
    let config = load(file, &args.stores.flags())?;
    let reconciled = run_reconcile(&config).await.map_err(Failure::unavailable)?;
    if args.json {
        println!("{}", to_json(&reconciled));
    } else {
        for line in lines(&reconciled) {
            println!("{line}");
        }
    }
    if reconciled.found.differences == 0 {
        Ok(())
    } else {
        Err(Failure::Found)
    }
}

fn lines(reconciled: &Reconciled) -> Vec<String> {
    let found = &reconciled.found;
    let mut lines = Vec::new();
    if !found.shown.is_empty() {
        let mut table = table(&[
            "order",
            "which is",
            "",
            "difference",
            "in the ledger",
            "at the provider",
        ]);
        for one in &found.shown {
            let difference = if one.in_flight {
                format!("in flight: {}", one.difference)
            } else {
                one.difference.clone()
            };
            let theirs: Vec<String> = one.theirs.iter().map(entry).collect();
            table.add_row([
                one.order.to_string(),
                one.order_status.clone().unwrap_or_else(|| "not known".to_owned()),
                one.kind.clone(),
                difference,
                one.ours.as_ref().map(entry).unwrap_or_default(),
                theirs.join("\n"),
            ]);
        }
        lines.push(table.to_string());
    }
    let shown = i64::try_from(found.shown.len()).unwrap_or(i64::MAX);
    let more = found.differences.saturating_add(found.in_flight).saturating_sub(shown);
    if more > 0 {
        lines.push(format!("and {more} more"));
    }
    if found.without_order > 0 {
        lines.push(format!(
            "{} movements without an order at the provider: not ours, and not compared",
            found.without_order
        ));
    }
    lines.push(format!(
        "reconcile: {} charges, {} refunds, {} differences",
        reconciled.charges, reconciled.refunds, found.differences
    ));
    lines
}

fn entry(entry: &Entry) -> String {
    format!("{} {}", entry.provider_id, amount(entry.amount_minor, &entry.currency))
}

fn to_json(reconciled: &Reconciled) -> Value {
    let found = &reconciled.found;
    let entry = |entry: &Entry| json!({ "provider_id": entry.provider_id, "amount_minor": entry.amount_minor, "currency": entry.currency });
    let difference = |one: &Difference| {
        json!({
            "order_id": one.order.to_string(),
            "order_status": one.order_status,
            "kind": one.kind,
            "difference": one.difference,
            "in_flight": one.in_flight,
            "in_ledger": one.ours.as_ref().map(entry),
            "at_the_provider": one.theirs.iter().map(entry).collect::<Vec<_>>(),
        })
    };
    json!({
        "charges": reconciled.charges,
        "refunds": reconciled.refunds,
        "without_order": found.without_order,
        "differences": found.differences,
        "in_flight": found.in_flight,
        "shown": found.shown.iter().map(difference).collect::<Vec<_>>(),
    })
}
