//! `waybill reconcile`: the payment provider's list beside the ledger.

use std::fmt::Write as _;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use serde_json::{Value, json};
use waybill_server::app::{Difference, Entry, ReconcileRange, Reconciled, Reconciliation};

use crate::cli::{ReconcileArgs, load};
use crate::screen::{Screen, View};
use crate::table::{Cell, amount, table};
use crate::{Failure, causes, print, signals};

/// Why a comparison ended before its end.
enum Cut {
    Failed(String),
    Stopped,
}

pub async fn run(file: Option<&Path>, args: ReconcileArgs) -> Result<(), Failure> {
    if let (Some(from), Some(until)) = (args.from, args.until)
        && until <= from
    {
        return Err(Failure::Usage(format!("--until {until} is not after --from {from}")));
    }
    let config = load(file, &args.stores.flags())?;
    let range = ReconcileRange {
        from: args.from,
        until: args.until,
        window: args.window,
    };
    let mut comparison = Reconciliation::begin(&config, range).await?;
    let cut = compare(&mut comparison).await?;
    let reconciled = comparison.result();
    show(reconciled, args.json);
    match cut {
        None if reconciled.differences == 0 => Ok(()),
        None => Err(Failure::Found),
        Some(Cut::Failed(why)) => Err(Failure::Unavailable(format!(
            "{why}; {}",
            how_to_go_on(reconciled, &args)
        ))),
        Some(Cut::Stopped) => Err(Failure::Interrupted(format!(
            "stopped; {}",
            how_to_go_on(reconciled, &args)
        ))),
    }
}

/// Compares one window after another, and shows how far it is.
async fn compare(comparison: &mut Reconciliation) -> Result<Option<Cut>, Failure> {
    let stop = signals::stop_token()?;
    let shown = Arc::new(Mutex::new(comparison.result().clone()));
    let screen = screen(&shown);
    let cut = loop {
        match stop.run_until_cancelled(comparison.compare_next()).await {
            Some(Ok(true)) => comparison
                .result()
                .clone_into(&mut shown.lock().unwrap_or_else(PoisonError::into_inner)),
            Some(Ok(false)) => break None,
            Some(Err(error)) => break Some(Cut::Failed(causes(error))),
            None => break Some(Cut::Stopped),
        }
    };
    screen.end().await;
    Ok(cut)
}

fn screen(shown: &Arc<Mutex<Reconciled>>) -> Screen {
    let (shown, begun) = (Arc::clone(shown), Instant::now());
    Screen::showing("reconcile".to_owned(), move || {
        let seen = shown.lock().unwrap_or_else(PoisonError::into_inner);
        let (elapsed, share) = (begun.elapsed(), seen.share());
        let movements = seen.charges + seen.refunds;
        View {
            elapsed,
            // As if the rest of the time had as many movements: the bar shows the share of the time.
            expected: (share > 0.0).then(|| elapsed.div_f64(share)),
            note: "",
            rows: vec![format!(
                "{:>10} charges  {:>8} refunds  {:>6} differences  {:>7.0} movements a second  until {:.0}",
                seen.charges,
                seen.refunds,
                seen.differences,
                per_second(movements, elapsed.as_secs_f64()),
                seen.compared_until,
            )],
        }
    })
}

#[expect(clippy::cast_precision_loss, reason = "shown as a whole number")]
fn per_second(count: usize, seconds: f64) -> f64 {
    if seconds > 0.0 { count as f64 / seconds } else { 0.0 }
}

/// Up to where both sides were compared, and the command for the rest. Without the flags of stores: they may have secrets.
fn how_to_go_on(reconciled: &Reconciled, args: &ReconcileArgs) -> String {
    let next = reconciled.compared_until;
    let mut line = format!("compared until {next}. Go on, on the same stores, with: waybill reconcile --from {next}");
    if let Some(until) = args.until {
        let _ = write!(line, " --until {until}");
    }
    if let Some(window) = args.window {
        let _ = write!(line, " --window {}", span(window));
    }
    if args.json {
        line.push_str(" --json");
    }
    line
}

/// As it is written on the command line.
fn span(time: std::time::Duration) -> String {
    let seconds = time.as_secs();
    if time.subsec_millis() > 0 {
        return format!("{}ms", time.as_millis());
    }
    match (seconds % 3_600, seconds % 60) {
        (0, _) => format!("{}h", seconds / 3_600),
        (_, 0) => format!("{}m", seconds / 60),
        _ => format!("{seconds}s"),
    }
}

fn show(reconciled: &Reconciled, as_json: bool) {
    if as_json {
        print::json(&to_json(reconciled));
        return;
    }
    for line in lines(reconciled) {
        print::lines(line);
    }
}

fn lines(found: &Reconciled) -> Vec<String> {
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
            table.add_row([
                one.order.to_string().into(),
                one.order_status.as_deref().unwrap_or("not known").into(),
                one.kind.as_str().into(),
                difference.into(),
                one.ours.as_ref().map(entry).unwrap_or_default().into(),
                Cell::lines(one.theirs.iter().map(entry)),
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
    let until = if found.is_complete() {
        String::new()
    } else {
        format!(", compared until {}", found.compared_until)
    };
    lines.push(format!(
        "reconcile: {} charges, {} refunds, {} differences{until}",
        found.charges, found.refunds, found.differences
    ));
    lines
}

fn entry(entry: &Entry) -> String {
    format!("{} {}", entry.provider_id, amount(entry.amount_minor, &entry.currency))
}

fn to_json(found: &Reconciled) -> Value {
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
        "from": found.from.to_string(),
        "compared_until": found.compared_until.to_string(),
        "complete": found.is_complete(),
        "charges": found.charges,
        "refunds": found.refunds,
        "without_order": found.without_order,
        "differences": found.differences,
        "in_flight": found.in_flight,
        "shown": found.shown.iter().map(difference).collect::<Vec<_>>(),
    })
}
