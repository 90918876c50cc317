//! The certificate of the listeners, and the CAs of their peers.

use std::fs;

use jiff::{Timestamp, ToSpan as _};
use testkit::Rig;

use super::assert_finds;
use crate::cli::on_stores_with;
use crate::stores::tls::certificates::Ca;

/// The settings of these files.
fn tls<'a>(cert: &'a str, key: &'a str) -> [(&'a str, &'a str); 2] {
    [("WAYBILL_TLS__CERT", cert), ("WAYBILL_TLS__KEY", key)]
}

#[tokio::test]
async fn the_doctor_says_until_when_clients_take_the_certificate() {
    let (rig, ca) = (Rig::builder().no_server().start().await, Ca::new());
    assert_finds(&rig, &[], "tls", "ok", &["off"]).await;
    let (cert, key) = ca.store().files(rig.folder());
    assert_finds(&rig, &tls(&cert, &key), "tls", "ok", &["valid until"]).await;

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
}

#[tokio::test]
async fn the_doctor_says_until_when_the_cas_of_peers_are_valid() {
    let (rig, ca) = (Rig::builder().no_server().start().await, Ca::new());
    let folder = rig.folder();
    let (cert, key) = ca.store().files(folder);
    let with = |client_ca: &str| {
        let [cert, key] = tls(&cert, &key).map(|(name, file)| (name, file.to_owned()));
        [cert, key, ("WAYBILL_TLS__CLIENT_CA", client_ca.to_owned())]
    };
    let today = Timestamp::now();
    let file = |from_hours: i64, until_hours: i64| {
        Ca::between(today + from_hours.hours(), today + until_hours.hours()).file(folder)
    };
    let (good, old) = (file(-72, 9_000), file(-9_000, -72));
    let together = |files: &[&str]| {
        let all: String = files.iter().map(|file| fs::read_to_string(file).unwrap()).collect();
        let path = folder.join(format!("{}-together.pem", files.len()));
        fs::write(&path, all).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let whole = fs::read_to_string(&good).unwrap();
    let cut_off = folder.join("cut-off.pem");
    fs::write(&cut_off, [&whole, &whole[..whole.len() - 60]].concat()).unwrap();
    let cut_off = cut_off.to_str().unwrap();
    let gone = folder.join("nothing.pem");
    let gone = gone.to_str().unwrap();
    let soon = ["expires in", "days", "nothing has to be restarted"];
    for (client_ca, mark, named) in [
        (good.clone(), "ok", &["1 CA", "valid until"][..]),
        (together(&[&good, &good]), "ok", &["2 CAs", "valid until"]),
        (file(-72, 240), "WARNING", &soon),
        (
            old.clone(),
            "CHANGE",
            &["expired at", r#"docs/runbook.md, "Certificates""#],
        ),
        (file(72, 9_000), "CHANGE", &["is not valid before"]),
        // While one CA replaces another, the file has both.
        (
            together(&[&good, &good, &old]),
            "CHANGE",
            &["certificate 3 of 3 expired at"],
        ),
        (cut_off.to_owned(), "CHANGE", &["cut off"]),
        (gone.to_owned(), "CHANGE", &["cannot be read", gone]),
    ] {
        let settings = with(&client_ca);
        let settings = settings.each_ref().map(|(name, value)| (*name, value.as_str()));
        let named = [named, &["tls.client_ca"]].concat();
        assert_finds(&rig, &settings, "tls.client_ca", mark, &named).await;
        // The server's own certificate is another matter.
        assert_finds(&rig, &settings, "tls", "ok", &["tls.cert is valid until"]).await;
    }
    let ended = on_stores_with(&rig, &["doctor"], &tls(&cert, &key)).await;
    assert!(!ended.stdout.contains("tls.client_ca"), "{}", ended.stdout);
}
