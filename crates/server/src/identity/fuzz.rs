//! What callers show, and the keys that it is checked with, as strangers could write them.

use http::{HeaderMap, HeaderValue};
use jsonwebtoken::{Algorithm, crypto};
use serde_json::{Value, json};
use tempfile::NamedTempFile;
use tokio::runtime::{Builder, Runtime};
use waybill_domain::access::{Caller, Role};
use waybill_domain::tenant::Tenant;

use super::tests::{NOW, Signer, api_keys, claims, key_set, now, trusting};
use super::*;
use crate::fuzz::{corpus, corpus_with, fuzz};
use crate::storage::api_keys::ApiKey;

const METHOD: &str = "/waybill.order.v1.OrderService/GetOrder";

/// A service that knows one signer and one API key.
struct Gate {
    signer: Signer,
    api_key: String,
    identity: Identity,
    runtime: Runtime,
    _keys: NamedTempFile,
}

impl Gate {
    fn new() -> Gate {
        let signer = Signer::new(Algorithm::EdDSA, "a");
        let new = NewApiKey::generate().unwrap();
        let key = ApiKey {
            id: new.id,
            secret_hash: new.secret_hash,
            caller: Caller::named(Role::Service, Tenant::default(), &"shop".parse().unwrap()).unwrap(),
            created_at: now(),
            expires_at: None,
            revoked_at: None,
        };
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        let (verifier, _, file) = runtime.block_on(trusting(&key_set(&[&signer])));
        let _entered = runtime.enter();
        let identity = Identity::Known {
            tokens: Some(verifier),
            api_keys: api_keys(vec![key]),
        };
        Gate {
            signer,
            api_key: new.text,
            identity,
            runtime,
            _keys: file,
        }
    }

    /// Who is let in with this header; `None`: no one, or HTTP has no such header.
    fn admit(&self, authorization: &[u8]) -> Option<Caller> {
        let mut headers = HeaderMap::new();
        headers.insert("authorization", HeaderValue::from_bytes(authorization).ok()?);
        match self.runtime.block_on(self.identity.admit(METHOD, &headers, now())) {
            Ok(access) => Some(access.unwrap().caller().unwrap().clone()),
            Err(refusal) => {
                assert!(refusal.to_string().len() < 200, "a refusal is brief: {refusal}");
                None
            }
        }
    }
}

#[test]
fn whatever_the_header_no_one_is_let_in_without_the_token_or_the_key_itself() {
    let gate = Gate::new();
    let token = gate.signer.sign(&claims(&json!({})));
    let inputs = corpus_with("authorization", &[("{token}", &token), ("{api_key}", &gate.api_key)]);
    fuzz(&inputs, |input| {
        if gate.admit(input).is_some() {
            let shown = str::from_utf8(input).unwrap().split_once(' ').unwrap().1.trim();
            assert!(shown == token || shown == gate.api_key, "let in with another token");
        }
    });
    let good = [&token, &gate.api_key].map(|good| gate.admit(format!("Bearer {good}").as_bytes()));
    assert!(good.iter().all(Option::is_some));
}

/// A token whose header and claims are these texts, signed with the key that is trusted: as a backend with a flaw, or with a
/// customer who chooses its names, could make it.
#[test]
fn whatever_is_signed_no_one_is_let_in_but_whom_the_claims_name_in_their_time() {
    let gate = Gate::new();
    fuzz(&corpus("claims"), |input| {
        let mut parts = input.splitn(2, |byte| *byte == b'\n');
        let [header, claims] = [parts.next(), parts.next()].map(Option::unwrap_or_default);
        if let Some(caller) = gate.admit(&signed(&gate.signer, header, claims)) {
            check_caller(&caller, header, claims);
        }
    });
    let good = r#"{"alg":"EdDSA","kid":"a"}"#;
    let claims = claims(&json!({})).to_string();
    let admitted = gate.admit(&signed(&gate.signer, good.as_bytes(), claims.as_bytes()));
    assert_eq!(admitted.unwrap().subject(), "anna");
}

