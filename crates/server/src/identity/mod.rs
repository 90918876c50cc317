//! Who calls, and what it sees and changes. A caller shows a token that the business's own backend signed ([`token`]) with one
//! of its keys ([`key_set`]). What a role may do is the matrix of `waybill_domain::access`.
//!
//! The edge asks [`Identity::admit`] before a message is decoded, and puts the [`Access`] into the request. Handlers hand its
//! scope down to every query.

mod key_set;
mod token;

use http::HeaderMap;
use http::header::AUTHORIZATION;
use jiff::{SignedDuration, Timestamp};
use thiserror::Error;
use waybill_domain::access::{Caller, Method, Role, Scope};

pub use self::key_set::{KeySet, KeySetError};
pub use self::token::{KeyFileError, TokenRules, TokenVerifier, Verified};

/// The longest token, in bytes. A key of 4,096 bits signs with 683 of them.
const TOKEN_LENGTH_MAX: usize = 4 * 1024;

/// How callers are known.
#[derive(Debug)]
pub enum Identity {
    /// Not at all: everyone may do everything. Only on loopback addresses.
    Anonymous,
    /// By their tokens.
    Tokens(TokenVerifier),
}

/// What a call may do. In the extensions of each request that reaches a service of the contract.
#[derive(Debug, Clone)]
pub struct Access {
    /// Who calls; `None` where callers are not known.
    pub caller: Option<Caller>,
    /// What it sees and changes.
    pub scope: Scope,
    /// Until when: a stream ends then.
    pub expires_at: Option<Timestamp>,
}

/// Why a caller is not let in. The texts tell a caller what to change, and nothing of the keys.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum AccessError {
    /// No token, or more than one.
    #[error("the call needs one header 'authorization: Bearer TOKEN'")]
    Missing,
    /// Larger than [`TOKEN_LENGTH_MAX`].
    #[error("the token has more than {TOKEN_LENGTH_MAX} bytes")]
    TooLong,
    /// Not valid any more.
    #[error("the token expired")]
    Expired,
    /// Not valid yet.
    #[error("the token is not valid yet")]
    NotYetValid,
    /// Not one of ours: which of the checks it failed is not said.
    #[error("the token is not one that this service trusts")]
    Untrusted,
    /// Signed by whom we trust, and nevertheless of no use.
    #[error("the token's claim {claim} {why}")]
    Claim {
        /// Which.
        claim: &'static str,
        /// What it must be.
        why: String,
    },
    /// The role may not call this method.
    #[error("a caller of the role {} may not call this method", role.as_str())]
    NotAllowed {
        /// The caller's.
        role: Role,
        /// The method's name in the contract.
        method: Method,
    },
}

impl Access {
    /// Waits until the caller's token is worth nothing any more; for ever, where it has none.
    pub async fn expired(&self) {
        match self.expires_at {
            Some(at) => {
                let left = at.duration_since(Timestamp::now()).max(SignedDuration::ZERO);
                tokio::time::sleep(left.unsigned_abs()).await;
            }
            None => std::future::pending().await,
        }
    }
}

impl Identity {
    /// What a call of this path may do; `None`: it is no method of the contract, such as a health check, for which nothing
    /// is asked. Decided by the headers alone.
    pub fn admit(&self, path: &str, headers: &HeaderMap, now: Timestamp) -> Result<Option<Access>, AccessError> {
        let Some(method) = crate::grpc::method(path) else {
            return Ok(None);
        };
        let verifier = match self {
            Identity::Anonymous => {
                return Ok(Some(Access {
                    caller: None,
                    scope: Scope::All,
                    expires_at: None,
                }));
            }
            Identity::Tokens(verifier) => verifier,
        };
        let token = verifier.verify(bearer(headers)?, now)?;
        let role = token.caller.role();
        let Some(scope) = token.caller.scope(method) else {
            return Err(AccessError::NotAllowed { role, method });
        };
        Ok(Some(Access {
            caller: Some(token.caller),
            scope,
            expires_at: Some(token.expires_at),
        }))
    }
}

/// The one token of these headers.
fn bearer(headers: &HeaderMap) -> Result<&str, AccessError> {
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
mod tests;
