//! The connection to Redis: one multiplexed connection that reconnects by itself, all calls behind one breaker.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use redis::aio::ConnectionManager;
use redis::{AsyncConnectionConfig, ConnectionAddr, FromRedisValue};
use secrecy::{ExposeSecret as _, SecretString};
use tokio::time::{Instant, timeout};

use super::redis_connection::{Connection, tcp_settings};
use super::tls::StoreTlsFiles;
use super::{StoreError, keys};
use crate::resilience::{Guard, GuardError};
use crate::tls::is_this_machine;

/// How old the last write may be for Redis to be taken for one that takes writes. The health monitor makes one each second.
const WROTE_LATELY: Duration = Duration::from_millis(1500);
/// How long the key of such a write is kept.
const WRITTEN_KEPT_MS: u32 = 60_000;

/// How Redis is used. See `[redis]` in `config/waybill.toml`.
#[derive(Debug, Clone)]
pub struct RedisSettings {
    /// `redis://user:password@host:port/database`; `rediss://` asks for TLS.
    pub url: SecretString,
    /// The files of TLS, where the URL asks for it.
    pub tls: Option<StoreTlsFiles>,
    /// How long a connection may take.
    pub connect_timeout: Duration,
    /// How long one command or pipeline may take.
    pub command_timeout: Duration,
    /// How many streams and indexes the drivers are spread over.
    pub shards: u16,
}

/// Whether what Redis acknowledges survives its death.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Durability {
    /// Append-only file, written to disk before each answer.
    Full,
    /// Something less, with a text about what it is and what to do.
    Less(String),
}

/// A client of the URL, not connected, or what is wrong with the URL, in words for people.
pub(crate) fn parse_url(url: &SecretString) -> Result<redis::Client, &'static str> {
    let client = redis::Client::open(url.expose_secret());
    let client = client.map_err(|_| "is not a Redis URL: redis://user:password@host:port/database")?;
    match client.get_connection_info().addr() {
        ConnectionAddr::TcpTls { insecure: true, .. } => {
            Err("must not end with #insecure: any server could then be taken for this Redis; name its CA in redis.ca")
        }
        _ => Ok(client),
    }
}

/// Whether it is on another machine, as far as the URL says.
pub(crate) fn is_remote(url: &SecretString) -> bool {
    let client = parse_url(url);
    client.is_ok_and(|client| match client.get_connection_info().addr() {
        ConnectionAddr::Tcp(host, _) | ConnectionAddr::TcpTls { host, .. } => !is_this_machine(host),
        _ => false,
    })
}

/// What each process writes now and then, to see whether that is possible.
fn write() -> redis::Cmd {
    let mut command = redis::cmd("SET");
    command.arg(keys::WRITTEN).arg(1).arg("PX").arg(WRITTEN_KEPT_MS);
    command
}

/// Whether the URL asks for TLS.
pub(crate) fn asks_for_tls(url: &SecretString) -> bool {
    let client = parse_url(url);
    client.is_ok_and(|client| matches!(client.get_connection_info().addr(), ConnectionAddr::TcpTls { .. }))
}

/// The address of the URL, as it is tried; nothing of its password.
pub(crate) fn address(url: &SecretString) -> String {
    parse_url(url).map_or_else(
        |_| "no address".to_owned(),
        |client| client.get_connection_info().addr().to_string(),
    )
}

/// Redis, behind its breaker. Clones share the connection.
#[derive(Clone)]
pub struct Redis {
    connection: Arc<Connection>,
    guard: Arc<Guard>,
    /// When Redis last took a write.
    wrote_at: Arc<Mutex<Option<Instant>>>,
    command_timeout: Duration,
    connect_timeout: Duration,
    /// For who asks why a Redis that is spoken to by TLS does not answer.
    by_tls: Option<redis::Client>,
}

