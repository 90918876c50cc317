//! Which tokens are believed, and why the others are refused.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use http::{HeaderMap, HeaderValue};
use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ED25519, PKCS_RSA_SHA256};
use secrecy::SecretString;
use serde_json::{Value, json};
use tempfile::NamedTempFile;

use waybill_domain::access::{Caller, Customer, Method, Role, Scope};

use waybill_domain::id::DriverId;
use waybill_domain::tenant::Tenant;

use super::*;
use crate::metrics::KeyReadMetrics;
use crate::reload::Reload as _;
use crate::resilience::{BreakerPolicy, Guard};
use crate::storage::api_keys::{ApiKey, ApiKeyStore};
use crate::storage::postgres::{Postgres, PostgresSettings};

pub(super) const NOW: i64 = 1_795_348_000;

/// Who signs tokens.
pub(super) struct Signer {
    pub key: EncodingKey,
    public: Vec<u8>,
    algorithm: Algorithm,
    id: &'static str,
}

impl Signer {
    pub fn new(algorithm: Algorithm, id: &'static str) -> Signer {
        let made = match algorithm {
            Algorithm::ES256 => KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256),
            Algorithm::EdDSA => KeyPair::generate_for(&PKCS_ED25519),
            _ => KeyPair::generate_for(&PKCS_RSA_SHA256),
        };
        let made = made.unwrap();
        let pem = made.serialize_pem();
        let key = match algorithm {
            Algorithm::ES256 => EncodingKey::from_ec_pem(pem.as_bytes()),
            Algorithm::EdDSA => EncodingKey::from_ed_pem(pem.as_bytes()),
            _ => EncodingKey::from_rsa_pem(pem.as_bytes()),
        };
        Signer {
            key: key.unwrap(),
            public: made.public_key_raw().to_vec(),
            algorithm,
            id,
        }
    }

    pub fn jwk(&self) -> Value {
        if self.algorithm == Algorithm::EdDSA {
            let x = BASE64_URL_SAFE_NO_PAD.encode(&self.public);
            return json!({ "kty": "OKP", "crv": "Ed25519", "x": x, "kid": self.id });
        }
        let mut jwk = Jwk::from_encoding_key(&self.key, self.algorithm).unwrap();
        jwk.common.key_id = Some(self.id.to_owned());
        serde_json::to_value(jwk).unwrap()
    }

    pub fn sign(&self, claims: &Value) -> String {
        let mut header = Header::new(self.algorithm);
        header.kid = Some(self.id.to_owned());
        encode(&header, claims, &self.key).unwrap()
    }
}

pub(super) fn key_set(signers: &[&Signer]) -> String {
    let keys: Vec<Value> = signers.iter().map(|signer| signer.jwk()).collect();
    json!({ "keys": keys }).to_string()
}

pub(super) fn now() -> Timestamp {
    Timestamp::from_second(NOW).unwrap()
}

fn rules() -> TokenRules {
    TokenRules {
        issuer: "https://id.example.com".to_owned(),
        audience: "waybill".to_owned(),
        age_max: Duration::from_hours(1),
        tenants: vec!["acme".parse().unwrap()],
    }
}

pub(super) async fn trusting(text: &str) -> (TokenVerifier, TrustedKeys, NamedTempFile) {
    let file = NamedTempFile::new().unwrap();
    std::fs::write(file.path(), text).unwrap();
    let source = KeySource::File(file.path().to_owned());
    let keys = TrustedKeys::load(source, KeyReadMetrics::default()).await.unwrap();
    (TokenVerifier::new(rules(), keys.clone()), keys, file)
}

/// The claims of Anna's token, a customer's, with some of them changed; `null` leaves one out.
pub(super) fn claims(changes: &Value) -> Value {
    let mut claims = json!({
        "iss": "https://id.example.com", "aud": "waybill", "sub": "anna", "iat": NOW - 60, "exp": NOW + 600,
        "waybill": { "role": "customer" }
    });
    for (name, value) in changes.as_object().unwrap() {
        if value.is_null() {
            claims.as_object_mut().unwrap().remove(name);
        } else {
            claims[name] = value.clone();
        }
    }
    claims
}

fn anna() -> Caller {
    customer(None, None)
}

fn staff(role: Role, name: &str) -> Caller {
    Caller::named(role, Tenant::default(), &name.parse().unwrap()).unwrap()
}

