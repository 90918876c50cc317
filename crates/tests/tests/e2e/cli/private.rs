//! `waybill dev` and `waybill demo`: a private world that is there in one command, and gone after it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::Duration;

use serde_json::Value;
use testkit::process::{launch, program, read, waybill};
use testkit::wire::{a_declined_ride, assert_refused, by, channel, get, get_json};
use testkit::{Rig, until};
use tokio::process::Command;
use tonic::{Code, Request};
use waybill_proto::order::v1::order_service_client::OrderServiceClient;
use waybill_proto::order::v1::{CreateOrderRequest, GetOrderRequest};
use waybill_sandbox::process::{Process, Signal};

const DEV: [&str; 8] = [
    "dev",
    "--grpc-addr",
    "127.0.0.1:0",
    "--http-addr",
    "127.0.0.1:0",
    "--web-addr",
    "127.0.0.1:0",
    "--data-dir",
];

/// `waybill dev` on a folder, ready; and what it wrote for other programs.
async fn dev(rig: &Rig, folder: &Path) -> (Process, BTreeMap<String, String>) {
    let output = rig.folder().join("dev.log");
    let args = [&DEV[..], &[folder.to_str().unwrap()]].concat();
    let mut process = launch(&program(), &args, [("", ""); 0], &output);
    let written = until("dev.env is written", async || {
        let ended = process.try_wait().unwrap().is_some();
        assert!(!ended, "{}", read(&output));
        fs::read_to_string(folder.join("dev.env"))
    })
    .await;
    let lines = written.lines().map(|line| line.split_once('=').expect("KEY=VALUE"));
    let variables = lines.map(|(key, value)| (key.to_owned(), value.to_owned())).collect();
    (process, variables)
}

fn annas_ride() -> CreateOrderRequest {
    CreateOrderRequest {
        user_id: "anna".to_owned(),
        ..a_declined_ride()
    }
}

fn by_anna<T>(variables: &BTreeMap<String, String>, message: T) -> Request<T> {
    by(Some(&variables["CUSTOMER_TOKEN"]), message)
}

/// Processes that run, each with its parent. One that has ended and that its parent has not waited for does not run.
async fn running() -> BTreeMap<u32, u32> {
    let listed = Command::new("ps")
        .args(["-ax", "-o", "pid=,ppid=,stat="])
        .output()
        .await
        .unwrap();
    let listed = String::from_utf8(listed.stdout).unwrap();
    let rows = listed.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    let rows = rows.filter(|row| !row[2].starts_with('Z'));
    rows.map(|row| (row[0].parse().unwrap(), row[1].parse().unwrap()))
        .collect()
}

/// The process and all that it started.
async fn family(head: &Process) -> BTreeSet<u32> {
    let running = running().await;
    let mut family = BTreeSet::from([u32::try_from(head.pid().as_raw()).unwrap()]);
    loop {
        let before = family.len();
        let children = running.iter().filter(|(_, parent)| family.contains(parent));
        let children: Vec<u32> = children.map(|(pid, _)| *pid).collect();
        family.extend(children);
        if family.len() == before {
            return family;
        }
    }
}

async fn until_gone(family: &BTreeSet<u32>) {
    until("no process is left", async || {
        let left: Vec<u32> = running().await.into_keys().filter(|pid| family.contains(pid)).collect();
        if left.is_empty() { Ok(()) } else { Err(left) }
    })
    .await;
}

#[tokio::test]
async fn dev_writes_where_everything_is_and_leaves_nothing_behind() {
    let rig = Rig::builder().no_server().start().await;
    let folder = rig.folder().join("world");
    let (mut process, variables) = dev(&rig, &folder).await;
    for key in ["DATABASE_URL", "REDIS_URL", "PAYMENTS_URL", "GRPC_ADDR", "HTTP_ADDR"] {
        assert!(variables.contains_key(key), "{variables:?}");
    }
    assert_eq!(get(&format!("http://{}/readyz", variables["HTTP_ADDR"])).await.0, 200);
    let mut orders = OrderServiceClient::new(channel(&variables["GRPC_ADDR"]));
    orders.create_order(by_anna(&variables, annas_ride())).await.unwrap();
    until("the provider's webhook is taken", async || {
        let (_, metrics) = get_json(&format!("http://{}/metrics", variables["HTTP_ADDR"])).await;
        let events = metrics["webhooks"]["events"].clone();
        if events["accepted"] == 1 { Ok(()) } else { Err(events) }
    })
    .await;
    let variables: Vec<_> = variables
        .iter()
        .map(|(key, value)| (key.as_str(), value.as_str()))
        .collect();
    let audit = waybill(&["audit"], &variables).await;
    assert_eq!(audit.status, Some(0), "{audit:?}");
    let family = family(&process).await;
    // The program, two servers and a watchdog for each.
    assert!(family.len() >= 5, "{family:?}");

    let ended = process.stop(Signal::SIGTERM, Duration::from_secs(20)).await.unwrap();

    assert_eq!(ended.code(), Some(0));
    until_gone(&family).await;
    assert!(!folder.join("dev.env").exists(), "it names servers that are gone");
}

