//! What the program prints when something is wrong, and its exit status.

use std::fs;
use std::net::TcpListener;

use serde_json::Value;
use testkit::Rig;
use testkit::process::{Ended, waybill};
use testkit::table::rows;
use testkit::wire::a_ride;

use super::on_stores;

/// Wrong usage, and what is needed is not there: sysexits(3).
const USAGE: Option<i32> = Some(64);
const UNAVAILABLE: Option<i32> = Some(69);

/// Any free ports.
const ANYWHERE: [&str; 6] = [
    "--grpc-addr",
    "127.0.0.1:0",
    "--http-addr",
    "127.0.0.1:0",
    "--web-addr",
    "127.0.0.1:0",
];

/// Ends with one line for a person, which names all of these.
#[track_caller]
fn assert_names(ended: &Ended, status: Option<i32>, named: &[&str]) {
    assert_eq!(ended.status, status, "{ended:?}");
    assert_eq!(ended.stderr.lines().count(), 1, "{}", ended.stderr);
    assert!(ended.stderr.starts_with("waybill: "), "{}", ended.stderr);
    for name in named {
        assert!(ended.stderr.contains(name), "{name:?} is not in {:?}", ended.stderr);
    }
}

/// A database without any schema.
async fn empty_database() -> Rig {
    let rig = Rig::builder().no_server().start().await;
    rig.execute("drop schema public cascade; create schema public").await;
    rig
}

/// The address of a listener that is gone.
fn no_server() -> String {
    let gone = TcpListener::bind("127.0.0.1:0").unwrap();
    gone.local_addr().unwrap().to_string()
}

/// A file, its lines parted by `;`, and what is named.
const BAD_FILES: &str = r#"
[orders];laese = "20s" | laese
[ordres];lease = "20s" | ordres
[orders];lease = "soon" | orders.lease soon
[postgres];pool_max = -1 | postgres.pool_max
[grpc];services = ["rides"] | grpc.services rides
[grpc];addr = "nowhere" | grpc.addr
orders = 1 | orders
"#;

#[tokio::test]
async fn a_bad_setting_in_a_file_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("waybill.toml");
    for (text, named) in rows(BAD_FILES) {
        fs::write(&file, text.replace(';', "\n")).unwrap();
        let ended = waybill(&["--config", file.to_str().unwrap(), "serve"], &[]).await;
        assert_names(&ended, USAGE, &named.split(' ').collect::<Vec<_>>());
    }
    let missing = folder.path().join("missing.toml");
    let missing = missing.to_str().unwrap();
    let ended = waybill(&["--config", missing, "serve"], &[]).await;
    assert_names(&ended, USAGE, &[missing]);
}

#[tokio::test]
async fn a_bad_variable_is_named() {
    for (variable, value, named) in [
        ("WAYBILL_POSTGRES_URL", "postgres://x", "WAYBILL_POSTGRES_URL"),
        ("WAYBILL_ORDERS__LAESE", "20s", "laese"),
        ("WAYBILL_ORDERS__LEASE", "soon", "orders.lease"),
        ("WAYBILL_POSTGRES__POOL_MAX", "0", "postgres.pool_max"),
        ("WAYBILL_LOG__FILTER", "waybill=[", "log.filter"),
        ("WAYBILL_POSTGRES__URL", "mysql://secret@host/db", "postgres.url"),
        ("WAYBILL_REDIS__URL", "http://secret@host", "redis.url"),
        ("WAYBILL_REDIS__URL", "rediss://:secret@host/#insecure", "#insecure"),
        ("WAYBILL_REDIS__CLIENT_KEY", "key.pem", "redis.client_cert"),
        ("WAYBILL_POSTGRES__TLS", "prefer", "postgres.tls"),
        (
            "WAYBILL_POSTGRES__URL",
            "postgres://w:secret@host/db?sslmode=prefer",
            "postgres.tls",
        ),
        ("WAYBILL_GRPC__ADDR", "0.0.0.0:7200", "tls.cert"),
        ("WAYBILL_TLS__KEY", "key.pem", "tls.cert"),
        ("WAYBILL_AUTH__ISSUER", "https://id.example.com", "auth.keys"),
    ] {
        let ended = waybill(&["serve"], &[(variable, value)]).await;
        assert_names(&ended, USAGE, &[named]);
        assert!(!ended.stderr.contains("secret"), "{}", ended.stderr);
    }
}