fn signed(signer: &Signer, header: &[u8], claims: &[u8]) -> Vec<u8> {
    use base64::Engine as _;
    use base64::prelude::BASE64_URL_SAFE_NO_PAD as BASE64;
    let message = format!("{}.{}", BASE64.encode(header), BASE64.encode(claims));
    let signature = crypto::sign(message.as_bytes(), &signer.key, Algorithm::EdDSA).unwrap();
    format!("Bearer {message}.{signature}").into_bytes()
}

/// The rules a second time, on the JSON as it is.
#[expect(clippy::cast_precision_loss, reason = "seconds of this era are exact")]
fn check_caller(caller: &Caller, header: &[u8], claims: &[u8]) {
    let header: Value = serde_json::from_slice(header).unwrap();
    assert_eq!(header["alg"], "EdDSA");
    assert!(header["kid"] == "a" || header["kid"].is_null());
    assert!(header["crit"].is_null());

    let claims: Value = match serde_json::from_slice(claims) {
        Ok(claims) => claims,
        // What is no claim of ours is skipped, however deep; a `Value` has at most 128 levels.
        Err(error) if error.to_string().starts_with("recursion limit") => return,
        Err(error) => panic!("let in with claims that are no JSON: {error}"),
    };
    let names = |claim: &Value, name: &str| match claim {
        Value::Array(names) => names.iter().any(|one| one == name),
        one => one == name,
    };
    assert!(names(&claims["iss"], "https://id.example.com"));
    assert!(names(&claims["aud"], "waybill"));
    let [issued_at, expires_at] = ["iat", "exp"].map(|name| claims[name].as_f64().unwrap());
    let (now, leeway) = (NOW as f64, 5.0);
    assert!(expires_at > now - leeway && (0.0..=now + leeway).contains(&issued_at));
    assert!(
        claims["nbf"]
            .as_f64()
            .is_none_or(|not_before| not_before <= now + leeway)
    );

    let ours = &claims["waybill"];
    let tenant = caller.tenant();
    assert_eq!(ours["tenant"].as_str().unwrap_or_default(), tenant.as_str());
    assert!(["", "acme"].contains(&tenant.as_str()), "a tenant of the settings");
    assert_eq!(ours["role"], caller.role().as_str());
    assert_eq!(claims["sub"].as_str().unwrap().trim(), caller.subject());
    assert!((1..=64).contains(&caller.subject().chars().count()));
    if matches!(caller.role(), Role::Customer | Role::Driver) {
        assert!(expires_at - issued_at <= 3_600.0);
    }
    let (order, customer) = match caller {
        Caller::Customer(customer) => (
            customer.order.map(|order| order.to_string()),
            customer.provider_customer.as_ref().map(ToString::to_string),
        ),
        _ => (None, None),
    };
    let order_id = ours["order_id"].as_str().map(str::to_ascii_lowercase);
    assert_eq!(order_id, order, "the order to which it is limited");
    assert_eq!(ours["provider_customer_id"].as_str(), customer.as_deref());
}

#[test]
fn whatever_a_key_set_has_only_public_keys_for_signatures_are_taken() {
    let signer = Signer::new(Algorithm::EdDSA, "a");
    let jwk = signer.jwk().to_string();
    fuzz(&corpus_with("key_sets", &[("{jwk}", &jwk)]), |input| {
        let Ok(set) = str::from_utf8(input)
            .map_err(drop)
            .and_then(|text| KeySet::parse(text).map_err(drop))
        else {
            return;
        };
        let document: Value = serde_json::from_slice(input).unwrap();
        let all = document["keys"].as_array().unwrap();
        let usable = all
            .iter()
            .filter(|key| key["d"].is_null() && (key["use"] == "sig" || key["use"].is_null()));
        let (taken, left_out) = set.counts();
        assert!(taken <= usable.count() && taken + left_out == all.len());
        assert!(set.check().is_err() || taken > 0);
        // A token that names no key, or one that is not there.
        let (_, _) = (set.find(None), set.find(Some("b")));
    });
    let good = KeySet::parse(&key_set(&[&signer])).unwrap();
    assert_eq!(good.counts(), (1, 0));
}
