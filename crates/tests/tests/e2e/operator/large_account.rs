//! `waybill reconcile` and `waybill audit` of a large account. `RECONCILE_PAYMENTS` says how large; each run prints how long it
//! took and how much memory it had:
//!
//! ```sh
//! RECONCILE_PAYMENTS=1000000 cargo test -p waybill-tests --test e2e large_account -- --nocapture
//! ```

use std::cell::Cell;
use std::fs;
use std::time::{Duration, Instant};

use jiff::SignedDuration;
use serde_json::Value;
use testkit::process::{launch, program, read};
use testkit::rig::account::PastPayment;
use testkit::{Rig, until_within};

/// Some pages, and more than one window.
const PAYMENTS_DEFAULT: usize = 5_000;
/// One payment in so many is refunded, three days later.
const REFUNDED_EACH: usize = 20;
/// Far beyond what a million payments take.
const PATIENCE: Duration = Duration::from_hours(2);

#[tokio::test]
async fn a_large_account_is_compared_and_audited_with_the_memory_of_a_window() {
    let count = std::env::var("RECONCILE_PAYMENTS").map_or(PAYMENTS_DEFAULT, |count| count.parse().unwrap());
    let rig = Rig::builder().no_server().start().await;
    let mut payments = PastPayment::series(
        count,
        "2026-03-01T00:00:00Z".parse().unwrap(),
        SignedDuration::from_secs(1),
    );
    for payment in payments.iter_mut().step_by(REFUNDED_EACH) {
        payment.refunded_at = Some(payment.charged_at + SignedDuration::from_hours(72));
    }
    rig.add_past_payments(&payments).await;
    rig.execute("analyze").await;
    let refunds = count.div_ceil(REFUNDED_EACH);

    let last = run(&rig, &["reconcile"], count + refunds).await;
    assert_eq!(
        last,
        format!("reconcile: {count} charges, {refunds} refunds, 0 differences")
    );
    // The orders have no log and no driver: what counts is what the provider's list shows.
    let report = run(&rig, &["audit", "--json"], count + refunds).await;
    let report: Value = serde_json::from_str(&report).unwrap();
    let findings = report["findings"].as_array().unwrap().iter();
    let of_list: Vec<_> = findings
        .filter(|finding| ["M1", "M9"].contains(&finding["promise"].as_str().unwrap()))
        .collect();
    assert_eq!(of_list.len(), 9);
    assert!(of_list.iter().all(|finding| finding["count"] == 0), "{of_list:?}");
}

/// Runs the command to its end, and prints what it took; its last line.
async fn run(rig: &Rig, args: &[&str], movements: usize) -> String {
    let log = rig.folder().join(format!("{}.log", args[0]));
    let flags = rig.flags();
    let keys = [
        "postgres.url",
        "payments.url",
        "payments.secret_key",
        "payments.rate_per_second",
    ];
    let settings = keys.map(|key| (key, flags[key].as_str()));
    let begun = Instant::now();
    let provider = ["--payments-url", flags["payments.url"].as_str()];
    let mut command = launch(&program(), &[args, &provider].concat(), settings, &log);
    let memory_kib = Cell::new(0);
    let status = format!("/proc/{}/status", command.pid());
    until_within(PATIENCE, async || {
        memory_kib.set(memory_kib.get().max(high_water_kib(&status)));
        command.try_wait().expect("a child").is_some()
    })
    .await
    .expect("the command ends");
    let (seconds, printed) = (begun.elapsed().as_secs_f64(), read(&log));
    println!(
        "{}: {movements} movements in {seconds:.1} s, {:.0} a second, {} MiB at most; it printed:",
        args[0],
        f64::from(u32::try_from(movements).unwrap()) / seconds,
        memory_kib.get() / 1_024,
    );
    for line in printed.lines() {
        println!("    {}", line.chars().take(200).collect::<String>());
    }
    printed.lines().last().unwrap_or_default().to_owned()
}

/// The most memory that a process had so far; 0 once it has ended.
fn high_water_kib(status: &str) -> u64 {
    let status = fs::read_to_string(status).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
    kib.unwrap_or(0)
}
