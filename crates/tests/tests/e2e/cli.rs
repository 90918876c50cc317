//! The program as a person at a terminal meets it: what it says when something is wrong, and its exit status.

use std::fs;
use std::net::TcpListener;
use std::time::Duration;

use serde_json::Value;
use tokio::time::timeout;

use crate::rig::process::{Ended, waybill};
use crate::rig::{Rig, a_ride};

/// Wrong usage, and what is needed is not there: sysexits(3).
const USAGE: Option<i32> = Some(64);
const UNAVAILABLE: Option<i32> = Some(69);

/// Longer than any command takes that is to end by itself.
const DEADLINE: Duration = Duration::from_secs(30);

/// One line for a person, which names all of these.
#[track_caller]
fn says(ended: &Ended, status: Option<i32>, named: &[&str]) {
    assert_eq!(ended.status, status, "{ended:?}");
    assert_eq!(ended.stderr.lines().count(), 1, "{}", ended.stderr);
    assert!(ended.stderr.starts_with("waybill: "), "{}", ended.stderr);
    for name in named {
        assert!(ended.stderr.contains(name), "{name:?} is not in {:?}", ended.stderr);
    }
}

/// A command on the stores of the rig.
pub async fn on_stores(rig: &Rig, args: &[&str]) -> Ended {
    let flags = rig.flags();
    let variables = [
        ("DATABASE_URL", flags["postgres.url"].as_str()),
        ("REDIS_URL", flags["redis.url"].as_str()),
        ("PAYMENTS_URL", flags["payments.url"].as_str()),
        ("PAYMENTS_SECRET_KEY", flags["payments.secret_key"].as_str()),
        // As in every test: many share two cores.
        ("WAYBILL_POSTGRES__ACQUIRE_TIMEOUT", "2s"),
        ("WAYBILL_REDIS__CONNECT_TIMEOUT", "1s"),
        ("WAYBILL_REDIS__COMMAND_TIMEOUT", "2s"),
    ];
    let ended = waybill(args, &variables);
    timeout(DEADLINE, ended)
        .await
        .expect("the command ends, and does not serve")
}

/// A database that nobody has migrated.
async fn empty_database() -> Rig {
    let rig = Rig::builder().no_server().start().await;
    rig.sql()
        .await
        .batch_execute("drop schema public cascade; create schema public")
        .await
        .unwrap();
    rig
}

#[tokio::test]
async fn a_bad_setting_in_a_file_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("waybill.toml");
    for (text, named) in [
        ("[orders]\nlaese = \"20s\"\n", &["laese"][..]),
        ("[ordres]\nlease = \"20s\"\n", &["ordres"]),
        ("[orders]\nlease = \"soon\"\n", &["orders.lease", "soon"]),
        ("[postgres]\npool_max = -1\n", &["postgres.pool_max"]),
        ("[grpc]\nservices = [\"rides\"]\n", &["grpc.services", "rides"]),
        ("[grpc]\naddr = \"nowhere\"\n", &["grpc.addr"]),
        ("orders = 1\n", &["orders"]),
    ] {
        fs::write(&file, text).unwrap();
        let ended = waybill(&["--config", file.to_str().unwrap(), "serve"], &[]).await;
        says(&ended, USAGE, named);
    }
    let missing = folder.path().join("missing.toml");
    let missing = missing.to_str().unwrap();
    says(&waybill(&["--config", missing, "serve"], &[]).await, USAGE, &[missing]);
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
    ] {
        let ended = waybill(&["serve"], &[(variable, value)]).await;
        says(&ended, USAGE, &[named]);
        assert!(!ended.stderr.contains("secret"), "{}", ended.stderr);
    }
}

#[tokio::test]
async fn a_payment_provider_that_cannot_be_used_is_named() {
    let rig = Rig::builder().no_server().start().await;
    let addresses = ["--grpc-addr", "127.0.0.1:0", "--http-addr", "127.0.0.1:0"];
    for flag in [["--payments-url", "nonsense"], ["--payments-secret-key", "a\nb"]] {
        let ended = on_stores(&rig, &[&["serve"][..], &addresses, &flag].concat()).await;
        says(&ended, USAGE, &["payments"]);
    }
}

#[tokio::test]
async fn an_unknown_flag_or_command_is_named() {
    for args in [
        &["serve", "--prot", "1"][..],
        &["fly"],
        &["dev", "--grpc-addr", "nowhere"],
        &["demo", "--for", "0s"],
    ] {
        let ended = waybill(args, &[]).await;
        assert_eq!(ended.status, USAGE, "{ended:?}");
        let named = args.last().filter(|last| **last != "1").unwrap_or(&"--prot");
        assert!(ended.stderr.contains(named), "{}", ended.stderr);
    }
    let help = waybill(&["--help"], &[]).await;
    assert_eq!((help.status, help.stderr.as_str()), (Some(0), ""));
    for command in [
        "serve",
        "dev",
        "demo",
        "replay",
        "load",
        "migrate",
        "audit",
        "orders",
        "reconcile",
        "doctor",
    ] {
        assert!(help.stdout.contains(command), "{}", help.stdout);
    }
}

#[tokio::test]
async fn an_address_that_is_taken_is_named_with_its_flag() {
    let rig = Rig::builder().no_server().start().await;
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    for (flag, other) in [("--grpc-addr", "--http-addr"), ("--http-addr", "--grpc-addr")] {
        let ended = on_stores(&rig, &["serve", flag, &address, other, "127.0.0.1:0"]).await;
        says(&ended, UNAVAILABLE, &["in use", &address, flag]);
    }
}

