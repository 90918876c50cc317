//! Who signs the tokens of callers in a private world. In production that is the business's own backend.

use std::time::Duration;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair};
use jiff::Timestamp;
use jsonwebtoken::jwk::{Jwk, JwkSet};
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::Error;

/// Signs with a key that is new with each start: what it signed is worth nothing after the next one.
pub struct TokenSigner {
    key: EncodingKey,
    key_id: String,
}

impl TokenSigner {
    /// The `iss` of its tokens.
    pub const ISSUER: &str = "https://sandbox.waybill.invalid";
    /// Their `aud`.
    pub const AUDIENCE: &str = "waybill";

    /// With a new key.
    pub fn new() -> Result<TokenSigner, Error> {
        let made = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &SystemRandom::new());
        let key = made.map_err(|_| Error::token("the system gives no random bytes"))?;
        Ok(TokenSigner {
            key: EncodingKey::from_ec_der(key.as_ref()),
            key_id: Uuid::now_v7().to_string(),
        })
    }

    /// The public key, as a JSON Web Key Set.
    pub fn key_set(&self) -> Result<String, Error> {
        let mut jwk = Jwk::from_encoding_key(&self.key, Algorithm::ES256).map_err(Error::token)?;
        jwk.common.key_id = Some(self.key_id.clone());
        serde_json::to_string_pretty(&JwkSet { keys: vec![jwk] }).map_err(Error::token)
    }

    /// A token for this role and the one whom it is about, valid from now on for `lives`.
    pub fn token(&self, role: &str, subject: &str, lives: Duration) -> Result<String, Error> {
        self.sign(&TokenSigner::claims(role, subject, lives))
    }

    /// The claims of such a token.
    pub fn claims(role: &str, subject: &str, lives: Duration) -> Value {
        let now = Timestamp::now().as_second();
        let lives = i64::try_from(lives.as_secs()).unwrap_or(i64::MAX);
        json!({
            "iss": TokenSigner::ISSUER, "aud": TokenSigner::AUDIENCE, "sub": subject,
            "iat": now, "exp": now.saturating_add(lives), "waybill": { "role": role }
        })
    }

    /// A token with these claims, whatever they are.
    pub fn sign(&self, claims: &Value) -> Result<String, Error> {
        let mut header = Header::new(Algorithm::ES256);
        header.kid = Some(self.key_id.clone());
        encode(&header, claims, &self.key).map_err(Error::token)
    }
}
