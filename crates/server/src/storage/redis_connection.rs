//! The one connection to Redis, or to the nodes of a Redis Cluster, and when it is left for another.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use redis::aio::{ConnectionManager, ConnectionManagerConfig};
use redis::cluster::{ClusterClient, ClusterConfig};
use redis::io::tcp::TcpSettings;
use redis::io::tcp::socket2::TcpKeepalive;
use redis::{Client, ErrorKind, RedisError, RedisResult, ServerErrorKind, TlsCertificates};
use tokio::time::Instant;
use tokio_util::task::TaskTracker;
use tracing::warn;

use super::redis_link::Link;
use super::redis_password::{RedisCredentials, show_each_new};

/// Calls in a row without an answer, after which another connection is tried: the address may be another server's by now, and an old
/// connection does not say so.
pub(crate) const SILENT_MAX: u32 = 3;
/// How long a new connection has before it is left too.
const LEFT_EVERY: Duration = Duration::from_secs(1);
/// The same for those to a cluster, of which there are many: made anew each second, they would be what keeps a busy machine busy.
const CLUSTER_LEFT_EVERY: Duration = Duration::from_secs(5);
/// How often it is logged that connections are left for the same reason: one that is refused is tried again each second.
const LOGGED_EVERY: Duration = Duration::from_mins(1);
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

/// A command is sent anew once where a node of the cluster has not got the slot any more, or is gone, after so many milliseconds. Each time it fails
/// all nodes are asked anew where the slots are, and all other commands wait for that. What comes after is the caller's to repeat.
const CLUSTER_RETRIES: u32 = 1;
const CLUSTER_RETRY_MS: (u64, u64) = (10, 50);

/// What a connection is made of.
pub(super) enum Target {
    /// One Redis.
    One(Client, ConnectionManagerConfig),
    /// A cluster, by some of its nodes.
    Cluster(ClusterClient),
}

impl Target {
    /// The Redis of this client.
    pub(super) fn one(client: Client, connect_timeout: Duration, credentials: Option<RedisCredentials>) -> Target {
        // Few and quick retries, and no response timeout: it would not bound a command that waits for a reconnection.
        // The guard's timeout bounds every command but those that ask how Redis is, and its breaker paces what comes after.
        let mut config = ConnectionManagerConfig::new()
            .set_connection_timeout(Some(connect_timeout))
            .set_response_timeout(None)
            .set_number_of_retries(1)
            .set_max_delay(Duration::from_millis(100));
        if let Some(credentials) = credentials {
            config = config.set_credentials_provider(credentials);
        }
        Target::One(client, config)
    }

    /// The cluster of which these are nodes.
    pub(super) fn cluster(
        nodes: &[Client],
        tls: Option<TlsCertificates>,
        (connect_timeout, command_timeout): (Duration, Duration),
        credentials: Option<RedisCredentials>,
    ) -> RedisResult<Target> {
        let nodes = nodes.iter().map(|node| node.get_connection_info().clone());
        let mut cluster = ClusterClient::builder(nodes)
            .retries(CLUSTER_RETRIES)
            .min_retry_wait(CLUSTER_RETRY_MS.0)
            .max_retry_wait(CLUSTER_RETRY_MS.1)
            .connection_timeout(connect_timeout)
            // Of one node: who asks all of them where the slots are must not wait for one that is frozen.
            .response_timeout(command_timeout)
            .overall_response_timeout(None)
            .tcp_settings(tcp_settings());
        if let Some(certificates) = tls {
            cluster = cluster.certs(certificates);
        }
        if let Some(credentials) = credentials {
            cluster = cluster.set_credentials_provider(credentials);
        }
        Ok(Target::Cluster(cluster.build()?))
    }

    fn link(&self) -> RedisResult<Link> {
        Ok(match self {
            Target::One(client, config) => {
                Link::One(ConnectionManager::new_lazy_with_config(client.clone(), config.clone())?)
            }
            Target::Cluster(cluster) => {
                Link::Cluster(cluster.get_pending_async_connection_with_config(ClusterConfig::new()))
            }
        })
    }
}

/// The connection. It reconnects by itself when it is closed.
pub(super) struct Connection {
    target: Arc<Target>,
    current: Arc<Mutex<Current>>,
    silent: AtomicU32,
    tasks: TaskTracker,
}

struct Current {
    link: Link,
    since: Instant,
    /// Why one was left for another, and when that was logged.
    logged: Option<(&'static str, Instant)>,
}

impl Connection {
    /// Prepares it. It is made at the first command, and while it is open it is shown each new password of these.
    pub(super) fn new(target: Arc<Target>, credentials: Option<RedisCredentials>) -> Result<Connection, RedisError> {
        let link = target.link()?;
        let connection = Connection {
            target,
            current: Arc::new(Mutex::new(Current {
                link,
                since: Instant::now(),
                logged: None,
            })),
            silent: AtomicU32::new(0),
            tasks: TaskTracker::new(),
        };
        if let Some(credentials) = credentials {
            let current = Arc::downgrade(&connection.current);
            let link = move || current.upgrade().map(|current| lock(&current).link.clone());
            connection.tasks.spawn(show_each_new(credentials, link));
        }
        Ok(connection)
    }

