//! `waybill keys`: makes, lists and revokes API keys. It works on the database itself, so that a first key can be made
//! before anyone can call.

use std::time::Duration;

use thiserror::Error;
use waybill_domain::access::Caller;
use waybill_domain::api_key::ApiKeyId;

use super::Stores;
use crate::config::Config;
use crate::identity::NewApiKey;
use crate::storage::StoreError;
use crate::storage::api_keys::{ApiKeyStore, ListedKey};

/// Makes, lists and revokes API keys.
pub struct ApiKeyAdmin {
    store: ApiKeyStore,
}

/// Why a key was not made.
#[derive(Debug, Error)]
pub enum CreateKeyError {
    /// The operating system.
    #[error("the system gives no random bytes")]
    Random,
    /// The database.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl ApiKeyAdmin {
    /// On the database of the configuration; nothing is connected yet.
    pub fn open(config: &Config) -> Result<ApiKeyAdmin, StoreError> {
        let store = ApiKeyStore::new(Stores::new(config)?.postgres);
        Ok(ApiKeyAdmin { store })
    }

    /// A new key of this caller: its text, which is nowhere else, and what is stored of it.
    pub async fn create(
        &self,
        caller: &Caller,
        expires_in: Option<Duration>,
    ) -> Result<(String, ListedKey), CreateKeyError> {
        let new = NewApiKey::generate().ok_or(CreateKeyError::Random)?;
        let seconds = expires_in.map(|expires_in| expires_in.as_secs_f64());
        let stored = self.store.insert(&new.id, &new.secret_hash, caller, seconds).await?;
        Ok((new.text, stored))
    }

    /// All keys, the oldest first.
    pub async fn list(&self) -> Result<Vec<ListedKey>, StoreError> {
        self.store.list().await
    }

    /// Ends the links to orders that were made with a key; how many.
    pub async fn revoke_links(&self, id: &ApiKeyId) -> Result<u64, StoreError> {
        self.store.revoke_links(id).await
    }

    /// Makes a key worth nothing; `None`: there is none with this id.
    pub async fn revoke(&self, id: &ApiKeyId) -> Result<Option<ListedKey>, StoreError> {
        self.store.revoke(id).await
    }
}
