//! The public keys with which tokens are verified: a JSON Web Key Set (RFC 7517), as identity providers publish it.

use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, ED25519, ParsedPublicKey};
use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, KeyAlgorithm, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey};
use serde::Deserialize;
use serde_json::Value;
use thiserror::Error;
use tokio_util::sync::CancellationToken;

use crate::json::ObjectOnly;

/// The shortest modulus of an RSA key, in bytes: 2,048 bits, as RFC 7518 asks.
const RSA_BYTES_MIN: usize = 256;

/// Why a key set cannot be used. The text names no key.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum KeySetError {
    /// Not an object with a list `keys`.
    #[error("is no JSON Web Key Set (RFC 7517): line {line}, column {column}")]
    Malformed {
        /// Counted from 1.
        line: usize,
        /// Counted from 1.
        column: usize,
    },
    /// Not one key in it can verify a token.
    #[error("has no key that can verify a token: {NEEDED}")]
    Empty,
    /// Two keys have one id: a token cannot say which of them signed it.
    #[error("has two keys with the kid {0:?}")]
    Ambiguous(String),
}

/// What a key has to be.
const NEEDED: &str =
    "RSA of at least 2048 bits, EC on P-256 or P-384, or Ed25519, for signatures, and without its private part";

/// The keys of a set that can verify tokens. Others in it, such as those for encryption, are left out.
#[derive(Debug, Default)]
pub struct KeySet {
    keys: Vec<Key>,
    left_out: usize,
}

/// A key, and the one algorithm that it is used with: a token does not choose.
#[derive(Debug)]
pub(super) struct Key {
    jwk: Jwk,
    pub(super) algorithm: Algorithm,
    pub(super) public: DecodingKey,
    /// Cancelled once the set has it no more.
    pub(super) removed: CancellationToken,
}

#[derive(Deserialize)]
struct Document {
    keys: Vec<Value>,
    #[serde(flatten)]
    _others: ObjectOnly,
}

impl KeySet {
    /// The keys of this document: all that can be used, which may be none.
    pub fn parse(text: &str) -> Result<KeySet, KeySetError> {
        let document: Document = serde_json::from_str(text).map_err(|error| KeySetError::Malformed {
            line: error.line(),
            column: error.column(),
        })?;
        let count = document.keys.len();
        let keys: Vec<Key> = document.keys.into_iter().filter_map(usable).collect();
        Ok(KeySet {
            left_out: count - keys.len(),
            keys,
        })
    }

    /// Fails where no token can be verified, or two keys have one id: so a server does not start.
    pub fn check(&self) -> Result<(), KeySetError> {
        match (self.keys.is_empty(), self.ambiguous()) {
            (true, _) => Err(KeySetError::Empty),
            (false, Some(id)) => Err(KeySetError::Ambiguous(id.to_owned())),
            (false, None) => Ok(()),
        }
    }

    /// How many keys it has, and how many more were in the document that cannot be used.
    pub fn counts(&self) -> (usize, usize) {
        (self.keys.len(), self.left_out)
    }

    /// The key of this id; without one, the only key that there is. Of two with one id neither is.
    pub(super) fn find(&self, id: Option<&str>) -> Option<&Key> {
        let mut found = self.keys.iter().filter(|key| id.is_none() || key.id() == id);
        match (found.next(), found.next()) {
            (Some(key), None) => Some(key),
            _ => None,
        }
    }

    /// Takes the place of `old`: the keys that were in it already go on, and those that are gone are removed.
    pub(super) fn replaces(&mut self, old: &KeySet) {
        for gone in &old.keys {
            match self.keys.iter_mut().find(|key| key.jwk == gone.jwk) {
                Some(kept) => kept.removed = gone.removed.clone(),
                None => gone.removed.cancel(),
            }
        }
    }

    fn ambiguous(&self) -> Option<&str> {
        let is_twice = |key: &&Key| self.keys.iter().filter(|other| other.id() == key.id()).count() > 1;
        let twice = self.keys.iter().find(is_twice)?;
        Some(twice.id().unwrap_or_default())
    }
}

impl Key {
    fn id(&self) -> Option<&str> {
        self.jwk.common.key_id.as_deref()
    }
}

/// The key, if it is one that verifies tokens. A secret that is shared (`oct`) is not: who could verify could sign.
fn usable(value: Value) -> Option<Key> {
    // Whoever publishes the private part has lost it.
    if value.get("d").is_some() {
        return None;
    }
    let jwk: Jwk = serde_json::from_value(value).ok()?;
    if !matches!(jwk.common.public_key_use, None | Some(PublicKeyUse::Signature)) {
        return None;
    }
    let algorithm = match (&jwk.algorithm, jwk.common.key_algorithm) {
        (AlgorithmParameters::RSA(parameters), stated) => {
            let modulus = decoded(&parameters.n)?;
            let is_long = modulus.iter().skip_while(|byte| **byte == 0).count() >= RSA_BYTES_MIN;
            if !is_long || decoded(&parameters.e)?.is_empty() {
                return None;
            }
            match stated {
                None | Some(KeyAlgorithm::RS256) => Algorithm::RS256,
                Some(KeyAlgorithm::RS384) => Algorithm::RS384,
                Some(KeyAlgorithm::RS512) => Algorithm::RS512,
                Some(KeyAlgorithm::PS256) => Algorithm::PS256,
                Some(KeyAlgorithm::PS384) => Algorithm::PS384,
                Some(KeyAlgorithm::PS512) => Algorithm::PS512,
                Some(_) => return None,
            }
        }
        (AlgorithmParameters::EllipticCurve(parameters), stated) => {
            let point = [vec![4], decoded(&parameters.x)?, decoded(&parameters.y)?].concat();
            match (&parameters.curve, stated) {
                (EllipticCurve::P256, None | Some(KeyAlgorithm::ES256)) => {
                    ParsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, &point).ok()?;
                    Algorithm::ES256
                }
                (EllipticCurve::P384, None | Some(KeyAlgorithm::ES384)) => {
                    ParsedPublicKey::new(&ECDSA_P384_SHA384_FIXED, &point).ok()?;
                    Algorithm::ES384
                }
                _ => return None,
            }
        }
        (AlgorithmParameters::OctetKeyPair(parameters), None | Some(KeyAlgorithm::EdDSA))
            if parameters.curve == EllipticCurve::Ed25519 =>
        {
            ParsedPublicKey::new(&ED25519, decoded(&parameters.x)?).ok()?;
            Algorithm::EdDSA
        }
        _ => return None,
    };
    Some(Key {
        public: DecodingKey::from_jwk(&jwk).ok()?,
        jwk,
        algorithm,
        removed: CancellationToken::new(),
    })
}

fn decoded(base64url: &str) -> Option<Vec<u8>> {
    BASE64_URL_SAFE_NO_PAD.decode(base64url).ok()
}