/// As in production: who shows nothing is not let in, and each sees its own.
#[tokio::test]
async fn dev_lets_in_whom_it_knows_and_makes_tokens_for_anyone() {
    let rig = Rig::builder().no_server().start().await;
    let folder = rig.folder().join("world");
    let (mut process, variables) = dev(&rig, &folder).await;
    let mut orders = OrderServiceClient::new(channel(&variables["GRPC_ADDR"]));
    let refused = orders.create_order(annas_ride()).await.unwrap_err();
    assert_refused(&refused, Code::Unauthenticated, "TOKEN_MISSING");
    let placed = orders.create_order(by_anna(&variables, annas_ride())).await.unwrap();
    let order_id = placed.into_inner().order.unwrap().order_id;
    let get = || GetOrderRequest {
        order_id: order_id.clone(),
    };

    let make = async |role: &str, subject: &str| {
        let data = folder.to_str().unwrap();
        let args = ["token", "--role", role, "--subject", subject, "--data-dir", data];
        let made = waybill(&args, &[]).await;
        assert_eq!(made.status, Some(0), "{made:?}");
        made.stdout.trim().to_owned()
    };
    let ben = make("customer", "ben").await;
    let hidden = orders.get_order(by(Some(&ben), get())).await.unwrap_err();
    assert_eq!(hidden.code(), Code::NotFound);
    for token in [
        make("customer", "anna").await,
        make("dispatcher", "dora").await,
        variables["DISPATCHER_TOKEN"].clone(),
        variables["SERVICE_TOKEN"].clone(),
        variables["OPERATOR_TOKEN"].clone(),
    ] {
        orders.get_order(by(Some(&token), get())).await.unwrap();
    }
    let driver = by(Some(&variables["DRIVER_TOKEN"]), get());
    assert_eq!(orders.get_order(driver).await.unwrap_err().code(), Code::NotFound);

    for (file, what) in [("dev.env", "tokens"), ("token-key.der", "the key that signs them")] {
        let mode = fs::metadata(folder.join(file)).unwrap().permissions().mode();
        assert_eq!(mode & 0o077, 0, "{what} are for no one else: {mode:o}");
    }
    process.stop(Signal::SIGTERM, Duration::from_secs(20)).await.unwrap();
}

#[tokio::test]
async fn a_token_that_cannot_be_made_says_why() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().to_str().unwrap();
    for (args, status, named) in [
        (&["--role", "driver", "--subject", "cab-1"][..], 69, "waybill dev"),
        (&["--role", "admin", "--subject", "cab-1"], 64, "--role"),
        (&["--role", "driver", "--subject", "cab 1"], 64, "--subject"),
        (&["--role", "driver"], 64, "--subject"),
        (
            &["--role", "driver", "--subject", "cab-1", "--order", "7"],
            64,
            "--order",
        ),
        (&["--role", "customer", "--subject", "anna", "--for", "0s"], 64, "--for"),
    ] {
        let ended = waybill(&[&["token", "--data-dir", data], args].concat(), &[]).await;
        assert_eq!(ended.status, Some(status), "{args:?}: {ended:?}");
        assert!(ended.stderr.contains(named), "{args:?}: {ended:?}");
    }
}

#[tokio::test]
async fn dev_that_is_killed_leaves_nothing_behind_and_starts_again_with_its_data() {
    let rig = Rig::builder().no_server().start().await;
    let folder = rig.folder().join("world");
    let (mut process, variables) = dev(&rig, &folder).await;
    let mut orders = OrderServiceClient::new(channel(&variables["GRPC_ADDR"]));
    let request = annas_ride();
    let before = orders.create_order(by_anna(&variables, request.clone())).await;
    let before = before.unwrap().into_inner();
    let first = variables;

    let family = family(&process).await;
    process.signal(Signal::SIGKILL).unwrap();
    process.wait().await.unwrap();
    until_gone(&family).await;
    fs::remove_file(folder.join("dev.env")).unwrap();

    let (mut process, variables) = dev(&rig, &folder).await;
    let mut orders = OrderServiceClient::new(channel(&variables["GRPC_ADDR"]));
    // The token of before: apps in development need no new ones.
    let again = orders.create_order(by_anna(&first, request)).await.unwrap();
    assert_eq!(again.into_inner(), before);
    let ended = process.stop(Signal::SIGTERM, Duration::from_secs(20)).await.unwrap();
    assert_eq!(ended.code(), Some(0));
}

