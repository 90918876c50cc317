//! `waybill load`: load on a real server, reported in full.

use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use testkit::process::{Ended, launch, program, read, waybill};
use testkit::wire::position;
use testkit::{Rig, until};
use tokio::task::JoinSet;
use waybill_proto::fleet::v1::SearchDriversRequest;
use waybill_sandbox::process::{Process, Signal};

const NOTHING_ANSWERED: Option<i32> = Some(1);

/// Runs load on the rig's server and reads what it measured.
pub async fn load(rig: &Rig, args: &str) -> (Ended, Value) {
    let address = rig.grpc_addr();
    let args = ["load"].into_iter().chain(args.split_whitespace());
    let args: Vec<&str> = args.chain(["--grpc-addr", &address, "--json", "-"]).collect();
    let ended = waybill(&args, &[]).await;
    let report = serde_json::from_str(&ended.stdout);
    let report = report.unwrap_or_else(|error| panic!("{error}: {ended:?}"));
    (ended, report)
}

/// Starts `waybill load ARGS` on the rig's server; what it prints goes to a file.
fn start(rig: &Rig, args: &str, output: &Path) -> Process {
    let address = rig.grpc_addr();
    let args = ["load"].into_iter().chain(args.split_whitespace());
    let args: Vec<&str> = args.chain(["--grpc-addr", &address]).collect();
    launch(&program(), &args, [("", ""); 0], output)
}

/// Waits until so many orders are paid.
async fn until_paid(rig: &Rig, count: usize) {
    until("so many orders are paid", async || {
        let paid = rig.charges().len();
        if paid >= count { Ok(()) } else { Err(paid) }
    })
    .await;
}

/// One operation of a report.
#[track_caller]
pub fn operation<'a>(report: &'a Value, name: &str) -> &'a Value {
    let operations = report["operations"].as_array().unwrap();
    let found = operations.iter().find(|operation| operation["name"] == name);
    found.unwrap_or_else(|| panic!("no {name} in {report}"))
}

/// Every call was answered, and every count of it adds up to the same.
#[track_caller]
pub fn all_answered(report: &Value, name: &str) -> u64 {
    let operation = operation(report, name);
    let totals = &operation["totals"];
    let answered = totals["answered"].as_u64().unwrap();
    assert_eq!(totals["offered"], answered, "{operation}");
    assert_eq!(totals["started"], answered, "{operation}");
    assert_eq!(operation["errors"], json!({}), "{operation}");
    for (parts, count) in [("seconds", "answered"), ("histogram", "count")] {
        let parts = operation[parts].as_array().unwrap();
        let sum: u64 = parts.iter().map(|part| part[count].as_u64().unwrap()).sum();
        assert_eq!(sum, answered, "{operation}");
    }
    answered
}

