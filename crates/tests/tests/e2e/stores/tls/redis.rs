//! TLS with Redis.

use testkit::wire::{fix, now};
use testkit::{Rig, ServerProcess, until_eq};
use waybill_proto::location::v1::ReportLocationsRequest;

use super::certificates::Ca;
use super::command::{assert_change, assert_well, run};
use super::line::{Line, Manner, Protocol};

/// What a client of Redis says first: its password, and what it is. Then the first command.
const SECRETS: [&str; 4] = ["hunter2", "AUTH", "CLIENT", "PING"];

async fn line(rig: &Rig, manner: Manner) -> Line {
    let url = rig.flags()["redis.url"].replace("redis://", "rediss://");
    Line::start(&url, Protocol::Redis, manner).await
}

/// The doctor does not get to this Redis, even with a password, and names these.
async fn assert_refused(rig: &Rig, line: &Line, settings: &[(&str, &str)], named: &[&str]) {
    let url = line.url().replace("rediss://", "rediss://:hunter2@");
    let settings = [&[("redis.url", url.as_str())], settings].concat();
    let doctor = run(rig, "doctor", &settings).await;
    assert_eq!(doctor.status, Some(1), "{doctor:?}");
    assert_change(&doctor, "redis", named);
    line.assert_never_spoken_to(&SECRETS);
}

#[tokio::test]
async fn a_fix_is_stored_over_tls_with_redis() {
    let rig = Rig::builder().no_server().start().await;
    let ca = Ca::new();
    let line = line(&rig, Manner::Tls(ca.store().config())).await;
    let file = ca.file(rig.folder());
    let settings = [("redis.url", line.url()), ("redis.ca", file.as_str())];
    assert_well(&run(&rig, "doctor", &settings).await, "redis");

    let server = ServerProcess::start(&rig, &settings).await;
    let fixes = vec![fix("cab-1", 1.0, 1.0, now())];
    let reported = server
        .locations()
        .report_locations(ReportLocationsRequest { fixes })
        .await;
    assert_eq!(reported.unwrap().into_inner().accepted_count, 1);
    let stored = "select count(*) from driver_locations where driver_id = 'cab-1'";
    until_eq("the fix is in the history", 1, async || rig.count(stored).await).await;
    assert_eq!(server.stop().await.code(), Some(0));
    line.assert_not_sent(&SECRETS);
}

#[tokio::test]
async fn a_redis_that_is_not_whom_the_ca_says_is_never_spoken_to() {
    let rig = Rig::builder().no_server().start().await;
    let (ca, other, namesake) = (Ca::new(), Ca::named("another"), Ca::new());
    let file = ca.file(rig.folder());
    for (store, named) in [
        (ca.store_named("redis.example.com"), ["redis.example.com", "127.0.0.1"]),
        (other.store(), ["redis.ca", "CA"]),
        (namesake.store(), ["redis.ca", "CA"]),
        (ca.expired(), ["expired", "2019-12-31"]),
        (ca.ca_as_store(), ["openssl req -x509", "make a CA"]),
    ] {
        let line = line(&rig, Manner::Tls(store.config())).await;
        // Shorter than the driver's own tries, as by default: the reason is reported nevertheless.
        let settings = [("redis.ca", file.as_str()), ("redis.command_timeout", "100ms")];
        assert_refused(&rig, &line, &settings, &named).await;
    }
}

#[tokio::test]
async fn a_redis_that_speaks_no_tls_gets_nothing() {
    let rig = Rig::builder().no_server().start().await;
    let file = Ca::new().file(rig.folder());
    for manner in [Manner::Plaintext, Manner::Says(b"+OK\r\n+OK\r\n+PONG\r\n")] {
        let line = line(&rig, manner).await;
        assert_refused(&rig, &line, &[("redis.ca", &file)], &["TLS"]).await;
    }
}

#[tokio::test]
async fn a_redis_that_asks_for_a_certificate_gets_ours_and_the_systems_cas_are_those_of_an_empty_setting() {
    let rig = Rig::builder().no_server().start().await;
    let (ca, other) = (Ca::new(), Ca::new());
    let line = line(&rig, Manner::Tls(ca.asking(&ca.store()))).await;
    let file = ca.file(rig.folder());
    assert_refused(&rig, &line, &[("redis.ca", &file)], &["redis.client_cert"]).await;
    let (cert, key) = other.client().files(rig.folder());
    let strange = [
        ("redis.ca", file.as_str()),
        ("redis.client_cert", &cert),
        ("redis.client_key", &key),
    ];
    assert_refused(&rig, &line, &strange, &["redis.client_cert"]).await;

    let (cert, key) = ca.client().files(rig.folder());
    let ours = [("redis.client_cert", cert.as_str()), ("redis.client_key", &key)];
    assert_refused(&rig, &line, &ours, &["redis.ca"]).await;

    let to_line = [("redis.url", line.url()), ("redis.ca", &file)];
    assert_well(&run(&rig, "doctor", &[&ours[..], &to_line].concat()).await, "redis");
    let by_name = line.url_by_name();
    let by_system = [("redis.url", by_name.as_str()), ("SSL_CERT_FILE", &file)];
    assert_well(&run(&rig, "doctor", &[&ours[..], &by_system].concat()).await, "redis");
}
