//! The keys that are trusted now: read from their source, followed, and kept while that is away.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use quick_cache::Weighter;
use quick_cache::sync::Cache;
use rand::RngExt as _;
use tokio::sync::Mutex;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use super::access::Credential;
use super::key_set::KeySet;
use super::key_source::{KeySource, KeysError};
use crate::reload::{self, Reload};

/// How often an address is asked.
const FETCH_EVERY: Duration = Duration::from_mins(5);
/// How soon it is asked again at the earliest: for a key that is not known, which anyone can make up, and while it fails.
const FETCH_PAUSE: Duration = Duration::from_secs(30);
/// The same while there are no keys yet.
const FIRST_FETCH_PAUSE: Duration = Duration::from_secs(2);
/// How long keys are believed while their address gives none.
const KEPT: Duration = Duration::from_hours(24);

/// How many verified tokens are remembered, so that their signatures are not verified again.
const VERIFIED_MAX: usize = 10_000;
/// How many bytes of them at most. Most have some hundred.
const VERIFIED_BYTES_MAX: u64 = 8 * 1024 * 1024;

/// The keys of one source. Clones share them.
#[derive(Debug, Clone)]
pub struct TrustedKeys(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    source: KeySource,
    state: RwLock<State>,
    /// Held while the address is asked for a key that is not known; and when that began last.
    fetch: Mutex<Option<Instant>>,
}

#[derive(Debug)]
struct State {
    keys: Arc<Keys>,
    /// When the source last gave keys; `None`: not yet.
    read_at: Option<Instant>,
    /// Why it did not when it was last asked.
    failure: Option<String>,
}

/// What the source said when it was last good, and the tokens that were verified with it since. These are hashed fast, and not
/// safely against whoever looks for tokens with one hash: only who signs tokens could bring them in.
#[derive(Debug)]
pub(super) struct Keys {
    text: String,
    pub set: KeySet,
    pub verified: Cache<Box<str>, Credential, Bytes>,
}

/// How much of a cache a token takes.
#[derive(Debug, Clone)]
pub(super) struct Bytes;

impl Weighter<Box<str>, Credential> for Bytes {
    fn weight(&self, token: &Box<str>, _: &Credential) -> u64 {
        token.len() as u64
    }
}

impl TrustedKeys {
    /// The keys of this source. A file must be good; an address may be away for now.
    pub async fn load(source: KeySource) -> Result<TrustedKeys, KeysError> {
        let state = match (source.read().await.and_then(good), &source) {
            (Ok(keys), _) => State {
                keys: Arc::new(keys),
                read_at: Some(Instant::now()),
                failure: None,
            },
            (Err(error), KeySource::File(_)) => return Err(error),
            (Err(error), KeySource::Address(_)) => {
                error!(%error, "callers with tokens are refused until there are keys");
                State {
                    keys: Arc::new(Keys::new(String::new(), KeySet::default())),
                    read_at: None,
                    failure: Some(error.to_string()),
                }
            }
        };
        Ok(TrustedKeys(Arc::new(Inner {
            source,
            state: RwLock::new(state),
            fetch: Mutex::new(None),
        })))
    }

    /// The keys that are trusted now; `None`: what the source has is not known, or has not been for too long.
    pub(super) fn current(&self) -> Option<Arc<Keys>> {
        let state = self.0.state.read().unwrap_or_else(PoisonError::into_inner);
        let is_old = |read_at: Instant| matches!(self.0.source, KeySource::Address(_)) && read_at.elapsed() > KEPT;
        (!state.read_at.is_none_or(is_old)).then(|| Arc::clone(&state.keys))
    }

    /// Whether tokens can be verified; or why not.
    pub fn check(&self) -> Result<(), String> {
        if self.current().is_some() {
            return Ok(());
        }
        let state = self.0.state.read().unwrap_or_else(PoisonError::into_inner);
        Err(state.failure.clone().unwrap_or_else(|| "there are no keys".to_owned()))
    }

