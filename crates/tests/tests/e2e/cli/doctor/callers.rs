//! Who can call, by which keys, and for how long.

use std::fs;

use jiff::{Timestamp, ToSpan as _};
use testkit::Rig;
use waybill_sandbox::tokens::TokenSigner;

use super::assert_finds;
use crate::access::key_url::IdentityProvider;
use crate::cli::{on_stores, on_stores_with};

const KNOWN: (&str, &str) = ("WAYBILL_AUTH__ANONYMOUS", "false");
const ISSUER: (&str, &str) = ("WAYBILL_AUTH__ISSUER", TokenSigner::ISSUER);

async fn create_key(rig: &Rig, args: &[&str]) -> String {
    let ended = on_stores(rig, &[&["keys", "create"], args].concat()).await;
    assert_eq!(ended.status, Some(0), "{ended:?}");
    ended.stdout.trim().to_owned()
}

#[tokio::test]
async fn the_doctor_says_when_no_one_or_everyone_can_call() {
    let rig = Rig::builder().no_server().start().await;
    assert_finds(&rig, &[], "callers", "WARNING", &["auth.anonymous", "everything"]).await;
    let no_one = ["no one can call", "waybill keys create", "auth.keys"];
    assert_finds(&rig, &[KNOWN], "callers", "CHANGE", &no_one).await;
    // One that no one can use any more.
    let key = create_key(&rig, &["--name", "shop"]).await;
    let id = key.split('_').nth(1).unwrap();
    assert_eq!(on_stores(&rig, &["keys", "revoke", id]).await.status, Some(0));
    assert_finds(&rig, &[KNOWN], "callers", "CHANGE", &no_one).await;
    // One of a business that the settings do not name.
    let of_acme = ["keys", "create", "--name", "shop", "--tenant", "acme"];
    let created = on_stores_with(&rig, &of_acme, &[("WAYBILL_TENANTS__NAMES", "acme")]).await;
    assert_eq!(created.status, Some(0), "{created:?}");
    assert_finds(&rig, &[KNOWN], "callers", "CHANGE", &no_one).await;
    // Before the first `waybill migrate`.
    rig.execute("drop table api_keys").await;
    assert_finds(&rig, &[KNOWN], "api keys", "CHANGE", &["waybill migrate"]).await;
    // A server would not start.
    let public = [
        ("WAYBILL_GRPC__ADDR", "0.0.0.0:50051"),
        ("WAYBILL_TLS__PLAINTEXT", "true"),
    ];
    let refused = ["auth.anonymous must be false"];
    assert_finds(&rig, &public, "configuration", "CHANGE", &refused).await;
}

#[tokio::test]
async fn the_doctor_counts_api_keys_and_warns_before_one_expires() {
    let rig = Rig::builder().no_server().start().await;
    create_key(&rig, &["--name", "shop"]).await;
    create_key(&rig, &["--name", "board", "--expires-in", "720h"]).await;
    assert_finds(&rig, &[KNOWN], "api keys", "ok", &["2 are good"]).await;
    let key = create_key(&rig, &["--name", "till", "--expires-in", "168h"]).await;
    let id = key.split('_').nth(1).unwrap();
    let soon = ["3 are good", "1 expires", id, "service till"];
    assert_finds(&rig, &[KNOWN], "api keys", "WARNING", &soon).await;
    let ended = on_stores_with(&rig, &["doctor"], &[KNOWN]).await;
    let secret = key.rsplit_once(id).unwrap().1;
    assert!(!ended.stdout.contains(secret), "{}", ended.stdout);
}

#[tokio::test]
async fn the_doctor_says_what_the_keys_of_tokens_are_worth() {
    let rig = Rig::builder().no_server().start().await;
    let set = TokenSigner::new().unwrap().key_set().unwrap();
    let file = rig.folder().join("keys.json");
    let settings = [KNOWN, ISSUER, ("WAYBILL_AUTH__KEYS", file.to_str().unwrap())];
    assert_finds(&rig, &settings, "auth.keys", "CHANGE", &["cannot be read", "keys.json"]).await;
    for (contents, mark, named) in [
        (set.clone(), "ok", "1 key"),
        (
            set.replace(r#""keys": ["#, r#""keys": [{"kty": "oct", "k": "c2VjcmV0"},"#),
            "WARNING",
            "1 cannot be used",
        ),
        ("{}".to_owned(), "CHANGE", "no JSON Web Key Set"),
        (r#"{"keys": []}"#.to_owned(), "CHANGE", "no key that can verify a token"),
    ] {
        fs::write(&file, contents).unwrap();
        assert_finds(&rig, &settings, "auth.keys", mark, &[named]).await;
    }
    // Who has keys for tokens needs no API key.
    fs::write(&file, set).unwrap();
    assert_finds(&rig, &settings, "api keys", "ok", &["none"]).await;
}

#[tokio::test]
async fn the_doctor_compares_its_clock_with_that_of_the_address_of_the_keys() {
    let rig = Rig::builder().no_server().start().await;
    let provider = IdentityProvider::start().await;
    let settings = [KNOWN, ISSUER, ("WAYBILL_AUTH__KEYS", provider.url.as_str())];
    assert_finds(&rig, &settings, "auth.keys", "CHANGE", &["cannot be fetched", "503"]).await;

    let set = TokenSigner::new().unwrap().key_set().unwrap();
    let answers = |date: Timestamp, more: &str| {
        let date = date.strftime("%a, %d %b %Y %H:%M:%S GMT");
        provider.answers(&format!("200 OK\r\ndate: {date}{more}"), &set);
    };
    answers(Timestamp::now(), "");
    assert_finds(&rig, &settings, "auth.keys", "ok", &["1 key"]).await;
    assert_finds(&rig, &settings, "token clock", "ok", &["auth.keys"]).await;
    for (away, named) in [(60, "behind"), (-60, "ahead of")] {
        answers(Timestamp::now() + away.seconds(), "");
        assert_finds(&rig, &settings, "token clock", "CHANGE", &[named, "NTP", "5 s"]).await;
    }
    // Out of a cache, it is the time at which the cache got it.
    answers(Timestamp::now() - 60.seconds(), "\r\nage: 60");
    let ended = on_stores_with(&rig, &["doctor"], &settings).await;
    assert!(!ended.stdout.contains("token clock"), "{}", ended.stdout);
}