fn customer(order: Option<&str>, provider_customer: Option<&str>) -> Caller {
    Caller::Customer(Customer {
        user: "anna".parse().unwrap(),
        order: order.map(|order| order.parse().unwrap()),
        provider_customer: provider_customer.map(|id| id.parse().unwrap()),
    })
}

#[tokio::test]
async fn a_token_is_believed_whichever_algorithm_its_key_has() {
    let signers = [Algorithm::ES256, Algorithm::EdDSA, Algorithm::RS256]
        .into_iter()
        .zip(["a", "b", "c"])
        .map(|(algorithm, id)| Signer::new(algorithm, id))
        .collect::<Vec<_>>();
    let (verifier, _keys, _file) = trusting(&key_set(&signers.iter().collect::<Vec<_>>())).await;
    for signer in &signers {
        let token = signer.sign(&claims(&json!({})));
        let caller = verifier.verify(&token, now()).await.unwrap();
        let until = Timestamp::from_second(NOW + 600).unwrap();
        assert_eq!((&*caller.caller, caller.expires_at), (&anna(), Some(until)));
    }
}

#[tokio::test]
async fn the_role_and_the_subject_say_who_calls() {
    let signer = Signer::new(Algorithm::ES256, "a");
    let (verifier, _keys, _file) = trusting(&key_set(&[&signer])).await;
    let order = "01a20315-5e19-7147-aacf-821719f49b3a";
    for (ours, caller) in [
        (
            json!({ "role": "customer", "order_id": order }),
            customer(Some(order), None),
        ),
        (
            json!({ "role": "customer", "provider_customer_id": "cus_1" }),
            customer(None, Some("cus_1")),
        ),
        (json!({ "role": "driver" }), Caller::Driver("anna".parse().unwrap())),
        (json!({ "role": "dispatcher" }), staff(Role::Dispatcher, "anna")),
        (json!({ "role": "service" }), staff(Role::Service, "anna")),
        (json!({ "role": "operator" }), staff(Role::Operator, "anna")),
    ] {
        let token = signer.sign(&claims(&json!({ "waybill": ours })));
        assert_eq!(*verifier.verify(&token, now()).await.unwrap().caller, caller);
    }
    // Of a business that is one of ours: what it is about is of that business.
    let of_acme = json!({ "role": "driver", "tenant": "acme" });
    let token = signer.sign(&claims(&json!({ "waybill": of_acme })));
    let driver: DriverId = "anna".parse().unwrap();
    let acme: Tenant = "acme".parse().unwrap();
    assert_eq!(
        *verifier.verify(&token, now()).await.unwrap().caller,
        Caller::Driver(driver.of(&acme))
    );
    for other in ["beta", "", "ACME", "acme/x"] {
        let token = signer.sign(&claims(&json!({ "waybill": { "role": "driver", "tenant": other } })));
        let refused = verifier.verify(&token, now()).await.unwrap_err();
        assert!(
            matches!(
                refused,
                AccessError::Claim {
                    claim: "waybill.tenant",
                    ..
                }
            ),
            "{refused}"
        );
    }
    // Several audiences, and times with fractions, are as good.
    let token = signer.sign(&claims(&json!({ "aud": ["other", "waybill"], "exp": 1_795_348_060.5 })));
    assert_eq!(*verifier.verify(&token, now()).await.unwrap().caller, anna());
}