#[tokio::test]
async fn a_program_that_is_missing_is_named_with_the_command_that_installs_it() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("world");
    let args = [&DEV[..], &[data.to_str().unwrap()]].concat();
    // Empty is not set. Postgres may still be found where packages put it; Redis is found by PATH.
    let nothing = [
        ("PATH", ""),
        ("WAYBILL_SANDBOX_REDIS_BIN", ""),
        ("WAYBILL_SANDBOX_POSTGRES_BIN", ""),
    ];
    let ended = waybill(&args, &nothing).await;
    assert_eq!(ended.status, Some(69), "{ended:?}");
    assert_eq!(ended.stderr.lines().count(), 1, "{}", ended.stderr);
    assert!(ended.stderr.contains("make setup"), "{}", ended.stderr);

    let named = [("WAYBILL_SANDBOX_POSTGRES_BIN", "/nowhere/postgres")];
    let ended = waybill(&args, &named).await;
    assert_eq!((ended.status, ended.stderr.lines().count()), (Some(69), 1), "{ended:?}");
    assert!(ended.stderr.contains("/nowhere/postgres"), "{}", ended.stderr);
}

#[tokio::test]
async fn the_demo_prints_one_json_object_and_a_clean_audit() {
    let rig = Rig::builder().no_server().start().await;
    let folder = rig.folder().join("demo");
    let args = ["demo", "--for", "3s", "--json", "--data-dir", folder.to_str().unwrap()];

    let ended = waybill(&args, &[]).await;

    assert_eq!(ended.status, Some(0), "{ended:?}");
    assert_eq!(ended.stdout.lines().count(), 1, "{}", ended.stdout);
    let report: Value = serde_json::from_str(&ended.stdout).expect("one JSON object");
    for (part, keys) in [
        ("", &["seconds", "orders", "payments", "locations", "audit"][..]),
        ("/orders", &["created", "succeeded", "refunded", "failed"]),
        ("/payments", &["charged", "refunded"]),
        ("/locations", &["sent", "acknowledged", "rejected", "stored"]),
        ("/audit", &["checks", "violations"]),
    ] {
        let object = report.pointer(part).and_then(Value::as_object).expect(part);
        let found: BTreeSet<&str> = object.keys().map(String::as_str).collect();
        assert_eq!(found, keys.iter().copied().collect(), "{part:?} of {report}");
    }
    let number = |path| report.pointer(path).and_then(Value::as_u64).expect(path);
    assert!(report["seconds"].as_f64() >= Some(3.0), "{report}");
    assert!(number("/orders/succeeded") > 0, "{report}");
    let ends = ["/orders/succeeded", "/orders/refunded", "/orders/failed"].map(number);
    assert_eq!(number("/orders/created"), ends.iter().sum::<u64>(), "{report}");
    let paid = number("/orders/succeeded") + number("/orders/refunded");
    assert_eq!(number("/payments/charged"), paid, "{report}");
    assert_eq!(number("/payments/refunded"), number("/orders/refunded"), "{report}");
    let stored = number("/locations/stored");
    assert_eq!(number("/locations/acknowledged"), stored, "{report}");
    assert!(number("/audit/checks") > 10, "{report}");
    assert_eq!(number("/audit/violations"), 0, "{report}");
}

#[tokio::test]
async fn the_demo_stays_to_be_looked_at_and_its_link_opens_the_console() {
    let rig = Rig::builder().no_server().start().await;
    let folder = rig.folder().join("demo");
    let output = rig.folder().join("demo.log");
    let args = [
        "demo",
        "--for",
        "2s",
        "--web",
        "--json",
        "--data-dir",
        folder.to_str().unwrap(),
    ];
    let mut process = launch(&program(), &args, [("", ""); 0], &output);
    let (page, token) = until("it says where the console is", async || {
        let log = read(&output);
        let link = log.split_whitespace().find(|word| word.contains("/#token="));
        let (page, token) = link.and_then(|link| link.split_once("#token=")).ok_or(log.clone())?;
        Ok::<_, String>((page.to_owned(), token.to_owned()))
    })
    .await;
    let (status, html) = get(&page).await;
    assert_eq!(status, 200);
    assert!(html.contains("/assets/app.js"), "{html}");
    until("the city is over", async || {
        assert_eq!(process.try_wait().unwrap(), None, "{}", read(&output));
        let log = read(&output);
        if log.contains("Ctrl-C") { Ok(()) } else { Err(log) }
    })
    .await;
    // It is an operator's.
    let call = testkit::wire::http()
        .post(format!("{page}waybill.admin.v1.AdminService/ListStuckOrders"))
        .header("content-type", "application/grpc-web+proto")
        .bearer_auth(&token)
        .body(vec![0; 5]);
    let answer = call.send().await.unwrap().bytes().await.unwrap();
    assert!(String::from_utf8_lossy(&answer).contains("grpc-status:0"), "{answer:?}");
    process.signal(Signal::SIGINT).unwrap();
    let status = until("it ends", async || process.try_wait().unwrap().ok_or("it runs")).await;
    assert!(status.success(), "{}", read(&output));
    assert!(read(&output).contains(r#""violations":0"#), "{}", read(&output));
}
