//! Callers at the door: one whose token was verified at an earlier call, and a program with an API key.

use std::sync::Arc;
use std::time::Duration;
use std::{env, fs};

use futures_util::FutureExt as _;
use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderValue};
use jiff::Timestamp;
use jsonwebtoken::jwk::{Jwk, JwkSet};
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256};
use serde_json::json;
use waybill_domain::access::{Caller, Staff};
use waybill_domain::tenant::Tenant;
use waybill_server::identity::{
    Access, ApiKeys, Identity, KeySource, NewApiKey, TokenRules, TokenVerifier, TrustedKeys,
};
use waybill_server::metrics::KeyReadMetrics;
use waybill_server::resilience::{BreakerPolicy, Guard};
use waybill_server::storage::api_keys::{ApiKey, ApiKeyStore};
use waybill_server::storage::postgres::{Postgres, PostgresSettings};

/// A server that knows its callers, and the headers of one of them.
pub struct Arrival {
    identity: Identity,
    headers: HeaderMap,
    now: Timestamp,
}

const ISSUER: &str = "https://id.example.com";
const AUDIENCE: &str = "waybill";
/// In bytes, before base64: an RSA signature of 2,048 bits has 256, one of ECDSA on P-256 has 64.
const RSA_LENGTH_MORE: usize = 256 - 64;
/// The `kid` of a key is most often its thumbprint (RFC 7638), which has this length.
const KEY_ID: &str = "0123456789012345678901234567890123456789012";

/// Anna, whose token is remembered. To admit her is to take 3,000 instructions at most.
pub fn customer(now: Timestamp) -> Arrival {
    let pem = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)
        .expect("a key")
        .serialize_pem();
    let key = EncodingKey::from_ec_pem(pem.as_bytes()).expect("it is such a key");
    let mut public = Jwk::from_encoding_key(&key, Algorithm::ES256).expect("it has a public half");
    public.common.key_id = Some(KEY_ID.to_owned());
    let mut header = Header::new(Algorithm::ES256);
    header.kid = Some(KEY_ID.to_owned());
    let claims = json!({
        // Most are signed with RSA, whose signature is so much longer; and each byte of a token is hashed.
        "jti": "j".repeat(RSA_LENGTH_MORE),
        "iss": ISSUER, "aud": AUDIENCE, "sub": "user-000042",
        "iat": now.as_second() - 60, "exp": now.as_second() + 600, "waybill": { "role": "customer" }
    });
    let token = encode(&header, &claims, &key).expect("it can sign");
    let verifier = TokenVerifier::new(
        TokenRules {
            issuer: ISSUER.to_owned(),
            audience: AUDIENCE.to_owned(),
            age_max: Duration::from_hours(1),
            tenants: Vec::new(),
        },
        trusted(&JwkSet { keys: vec![public] }),
    );
    let arrival = Arrival::new(Some(verifier), Vec::new(), &token, now);
    admit(&arrival);
    arrival
}

/// A program of the business.
pub fn program(now: Timestamp) -> Arrival {
    let new = NewApiKey::generate().expect("random bytes");
    let key = ApiKey {
        id: new.id,
        secret_hash: new.secret_hash,
        caller: Caller::Service(Staff {
            tenant: Tenant::default(),
            name: "shop".to_owned(),
        }),
        created_at: now,
        expires_at: None,
        revoked_at: None,
    };
    Arrival::new(None, vec![key], &new.text, now)
}

/// What its call may do. It is known at once.
pub fn admit(arrival: &Arrival) -> Option<Access> {
    let path = "/waybill.order.v1.OrderService/GetOrder";
    let admitted = arrival.identity.admit(path, &arrival.headers, arrival.now);
    admitted
        .now_or_never()
        .expect("nothing is fetched")
        .expect("it may call")
}

impl Arrival {
    fn new(tokens: Option<TokenVerifier>, api_keys: Vec<ApiKey>, shown: &str, now: Timestamp) -> Arrival {
        let shown = HeaderValue::from_str(&format!("Bearer {shown}")).expect("letters");
        let api_keys = ApiKeys::new(no_store(), api_keys, &[], Duration::from_mins(10));
        Arrival {
            identity: Identity::Known { tokens, api_keys },
            headers: HeaderMap::from_iter([(AUTHORIZATION, shown)]),
            now,
        }
    }
}

/// These keys, out of a file.
fn trusted(keys: &JwkSet) -> TrustedKeys {
    let file = env::temp_dir().join(format!("waybill-count-{}.json", std::process::id()));
    fs::write(&file, json!(keys).to_string()).expect("a file");
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .expect("a runtime");
    let loaded = runtime.block_on(TrustedKeys::load(
        KeySource::File(file.clone()),
        KeyReadMetrics::default(),
    ));
    fs::remove_file(file).expect("it is there");
    loaded.expect("the keys are good")
}

/// A database that is not asked.
fn no_store() -> ApiKeyStore {
    let settings = PostgresSettings {
        url: "postgres://waybill@127.0.0.1:1/waybill".to_owned().into(),
        password_file: None,
        tls: None,
        pool_max: 1,
        acquire_timeout: Duration::from_secs(1),
        statement_timeout: Duration::from_secs(1),
        lock_timeout: Duration::from_secs(1),
        may_be_standby: false,
    };
    let guard = Guard::new("postgres", settings.call_timeout(), BreakerPolicy::default());
    ApiKeyStore::new(Postgres::new(&settings, Arc::new(guard)).expect("it is not connected yet"))
}