#[tokio::test]
async fn a_token_that_is_not_good_is_refused_with_its_reason() {
    let (signer, stranger) = (Signer::new(Algorithm::ES256, "a"), Signer::new(Algorithm::ES256, "a"));
    let (verifier, _keys, _file) = trusting(&key_set(&[&signer])).await;
    let reason = async |token: &str| match verifier.verify(token, now()).await.unwrap_err() {
        AccessError::Expired => "expired".to_owned(),
        AccessError::NotYetValid => "not yet".to_owned(),
        AccessError::Untrusted => "untrusted".to_owned(),
        AccessError::Claim { claim, .. } => format!("claim {claim}"),
        other => panic!("{other}"),
    };
    for (changes, expected) in [
        (json!({ "exp": NOW - 5 }), "expired"),
        (json!({ "exp": NOW - 4_000, "iat": NOW - 5_000 }), "expired"),
        (json!({ "nbf": NOW + 6 }), "not yet"),
        (json!({ "iat": NOW + 6 }), "not yet"),
        (json!({ "iss": "https://id.example.org" }), "untrusted"),
        (json!({ "aud": "waybill2" }), "untrusted"),
        (json!({ "aud": [] }), "untrusted"),
        (json!({ "iss": null }), "claim iss"),
        (json!({ "aud": null }), "claim aud"),
        (json!({ "sub": null }), "claim sub, iat, exp or waybill"),
        (json!({ "exp": null }), "claim sub, iat, exp or waybill"),
        (json!({ "iat": null }), "claim sub, iat, exp or waybill"),
        (json!({ "exp": "tomorrow" }), "claim sub, iat, exp or waybill"),
        (json!({ "sub": 7 }), "claim sub, iat, exp or waybill"),
        (json!({ "iat": -1 }), "claim iat"),
        (json!({ "exp": 1e300 }), "claim exp"),
        (json!({ "waybill": null }), "claim waybill"),
        (json!({ "waybill": {} }), "claim waybill.role"),
        (json!({ "waybill": { "role": "admin" } }), "claim waybill.role"),
        (
            json!({ "waybill": { "role": "driver", "order_id": "01a20315-5e19-7147-aacf-821719f49b3a" } }),
            "claim waybill.order_id",
        ),
        (
            json!({ "waybill": { "role": "customer", "order_id": "all" } }),
            "claim waybill.order_id",
        ),
        (json!({ "sub": "anna/or/all" }), "claim sub"),
        (json!({ "sub": "" }), "claim sub"),
        (
            json!({ "waybill": { "role": "operator" }, "sub": "two\nlines" }),
            "claim sub",
        ),
        (json!({ "exp": NOW + 3_541 }), "claim exp"),
    ] {
        assert_eq!(reason(&signer.sign(&claims(&changes))).await, expected, "{changes}");
    }
    let good = signer.sign(&claims(&json!({})));
    verifier.verify(&good, now()).await.unwrap();
    let altered = |from: &str, to: &str| {
        let (header, rest) = good.split_once('.').unwrap();
        let header = BASE64_URL_SAFE_NO_PAD.decode(header).unwrap();
        let header = String::from_utf8(header).unwrap().replace(from, to);
        format!("{}.{rest}", BASE64_URL_SAFE_NO_PAD.encode(header))
    };
    let (unsigned, _) = good.rsplit_once('.').unwrap();
    for token in [
        "",
        "a.b.c",
        "....",
        unsigned,
        &format!("{unsigned}."),
        &altered("ES256", "none"),
        &altered("ES256", "HS256"),
        &altered("ES256", "ES384"),
        &altered("\"a\"", "\"b\""),
        &altered("{", "{\"crit\":[\"x\"],\"x\":1,"),
        &stranger.sign(&claims(&json!({}))),
        &good.replace('.', ".."),
        &format!("{good}."),
    ] {
        assert_eq!(reason(token).await, "untrusted", "{token}");
    }
    // The public key is no secret: who has it signs nothing.
    let public = key_set(&[&signer]);
    let mut header = Header::new(Algorithm::HS256);
    header.kid = Some("a".to_owned());
    let secret = EncodingKey::from_secret(public.as_bytes());
    assert_eq!(
        reason(&encode(&header, &claims(&json!({})), &secret).unwrap()).await,
        "untrusted"
    );
}

/// A program may be trusted for longer than a telephone.
#[tokio::test]
async fn tokens_of_customers_and_drivers_live_for_an_hour_and_others_as_long_as_they_say() {
    let signer = Signer::new(Algorithm::ES256, "a");
    let (verifier, _keys, _file) = trusting(&key_set(&[&signer])).await;
    for (role, is_limited) in [
        ("customer", true),
        ("driver", true),
        ("service", false),
        ("operator", false),
    ] {
        let token = signer.sign(&claims(&json!({ "exp": NOW + 86_400, "waybill": { "role": role } })));
        assert_eq!(verifier.verify(&token, now()).await.is_err(), is_limited, "{role}");
    }
}

