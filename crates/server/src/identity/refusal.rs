//! Why a caller is not let in.

use thiserror::Error;
use waybill_domain::access::{Method, Role};

use super::TOKEN_LENGTH_MAX;

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
    /// It was good until the key that signed it was removed, or the API key revoked.
    #[error("the token was revoked")]
    Revoked,
    /// Whether the token or the API key is good cannot be found out.
    #[error("tokens cannot be checked now")]
    NotChecked,
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

impl AccessError {
    /// A claim of the token, and what it must be.
    pub(super) fn claim(claim: &'static str, why: &str) -> AccessError {
        AccessError::Claim {
            claim,
            why: why.to_owned(),
        }
    }

    /// Its name for programs: in the answer and in the metrics.
    pub fn reason(&self) -> &'static str {
        match self {
            AccessError::Missing => "TOKEN_MISSING",
            AccessError::TooLong => "TOKEN_TOO_LONG",
            AccessError::Expired => "TOKEN_EXPIRED",
            AccessError::NotYetValid => "TOKEN_NOT_YET",
            AccessError::Untrusted => "TOKEN_UNTRUSTED",
            AccessError::Revoked => "TOKEN_REVOKED",
            AccessError::NotChecked => "TOKEN_NOT_CHECKED",
            AccessError::Claim { .. } => "TOKEN_CLAIMS",
            AccessError::NotAllowed { .. } => "ROLE_NOT_ALLOWED",
        }
    }
}
