//! Connections that are lent to a call, and what becomes of them when it ends.
//!
//! A connection goes back to the pool when its call was answered. One whose call had no answer, or which Postgres ended or demoted, is thrown
//! away: the next call on it would wait for the answer of the last one, or fail as it did.

use std::mem;
use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use deadpool_postgres::{Client, ClientWrapper, Object};
use tokio::time::Instant;

use super::postgres_pool::Silence;

tokio::task_local! {
    /// Where the connections of the call go that runs now.
    static USED: Used;
}

type Used = Arc<Mutex<Vec<Client>>>;

/// A connection of the pool.
pub(super) struct Lent(Option<Client>);

/// How a call ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// Its connections have nothing under way, and are good.
    Answered,
    /// They are of no use.
    Broken,
    /// There was no answer; and others may wait for one in vain too.
    Silent,
}

/// The connections of one call.
pub(super) struct Lending {
    used: Used,
    begun_at: Instant,
    /// Whoever gives up a call after this has seen that there is no answer.
    patience: Duration,
    silence: Arc<Silence>,
}

impl Lending {
    pub(super) fn new(patience: Duration, silence: &Arc<Silence>) -> Lending {
        Lending {
            silence: Arc::clone(silence),
            used: Used::default(),
            begun_at: Instant::now(),
            patience,
        }
    }

    /// Runs the call.
    pub(super) fn lend<T>(&self, call: impl Future<Output = T>) -> impl Future<Output = T> {
        USED.scope(Arc::clone(&self.used), call)
    }

    /// The call ended so.
    pub(super) fn end(mut self, end: End) {
        self.settle(end);
    }

    fn settle(&mut self, end: End) {
        if end == End::Silent {
            self.silence.noticed();
        }
        let used = mem::take(&mut *lock(&self.used));
        if end != End::Answered {
            throw_away(used);
        }
        // Nothing is left to be decided when this is dropped.
        self.patience = Duration::MAX;
    }
}

impl Drop for Lending {
    /// The call was given up, if it has not ended before.
    fn drop(&mut self) {
        if self.begun_at.elapsed() >= self.patience {
            self.settle(End::Silent);
        }
    }
}

fn throw_away(used: Vec<Client>) {
    for client in used {
        drop(Object::take(client));
    }
}

fn lock(used: &Mutex<Vec<Client>>) -> MutexGuard<'_, Vec<Client>> {
    used.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Lent {
    pub(super) fn new(client: Client) -> Lent {
        Lent(Some(client))
    }

    /// Out of the pool, for a session of one's own.
    #[expect(clippy::expect_used, reason = "it is there until it is dropped")]
    pub(super) fn into_own(mut self) -> ClientWrapper {
        Object::take(self.0.take().expect("a connection"))
    }
}

impl Deref for Lent {
    type Target = Client;

    #[expect(clippy::expect_used, reason = "it is there until it is dropped")]
    fn deref(&self) -> &Client {
        self.0.as_ref().expect("a connection")
    }
}

impl DerefMut for Lent {
    #[expect(clippy::expect_used, reason = "it is there until it is dropped")]
    fn deref_mut(&mut self) -> &mut Client {
        self.0.as_mut().expect("a connection")
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        // Outside of a call it goes back as it is.
        if let Some(client) = self.0.take() {
            let _ = USED.try_with(|used| lock(used).push(client));
        }
    }
}
