//! The connection to Redis, or to the nodes of a Redis Cluster: one multiplexed connection to each that reconnects by itself, all calls
//! behind one breaker.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::future::try_join_all;
use redis::{AsyncConnectionConfig, ConnectionAddr, ErrorKind, FromRedisValue, ServerErrorKind};
use secrecy::{ExposeSecret as _, SecretString};
use tokio::time::{Instant, timeout};

use super::StoreError;
use super::password_file::PasswordFile;
#[cfg(test)]
pub(crate) use super::redis_connection::SILENT_MAX;
use super::redis_connection::{Connection, Target, tcp_settings};
use super::redis_link::Link;
use super::redis_password::RedisCredentials;
use super::tls::StoreTlsFiles;
use crate::resilience::{Guard, GuardError};
use crate::tls::is_this_machine;

/// How old the last write may be for Redis to be taken for one that takes writes. The health monitor makes one each second.
const WROTE_LATELY: Duration = Duration::from_millis(1500);
/// How long the key of such a write is kept.
const WRITTEN_KEPT_MS: u32 = 60_000;

/// The user of Redis that a URL means which names none.
const DEFAULT_USER: &str = "default";

/// How Redis is used. See `[redis]` in `config/waybill.toml`.
#[derive(Debug, Clone)]
pub struct RedisSettings {
    /// `redis://user:password@host:port/database`; `rediss://` asks for TLS. Of a cluster, some of its nodes, parted by commas.
    pub url: SecretString,
    /// The file of the password; `None`: the URL has it, or none is asked for.
    pub password_file: Option<PasswordFile>,
    /// The files of TLS, where the URL asks for it.
    pub tls: Option<StoreTlsFiles>,
    /// How long a connection may take.
    pub connect_timeout: Duration,
    /// How long one command or pipeline may take.
    pub command_timeout: Duration,
    /// The keys by which it is seen whether it takes writes.
    pub written: Vec<String>,
    /// Whether it is a Redis Cluster.
    pub cluster: bool,
    /// How many replicas must have fixes before they are acknowledged.
    pub replicas: u16,
}

/// A client of each URL, none of them connected, or what is wrong with them, in words for people. There is at least one.
pub(crate) fn parse_urls(urls: &SecretString) -> Result<Vec<redis::Client>, &'static str> {
    split(urls.expose_secret()).iter().map(|url| parse_url(url)).collect()
}

fn parse_url(url: &str) -> Result<redis::Client, &'static str> {
    let client = redis::Client::open(url);
    let client = client.map_err(|_| "is not a Redis URL: redis://user:password@host:port/database")?;
    match client.get_connection_info().addr() {
        ConnectionAddr::TcpTls { insecure: true, .. } => {
            Err("must not end with #insecure: any server could then be taken for this Redis; name its CA in redis.ca")
        }
        _ => Ok(client),
    }
}

/// The URLs of a list. A comma within one, as in a password, begins none.
fn split(urls: &str) -> Vec<String> {
    let mut split: Vec<String> = Vec::new();
    for part in urls.split(',') {
        let begins = ["redis://", "rediss://"]
            .iter()
            .any(|scheme| part.trim_start().starts_with(scheme));
        match split.last_mut() {
            Some(url) if !begins => {
                url.push(',');
                url.push_str(part);
            }
            _ => split.push(part.trim().to_owned()),
        }
    }
    split
}

fn addresses(urls: &SecretString) -> Vec<ConnectionAddr> {
    let clients = parse_urls(urls).unwrap_or_default();
    clients
        .iter()
        .map(|client| client.get_connection_info().addr().clone())
        .collect()
}

/// Whether it is on another machine, as far as the URL says.
pub(crate) fn is_remote(url: &SecretString) -> bool {
    addresses(url).iter().any(|address| match address {
        ConnectionAddr::Tcp(host, _) | ConnectionAddr::TcpTls { host, .. } => !is_this_machine(host),
        _ => false,
    })
}

