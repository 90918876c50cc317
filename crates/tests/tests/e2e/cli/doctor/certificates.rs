//! The certificate of the listeners.

use std::fs;

use jiff::{Timestamp, ToSpan as _};
use testkit::Rig;

use super::assert_finds;
use crate::store_tls::certificates::Ca;

/// The settings of these files.
fn tls<'a>(cert: &'a str, key: &'a str) -> [(&'a str, &'a str); 2] {
    [("WAYBILL_TLS__CERT", cert), ("WAYBILL_TLS__KEY", key)]
}

#[tokio::test]
async fn the_doctor_says_until_when_clients_take_the_certificate() {
    let (rig, ca) = (Rig::builder().no_server().start().await, Ca::new());
    assert_finds(&rig, &[], "tls", "ok", &["off"]).await;
    let ca_file = ca.file(rig.folder());
    let (cert, key) = ca.store().files(rig.folder());
    let both = [&tls(&cert, &key)[..], &[("WAYBILL_TLS__CLIENT_CA", &ca_file)]].concat();
    assert_finds(&rig, &both, "tls", "ok", &["valid until", "tls.client_ca"]).await;

    let today = Timestamp::now();
    let (cert, key) = ca.valid(today - 72.hours(), today + 240.hours()).files(rig.folder());
    let soon = ["expires in", "days", "nothing has to be restarted"];
    assert_finds(&rig, &tls(&cert, &key), "tls", "WARNING", &soon).await;
}

#[tokio::test]
async fn the_doctor_says_why_clients_will_not_take_a_certificate() {
    let (rig, ca) = (Rig::builder().no_server().start().await, Ca::new());
    let folder = rig.folder();
    let today = Timestamp::now();
    let runbook = r#"docs/runbook.md, "Certificates""#;
    for (pair, why) in [
        (ca.expired(), "tls.cert expired at 2019-12-31"),
        (
            ca.valid(today + 48.hours(), today + 720.hours()),
            "tls.cert is not valid before",
        ),
        (ca.ca_as_store(), "tls.cert is the certificate of a CA"),
        (ca.client(), "tls.cert is a certificate that no client takes"),
    ] {
        let (cert, key) = pair.files(folder);
        assert_finds(&rig, &tls(&cert, &key), "tls", "CHANGE", &[why, runbook]).await;
    }
    let (cert, key) = ca.store().files(folder);
    let (other_cert, other_key) = ca.store().files(folder);
    assert_finds(
        &rig,
        &tls(&cert, &other_key),
        "tls",
        "CHANGE",
        &["tls.key is not the key"],
    )
    .await;

    // A chain whose second certificate was not written to its end.
    let chain = fs::read_to_string(&cert).unwrap() + &fs::read_to_string(&other_cert).unwrap();
    let cut_off = folder.join("cut-off.pem");
    fs::write(&cut_off, &chain[..chain.len() - 60]).unwrap();
    let cut_off = cut_off.to_str().unwrap();
    assert_finds(&rig, &tls(cut_off, &key), "tls", "CHANGE", &["tls.cert", "cut off"]).await;

    let gone = folder.join("nothing.pem");
    let gone = gone.to_str().unwrap();
    assert_finds(
        &rig,
        &tls(&cert, gone),
        "tls",
        "CHANGE",
        &["tls.key cannot be read", gone],
    )
    .await;
    let bad_ca = [&tls(&cert, &key)[..], &[("WAYBILL_TLS__CLIENT_CA", gone)]].concat();
    assert_finds(&rig, &bad_ca, "tls", "CHANGE", &["tls.client_ca cannot be read"]).await;
}
