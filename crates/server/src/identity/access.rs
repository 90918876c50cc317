//! What a call may do, and until when.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use tokio_util::sync::CancellationToken;
use waybill_domain::access::{Authority, Caller, Scope};

use super::AccessError;

/// What a call may do. In the extensions of each request that reaches a service of the contract.
#[derive(Debug, Clone)]
pub struct Access {
    caller: Option<Credential>,
    /// What it sees and changes.
    pub scope: Scope,
}

/// Who calls, by what it showed: a token or an API key that was checked.
#[derive(Debug, Clone)]
pub(super) struct Credential {
    pub caller: Arc<Caller>,
    /// From when on it is worth nothing.
    pub expires_at: Option<Timestamp>,
    /// Cancelled when it is worth nothing from now on: its key was removed or revoked.
    pub revoked: CancellationToken,
}

impl Access {
    /// Of a caller who is not known: to everything.
    pub fn anonymous() -> Access {
        Access {
            caller: None,
            scope: Scope::All,
        }
    }

    pub(super) fn new(caller: Credential, scope: Scope) -> Access {
        Access {
            caller: Some(caller),
            scope,
        }
    }

    /// Who calls; `None` where callers are not known.
    pub fn caller(&self) -> Option<&Caller> {
        Some(self.caller.as_ref()?.caller.as_ref())
    }

    /// On whose data it acts, and in whose name.
    pub fn authority(&self) -> Authority {
        Authority {
            scope: self.scope.clone(),
            name: self.caller().map(|caller| caller.to_string().into()),
        }
    }

    /// Waits until what the caller showed is worth nothing any more: why. For ever, where callers are not known.
    pub async fn ended(&self) -> AccessError {
        match &self.caller {
            Some(credential) => credential.ended().await,
            None => std::future::pending().await,
        }
    }
}

impl Credential {
    async fn ended(&self) -> AccessError {
        tokio::select! {
            biased;
            () = self.revoked.cancelled() => AccessError::Revoked,
            () = until(self.expires_at) => AccessError::Expired,
        }
    }
}

async fn until(at: Option<Timestamp>) {
    match at {
        Some(at) => {
            let left = at.duration_since(Timestamp::now()).max(SignedDuration::ZERO);
            tokio::time::sleep(left.unsigned_abs()).await;
        }
        None => std::future::pending().await,
    }
}
