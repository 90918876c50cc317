//! `waybill load ingest` and `waybill load trace` on a real server: what was acknowledged is what is stored.

use std::fmt::Write as _;
use std::path::PathBuf;

use testkit::Rig;
use testkit::process::waybill;

use super::load::{all_answered, load, operation};

/// sysexits(3): a file of the command line cannot be used.
const USAGE: Option<i32> = Some(64);

const STORED: &str = "select count(*) from (select distinct driver_id, recorded_at from driver_locations
    where driver_id like 'load-driver-%') as fixes";

#[tokio::test]
async fn every_fix_of_a_load_is_acknowledged_and_stored_once() {
    let rig = Rig::start().await;
    let args = "ingest --rate 2000 --drivers 400 --for 3s --warm-up 0s";
    let (ended, report) = load(&rig, args).await;

    assert_eq!(ended.status, Some(0), "{ended:?}");
    let answered = all_answered(&report, "fix");
    // Six thousand, and five standard deviations of a Poisson process.
    assert!((5_600..6_400).contains(&answered), "{answered}");
    rig.until_written().await;
    assert_eq!(rig.count(STORED).await, i64::try_from(answered).unwrap());
    assert_eq!(report["settings"]["streams"], "4");
}

#[tokio::test]
async fn a_closed_loop_of_fixes_goes_as_fast_as_the_server_takes_them() {
    let rig = Rig::with("limits.fixes_per_driver.per_second=100000 limits.fixes_per_driver.burst=100000").await;
    let args = "ingest --count 20000 --drivers 100 --streams 2 --warm-up 0s";
    let (ended, report) = load(&rig, args).await;

    assert_eq!(ended.status, Some(0), "{ended:?}");
    assert_eq!(all_answered(&report, "fix"), 20_000);
    rig.until_written().await;
    assert_eq!(rig.count(STORED).await, 20_000);
}

/// A city of one cab, with one ride, and a line that is broken.
fn city(rig: &Rig) -> (PathBuf, PathBuf) {
    let start = 1_211_590_800;
    let mut fixes = "recorded_at,driver_id,lat,long\n".to_owned();
    for second in (0..300).step_by(5) {
        writeln!(fixes, "{},cab,37.79,-122.42", start + second).unwrap();
    }
    fixes.push_str("soon,cab,37.79,-122.42\n");
    let rides = format!(
        "requested_at,pickup_lat,pickup_long,completed_at,dropoff_lat,dropoff_long\n{},37.79,-122.42,{},37.8,-122.42\n",
        start + 100,
        start + 150
    );
    let (locations_file, rides_file) = (rig.folder().join("cabs.csv"), rig.folder().join("rides.csv"));
    std::fs::write(&locations_file, fixes).unwrap();
    std::fs::write(&rides_file, rides).unwrap();
    (locations_file, rides_file)
}

#[tokio::test]
async fn a_recorded_city_is_played_and_its_broken_line_is_named() {
    let rig = Rig::start().await;
    let (locations, rides) = city(&rig);
    let (locations, rides) = (locations.display(), rides.display());
    let args = format!("trace --locations {locations} --rides {rides} --speed 100");
    let (ended, report) = load(&rig, &args).await;

    // All of it was played but the broken line, and a script should know.
    assert_eq!(ended.status, Some(1), "{ended:?}");
    assert_eq!(all_answered(&report, "fix"), 60);
    for name in ["order", "CreateOrder", "CompleteOrder"] {
        assert_eq!(all_answered(&report, name), 1, "{name}");
    }
    assert_eq!(report["pace"], "recorded");
    assert_eq!(report["broken_lines"], 1);
    let broken = format!("{locations}:62: recorded_at `soon` is not a time in Unix seconds");
    assert_eq!(report["first_broken_lines"], serde_json::json!([broken]));
    assert!(ended.stderr.contains(&broken), "{}", ended.stderr);
    rig.until_written().await;
    assert_eq!(rig.count("select count(*) from driver_locations").await, 60);
    let completed = "select count(*) from order_saga_steps where step = 'complete' and status = 'succeeded'";
    assert_eq!(rig.count(completed).await, 1);
    assert_eq!(operation(&report, "fix")["stages"], serde_json::json!([]));
}

#[tokio::test]
async fn a_trace_that_is_not_there_is_reported_in_one_line() {
    let rig = Rig::start().await;
    let args = ["load", "trace", "--locations", "/nowhere/cabs.csv", "--grpc-addr"];
    let ended = waybill(&[&args[..], &[&rig.grpc_addr()]].concat(), &[]).await;
    assert_eq!(ended.status, USAGE, "{ended:?}");
    assert_eq!(ended.stderr.lines().count(), 1, "{}", ended.stderr);
    assert!(ended.stderr.contains("/nowhere/cabs.csv"), "{}", ended.stderr);
}