/// Whether there is a password in a URL.
pub(crate) fn has_password(urls: &SecretString) -> bool {
    let has_one = |client: &redis::Client| client.get_connection_info().redis_settings().password().is_some();
    parse_urls(urls).is_ok_and(|clients| clients.iter().any(has_one))
}

/// What each process writes now and then, to see whether that is possible.
fn write(key: &str) -> redis::Cmd {
    let mut command = redis::cmd("SET");
    command.arg(key).arg(1).arg("PX").arg(WRITTEN_KEPT_MS);
    command
}

/// Whether the URL asks for TLS.
pub(crate) fn asks_for_tls(url: &SecretString) -> bool {
    let is_tls = |address: &ConnectionAddr| matches!(address, ConnectionAddr::TcpTls { .. });
    addresses(url).iter().any(is_tls)
}

/// The address of the URL, as it is tried; nothing of its password.
pub(crate) fn address(url: &SecretString) -> String {
    let addresses: Vec<String> = addresses(url).iter().map(ToString::to_string).collect();
    if addresses.is_empty() {
        "no address".to_owned()
    } else {
        addresses.join(", ")
    }
}

/// Redis, behind its breaker. Clones share the connection.
#[derive(Clone)]
pub struct Redis {
    connection: Arc<Connection>,
    /// What others are made of.
    target: Arc<Target>,
    replicas: u16,
    /// The keys by which it is seen whether writes are taken: on a cluster one beside each shard.
    written: Arc<[String]>,
    guard: Arc<Guard>,
    /// When Redis last took a write.
    wrote_at: Arc<Mutex<Option<Instant>>>,
    command_timeout: Duration,
    connect_timeout: Duration,
    /// The first address, for who asks it by itself.
    first: redis::Client,
    is_by_tls: bool,
    /// What is shown there; `None`: what the URL says.
    credentials: Option<RedisCredentials>,
}

impl Redis {
    /// Prepares the connection. It is made at the first command: a service starts, unready, while its Redis is down.
    pub fn new(settings: &RedisSettings, guard: Arc<Guard>) -> Result<Redis, StoreError> {
        let unusable = |why| StoreError::unexpected(format!("redis.url {why}"));
        let tls = settings
            .tls
            .as_ref()
            .map(|files| files.load().map_err(StoreError::unexpected));
        let certificates = tls.transpose()?.map(|tls| tls.certificates);
        let mut clients = Vec::new();
        for client in parse_urls(&settings.url).map_err(unusable)? {
            let address = client.get_connection_info().clone().set_tcp_settings(tcp_settings());
            clients.push(match &certificates {
                Some(certificates) => redis::Client::build_with_tls(address, certificates.clone())?,
                None => redis::Client::open(address)?,
            });
        }
        let Some(first) = clients.first() else {
            return Err(unusable("names no Redis"));
        };
        let user = first.get_connection_info().redis_settings().username();
        let credentials = settings.password_file.clone().map(|file| RedisCredentials {
            file,
            user: user.unwrap_or(DEFAULT_USER).to_owned(),
        });
        let target = Arc::new(if settings.cluster {
            let times = (settings.connect_timeout, settings.command_timeout);
            Target::cluster(&clients, certificates.clone(), times, credentials.clone())?
        } else {
            Target::one(first.clone(), settings.connect_timeout, credentials.clone())
        });
        Ok(Redis {
            connection: Arc::new(Connection::new(Arc::clone(&target), credentials.clone())?),
            target,
            replicas: settings.replicas,
            written: settings.written.clone().into(),
            wrote_at: Arc::default(),
            guard,
            command_timeout: settings.command_timeout,
            connect_timeout: settings.connect_timeout,
            first: first.clone(),
            is_by_tls: certificates.is_some(),
            credentials,
        })
    }

    /// The connection.
    pub(super) fn connection(&self) -> Link {
        self.connection.current()
    }

