//! What a call may do, and until when.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio_util::sync::CancellationToken;
use waybill_domain::access::{Authority, Caller, Scope};
use waybill_domain::api_key::ApiKeyId;
use waybill_domain::tenant::Tenant;

use super::AccessError;

/// How often the clock is looked at.
const LOOKED_AT_EVERY: Duration = Duration::from_secs(2);

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
    /// The API key, where it is one: names of programs are not unique.
    pub key: Option<Arc<ApiKeyId>>,
    /// From when on it is worth nothing.
    pub expires_at: Option<Timestamp>,
    /// Cancelled when it is worth nothing from now on: its key was removed or revoked.
    pub revoked: CancellationToken,
}

impl Access {
    /// Of a caller who is not known: to everything of the business that has no name.
    pub fn anonymous() -> Access {
        Access {
            caller: None,
            scope: Scope::Tenant(Tenant::default()),
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

    /// Of which business the caller is: the ids that it writes are of that.
    pub fn tenant(&self) -> Tenant {
        self.caller().map(Caller::tenant).unwrap_or_default()
    }

    /// On whose data it acts, and in whose name.
    pub fn authority(&self) -> Authority {
        Authority {
            scope: self.scope.clone(),
            name: self.caller.as_ref().map(|credential| match &credential.key {
                Some(key) => format!("{}, key {key}", credential.caller).into(),
                None => credential.caller.to_string().into(),
            }),
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

/// By the clock of the day, which a call is refused by, too: it may be set, and goes on while a machine is suspended.
async fn until(at: Option<Timestamp>) {
    let Some(at) = at else {
        return std::future::pending().await;
    };
    loop {
        let left = at.duration_since(Timestamp::now());
        if !left.is_positive() {
            return;
        }
        tokio::time::sleep(left.unsigned_abs().min(LOOKED_AT_EVERY)).await;
    }
}