    pub(super) fn current(&self) -> Link {
        self.lock().link.clone()
    }

    /// Whether it is to a cluster.
    pub(super) fn is_cluster(&self) -> bool {
        matches!(*self.target, Target::Cluster(_))
    }

    /// It answered, with this error if with any.
    pub(super) fn answered(&self, error: Option<&RedisError>) {
        // The answer of one node of a cluster says nothing of another that is silent.
        if !self.is_cluster() {
            self.silent.store(0, Ordering::Relaxed);
        }
        let Some(error) = error else { return };
        if error.kind() == ErrorKind::Server(ServerErrorKind::ReadOnly) {
            // Of a server that was demoted. New connections may reach its successor.
            self.leave("it takes no writes: a replica now");
        } else if !self.is_cluster() && is_of_connecting(error) {
            self.leave("it was refused");
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
        let left_every = if self.is_cluster() {
            CLUSTER_LEFT_EVERY
        } else {
            LEFT_EVERY
        };
        if current.since.elapsed() < left_every {
            return;
        }
        current.since = Instant::now();
        self.silent.store(0, Ordering::Relaxed);
        match &*self.target {
            Target::One(..) => match self.target.link() {
                Ok(link) => current.replace(link, why),
                Err(error) => warn!(why, %error, "connection to redis not left for another"),
            },
            // Once the other one is there: until then most nodes answer on this one.
            Target::Cluster(cluster) => {
                let (cluster, current) = (cluster.clone(), Arc::clone(&self.current));
                self.tasks.spawn(async move {
                    match cluster.get_async_connection().await {
                        Ok(nodes) => lock(&current).replace(Link::Cluster(nodes), why),
                        Err(error) => warn!(why, %error, "connection to redis not left for another"),
                    }
                });
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Current> {
        lock(&self.current)
    }
}

impl Current {
    fn replace(&mut self, link: Link, why: &'static str) {
        let is_logged = |(logged, at): &(&'static str, Instant)| *logged == why && at.elapsed() < LOGGED_EVERY;
        if !self.logged.as_ref().is_some_and(is_logged) {
            warn!(why, "connection to redis left for another");
            self.logged = Some((why, Instant::now()));
        }
        self.link = link;
        self.since = Instant::now();
    }
}

/// Whether there is no connection, for a reason that is not the network's: a password that was refused, a database that there is not, an answer that is
/// none of Redis. The driver of one Redis keeps such an error, answers each command with it, and never connects again.
fn is_of_connecting(error: &RedisError) -> bool {
    // By RESP3 the server's own answer to the first command is passed on.
    let is_of_hello = matches!(error.code(), Some("WRONGPASS" | "NOAUTH"));
    is_of_hello || !error.is_io_error() && error.clone().into_server_errors().is_none()
}

fn lock(current: &Mutex<Current>) -> MutexGuard<'_, Current> {
    current.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::io;

    use redis::make_extension_error;

    use super::*;

    /// Two looks without an answer are enough where what was sent has a limit.
    #[cfg(target_os = "linux")]
    #[test]
    fn a_connection_without_a_word_of_the_network_is_given_up_within_ten_seconds() {
        let settings = tcp_settings();
        assert!(settings.keepalive().is_some());
        let unacknowledged_max = settings.user_timeout().unwrap();
        for limit in [KEEPALIVE + 2 * (KEEPALIVE / 2), unacknowledged_max] {
            assert!(limit > Duration::ZERO && limit <= Duration::from_secs(10), "{limit:?}");
        }
    }

    #[test]
    fn an_error_that_the_driver_keeps_for_ever_is_distinguished_from_an_answer_and_from_the_network() {
        let refused = (ErrorKind::AuthenticationFailed, "Password authentication failed");
        let no_database = (
            ErrorKind::Server(ServerErrorKind::ResponseError),
            "Redis server refused to switch database",
            "DB index is out of range".to_owned(),
        );
        let kept = [
            RedisError::from(refused),
            RedisError::from(no_database),
            RedisError::from((ErrorKind::InvalidClientConfig, "no TLS")),
            make_extension_error("WRONGPASS".to_owned(), None),
        ];
        for error in kept {
            assert!(is_of_connecting(&error), "{error}");
        }
        let answer = |line: &[u8]| redis::parse_redis_value(line).unwrap().extract_error().unwrap_err();
        let others = [
            RedisError::from(io::Error::from(io::ErrorKind::ConnectionRefused)),
            answer(b"-ERR unknown command 'CONFIG'\r\n"),
            answer(b"-NOPERM no permissions\r\n"),
            answer(b"-OOM command not allowed\r\n"),
            answer(b"-LOADING in progress\r\n"),
        ];
        for error in others {
            assert!(!is_of_connecting(&error), "{error}");
        }
    }
}
