//! `waybill load` where a run cannot be made: one line says why, and names the flag or the address.

use crate::rig::process::waybill;

/// The run could not be made as asked, and there was no server: sysexits(3).
const USAGE: Option<i32> = Some(64);
const UNAVAILABLE: Option<i32> = Some(69);

#[tokio::test]
async fn what_cannot_be_run_is_said_in_one_line_that_names_the_flag() {
    let folder = tempfile::tempdir().unwrap();
    let nowhere = folder.path().join("missing").join("load.json").display().to_string();
    let same = folder.path().join("load").display().to_string();
    for (args, named) in [
        (
            &["--grpc-addr", "https://example.com"][..],
            &["--grpc-addr", "without TLS"][..],
        ),
        (&["--grpc-addr", "ftp://example.com"], &["--grpc-addr", "ftp://"]),
        (&["--grpc-addr", "no address"], &["--grpc-addr", "no address"]),
        (&["--json", &nowhere], &["--json", &nowhere]),
        (&["--report", &nowhere], &["--report", &nowhere]),
        (&["--json", &same, "--report", &same], &["--json", "--report"]),
        (&["--rate", "10", "--step", "5s"], &["--step", "--rate"]),
        (
            &["--rate", "10..20", "--step", "1ms", "--for", "30s"],
            &["--step", "--for"],
        ),
        (
            &["--rate", "10..20", "--step", "16s", "--for", "30s"],
            &["--step", "--for"],
        ),
    ] {
        let ended = waybill(&[&["load", "orders"], args].concat(), &[]).await;
        assert_eq!(ended.status, USAGE, "{args:?}: {ended:?}");
        assert_eq!(ended.stderr.lines().count(), 1, "{args:?}: {}", ended.stderr);
        for name in named {
            assert!(
                ended.stderr.contains(name),
                "{args:?}: {name:?} is not in {}",
                ended.stderr
            );
        }
    }
    let closed = waybill(&["load", "mixed"], &[]).await;
    assert_eq!(closed.status, USAGE, "{closed:?}");
    assert!(closed.stderr.contains("--rate"), "{}", closed.stderr);
    // The parser of the command line has a few lines more.
    for (flag, value) in [
        ("--rate", "0"),
        ("--rate", "-5"),
        ("--rate", "NaN"),
        ("--rate", "1e12"),
        ("--rate", "5..0"),
        ("--for", "0s"),
        ("--for", "9223372036854775807s"),
        ("--warm-up", "-1s"),
        ("--deadline", "0s"),
        ("--count", "0"),
        ("--drivers", "0"),
        ("--callers", "0"),
    ] {
        let ended = waybill(&["load", "orders", &format!("{flag}={value}")], &[]).await;
        assert_eq!(ended.status, USAGE, "{flag} {value}: {ended:?}");
        assert!(
            ended.stderr.contains(flag) && ended.stderr.contains(value),
            "{}",
            ended.stderr
        );
    }
}

#[tokio::test]
async fn a_server_that_is_not_there_is_told_in_one_line() {
    // Nobody listens on the port of a listener that is gone.
    let gone = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .to_string();
    let ended = waybill(&["load", "nearby", "--grpc-addr", &gone], &[]).await;
    assert_eq!(ended.status, UNAVAILABLE, "{ended:?}");
    assert_eq!(ended.stderr.lines().count(), 1, "{}", ended.stderr);
    assert!(
        ended.stderr.contains(&gone) && ended.stderr.contains("no server"),
        "{}",
        ended.stderr
    );
}