#[tokio::test]
async fn orders_under_load_are_placed_and_completed_at_the_rate_that_was_asked_for() {
    let rig = Rig::start().await;
    let args = "orders --rate 20 --arrivals constant --for 3s --warm-up 1s";
    let (ended, report) = load(&rig, args).await;

    assert_eq!(ended.status, Some(0), "{ended:?}");
    for name in ["order", "CreateOrder", "CompleteOrder"] {
        assert_eq!(all_answered(&report, name), 60, "{name}");
    }
    // With the 20 of the warm-up.
    assert_eq!(rig.charges().len(), 80);
    let completed = "select count(*) from order_saga_steps where step = 'complete' and status = 'succeeded'";
    assert_eq!(rig.count(completed).await, 80);
    assert_eq!(json!([report["pace"], report["arrivals"]]), json!(["open", "constant"]));
    assert_eq!(report["settings"]["rate"], "20");
    assert_eq!(report["measured_seconds"], 3.0);
    assert_eq!(operation(&report, "order")["stages"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn searches_under_load_find_the_drivers_that_were_put_there() {
    let rig = Rig::start().await;
    let args = "nearby --count 50 --callers 2 --drivers 300 --warm-up 0s";
    let (ended, report) = load(&rig, args).await;

    assert_eq!(ended.status, Some(0), "{ended:?}");
    assert_eq!(all_answered(&report, "SearchDrivers"), 50);
    assert_eq!(json!([report["pace"], report["arrivals"]]), json!(["closed", null]));
    let middle = SearchDriversRequest {
        near: Some(position((0.25, -120.25))),
        radius_meters: 20_000.0,
        max_count: 50,
    };
    let found = rig.fleet().search_drivers(middle).await.unwrap().into_inner();
    assert_eq!(found.drivers.len(), 50, "drivers of the load are on the map");
}

/// Each kind of call has its share of the rate of the fixes, and none of them waits for another.
#[tokio::test]
async fn fixes_searches_and_orders_are_made_at_once_at_their_shares() {
    let rig = Rig::start().await;
    let args = "mixed --rate 200 --arrivals constant --for 3s --warm-up 1s \
                --orders-share 0.05 --nearby-share 0.1 --drivers 100 --streams 2";
    let (ended, report) = load(&rig, args).await;

    assert_eq!(ended.status, Some(0), "{ended:?}");
    for (name, calls) in [
        ("fix", 600),
        ("order", 30),
        ("CreateOrder", 30),
        ("CompleteOrder", 30),
        ("SearchDrivers", 60),
    ] {
        assert_eq!(all_answered(&report, name), calls, "{name}");
    }
    assert_eq!(report["settings"]["orders-share"], "0.05");
}

/// An order that was refunded because no driver came is an answer, and no success.
#[tokio::test]
async fn orders_that_find_no_driver_are_reported_by_their_status() {
    let rig = Rig::with("orders.assignment_radius_m=1 orders.assignment_window=1s").await;
    let (_, report) = load(&rig, "orders --count 5 --callers 5 --warm-up 0s").await;

    assert_eq!(all_answered(&report, "CreateOrder"), 5);
    let order = operation(&report, "order");
    assert_eq!(order["totals"]["failed"], 5, "{order}");
    assert_eq!(order["errors"]["ORDER_STATUS_REFUNDED"], 5, "{order}");
}

#[tokio::test]
async fn a_run_whose_every_call_is_refused_says_that_nothing_was_answered() {
    let rig = Rig::with("limits.reads_in_all.per_second=1 limits.reads_in_all.burst=1 limits.wait_max=1ms").await;
    let search = "nearby --drivers 0 --callers 1 --warm-up 0s --count 1";
    let mut fleet = rig.fleet();
    // Takes each token as it comes.
    let mut others = JoinSet::new();
    others.spawn(async move {
        let anywhere = SearchDriversRequest {
            near: Some(position((0.0, 0.0))),
            ..SearchDriversRequest::default()
        };
        loop {
            let _ = fleet.search_drivers(anywhere).await;
        }
    });
    let (ended, report) = until("a run is refused", async || {
        let (ended, report) = load(&rig, search).await;
        (operation(&report, "SearchDrivers")["totals"]["refused"] == 1).then_some((ended, report))
    })
    .await;
    others.abort_all();

    let searches = operation(&report, "SearchDrivers");
    assert_eq!(searches["errors"]["RESOURCE_EXHAUSTED"], 1, "{searches}");
    assert_eq!(ended.status, NOTHING_ANSWERED, "{ended:?}");
    assert!(ended.stderr.contains("nothing was answered"), "{}", ended.stderr);
}

#[tokio::test]
async fn ctrl_c_ends_a_run_early_and_what_was_measured_is_reported() {
    let rig = Rig::start().await;
    let [json, page, log] = ["load.json", "load.html", "load.log"].map(|name| rig.folder().join(name));
    let files = format!("--json {} --report {}", json.display(), page.display());
    let mut process = start(&rig, &format!("orders --for 10m --warm-up 0s {files}"), &log);
    until_paid(&rig, 20).await;
    process.signal(Signal::SIGINT).unwrap();
    let ended = process.wait().await.unwrap();

    assert_eq!(ended.code(), Some(0));
    let report: Value = serde_json::from_str(&read(&json)).unwrap();
    assert_eq!(report["cut_short"], true);
    assert!(report["measured_seconds"].as_f64().unwrap() < 600.0);
    // Those under way were waited for.
    let paid = u64::try_from(rig.charges().len()).unwrap();
    assert_eq!(all_answered(&report, "order"), paid);
    assert!(read(&page).contains("<html"), "a page was written");
    assert!(read(&log).contains("before its time"));
}

/// A generator that does nothing for a second of four calls late whatever was due in it: more than one call in a
/// hundred.
#[tokio::test]
async fn a_generator_that_was_held_up_says_that_the_numbers_are_its_own() {
    let rig = Rig::start().await;
    let [json, log] = ["load.json", "load.log"].map(|name| rig.folder().join(name));
    let args = "orders --rate 20 --arrivals constant --for 4s --warm-up 0s --json";
    let mut process = start(&rig, &format!("{args} {}", json.display()), &log);
    until_paid(&rig, 1).await;
    process.signal(Signal::SIGSTOP).unwrap();
    let stopped_at = Instant::now();
    until("it was held up for a second", async || {
        stopped_at.elapsed() >= Duration::from_secs(1)
    })
    .await;
    process.signal(Signal::SIGCONT).unwrap();
    let ended = process.wait().await.unwrap();

    assert_eq!(ended.code(), Some(0), "{}", read(&log));
    let report: Value = serde_json::from_str(&read(&json)).unwrap();
    let generator = &report["generator"];
    let reason = generator["limited_by_generator"].as_str();
    let reason = reason.unwrap_or_else(|| panic!("no reason in {generator}"));
    assert!(reason.contains("late"), "{reason}");
    assert!(generator["late_p99_ms"].as_f64().unwrap() > 500.0, "{generator}");
    let log = read(&log);
    assert!(log.contains("the generator's, not the server's"), "{log}");
    // Late, and none of them missing.
    assert_eq!(all_answered(&report, "order"), 80);
}

#[tokio::test]
async fn what_a_full_disk_does_not_take_is_still_shown() {
    let rig = Rig::start().await;
    let page = rig.folder().join("load.html");
    let (address, page_name) = (rig.grpc_addr(), page.display().to_string());
    let run = ["load", "nearby", "--count", "5", "--warm-up", "0s"];
    let files = ["--json", "/dev/full", "--report", &page_name];
    let ended = waybill(&[&run[..], &["--grpc-addr", &address], &files].concat(), &[]).await;

    assert_eq!(ended.status, Some(1), "{ended:?}");
    assert!(ended.stderr.contains("--json: /dev/full"), "{}", ended.stderr);
    assert!(ended.stdout.contains("SearchDrivers"), "{}", ended.stdout);
    assert!(read(&page).contains("<html"), "the other file was written");
}