    /// Another one, for calls that keep what comes after them on the same connection waiting.
    pub(super) fn another_connection(&self) -> Result<Connection, StoreError> {
        Ok(Connection::new(Arc::clone(&self.target), self.credentials.clone())?)
    }

    /// How many replicas must have fixes before they are acknowledged.
    pub(super) fn replicas(&self) -> u16 {
        self.replicas
    }

    /// Whether it is a cluster, where what is sent together must be in one slot.
    pub(super) fn is_cluster(&self) -> bool {
        self.connection.is_cluster()
    }

    /// How long one command or pipeline may take.
    pub(super) fn command_timeout(&self) -> Duration {
        self.command_timeout
    }

    /// Runs one command or pipeline behind the guard.
    pub(super) async fn call<T>(
        &self,
        work: impl Future<Output = Result<T, redis::RedisError>> + Send,
    ) -> Result<T, StoreError> {
        let work = async {
            let done = Box::pin(work).await;
            if done.is_err() {
                // It may be that it takes no writes any more.
                *self.lock_wrote_at() = None;
            }
            self.connection.answered(done.as_ref().err());
            done.map_err(|error| self.store_error(error))
        };
        let done = self.guard.call(work, StoreError::breaker_outcome).await;
        if matches!(done, Err(GuardError::TimedOut)) {
            self.connection.said_nothing();
        }
        done.map_err(|error| StoreError::of_guard("redis", error))
    }

    /// Runs what has a connection of its own behind the guard.
    pub(super) async fn call_apart<T>(
        &self,
        work: impl Future<Output = Result<T, StoreError>> + Send,
    ) -> Result<T, StoreError> {
        let done = self.guard.call(Box::pin(work), StoreError::breaker_outcome).await;
        done.map_err(|error| StoreError::of_guard("redis", error))
    }

    pub(super) fn store_error(&self, error: redis::RedisError) -> StoreError {
        let moved = [ServerErrorKind::Moved, ServerErrorKind::Ask, ServerErrorKind::CrossSlot];
        let is_of_cluster = matches!(error.kind(), ErrorKind::Server(kind) if moved.contains(&kind));
        if is_of_cluster && !self.is_cluster() {
            return StoreError::Unavailable {
                store: "redis",
                why: format!("it is a node of a Redis Cluster ({error}): set redis.cluster = true"),
            };
        }
        error.into()
    }

    /// Whether Redis takes writes now, in a cluster for every shard. Not behind the breaker, which may be open.
    pub async fn ping(&self) -> Result<(), StoreError> {
        let writes = self.written.iter().map(|key| self.unguarded(write(key)));
        let answer = try_join_all(writes).await.map(|_: Vec<()>| ());
        self.note_write(&answer);
        if answer.is_ok() {
            self.guard.report_answer();
        }
        answer
    }

    /// The same, for a call: behind the breaker, and without a write where there was one a moment ago.
    pub async fn check(&self) -> Result<(), StoreError> {
        if self.lock_wrote_at().is_some_and(|at| at.elapsed() < WROTE_LATELY) {
            let mut connection = self.connection();
            return self
                .call(async { redis::cmd("PING").exec_async(&mut connection).await })
                .await;
        }
        self.check_writes().await
    }

    /// The same, by a write in any case.
    pub async fn check_writes(&self) -> Result<(), StoreError> {
        let connection = self.connection();
        let send = async |command: redis::Cmd| command.exec_async(&mut connection.clone()).await;
        let writes = self.written.iter().map(|key| send(write(key)));
        let answer = self.call(async { try_join_all(writes).await.map(drop) }).await;
        self.note_write(&answer);
        answer
    }

    fn note_write(&self, answer: &Result<(), StoreError>) {
        *self.lock_wrote_at() = answer.is_ok().then(Instant::now);
    }

    fn lock_wrote_at(&self) -> MutexGuard<'_, Option<Instant>> {
        self.wrote_at.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One command, past the breaker.
    async fn unguarded<T: FromRedisValue>(&self, command: redis::Cmd) -> Result<T, StoreError> {
        let mut connection = self.connection();
        let answer = self
            .in_time(async { command.query_async(&mut connection).await })
            .await?;
        answer.map_err(|error| self.store_error(error))
    }

