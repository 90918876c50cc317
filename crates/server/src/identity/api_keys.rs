//! API keys, all of them in memory: a call costs no query, and who guesses keys costs none either. The table is read every
//! two seconds, so that a key is known soon after it was made, and worth nothing soon after it was revoked.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::rand;
use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use jiff::Timestamp;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};
use waybill_domain::api_key::{self, ApiKeyId};
use waybill_domain::tenant::Tenant;

use super::AccessError;
use super::access::Credential;
use crate::metrics::KeyReadMetrics;
use crate::reload::Reload;
use crate::storage::StoreError;
use crate::storage::api_keys::{ApiKey, ApiKeyStore};

/// How long keys are believed while the table cannot be read. Positions are taken while Postgres is away; who revokes a key
/// meanwhile needs Postgres, too, so that only a server that is cut off from it takes the key for so long.
const KEPT: Duration = Duration::from_mins(10);

/// The letters of ids: none that are taken for another. 32, so that each byte gives one without a bias.
const LETTERS: &[u8; 32] = b"abcdefghijkmnpqrstuvwxyz23456789";

/// The keys that are good now.
#[derive(Clone)]
pub struct ApiKeys {
    pub(super) store: ApiKeyStore,
    known: Arc<RwLock<Known>>,
    tenants: Arc<[Tenant]>,
    kept: Duration,
    reads: KeyReadMetrics,
}

struct Known {
    keys: HashMap<ApiKeyId, KnownKey>,
    read_at: Instant,
}

struct KnownKey {
    secret_hash: Vec<u8>,
    credential: Credential,
}

/// A key that was just made.
pub struct NewApiKey {
    /// Its id.
    pub id: ApiKeyId,
    /// All of it, to be shown once.
    pub text: String,
    /// SHA-256 of its secret, to be stored.
    pub secret_hash: Vec<u8>,
}

impl NewApiKey {
    /// A key with an id and a secret at random; `None`: the system gives no random bytes.
    pub fn generate() -> Option<NewApiKey> {
        let (mut id, mut secret) = ([0; api_key::ID_LENGTH], [0; 32]);
        rand::fill(&mut id).ok()?;
        rand::fill(&mut secret).ok()?;
        let letters = id
            .iter()
            .filter_map(|byte| LETTERS.get(usize::from(*byte) % LETTERS.len()));
        let id: ApiKeyId = letters
            .map(|letter| char::from(*letter))
            .collect::<String>()
            .parse()
            .ok()?;
        let secret = BASE64_URL_SAFE_NO_PAD.encode(secret);
        Some(NewApiKey {
            text: api_key::join(&id, &secret),
            secret_hash: hash(&secret),
            id,
        })
    }
}

impl ApiKeys {
    /// The keys of this store, as they are now, of the business without a name and of these.
    pub async fn load(store: ApiKeyStore, tenants: &[Tenant], reads: KeyReadMetrics) -> Result<ApiKeys, StoreError> {
        let current = store.current().await;
        reads.read(current.is_ok());
        Ok(ApiKeys {
            reads,
            ..ApiKeys::new(store, current?, tenants, KEPT)
        })
    }

    /// These keys of the store, which are believed for so long while it cannot be read. Nothing is counted.
    pub fn new(store: ApiKeyStore, keys: Vec<ApiKey>, tenants: &[Tenant], kept: Duration) -> ApiKeys {
        let known = Known {
            keys: HashMap::new(),
            read_at: Instant::now(),
        };
        let api_keys = ApiKeys {
            store,
            known: Arc::new(RwLock::new(known)),
            tenants: tenants.into(),
            kept,
            reads: KeyReadMetrics::default(),
        };
        api_keys.replace(keys);
        api_keys
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.known.read().unwrap_or_else(PoisonError::into_inner).keys.len()
    }

    /// Who calls with this key.
    pub(super) fn verify(&self, text: &str, now: Timestamp) -> Result<Credential, AccessError> {
        let (id, secret) = api_key::parse(text).ok_or(AccessError::Untrusted)?;
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        if known.read_at.elapsed() > self.kept {
            return Err(AccessError::NotChecked);
        }
        let key = known.keys.get(&id).ok_or(AccessError::Untrusted)?;
        verify_slices_are_equal(&hash(secret), &key.secret_hash).map_err(|_| AccessError::Untrusted)?;
        if key.credential.expires_at.is_some_and(|at| at <= now) {
            return Err(AccessError::Expired);
        }
        Ok(key.credential.clone())
    }

    /// Ends all streams, if the keys were not read for too long. Calls are refused from then on, too.
    fn end_streams_of_old_keys(&self) {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        if known.read_at.elapsed() > self.kept {
            known.keys.values().for_each(|key| key.credential.revoked.cancel());
        }
    }

    /// Takes these keys for those that are good. The streams of one that is none of them any more end.
    fn replace(&self, current: Vec<ApiKey>) {
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        let is_ours = |key: &ApiKey| {
            let tenant = key.caller.tenant();
            tenant.is_default() || self.tenants.contains(&tenant)
        };
        let ours = current.into_iter().filter(is_ours).map(self::known);
        let mut keys: HashMap<ApiKeyId, KnownKey> = ours.collect();
        for (id, old) in &known.keys {
            let new = keys.get_mut(id);
            if new.is_none() {
                info!(key = %id, "an API key is worth nothing any more");
            }
            match new.filter(|new| new.is_as(old)) {
                Some(_) if old.credential.revoked.is_cancelled() => {}
                Some(new) => new.credential.revoked = old.credential.revoked.clone(),
                // It is gone, or another one: what it let in it lets in no more.
                None => old.credential.revoked.cancel(),
            }
        }
        for id in keys.keys().filter(|id| !known.keys.contains_key(*id)) {
            info!(key = %id, "a new API key is known");
        }
        *known = Known {
            keys,
            read_at: Instant::now(),
        };
    }
}

impl KnownKey {
    fn is_as(&self, other: &KnownKey) -> bool {
        let (ours, theirs) = (&self.credential, &other.credential);
        self.secret_hash == other.secret_hash && (&ours.caller, ours.expires_at) == (&theirs.caller, theirs.expires_at)
    }
}

impl Reload for ApiKeys {
    type Error = StoreError;

    async fn reload(&self) -> Result<(), StoreError> {
        let current = self.store.current().await;
        self.reads.read(current.is_ok());
        match current {
            Ok(current) => self.replace(current),
            Err(error) => {
                self.end_streams_of_old_keys();
                return Err(error);
            }
        }
        Ok(())
    }

    fn refused(&self, error: &StoreError) {
        let minutes = self.kept.as_secs() / 60;
        warn!(%error, "API keys cannot be read; those that are known are believed for {minutes} minutes");
    }
}

fn known(key: ApiKey) -> (ApiKeyId, KnownKey) {
    let credential = Credential {
        caller: Arc::new(key.caller),
        key: Some(Arc::new(key.id.clone())),
        expires_at: key.expires_at,
        revoked: CancellationToken::new(),
    };
    let secret_hash = key.secret_hash;
    (
        key.id,
        KnownKey {
            secret_hash,
            credential,
        },
    )
}

fn hash(secret: &str) -> Vec<u8> {
    digest(&SHA256, secret.as_bytes()).as_ref().to_vec()
}
