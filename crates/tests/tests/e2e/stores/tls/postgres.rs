//! TLS with Postgres.

use testkit::wire::{PICKUP, a_ride, fix, now};
use testkit::{Rig, ServerProcess};
use waybill_proto::location::v1::ReportLocationsRequest;
use waybill_proto::order::v1::OrderStatus;

use super::certificates::Ca;
use super::command::{assert_change, assert_well, run};
use super::line::{Line, Manner, Protocol, SSL_REQUEST};

/// What a client of Postgres says first: who it is, and to which database. Then its password.
const SECRETS: [&str; 3] = ["waybill", "test_", "hunter2"];

async fn line(rig: &Rig, manner: Manner) -> Line {
    let url = rig.flags()["postgres.url"].replace("waybill@", "waybill:hunter2@");
    Line::start(&url, Protocol::Postgres, manner).await
}

/// The settings of Postgres behind this line.
fn settings<'a>(line: &'a Line, ca: &'a str) -> Vec<(&'static str, &'a str)> {
    vec![
        ("postgres.url", line.url()),
        ("postgres.tls", "verify"),
        ("postgres.ca", ca),
    ]
}

/// Neither the server nor the doctor gets to this Postgres, and both name these.
async fn assert_refused(rig: &Rig, settings: &[(&'static str, &str)], named: &[&str]) {
    let doctor = run(rig, "doctor", settings).await;
    assert_eq!(doctor.status, Some(1), "{doctor:?}");
    assert_change(&doctor, "postgres", named);
    let serve = run(rig, "serve", settings).await;
    assert_eq!((serve.status, serve.stderr.lines().count()), (Some(69), 1), "{serve:?}");
    for name in named {
        assert!(serve.stderr.contains(name), "{name:?} is not in {:?}", serve.stderr);
    }
}

#[tokio::test]
async fn an_order_is_settled_over_tls_with_postgres() {
    let rig = Rig::builder().no_server().start().await;
    let ca = Ca::new();
    let line = line(&rig, Manner::Tls(ca.store().config())).await;
    let file = ca.file(rig.folder());
    let settings = settings(&line, &file);
    assert_well(&run(&rig, "doctor", &settings).await, "postgres");

    let server = ServerProcess::start(&rig, &settings).await;
    let fixes = vec![fix("cab-1", PICKUP.0, PICKUP.1, now())];
    let reported = server
        .locations()
        .report_locations(ReportLocationsRequest { fixes })
        .await;
    assert_eq!(reported.unwrap().into_inner().accepted_count, 1);
    let placed = server.orders().create_order(a_ride()).await.unwrap();
    let order = placed.into_inner().order.unwrap();
    assert_eq!(order.status(), OrderStatus::Succeeded, "{order:?}");
    assert_eq!(rig.orders_in("succeeded").await, 1);
    assert_eq!(server.stop().await.code(), Some(0));
    line.assert_not_sent(&SECRETS);
}

#[tokio::test]
async fn a_postgres_that_is_not_whom_the_ca_says_is_never_spoken_to() {
    let rig = Rig::builder().no_server().start().await;
    let (ca, other, namesake) = (Ca::new(), Ca::named("another"), Ca::new());
    let file = ca.file(rig.folder());
    for (store, named) in [
        (ca.store_named("db.example.com"), ["db.example.com", "127.0.0.1"]),
        (other.store(), ["postgres.ca", "CA"]),
        (namesake.store(), ["postgres.ca", "CA"]),
        (ca.expired(), ["expired", "2019-12-31"]),
        (ca.ca_as_store(), ["openssl req -x509", "make a CA"]),
    ] {
        let line = line(&rig, Manner::Tls(store.config())).await;
        assert_refused(&rig, &settings(&line, &file), &named).await;
        line.assert_never_spoken_to(&SECRETS);
    }
}

#[tokio::test]
async fn a_postgres_that_speaks_no_tls_gets_nothing_but_the_question_for_it() {
    let rig = Rig::builder().no_server().start().await;
    let file = Ca::new().file(rig.folder());
    for manner in [
        // A line that takes TLS away: whoever goes on in plaintext is served.
        Manner::Plaintext,
        // One that logs the client in without being asked, and one that says so after it promised TLS.
        Manner::Says(b"R\0\0\0\x08\0\0\0\0Z\0\0\0\x05I"),
        Manner::Says(b"SR\0\0\0\x08\0\0\0\0Z\0\0\0\x05I"),
    ] {
        let promises_tls = matches!(manner, Manner::Says([b'S', ..]));
        let line = line(&rig, manner).await;
        assert_refused(&rig, &settings(&line, &file), &["TLS"]).await;
        line.assert_never_spoken_to(&SECRETS);
        let received = line.received();
        let asks_only = received.chunks(8).all(|part| part == SSL_REQUEST);
        assert!(asks_only || promises_tls, "{}", received.escape_ascii());
    }
}

#[tokio::test]
async fn a_postgres_that_asks_for_a_certificate_gets_ours_and_the_systems_cas_are_those_of_an_empty_setting() {
    let rig = Rig::builder().no_server().start().await;
    let (ca, other) = (Ca::new(), Ca::new());
    let line = line(&rig, Manner::Tls(ca.asking(&ca.store()))).await;
    let file = ca.file(rig.folder());
    let with = |(cert, key): &(String, String)| {
        let mut settings = settings(&line, &file);
        settings.extend([
            ("postgres.client_cert", cert.clone().leak() as &str),
            ("postgres.client_key", key.clone().leak()),
        ]);
        settings
    };
    assert_refused(&rig, &settings(&line, &file), &["postgres.client_cert"]).await;
    assert_refused(
        &rig,
        &with(&other.client().files(rig.folder())),
        &["postgres.client_cert"],
    )
    .await;
    let mut settings = with(&ca.client().files(rig.folder()));
    assert_well(&run(&rig, "doctor", &settings).await, "postgres");

    settings.push(("postgres.ca", ""));
    assert_refused(&rig, &settings, &["postgres.ca"]).await;
    settings.push(("SSL_CERT_FILE", &file));
    let by_name = line.url_by_name();
    settings.push(("postgres.url", &by_name));
    assert_well(&run(&rig, "doctor", &settings).await, "postgres");
    line.assert_not_sent(&SECRETS);
}