    /// What each server that takes writes answers, past the breaker. An error is that there was no answer, and one that Redis answered is within.
    pub(super) async fn asked_of_each(
        &self,
        command: redis::Cmd,
    ) -> Result<redis::RedisResult<Vec<redis::Value>>, StoreError> {
        let mut connection = self.connection();
        self.in_time(connection.of_each_primary(command)).await
    }

    async fn in_time<T>(
        &self,
        work: impl Future<Output = redis::RedisResult<T>>,
    ) -> Result<redis::RedisResult<T>, StoreError> {
        let Ok(answer) = timeout(self.command_timeout, work).await else {
            self.connection.said_nothing();
            return Err(self.silence().await);
        };
        self.connection.answered(answer.as_ref().err());
        Ok(answer)
    }

    /// Why there was no answer. Where it is for TLS, the connection's own tries last for longer than a command may, so one more
    /// is made to see it.
    async fn silence(&self) -> StoreError {
        let mut why = format!("no answer within {} ms", self.command_timeout.as_millis());
        if self.is_by_tls {
            // Without the driver's limits, whose errors could not be distinguished from others.
            let mut config = AsyncConnectionConfig::new()
                .set_connection_timeout(None)
                .set_response_timeout(None);
            if let Some(credentials) = self.credentials.clone() {
                config = config.set_credentials_provider(credentials);
            }
            let connecting = self.first.get_multiplexed_async_connection_with_config(&config);
            match timeout(self.connect_timeout, connecting).await {
                Ok(Ok(_)) => {}
                Ok(Err(error)) => return error.into(),
                // Without TLS, Redis takes the beginning of a handshake for a line that has not ended.
                Err(_) => why.push_str(": it is slow, or speaks no TLS at this port"),
            }
        }
        StoreError::Unavailable { store: "redis", why }
    }

    /// Whether the server at the first address is a node of a cluster, whatever the settings say.
    pub async fn is_node_of_cluster(&self) -> Result<bool, StoreError> {
        let mut config = AsyncConnectionConfig::new().set_connection_timeout(Some(self.connect_timeout));
        if let Some(credentials) = self.credentials.clone() {
            config = config.set_credentials_provider(credentials);
        }
        let ask = async {
            let mut connection = self.first.get_multiplexed_async_connection_with_config(&config).await?;
            let mut command = redis::cmd("INFO");
            command.arg("cluster").query_async::<String>(&mut connection).await
        };
        let Ok(info) = timeout(self.connect_timeout + self.command_timeout, ask).await else {
            return Err(self.silence().await);
        };
        Ok(info?.contains("cluster_enabled:1"))
    }

    /// How many replicas follow, of a cluster those of the master that has the fewest.
    pub async fn replicas_connected(&self) -> Result<u16, StoreError> {
        let mut command = redis::cmd("INFO");
        command.arg("replication");
        let nodes = self.asked_of_each(command).await?;
        let mut fewest = None;
        for node in nodes.map_err(|error| self.store_error(error))? {
            let info: String = redis::from_redis_value(node).map_err(redis::RedisError::from)?;
            let count = info.lines().find_map(|line| line.strip_prefix("connected_slaves:"));
            let count: u16 = count.and_then(|count| count.trim().parse().ok()).unwrap_or(0);
            fewest = Some(fewest.map_or(count, |fewest: u16| fewest.min(count)));
        }
        fewest.ok_or_else(|| StoreError::unexpected("no server says how many replicas follow"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_of_urls_is_split_where_one_begins() {
        assert_eq!(split("redis://a"), ["redis://a"]);
        assert_eq!(
            split("redis://:x,y@a:1,rediss://b:2 , redis://c"),
            ["redis://:x,y@a:1", "rediss://b:2", "redis://c"]
        );
    }
}
