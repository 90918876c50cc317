//! The public keys with which tokens are verified: a JSON Web Key Set (RFC 7517), as identity providers publish it.

use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, KeyAlgorithm, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey};
use serde::Deserialize;
use serde_json::Value;
use thiserror::Error;

/// The shortest modulus of an RSA key, in bytes: 2,048 bits, as RFC 7518 asks.
const RSA_BYTES_MIN: usize = 256;

/// Why a key set cannot be used. The text names no key.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum KeySetError {
    /// Not an object with a list `keys`.
    #[error("is no JSON Web Key Set: {0}")]
    Malformed(String),
    /// Not one key in it can verify a token.
    #[error("has no key that can verify a token: RSA of at least 2048 bits, EC on P-256 or P-384, or Ed25519")]
    Empty,
    /// Two keys have one id: a token cannot say which of them signed it.
    #[error("has two keys with the kid {0:?}")]
    Ambiguous(String),
}

/// The keys of a set that can verify tokens. Others in it, such as those for encryption, are left out.
#[derive(Debug, Default)]
pub struct KeySet {
    keys: Vec<Key>,
}

/// A key, and the one algorithm that it is used with: a token does not choose.
#[derive(Debug)]
pub(super) struct Key {
    id: Option<String>,
    pub(super) algorithm: Algorithm,
    pub(super) public: DecodingKey,
}

#[derive(Deserialize)]
struct Document {
    keys: Vec<Value>,
}

impl KeySet {
    /// The keys of this document.
    pub fn parse(text: &str) -> Result<KeySet, KeySetError> {
        let document: Document =
            serde_json::from_str(text).map_err(|error| KeySetError::Malformed(error.to_string()))?;
        let keys: Vec<Key> = document.keys.into_iter().filter_map(usable).collect();
        if keys.is_empty() {
            return Err(KeySetError::Empty);
        }
        for (place, key) in keys.iter().enumerate() {
            if keys.iter().skip(place + 1).any(|other| other.id == key.id) {
                return Err(KeySetError::Ambiguous(key.id.clone().unwrap_or_default()));
            }
        }
        Ok(KeySet { keys })
    }

    /// The key of this id; without one, the only key that there is.
    pub(super) fn find(&self, id: Option<&str>) -> Option<&Key> {
        match (id, self.keys.as_slice()) {
            (Some(id), keys) => keys.iter().find(|key| key.id.as_deref() == Some(id)),
            (None, [only]) => Some(only),
            (None, _) => None,
        }
    }
}

/// The key, if it is one that verifies tokens. A secret that is shared (`oct`) is not: who could verify could sign.
fn usable(value: Value) -> Option<Key> {
    let jwk: Jwk = serde_json::from_value(value).ok()?;
    if !matches!(jwk.common.public_key_use, None | Some(PublicKeyUse::Signature)) {
        return None;
    }
    let algorithm = match (&jwk.algorithm, jwk.common.key_algorithm) {
        (AlgorithmParameters::RSA(parameters), stated) => {
            if modulus_bytes(&parameters.n)? < RSA_BYTES_MIN {
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
        (AlgorithmParameters::EllipticCurve(parameters), stated) => match (&parameters.curve, stated) {
            (EllipticCurve::P256, None | Some(KeyAlgorithm::ES256)) => Algorithm::ES256,
            (EllipticCurve::P384, None | Some(KeyAlgorithm::ES384)) => Algorithm::ES384,
            _ => return None,
        },
        (AlgorithmParameters::OctetKeyPair(parameters), None | Some(KeyAlgorithm::EdDSA))
            if parameters.curve == EllipticCurve::Ed25519 =>
        {
            Algorithm::EdDSA
        }
        _ => return None,
    };
    Some(Key {
        public: DecodingKey::from_jwk(&jwk).ok()?,
        id: jwk.common.key_id,
        algorithm,
    })
}

/// The length of a number in base64url, without its leading zeros.
fn modulus_bytes(base64url: &str) -> Option<usize> {
    use base64::Engine as _;
    let bytes = base64::prelude::BASE64_URL_SAFE_NO_PAD.decode(base64url).ok()?;
    Some(bytes.iter().skip_while(|byte| **byte == 0).count())
}