    /// Asks the address again, for a key that is not known. One call asks, the others wait for its answer; and none does so soon
    /// after the last time.
    pub(super) async fn refresh(&self) {
        if matches!(self.0.source, KeySource::File(_)) {
            return;
        }
        let pause = match self.current() {
            Some(_) => FETCH_PAUSE,
            None => FIRST_FETCH_PAUSE,
        };
        let mut fetched = self.0.fetch.lock().await;
        if fetched.is_some_and(|at| at.elapsed() < pause) {
            return;
        }
        *fetched = Some(Instant::now());
        if let Err(error) = self.reload().await {
            warn!(%error, "the keys of tokens cannot be used; those in use are kept");
        }
    }

    /// Follows the source until `stop`.
    pub async fn follow(self, stop: CancellationToken) {
        if matches!(self.0.source, KeySource::File(_)) {
            return reload::follow(self, reload::READ_EVERY, stop).await;
        }
        let mut failed = self.current().is_none();
        loop {
            let pause = match (self.current(), failed) {
                (None, _) => FIRST_FETCH_PAUSE,
                (Some(_), true) => FETCH_PAUSE,
                (Some(_), false) => FETCH_EVERY,
            };
            // Servers that started together do not ask together.
            let pause = pause.mul_f64(rand::rng().random_range(0.9..1.1));
            if stop.run_until_cancelled(sleep(pause)).await.is_none() {
                return;
            }
            let answer = self.reload().await;
            failed = answer.is_err();
            if let Err(error) = answer {
                warn!(%error, "the keys of tokens cannot be used; those in use are kept");
                self.end_streams_of_old_keys();
            }
        }
    }

    /// Ends all streams, if the keys were not read for too long. Calls are refused from then on, too.
    fn end_streams_of_old_keys(&self) {
        if self.current().is_none() {
            let mut state = self.0.state.write().unwrap_or_else(PoisonError::into_inner);
            let mut none = KeySet::default();
            none.replaces(&state.keys.set);
            state.keys = Arc::new(Keys::new(String::new(), none));
        }
    }

    /// What the source says is in use from now on. A key that is gone is not believed any more, whatever else is there: what is
    /// removed is known to others.
    fn take(&self, text: String) -> Result<(), KeysError> {
        let old = Arc::clone(&self.0.state.read().unwrap_or_else(PoisonError::into_inner).keys);
        let mut taken = State {
            keys: old,
            read_at: Some(Instant::now()),
            failure: None,
        };
        if taken.keys.text != text {
            let mut set = KeySet::parse(&text)?;
            let (keys, left_out) = set.counts();
            match set.check() {
                Ok(()) if left_out == 0 => info!(keys, "new keys of tokens are in use"),
                Ok(()) => warn!(
                    keys,
                    left_out, "new keys of tokens are in use; some keys of the set cannot be used"
                ),
                Err(error) => error!(keys, left_out, "auth.keys {error}: callers are refused"),
            }
            set.replaces(&taken.keys.set);
            taken.keys = Arc::new(Keys::new(text, set));
        }
        *self.0.state.write().unwrap_or_else(PoisonError::into_inner) = taken;
        Ok(())
    }
}

impl Reload for TrustedKeys {
    type Error = KeysError;

    async fn reload(&self) -> Result<(), KeysError> {
        let taken = match self.0.source.read().await {
            Ok(text) => self.take(text),
            Err(error) => Err(error),
        };
        if let Err(error) = &taken {
            let mut state = self.0.state.write().unwrap_or_else(PoisonError::into_inner);
            state.failure = Some(error.to_string());
        }
        taken
    }

    fn refused(&self, error: &KeysError) {
        warn!(%error, "the keys of tokens changed and cannot be used; those in use are kept");
    }
}

impl Keys {
    fn new(text: String, set: KeySet) -> Keys {
        Keys {
            text,
            set,
            verified: Cache::with_weighter(VERIFIED_MAX, VERIFIED_BYTES_MAX, Bytes),
        }
    }
}

/// The keys of this text, all of which must be good: so a server does not start.
fn good(text: String) -> Result<Keys, KeysError> {
    let set = KeySet::parse(&text)?;
    set.check()?;
    Ok(Keys::new(text, set))
}
