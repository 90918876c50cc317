//! Connections that are lent to a call, and what becomes of them when it ends.
//!
//! A connection goes back to the pool when its call was answered. One whose call had no answer, or which Postgres ended or demoted, is thrown
//! away: the next call on it would wait for the answer of the last one, or fail as it did. Where a caller gave up soon, its connection and its place
//! are kept until Postgres has answered.

use std::mem;
use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use deadpool_postgres::{Client, ClientWrapper, Object};
use tokio::runtime::Handle;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, timeout_at};

use super::postgres_pool::Silence;
use crate::resilience::Guard;

tokio::task_local! {
    /// Where the connections of the call go that runs now.
    static USED: Used;
}

type Used = Arc<Mutex<Held>>;

/// What a call had so far.
#[derive(Default)]
struct Held {
    /// When it got its first connection: before that it waited for other calls, which says nothing about Postgres.
    lent_at: Option<Instant>,
    clients: Vec<Client>,
}

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
    guard: Arc<Guard>,
    silence: Arc<Silence>,
    /// Of its partition of the pool.
    place: Option<OwnedSemaphorePermit>,
    /// What becomes of its connections if it is given up soon.
    given_up: GivenUp,
    has_ended: bool,
}

/// See [`Lending::given_up`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum GivenUp {
    /// They are kept until they have nothing under way.
    Kept,
    /// There is one of them, and others wait for it.
    ThrownAway,
}

impl Lending {
    pub(super) fn new(guard: &Arc<Guard>, silence: &Arc<Silence>, place: Option<OwnedSemaphorePermit>) -> Lending {
        Lending {
            used: Used::default(),
            guard: Arc::clone(guard),
            silence: Arc::clone(silence),
            place,
            given_up: GivenUp::Kept,
            has_ended: false,
        }
    }

    /// Of a look at whether Postgres answers.
    pub(super) fn of_ping(guard: &Arc<Guard>, silence: &Arc<Silence>) -> Lending {
        let mut lending = Lending::new(guard, silence, None);
        lending.given_up = GivenUp::ThrownAway;
        lending
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
        let clients = mem::take(&mut lock(&self.used).clients);
        if end != End::Answered {
            throw_away(clients);
        }
        self.has_ended = true;
    }
}

impl Drop for Lending {
    /// The call was given up, if it has not ended before. Who does so late has seen that there is no answer.
    fn drop(&mut self) {
        if self.has_ended {
            return;
        }
        let Some(lent_at) = lock(&self.used).lent_at else {
            return;
        };
        if lent_at.elapsed() >= self.guard.patience() {
            self.guard.report_failure();
            self.settle(End::Silent);
            return;
        }
        if self.given_up == GivenUp::ThrownAway {
            self.settle(End::Broken);
            return;
        }
        let clients = mem::take(&mut lock(&self.used).clients);
        // Without a runtime the process ends.
        if let Ok(runtime) = Handle::try_current() {
            let until = lent_at + self.guard.timeout();
            runtime.spawn(return_once_answered(clients, self.place.take(), until));
        }
    }
}

/// Returns connections to the pool once Postgres has answered what was given up on them. A silence says nothing here: who has waited for less than the
/// guard's patience has not seen one, and when this ends Postgres may long be back.
async fn return_once_answered(clients: Vec<Client>, place: Option<OwnedSemaphorePermit>, until: Instant) {
    for client in clients {
        // What was sent before it is answered first.
        if !matches!(timeout_at(until, client.simple_query("")).await, Ok(Ok(_))) {
            throw_away(vec![client]);
        }
    }
    drop(place);
}

fn throw_away(used: Vec<Client>) {
    for client in used {
        drop(Object::take(client));
    }
}

fn lock(used: &Mutex<Held>) -> MutexGuard<'_, Held> {
    used.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Lent {
    pub(super) fn new(client: Client) -> Lent {
        let _ = USED.try_with(|used| {
            lock(used).lent_at.get_or_insert_with(Instant::now);
        });
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
            let _ = USED.try_with(|used| lock(used).clients.push(client));
        }
    }
}
