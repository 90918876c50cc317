//! What a proxy does, and what it counts.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;

/// What the proxy does with connections and bytes. Requests are what the client sends, replies what the target sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Everything goes through.
    Pass,
    /// Everything goes through, later.
    Latency {
        /// The delay of the bytes of the client.
        requests: Duration,
        /// The delay of the bytes of the target.
        replies: Duration,
    },
    /// Connections are accepted, and nothing is forwarded either way. Bytes wait, as in a partitioned network, and go
    /// through once the mode changes.
    Blackhole,
    /// Connections are refused, and open ones are closed: the target is down.
    Refuse,
    /// Connections, new and open, are reset.
    Reset,
    /// Requests go through, replies are thrown away. A connection that lost some is closed once the mode changes.
    DropReplies,
    /// Each connection is closed after this many more bytes of reply.
    CutAfter(u64),
    /// Each connection to a Postgres is closed just before the answer to a COMMIT: the commit is done, and the client does
    /// not know. Needs a connection without encryption.
    CutAtCommit,
}

/// What went through the proxy since it was started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Connections accepted.
    pub connections: u64,
    /// Bytes forwarded to the target.
    pub request_bytes: u64,
    /// Bytes forwarded to the client.
    pub reply_bytes: u64,
    /// Connections closed by [`Mode::CutAfter`] and [`Mode::CutAtCommit`].
    pub cuts: u64,
}

/// Traffic as it grows.
#[derive(Debug, Default)]
pub(super) struct TrafficCounter(Mutex<Traffic>);

impl TrafficCounter {
    pub(super) fn lock(&self) -> MutexGuard<'_, Traffic> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The mode as one connection or the listener sees it: a change wakes whoever waits.
pub(super) type ModeReceiver = watch::Receiver<Mode>;
