//! The one connection to Redis, and when it is left for another.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use redis::aio::{ConnectionManager, ConnectionManagerConfig};
use redis::io::tcp::TcpSettings;
use redis::io::tcp::socket2::TcpKeepalive;
use redis::{Client, ErrorKind, RedisError, ServerErrorKind};
use tokio::time::Instant;
use tracing::warn;

/// Calls in a row without an answer, after which another connection is tried: the address may be another server's by now, and an old
/// connection does not say so.
const SILENT_MAX: u32 = 3;
/// How long a new connection has before it is left too.
const LEFT_EVERY: Duration = Duration::from_secs(1);
/// When a connection that carries nothing is looked at.
const KEEPALIVE: Duration = Duration::from_secs(5);
/// How long what was sent may go without an acknowledgement of the network.
#[cfg(target_os = "linux")]
const UNACKNOWLEDGED_MAX: Duration = Duration::from_secs(8);

/// What an address that a failover left behind is found out by.
pub(super) fn tcp_settings() -> TcpSettings {
    let keepalive = TcpKeepalive::new().with_time(KEEPALIVE).with_interval(KEEPALIVE / 2);
    let settings = TcpSettings::default().set_nodelay(true).set_keepalive(keepalive);
    #[cfg(target_os = "linux")]
    let settings = settings.set_user_timeout(UNACKNOWLEDGED_MAX);
    settings
}

/// The connection. It reconnects by itself when it is closed.
pub(super) struct Connection {
    client: Client,
    config: ConnectionManagerConfig,
    current: Mutex<Current>,
    silent: AtomicU32,
}

struct Current {
    manager: ConnectionManager,
    since: Instant,
}

impl Connection {
    /// Prepares it. It is made at the first command.
    pub(super) fn new(client: Client, connect_timeout: Duration) -> Result<Connection, RedisError> {
        // Few and quick retries, and no response timeout: it would not bound a command that waits for a reconnection.
        // The guard's timeout bounds every command but those that ask how Redis is, and its breaker paces what comes after.
        let config = ConnectionManagerConfig::new()
            .set_connection_timeout(Some(connect_timeout))
            .set_response_timeout(None)
            .set_number_of_retries(1)
            .set_max_delay(Duration::from_millis(100));
        let manager = ConnectionManager::new_lazy_with_config(client.clone(), config.clone())?;
        Ok(Connection {
            client,
            config,
            current: Mutex::new(Current {
                manager,
                since: Instant::now(),
            }),
            silent: AtomicU32::new(0),
        })
    }

    pub(super) fn current(&self) -> ConnectionManager {
        self.lock().manager.clone()
    }

    /// It answered, with this error if with any.
    pub(super) fn answered(&self, error: Option<&RedisError>) {
        self.silent.store(0, Ordering::Relaxed);
        // Of a server that was demoted. New connections may reach its successor.
        if error.is_some_and(|error| error.kind() == ErrorKind::Server(ServerErrorKind::ReadOnly)) {
            self.leave("it takes no writes: a replica now");
        }
    }

    /// A call had no answer.
    pub(super) fn said_nothing(&self) {
        if self.silent.fetch_add(1, Ordering::Relaxed) + 1 >= SILENT_MAX {
            self.leave("several calls had no answer");
        }
    }

    /// Leaves the connection for another one, unless that was done a moment ago.
    fn leave(&self, why: &'static str) {
        let mut current = self.lock();
        if current.since.elapsed() < LEFT_EVERY {
            return;
        }
        match ConnectionManager::new_lazy_with_config(self.client.clone(), self.config.clone()) {
            Ok(manager) => {
                warn!(why, "connection to redis left for another");
                *current = Current {
                    manager,
                    since: Instant::now(),
                };
                self.silent.store(0, Ordering::Relaxed);
            }
            Err(error) => warn!(why, %error, "connection to redis not left for another"),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Current> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