#[tokio::test]
async fn a_database_that_is_not_there_is_told_in_one_line() {
    // Nobody listens on the port of a listener that is gone.
    let gone = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let url = format!("postgres://waybill:hunter2@{gone}/waybill");
    for command in ["serve", "migrate", "audit"] {
        let ended = waybill(&[command, "--database-url", &url], &[]).await;
        says(&ended, UNAVAILABLE, &["postgres"]);
        assert!(!ended.stderr.contains("hunter2"), "{}", ended.stderr);
    }
}

#[tokio::test]
async fn a_server_does_not_start_before_the_schema_is_there() {
    let rig = empty_database().await;
    let ended = on_stores(
        &rig,
        &["serve", "--grpc-addr", "127.0.0.1:0", "--http-addr", "127.0.0.1:0"],
    )
    .await;
    says(&ended, UNAVAILABLE, &["waybill migrate"]);
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
        rig.sql().await.batch_execute(change).await.unwrap();
        let serve = on_stores(
            &rig,
            &["serve", "--grpc-addr", "127.0.0.1:0", "--http-addr", "127.0.0.1:0"],
        )
        .await;
        says(&serve, UNAVAILABLE, &[named]);
        says(&on_stores(&rig, &["migrate"]).await, UNAVAILABLE, &[named]);
    }
}

#[tokio::test]
async fn migrating_twice_changes_nothing_the_second_time() {
    let rig = empty_database().await;
    let first = on_stores(&rig, &["migrate"]).await;
    assert_eq!((first.status, first.stderr.as_str()), (Some(0), ""));
    assert!(
        first.stdout.contains("orders") && first.stdout.contains("locations"),
        "{}",
        first.stdout
    );
    let second = on_stores(&rig, &["migrate"]).await;
    assert_eq!(
        (second.status, second.stdout.as_str()),
        (Some(0), "the schema is current\n")
    );
}

#[tokio::test]
async fn of_two_who_migrate_at_once_one_does_and_both_are_content() {
    let rig = empty_database().await;
    let (one, other) = tokio::join!(on_stores(&rig, &["migrate"]), on_stores(&rig, &["migrate"]));
    assert_eq!((one.status, other.status), (Some(0), Some(0)), "{one:?} {other:?}");
    let mut said = [one.stdout, other.stdout];
    said.sort();
    assert!(
        said[0].starts_with("applied: ") && said[1] == "the schema is current\n",
        "{said:?}"
    );
}

#[tokio::test]
async fn the_doctor_finds_nothing_where_all_is_well() {
    let rig = Rig::builder().no_server().start().await;
    let ended = on_stores(&rig, &["doctor"]).await;
    assert_eq!(ended.status, Some(0), "{ended:?}");
    for part in ["configuration", "postgres", "schema", "clock", "redis"] {
        assert!(ended.stdout.contains(part), "{}", ended.stdout);
    }
    assert!(!ended.stdout.contains("CHANGE"), "{}", ended.stdout);
}

#[tokio::test]
async fn the_doctor_says_what_to_change() {
    let rig = empty_database().await;
    let gone = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let ended = on_stores(&rig, &["doctor", "--redis-url", &format!("redis://{gone}")]).await;
    assert_eq!(ended.status, Some(1), "{ended:?}");
    let lines: Vec<&str> = ended.stdout.lines().filter(|line| line.contains("CHANGE")).collect();
    assert_eq!(lines.len(), 2, "{}", ended.stdout);
    assert!(
        lines[0].contains("schema") && ended.stdout.contains("waybill migrate"),
        "{}",
        ended.stdout
    );
    assert!(
        lines[1].contains("redis") && ended.stdout.contains("redis.url"),
        "{}",
        ended.stdout
    );
}

#[tokio::test]
async fn the_audit_of_clean_books_finds_nothing() {
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
    let rig = Rig::builder().no_server().start().await;
    // An order that nobody worked on for five minutes, and that nobody was told of.
    rig.sql()
        .await
        .batch_execute(
            "insert into order_sagas (order_id, idempotency_key, user_id, amount, currency, payment_method, status,
                                      pickup_lat, pickup_long, request_hash, fence, created_at, updated_at)
             values ('01900000-0000-7000-8000-000000000001', 'a-forgotten-order', 'user-1', 100, 'USD', 'pm_card_visa',
                     'started', 1, 1, '\\x00', 1, now() - interval '5 minutes', now() - interval '5 minutes')",
        )
        .await
        .unwrap();

    let table = on_stores(&rig, &["audit"]).await;
    assert_eq!(table.status, Some(1), "{table:?}");
    assert!(
        table.stdout.contains("01900000-0000-7000-8000-000000000001"),
        "{}",
        table.stdout
    );

    let json = on_stores(&rig, &["audit", "--json"]).await;
    assert_eq!(json.status, Some(1), "{json:?}");
    let report: Value = serde_json::from_str(&json.stdout).expect("one JSON object");
    assert!(
        report["violations"].as_i64() >= Some(1) && report["checks"].as_i64() > Some(5),
        "{report}"
    );
    let named = report["findings"].as_array().unwrap().iter().any(|finding| {
        let shown = finding["shown"].to_string();
        finding["count"].as_i64() == Some(1) && shown.contains("01900000-0000-7000-8000-000000000001")
    });
    assert!(named, "{report}");
}