#[tokio::test]
async fn keys_are_replaced_with_their_file_and_never_by_a_bad_one() {
    let (old, new) = (
        Signer::new(Algorithm::ES256, "old"),
        Signer::new(Algorithm::EdDSA, "new"),
    );
    let (verifier, keys, file) = trusting(&key_set(&[&old])).await;
    let is_trusted = async |signer: &Signer| verifier.verify(&signer.sign(&claims(&json!({}))), now()).await.is_ok();
    assert!(is_trusted(&old).await && !is_trusted(&new).await);
    for bad in ["", "{}", "{\"keys\":[", "[]"] {
        std::fs::write(file.path(), bad).unwrap();
        keys.reload().await.unwrap_err();
        assert!(is_trusted(&old).await, "{bad}");
    }
    std::fs::write(file.path(), key_set(&[&old, &new])).unwrap();
    keys.reload().await.unwrap();
    assert!(is_trusted(&old).await && is_trusted(&new).await);
    std::fs::write(file.path(), key_set(&[&new])).unwrap();
    keys.reload().await.unwrap();
    assert!(!is_trusted(&old).await && is_trusted(&new).await);
    // Who removes the only key wants no one to be believed, also without another one.
    for none in ["{\"keys\":[]}", "{\"keys\":[{\"kty\":\"oct\",\"k\":\"c2VjcmV0\"}]}"] {
        std::fs::write(file.path(), key_set(&[&new])).unwrap();
        keys.reload().await.unwrap();
        assert!(is_trusted(&new).await);
        std::fs::write(file.path(), none).unwrap();
        keys.reload().await.unwrap();
        assert!(!is_trusted(&new).await, "{none}");
    }
    // Of two keys of one name neither is.
    let twin = Signer::new(Algorithm::EdDSA, "new");
    std::fs::write(file.path(), key_set(&[&new, &twin, &old])).unwrap();
    keys.reload().await.unwrap();
    assert!(!is_trusted(&new).await && !is_trusted(&twin).await && is_trusted(&old).await);
}

#[test]
fn a_set_without_a_key_that_can_be_used_or_with_two_of_one_name_is_refused() {
    let (one, other) = (Signer::new(Algorithm::ES256, "a"), Signer::new(Algorithm::EdDSA, "a"));
    let error = |text: &str| KeySet::parse(text).and_then(|set| set.check()).unwrap_err();
    assert_eq!(error(&key_set(&[&one, &other])), KeySetError::Ambiguous("a".to_owned()));
    assert!(matches!(error("[7]"), KeySetError::Malformed { line: 1, .. }));
    // For encryption, too short, a shared secret, no point of the curve, with its private part: none of them is used.
    let mut for_encryption = one.jwk();
    for_encryption["use"] = json!("enc");
    let mut private = one.jwk();
    private["d"] = json!("AQAB");
    let short = json!({ "kty": "RSA", "n": BASE64_URL_SAFE_NO_PAD.encode([0xff; 128]), "e": "AQAB" });
    let no_point = json!({ "kty": "EC", "crv": "P-256", "kid": "a", "x": "AA", "y": "AA" });
    let shared = json!({ "kty": "oct", "k": "c2VjcmV0" });
    let unusable = [
        for_encryption,
        private,
        short,
        no_point,
        shared,
        json!(7),
        json!({ "kty": "new" }),
    ];
    let text = json!({ "keys": unusable }).to_string();
    assert_eq!(error(&text), KeySetError::Empty);
    assert_eq!(KeySet::parse(&text).unwrap().counts(), (0, unusable.len()));
}

/// A token that was verified before is good for as long as one that was not.
#[tokio::test]
async fn a_token_that_is_remembered_expires_and_goes_with_its_key() {
    let (gone, kept) = (
        Signer::new(Algorithm::ES256, "gone"),
        Signer::new(Algorithm::ES256, "kept"),
    );
    let (verifier, keys, file) = trusting(&key_set(&[&gone, &kept])).await;
    let token = gone.sign(&claims(&json!({})));
    let first = verifier.verify(&token, now()).await.unwrap();
    let again = verifier.verify(&token, now()).await.unwrap();
    assert!(Arc::ptr_eq(&first.caller, &again.caller), "it is remembered");
    let late = Timestamp::from_second(NOW + 605).unwrap();
    assert_eq!(verifier.verify(&token, late).await.unwrap_err(), AccessError::Expired);

    let stays = verifier.verify(&kept.sign(&claims(&json!({}))), now()).await.unwrap();
    std::fs::write(file.path(), key_set(&[&kept])).unwrap();
    keys.reload().await.unwrap();
    assert_eq!(
        verifier.verify(&token, now()).await.unwrap_err(),
        AccessError::Untrusted
    );
    assert!(again.revoked.is_cancelled() && !stays.revoked.is_cancelled());
    // Another key under the name of the old one is another key.
    let other = Signer::new(Algorithm::ES256, "kept");
    std::fs::write(file.path(), key_set(&[&other])).unwrap();
    keys.reload().await.unwrap();
    assert!(stays.revoked.is_cancelled());
}

