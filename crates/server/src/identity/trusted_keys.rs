//! The keys that are trusted now: read from their source, followed, and kept while that is away.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use quick_cache::Weighter;
use quick_cache::sync::Cache;
use rand::RngExt as _;
use tokio::sync::{Notify, watch};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use super::access::Credential;
use super::key_set::KeySet;
use super::key_source::{KeySource, KeysError};
use crate::metrics::KeyReadMetrics;
use crate::reload::{self, Reload};

/// How often an address is asked.
const FETCH_EVERY: Duration = Duration::from_mins(5);
/// How soon it is asked again at the earliest: for a key that is not known, which anyone can make up, and while it fails.
const FETCH_PAUSE: Duration = Duration::from_secs(30);
/// The same while there are no keys yet.
const FIRST_FETCH_PAUSE: Duration = Duration::from_secs(2);
/// How long a call waits for that: longer than an address may take.
const REFRESH_TIME_MAX: Duration = Duration::from_secs(6);
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
    reads: KeyReadMetrics,
    state: RwLock<State>,
    /// Wakes who follows the source, for a key that is not known.
    wanted: Notify,
    /// How often that came to an end.
    answered: watch::Sender<u64>,
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
    /// `None`: it said nothing yet.
    text: Option<String>,
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
    pub async fn load(source: KeySource, reads: KeyReadMetrics) -> Result<TrustedKeys, KeysError> {
        let read = source.read().await.and_then(good);
        reads.read(read.is_ok());
        let state = match (read, &source) {
            (Ok(keys), _) => State {
                keys: Arc::new(keys),
                read_at: Some(Instant::now()),
                failure: None,
            },
            (Err(error), KeySource::File(_)) => return Err(error),
            (Err(error), KeySource::Address(_)) => {
                error!(%error, "callers with tokens are refused until there are keys");
                State {
                    keys: Arc::new(Keys::new(None, KeySet::default())),
                    read_at: None,
                    failure: Some(error.to_string()),
                }
            }
        };
        Ok(TrustedKeys(Arc::new(Inner {
            source,
            reads,
            state: RwLock::new(state),
            wanted: Notify::new(),
            answered: watch::Sender::new(0),
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

    /// Waits until the address was asked again, for a key that is not known. Who follows the source asks, for all who wait, and not
    /// so soon after the last time: anyone's call may end at any time, and anyone can make such a key up.
    pub(super) async fn refresh(&self) {
        if matches!(self.0.source, KeySource::File(_)) {
            return;
        }
        let mut answered = self.0.answered.subscribe();
        self.0.wanted.notify_one();
        // Where no one follows the source any more, this process ends.
        let _ = timeout(REFRESH_TIME_MAX, answered.changed()).await;
    }

    /// Follows the source until `stop`.
    pub async fn follow(self, stop: CancellationToken) {
        if matches!(self.0.source, KeySource::File(_)) {
            return reload::follow(self, reload::READ_EVERY, stop).await;
        }
        let mut failed = self.current().is_none();
        let mut asked_for_unknown: Option<Instant> = None;
        loop {
            let pause = match (self.current(), failed) {
                (None, _) => FIRST_FETCH_PAUSE,
                (Some(_), true) => FETCH_PAUSE,
                (Some(_), false) => FETCH_EVERY,
            };
            // Servers that started together do not ask together.
            let pause = pause.mul_f64(rand::rng().random_range(0.9..1.1));
            let is_wanted = tokio::select! {
                () = stop.cancelled() => return,
                () = self.0.wanted.notified() => true,
                () = sleep(pause) => false,
            };
            let is_too_soon = asked_for_unknown.is_some_and(|at| at.elapsed() < FETCH_PAUSE.min(pause));
            if !is_wanted || !is_too_soon {
                failed = stop.run_until_cancelled(self.ask()).await != Some(true);
            }
            if is_wanted && !is_too_soon {
                asked_for_unknown = Some(Instant::now());
            }
            self.0.answered.send_modify(|count| *count += 1);
        }
    }

    /// What the address says now is in use, if it answers.
    async fn ask(&self) -> bool {
        let answer = self.reload().await;
        if let Err(error) = &answer {
            warn!(%error, "the keys of tokens cannot be used; those in use are kept");
            self.end_streams_of_old_keys();
        }
        answer.is_ok()
    }

    /// Ends all streams, if the keys were not read for too long. Calls are refused from then on, too.
    fn end_streams_of_old_keys(&self) {
        if self.current().is_none() {
            let mut state = self.0.state.write().unwrap_or_else(PoisonError::into_inner);
            let mut none = KeySet::default();
            none.replaces(&state.keys.set);
            state.keys = Arc::new(Keys::new(None, none));
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
        if taken.keys.text.as_deref() != Some(&text) {
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
            taken.keys = Arc::new(Keys::new(Some(text), set));
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
        self.0.reads.read(taken.is_ok());
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
    fn new(text: Option<String>, set: KeySet) -> Keys {
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
    Ok(Keys::new(Some(text), set))
}