#[tokio::test]
async fn a_payment_provider_that_cannot_be_used_is_named() {
    let rig = Rig::builder().no_server().start().await;
    for flag in [["--payments-url", "nonsense"], ["--payments-secret-key", "a\nb"]] {
        let ended = on_stores(&rig, &[&["serve"][..], &ANYWHERE, &flag].concat()).await;
        assert_names(&ended, USAGE, &["payments"]);
    }
}

#[tokio::test]
async fn an_unknown_flag_or_command_is_named() {
    for (args, named) in [
        (&["serve", "--prot", "1"][..], "--prot"),
        (&["fly"], "fly"),
        (&["dev", "--grpc-addr", "nowhere"], "nowhere"),
        (&["demo", "--for", "0s"], "0s"),
    ] {
        let ended = waybill(args, &[]).await;
        assert_eq!(ended.status, USAGE, "{ended:?}");
        assert!(ended.stderr.contains(named), "{}", ended.stderr);
    }
    let version = waybill(&["--version"], &[]).await;
    assert_eq!(version.status, Some(0));
    assert!(version.stdout.starts_with("waybill "), "{version:?}");
    let help = waybill(&["--help"], &[]).await;
    assert_eq!((help.status, help.stderr.as_str()), (Some(0), ""));
    for command in "serve dev demo replay load migrate audit orders reconcile doctor".split(' ') {
        assert!(help.stdout.contains(command), "{}", help.stdout);
    }
}

#[tokio::test]
async fn an_address_that_is_taken_is_named_with_its_flag() {
    let rig = Rig::builder().no_server().start().await;
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    for flag in ["--grpc-addr", "--http-addr", "--web-addr"] {
        let taken = |other: &'static str| if other == flag { address.as_str() } else { "127.0.0.1:0" };
        let listen = ANYWHERE.chunks(2).flat_map(|pair| [pair[0], taken(pair[0])]);
        let args: Vec<&str> = ["serve"].into_iter().chain(listen).collect();
        let ended = on_stores(&rig, &args).await;
        assert_names(&ended, UNAVAILABLE, &["in use", &address, flag]);
    }
}

#[tokio::test]
async fn a_database_that_is_not_there_is_reported_in_one_line() {
    let url = format!("postgres://waybill:hunter2@{}/waybill", no_server());
    for command in ["serve", "migrate", "audit"] {
        let anonymous = ("WAYBILL_AUTH__ANONYMOUS", "true");
        let ended = waybill(&[command, "--database-url", &url], &[anonymous]).await;
        assert_names(&ended, UNAVAILABLE, &["postgres"]);
        assert!(!ended.stderr.contains("hunter2"), "{}", ended.stderr);
    }
}

#[tokio::test]
async fn a_server_does_not_start_before_the_schema_is_there() {
    let rig = empty_database().await;
    let ended = on_stores(&rig, &[&["serve"][..], &ANYWHERE].concat()).await;
    assert_names(&ended, UNAVAILABLE, &["waybill migrate"]);
}

#[tokio::test]
async fn a_schema_of_another_program_is_left_alone() {
    let rig = Rig::builder().no_server().start().await;
    for (change, named) in [
        (
            "insert into schema_migrations values (9999, 'teleport', '\\x00')",
            "teleport",
        ),
        (
            "update schema_migrations set checksum = '\\x00' where version = 1",
            "orders",
        ),
    ] {
        rig.execute(change).await;
        let serve = on_stores(&rig, &[&["serve"][..], &ANYWHERE].concat()).await;
        assert_names(&serve, UNAVAILABLE, &[named]);
        assert_names(&on_stores(&rig, &["migrate"]).await, UNAVAILABLE, &[named]);
    }
}

#[tokio::test]
async fn migrating_twice_changes_nothing_the_second_time() {
    let rig = empty_database().await;
    let first = on_stores(&rig, &["migrate"]).await;
    assert_eq!((first.status, first.stderr.as_str()), (Some(0), ""));
    for migration in ["orders", "locations"] {
        assert!(first.stdout.contains(migration), "{}", first.stdout);
    }
    let second = on_stores(&rig, &["migrate"]).await;
    let found = (second.status, second.stdout.as_str());
    assert_eq!(found, (Some(0), "the schema is current\n"));
}