/// The keys of this list, of a database that is not there.
pub(super) fn api_keys(keys: Vec<ApiKey>) -> ApiKeys {
    let settings = PostgresSettings {
        url: SecretString::from("postgres://waybill@127.0.0.1:1/waybill"),
        password_file: None,
        tls: None,
        pool_max: 1,
        acquire_timeout: Duration::from_millis(100),
        statement_timeout: Duration::from_millis(100),
        lock_timeout: Duration::from_millis(100),
        may_be_standby: false,
    };
    let guard = Guard::new("postgres", settings.call_timeout(), BreakerPolicy::default());
    let postgres = Postgres::new(&settings, Arc::new(guard)).unwrap();
    ApiKeys::new(ApiKeyStore::new(postgres), keys, &[], Duration::from_mins(10))
}

#[tokio::test]
async fn api_keys_that_were_not_read_for_long_are_not_believed() {
    let new = NewApiKey::generate().unwrap();
    let key = ApiKey {
        id: new.id,
        secret_hash: new.secret_hash,
        caller: staff(Role::Service, "shop"),
        created_at: now(),
        expires_at: None,
        revoked_at: None,
    };
    let keys = api_keys(vec![key.clone()]);
    let shop = keys.verify(&new.text, now()).unwrap();
    keys.reload().await.unwrap_err();
    keys.verify(&new.text, now()).unwrap();
    assert!(!shop.revoked.is_cancelled());

    let impatient = ApiKeys::new(keys.store.clone(), vec![key], &[], Duration::ZERO);
    assert_eq!(impatient.verify(&new.text, now()).unwrap_err(), AccessError::NotChecked);
}

#[test]
fn no_two_api_keys_are_alike() {
    let keys: Vec<NewApiKey> = (0..100).map(|_| NewApiKey::generate().unwrap()).collect();
    let texts: BTreeSet<&str> = keys.iter().map(|key| key.text.as_str()).collect();
    assert_eq!(texts.len(), 100);
    assert!(keys.iter().all(|key| key.text.contains(key.id.as_str())));
}

#[tokio::test]
async fn a_call_needs_one_token_and_a_role_that_may_make_it() {
    let signer = Signer::new(Algorithm::ES256, "a");
    let (verifier, _keys, _file) = trusting(&key_set(&[&signer])).await;
    let identity = Identity::Known {
        tokens: Some(verifier),
        api_keys: api_keys(Vec::new()),
    };
    let create = "/waybill.order.v1.OrderService/CreateOrder";
    let customer = format!("Bearer {}", signer.sign(&claims(&json!({}))));
    let admit = async |path: &str, values: &[&str]| {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append("authorization", HeaderValue::from_str(value).unwrap());
        }
        identity.admit(path, &headers, now()).await
    };
    let access = admit(create, &[&customer]).await.unwrap().unwrap();
    assert_eq!(
        (access.caller(), &access.scope),
        (Some(&anna()), &Scope::User("anna".parse().unwrap(), None))
    );
    admit(create, &[&customer.replace("Bearer", "bearer")]).await.unwrap();
    for values in [
        &[][..],
        &[customer.as_str(), customer.as_str()],
        &["Basic YW5uYQ=="],
        &["Bearer"],
        &["Bearer  "],
        &[&customer["Bearer ".len()..]],
    ] {
        assert_eq!(
            admit(create, values).await.unwrap_err(),
            AccessError::Missing,
            "{values:?}"
        );
    }
    let long = format!("Bearer {}", "a".repeat(TOKEN_LENGTH_MAX + 1));
    assert_eq!(admit(create, &[&long]).await.unwrap_err(), AccessError::TooLong);
    assert_eq!(
        admit("/waybill.admin.v1.AdminService/ShowOrder", &[&customer])
            .await
            .unwrap_err(),
        AccessError::NotAllowed {
            role: Role::Customer,
            method: Method::ShowOrder
        }
    );
    // Nothing is asked of a health check, and what is no method is for the services to refuse.
    assert!(admit("/grpc.health.v1.Health/Check", &[]).await.unwrap().is_none());
    assert!(
        admit("/waybill.order.v1.OrderService/Nothing", &[])
            .await
            .unwrap()
            .is_none()
    );
}