impl Redis {
    /// Prepares the connection. It is made at the first command: a service starts, unready, while its Redis is down.
    pub fn new(settings: &RedisSettings, guard: Arc<Guard>) -> Result<Redis, StoreError> {
        let client = parse_url(&settings.url).map_err(|why| StoreError::unexpected(format!("redis.url {why}")))?;
        let address = client.get_connection_info().clone().set_tcp_settings(tcp_settings());
        let client = match &settings.tls {
            Some(files) => {
                let tls = files.load().map_err(StoreError::unexpected)?;
                redis::Client::build_with_tls(address, tls.certificates)?
            }
            None => redis::Client::open(address)?,
        };
        let by_tls = settings.tls.as_ref().map(|_| client.clone());
        Ok(Redis {
            connection: Arc::new(Connection::new(client, settings.connect_timeout)?),
            wrote_at: Arc::default(),
            guard,
            command_timeout: settings.command_timeout,
            connect_timeout: settings.connect_timeout,
            by_tls,
        })
    }

    /// The connection.
    pub(super) fn connection(&self) -> ConnectionManager {
        self.connection.current()
    }

    /// Runs one command or pipeline behind the guard.
    pub(super) async fn call<T>(
        &self,
        work: impl Future<Output = Result<T, redis::RedisError>> + Send,
    ) -> Result<T, StoreError> {
        let work = async {
            let done = Box::pin(work).await;
            self.connection.answered(done.as_ref().err());
            done.map_err(StoreError::from)
        };
        let done = self.guard.call(work, StoreError::breaker_outcome).await;
        if matches!(done, Err(GuardError::TimedOut)) {
            self.connection.said_nothing();
        }
        done.map_err(|error| StoreError::of_guard("redis", error))
    }

    /// Whether Redis takes writes now. Not behind the breaker, which may be open.
    pub async fn ping(&self) -> Result<(), StoreError> {
        let answer = self.unguarded(write()).await;
        self.note_write(&answer);
        answer
    }

    /// The same, for a call: behind the breaker, and without a write where there was one a moment ago.
    pub async fn check(&self) -> Result<(), StoreError> {
        let is_known = self.lock_wrote_at().is_some_and(|at| at.elapsed() < WROTE_LATELY);
        let command = if is_known { redis::cmd("PING") } else { write() };
        let mut connection = self.connection();
        let answer = self.call(async { command.exec_async(&mut connection).await }).await;
        if !is_known {
            self.note_write(&answer);
        }
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
        let Ok(answer) = timeout(self.command_timeout, command.query_async(&mut connection)).await else {
            self.connection.said_nothing();
            return Err(self.silence().await);
        };
        self.connection.answered(answer.as_ref().err());
        Ok(answer?)
    }

    /// Why there was no answer. Where it is for TLS, the connection's own tries last for longer than a command may, so one more
    /// is made to see it.
    async fn silence(&self) -> StoreError {
        let mut why = format!("no answer within {} ms", self.command_timeout.as_millis());
        if let Some(client) = &self.by_tls {
            // Without the driver's limits, whose errors could not be distinguished from others.
            let config = AsyncConnectionConfig::new()
                .set_connection_timeout(None)
                .set_response_timeout(None);
            let connecting = client.get_multiplexed_async_connection_with_config(&config);
            match timeout(self.connect_timeout, connecting).await {
                Ok(Ok(_)) => {}
                Ok(Err(error)) => return error.into(),
                // Without TLS, Redis takes the beginning of a handshake for a line that has not ended.
                Err(_) => why.push_str(": it is slow, or speaks no TLS at this port"),
            }
        }
        StoreError::Unavailable { store: "redis", why }
    }

    /// Whether what Redis acknowledges survives its death.
    pub async fn durability(&self) -> Result<Durability, StoreError> {
        let mut command = redis::cmd("CONFIG");
        command.arg("GET").arg("append*");
        let settings: HashMap<String, String> = self.unguarded(command).await?;
        let of = |name: &str| settings.get(name).map_or("", String::as_str);
        Ok(match (of("appendonly"), of("appendfsync")) {
            ("yes", "always") => Durability::Full,
            ("yes", other) => Durability::Less(format!(
                "appendfsync is {other}: acknowledged fixes may be lost when Redis dies; CONFIG SET appendfsync always"
            )),
            _ => Durability::Less(
                "appendonly is off: all fixes not yet in Postgres are lost when Redis dies; CONFIG SET appendonly yes, \
                 then appendfsync always"
                    .to_owned(),
            ),
        })
    }
}
