//! Who signs the tokens of callers in a private world. In production that is the business's own backend.

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::time::Duration;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair};
use jiff::Timestamp;
use jsonwebtoken::jwk::{Jwk, JwkSet, ThumbprintHash};
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use serde_json::{Value, json};

use crate::Error;

/// Signs with a key of its own, which no server trusts but those of the private world.
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
        TokenSigner::with(&generate()?)
    }

    /// With the key in this file (PKCS #8, DER); with a new one, which is written there, if there is no file.
    pub fn open_or_create(file: &Path) -> Result<TokenSigner, Error> {
        if !file.exists() {
            // A file that is there is never written over: it may be the key of others.
            let pkcs8 = generate()?;
            let mut options = OpenOptions::new();
            options.write(true).create_new(true).mode(0o600);
            let written = options.open(file).and_then(|mut file| file.write_all(&pkcs8));
            written.map_err(Error::at(file))?;
        }
        TokenSigner::open(file)
    }

    /// With the key in this file.
    pub fn open(file: &Path) -> Result<TokenSigner, Error> {
        TokenSigner::with(&fs::read(file).map_err(Error::at(file))?)
    }

    /// `pkcs8`: the key in PKCS #8, as DER.
    fn with(pkcs8: &[u8]) -> Result<TokenSigner, Error> {
        let key = EncodingKey::from_ec_der(pkcs8);
        let jwk = Jwk::from_encoding_key(&key, Algorithm::ES256).map_err(Error::token)?;
        let key_id = jwk.thumbprint(ThumbprintHash::SHA256).map_err(Error::token)?;
        Ok(TokenSigner { key, key_id })
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

/// A new key in PKCS #8, as DER.
fn generate() -> Result<Vec<u8>, Error> {
    let made = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &SystemRandom::new());
    let key = made.map_err(|_| Error::token("the system gives no random bytes"))?;
    Ok(key.as_ref().to_vec())
}
