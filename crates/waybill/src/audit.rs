//! `waybill audit`: every guarantee that the database, the provider's list and the stream can show.

use std::path::Path;
use std::time::Instant;

use serde_json::json;
use waybill_server::app::{AuditProgress, Report, Sources, run_audit_with_progress};

use crate::cli::{AuditArgs, load};
use crate::screen::{Screen, View};
use crate::table::{self, Cell, Table};
use crate::{Failure, print};

pub async fn run(file: Option<&Path>, args: AuditArgs) -> Result<(), Failure> {
    let config = load(file, &args.stores.flags())?;
    let sources = Sources {
        provider: args.stores.payments_url.is_some(),
        stream: args.stores.redis_url.is_some(),
        ..Sources::default()
    };
    let progress = AuditProgress::default();
    let screen = screen(&progress, sources.provider);
    let report = run_audit_with_progress(&config, sources, &progress).await;
    screen.end().await;
    let report = report?;
    if args.json {
        print::json(&to_json(&report));
    } else {
        print::lines(table(&report));
        print::line(&verdict(&report));
    }
    if report.violations() == 0 {
        Ok(())
    } else {
        Err(Failure::Found)
    }
}

/// How much of the provider's list was read. The wait for a standby and the checks come after that.
fn screen(progress: &AuditProgress, reads_list: bool) -> Screen {
    let (progress, begun) = (progress.clone(), Instant::now());
    Screen::showing("audit".to_owned(), move || {
        let (elapsed, list) = (begun.elapsed(), progress.read());
        View {
            elapsed,
            expected: (list.share > 0.0).then(|| elapsed.div_f64(list.share)),
            note: match (list.waits_for_standby, reads_list && list.share < 1.0) {
                (true, _) => "waiting until the standby has replayed what was committed by now",
                (false, true) => "",
                (false, false) => "checking",
            },
            rows: reads_list
                .then(|| format!("{:>10} movements of the provider read", list.movements))
                .into_iter()
                .collect(),
        }
    })
}

/// The findings as a table, each violation named.
pub fn table(report: &Report) -> Table {
    let mut table = table::table(&["promise", "there must be no …", "found"]);
    for finding in &report.findings {
        let found = match (finding.missing_evidence(), &finding.violations) {
            (Some(why), _) => Cell::from(format!("not checked: {why}")),
            (None, Some(violations)) if !violations.is_empty() => {
                let more = finding.count - i64::try_from(violations.len()).unwrap_or(0);
                let more = (more > 0).then(|| format!("and {more} more"));
                let first = std::iter::once(finding.count.to_string());
                Cell::lines(first.chain(violations.iter().cloned()).chain(more))
            }
            _ => Cell::from("0"),
        };
        table.add_row([finding.check.promise.into(), finding.check.violation.into(), found]);
    }
    table
}

/// The last line: what was checked, and what was found.
pub fn verdict(report: &Report) -> String {
    let skipped = report.findings.len() - report.checks();
    let skipped = if skipped > 0 {
        format!(", {skipped} not made")
    } else {
        String::new()
    };
    format!(
        "audit: {} checks{skipped}, {} violations",
        report.checks(),
        report.violations()
    )
}

fn to_json(report: &Report) -> serde_json::Value {
    let findings: Vec<_> = report
        .findings
        .iter()
        .map(|finding| {
            json!({
                "promise": finding.check.promise,
                "violation": finding.check.violation,
                "count": finding.violations.as_ref().map(|_| finding.count),
                "shown": finding.violations,
                "not_checked": finding.missing_evidence(),
            })
        })
        .collect();
    json!({ "checks": report.checks(), "violations": report.violations(), "findings": findings })
}