#[tokio::test]
async fn of_two_who_migrate_at_once_one_does_and_both_are_content() {
    let rig = empty_database().await;
    let (one, other) = tokio::join!(on_stores(&rig, &["migrate"]), on_stores(&rig, &["migrate"]));
    assert_eq!((one.status, other.status), (Some(0), Some(0)), "{one:?} {other:?}");
    let mut printed = [one.stdout, other.stdout];
    printed.sort();
    assert!(printed[0].starts_with("applied: "), "{printed:?}");
    assert_eq!(printed[1], "the schema is current\n");
}

#[tokio::test]
async fn the_doctor_finds_nothing_where_all_is_well() {
    let rig = Rig::builder().no_server().start().await;
    let ended = on_stores(&rig, &["doctor"]).await;
    assert_eq!(ended.status, Some(0), "{ended:?}");
    for part in [
        "configuration",
        "postgres",
        "schema",
        "commits",
        "standbys",
        "clock",
        "redis",
    ] {
        assert!(ended.stdout.contains(part), "{}", ended.stdout);
    }
    assert!(!ended.stdout.contains("CHANGE"), "{}", ended.stdout);
}

#[tokio::test]
async fn the_doctor_says_what_to_change() {
    let rig = empty_database().await;
    let nowhere = no_server();
    let url = format!("redis://:a-password@{nowhere}");
    let ended = on_stores(&rig, &["doctor", "--redis-url", &url]).await;
    assert_eq!(ended.status, Some(1), "{ended:?}");
    let lines: Vec<&str> = ended.stdout.lines().filter(|line| line.contains("CHANGE")).collect();
    assert_eq!(lines.len(), 2, "{}", ended.stdout);
    assert!(lines[0].contains("schema") && lines[1].contains("redis"), "{lines:?}");
    for change in ["waybill migrate", "redis.url", &nowhere] {
        assert!(ended.stdout.contains(change), "{}", ended.stdout);
    }
    assert!(!ended.stdout.contains("a-password"), "{}", ended.stdout);
}

#[tokio::test]
async fn the_audit_of_a_clean_ledger_finds_nothing() {
    let rig = Rig::start().await;
    rig.driver_at("cab-1", 37.775, -122.419).await;
    rig.place(a_ride()).await;
    for args in [&["audit"][..], &["audit", "--json"]] {
        let ended = on_stores(&rig, args).await;
        assert_eq!((ended.status, ended.stderr.as_str()), (Some(0), ""), "{ended:?}");
        assert!(ended.stdout.contains("violations"), "{}", ended.stdout);
    }
}

#[tokio::test]
async fn the_audit_names_a_violation_and_ends_with_1() {
    const ORDER: &str = "01900000-0000-7000-8000-000000000001";
    let rig = Rig::builder().no_server().start().await;
    // An order without a worker for five minutes, and without a flag for an operator.
    rig.execute(&format!(
        "insert into order_sagas (order_id, idempotency_key, user_id, amount, currency, payment_method, status,
                                  pickup_lat, pickup_long, request_hash, fence, created_at, updated_at)
         values ('{ORDER}', 'an-order-of-long-ago', 'user-1', 100, 'USD', 'pm_card_visa',
                 'started', 1, 1, '\\x00', 1, now() - interval '5 minutes', now() - interval '5 minutes')"
    ))
    .await;

    let table = on_stores(&rig, &["audit"]).await;
    assert_eq!(table.status, Some(1), "{table:?}");
    assert!(table.stdout.contains(ORDER), "{}", table.stdout);

    let json = on_stores(&rig, &["audit", "--json"]).await;
    assert_eq!(json.status, Some(1), "{json:?}");
    let report: Value = serde_json::from_str(&json.stdout).expect("one JSON object");
    assert!(report["violations"].as_i64() >= Some(1), "{report}");
    assert!(report["checks"].as_i64() > Some(5), "{report}");
    let mut findings = report["findings"].as_array().unwrap().iter();
    let is_named = findings.any(|finding| finding["count"] == 1 && finding["shown"].to_string().contains(ORDER));
    assert!(is_named, "{report}");
}
