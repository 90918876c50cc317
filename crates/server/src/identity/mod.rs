//! Who calls, and what it sees and changes. A person or a device shows a token that the business's own backend signed
//! ([`token`]) with one of its keys ([`trusted_keys`], out of a [`key_set`] at a [`key_source`]); a program shows an API key ([`api_keys`]). What a role may do is the
//! matrix of `waybill_domain::access`.
//!
//! The edge asks [`Identity::admit`] before a message is decoded, and puts the [`Access`] into the request. Handlers hand its
//! scope down to every query, and end their streams when it ends.

mod access;
mod api_keys;
mod key_set;
mod key_source;
mod refusal;
mod refusal_log;
mod token;
mod trusted_keys;

use http::HeaderMap;
use http::header::AUTHORIZATION;
use jiff::Timestamp;
use waybill_domain::api_key::is_api_key;

pub use self::access::Access;
use self::access::Credential;
pub use self::api_keys::{ApiKeys, NewApiKey};
pub use self::key_set::{KeySet, KeySetError};
pub use self::key_source::{KeyReport, KeySource, KeysError};
pub use self::refusal::AccessError;
pub use self::refusal_log::RefusalLog;
pub use self::token::{LEEWAY as TOKEN_LEEWAY, TokenRules, TokenVerifier};
pub use self::trusted_keys::TrustedKeys;

/// The longest token, in bytes. A key of 4,096 bits signs with 683 of them.
const TOKEN_LENGTH_MAX: usize = 4 * 1024;

/// How callers are known.
#[expect(clippy::large_enum_variant, reason = "a process has one")]
pub enum Identity {
    /// Not at all: everyone may do everything. Only on loopback addresses.
    Anonymous,
    /// By what they show.
    Known {
        /// Tokens; `None`: none is trusted.
        tokens: Option<TokenVerifier>,
        /// API keys.
        api_keys: ApiKeys,
    },
}

impl Identity {
    /// What a call of this path may do; `None`: nothing is asked of its caller, for it is no method of the contract, such as a
    /// health check, or one whose message has a secret of its own. Decided by the headers alone, at once but where keys are to be
    /// fetched.
    pub async fn admit(&self, path: &str, headers: &HeaderMap, now: Timestamp) -> Result<Option<Access>, AccessError> {
        let Some(method) = crate::grpc::method(path) else {
            return Ok(None);
        };
        if method.is_by_link() {
            return Ok(None);
        }
        let (tokens, api_keys) = match self {
            Identity::Anonymous => return Ok(Some(Access::anonymous())),
            Identity::Known { tokens, api_keys } => (tokens, api_keys),
        };
        let shown = bearer(headers)?;
        let credential: Credential = match tokens {
            _ if is_api_key(shown) => api_keys.verify(shown, now)?,
            Some(tokens) => tokens.verify(shown, now).await?,
            None => return Err(AccessError::Untrusted),
        };
        let role = credential.caller.role();
        let Some(scope) = credential.caller.scope(method) else {
            return Err(AccessError::NotAllowed { role, method });
        };
        Ok(Some(Access::new(credential, scope)))
    }
}

/// The one token of these headers.
pub(crate) fn bearer(headers: &HeaderMap) -> Result<&str, AccessError> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let (Some(value), None) = (values.next(), values.next()) else {
        return Err(AccessError::Missing);
    };
    let text = value.to_str().map_err(|_| AccessError::Missing)?;
    let (scheme, token) = text.split_once(' ').ok_or(AccessError::Missing)?;
    let token = token.trim();
    if !scheme.eq_ignore_ascii_case("bearer") || token.is_empty() {
        return Err(AccessError::Missing);
    }
    if token.len() > TOKEN_LENGTH_MAX {
        return Err(AccessError::TooLong);
    }
    Ok(token)
}

#[cfg(test)]
mod fuzz;
#[cfg(test)]
mod tests;
