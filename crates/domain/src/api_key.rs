//! The form of an API key: `wbk_ID_SECRET`. The id is in lists and logs; the secret is shown once, when the key is made.

use std::fmt;
use std::str::FromStr;

use thiserror::Error;

/// The first part of every key: tools that look for secrets in code find it by this.
const PREFIX: &str = "wbk_";
/// The length of an id, in characters.
pub const ID_LENGTH: usize = 12;
/// The length of a secret: 32 bytes in base64url without padding.
pub const SECRET_LENGTH: usize = 43;

/// The part of a key that names it: 12 characters of `a-z 0-9`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ApiKeyId(Box<str>);

/// Not the id of a key. The text does not repeat what was given, which may be a whole key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("is no id of an API key: {ID_LENGTH} characters of a-z 0-9")]
pub struct ApiKeyIdError;

impl ApiKeyId {
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ApiKeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for ApiKeyId {
    type Err = ApiKeyIdError;

    fn from_str(text: &str) -> Result<ApiKeyId, ApiKeyIdError> {
        let is_plain = text
            .bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
        if text.len() == ID_LENGTH && is_plain {
            Ok(ApiKeyId(text.into()))
        } else {
            Err(ApiKeyIdError)
        }
    }
}

/// Whether this has the form of an API key: a token of another kind never begins so.
pub fn is_api_key(text: &str) -> bool {
    text.starts_with(PREFIX)
}

/// The id and the secret of a key.
pub fn parse(text: &str) -> Option<(ApiKeyId, &str)> {
    let (id, secret) = text.strip_prefix(PREFIX)?.split_once('_')?;
    let is_secret = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
    (secret.len() == SECRET_LENGTH && secret.bytes().all(is_secret)).then_some((id.parse().ok()?, secret))
}

/// The key with this id and secret.
pub fn join(id: &ApiKeyId, secret: &str) -> String {
    format!("{PREFIX}{id}_{secret}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_its_id_and_its_secret() {
        let id: ApiKeyId = "k3m9x2a7b4c8".parse().unwrap();
        // base64url has the separator among its letters.
        let secret = "_".repeat(SECRET_LENGTH);
        let key = join(&id, &secret);
        assert!(is_api_key(&key));
        assert_eq!(parse(&key), Some((id, secret.as_str())));
    }

    #[test]
    fn what_is_no_key_is_not_taken_for_one() {
        let secret = "s".repeat(SECRET_LENGTH);
        let bad = [
            String::new(),
            "wbk_".to_owned(),
            "wbk__".to_owned(),
            format!("wbk_{secret}"),
            format!("wbk_k3m9x2a7b4c8_{secret}s"),
            format!("wbk_k3m9x2a7b4c8_{}", &secret[1..]),
            format!("wbk_k3m9x2a7b4c_{secret}"),
            format!("wbk_K3M9X2A7B4C8_{secret}"),
            format!("WBK_k3m9x2a7b4c8_{secret}"),
            format!("wbk_k3m9x2a7b4c8_{}ä", &secret[2..]),
            format!(" wbk_k3m9x2a7b4c8_{secret}"),
        ];
        for text in bad {
            assert_eq!(parse(&text), None, "{text}");
        }
    }
}
