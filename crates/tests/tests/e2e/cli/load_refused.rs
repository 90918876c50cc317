//! `waybill load` where a run cannot be made: one line says why, and names the flag or the address.

use std::net::TcpListener;

use testkit::process::{Ended, waybill};
use testkit::table::{rows, words};

/// The run could not be made as asked, and there was no server: sysexits(3).
const USAGE: Option<i32> = Some(64);
const UNAVAILABLE: Option<i32> = Some(69);

/// Flags of `waybill load orders`, and what is named. `NOWHERE` is no place for a file, `SAME` one for one.
const REFUSED: &str = "
--grpc-addr https://example.com | --grpc-addr without~TLS
--grpc-addr ftp://example.com | --grpc-addr ftp://
--grpc-addr no~address | --grpc-addr no~address
--json NOWHERE | --json NOWHERE
--report NOWHERE | --report NOWHERE
--json SAME --report SAME | --json --report
--rate 10 --step 5s | --step --rate
--rate 10..20 --step 1ms --for 30s | --step --for
--rate 10..20 --step 16s --for 30s | --step --for
";

/// Values that no flag takes: the parser of the command line refuses them, in a few lines more.
const UNPARSABLE: &str = "--rate=0 --rate=-5 --rate=NaN --rate=1e12 --rate=5..0 --for=0s --for=9223372036854775807s \
    --warm-up=-1s --deadline=0s --count=0 --drivers=0 --callers=0";

#[track_caller]
fn assert_one_line(ended: &Ended, status: Option<i32>, named: &[String]) {
    assert_eq!(ended.status, status, "{ended:?}");
    assert_eq!(ended.stderr.lines().count(), 1, "{}", ended.stderr);
    for name in named {
        assert!(ended.stderr.contains(name), "{name:?} is not in {}", ended.stderr);
    }
}

#[tokio::test]
async fn what_cannot_be_run_is_said_in_one_line_that_names_the_flag() {
    let folder = tempfile::tempdir().unwrap();
    let nowhere = folder.path().join("missing").join("load.json").display().to_string();
    let same = folder.path().join("load").display().to_string();
    let filled = |text: &str| words(&text.replace("NOWHERE", &nowhere).replace("SAME", &same));
    for (flags, named) in rows(REFUSED) {
        let flags = filled(&flags);
        let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
        let ended = waybill(&[&["load", "orders"], &flags[..]].concat(), &[]).await;
        assert_one_line(&ended, USAGE, &filled(&named));
    }
    let closed = waybill(&["load", "mixed"], &[]).await;
    assert_eq!(closed.status, USAGE, "{closed:?}");
    assert!(closed.stderr.contains("--rate"), "{}", closed.stderr);
    for flag in UNPARSABLE.split_whitespace() {
        let ended = waybill(&["load", "orders", flag], &[]).await;
        assert_eq!(ended.status, USAGE, "{flag}: {ended:?}");
        for part in flag.split('=') {
            assert!(ended.stderr.contains(part), "{flag}: {}", ended.stderr);
        }
    }
}

#[tokio::test]
async fn a_server_that_is_not_there_is_reported_in_one_line() {
    // The address of a listener that is gone.
    let gone = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .to_string();
    let ended = waybill(&["load", "nearby", "--grpc-addr", &gone], &[]).await;
    assert_one_line(&ended, UNAVAILABLE, &[gone, "no server".to_owned()]);
}
