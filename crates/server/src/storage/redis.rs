//! The connection to Redis: one multiplexed connection that reconnects by itself, all calls behind one breaker.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use redis::aio::{ConnectionManager, ConnectionManagerConfig};
use redis::{AsyncConnectionConfig, ConnectionAddr, FromRedisValue};
use secrecy::{ExposeSecret as _, SecretString};
use tokio::time::timeout;

use super::StoreError;
use super::tls::StoreTlsFiles;
use crate::resilience::Guard;
use crate::tls::is_this_machine;

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
    connection: ConnectionManager,
    guard: Arc<Guard>,
    command_timeout: Duration,
    connect_timeout: Duration,
    /// For who asks why a Redis that is spoken to by TLS does not answer.
    by_tls: Option<redis::Client>,
}

impl Redis {
    /// Prepares the connection. It is made at the first command: a service starts, unready, while its Redis is down.
    pub fn new(settings: &RedisSettings, guard: Arc<Guard>) -> Result<Redis, StoreError> {
        let mut client = parse_url(&settings.url).map_err(|why| StoreError::unexpected(format!("redis.url {why}")))?;
        if let Some(files) = &settings.tls {
            let tls = files.load().map_err(StoreError::unexpected)?;
            client = redis::Client::build_with_tls(settings.url.expose_secret(), tls.certificates)?;
        }
        // Few and quick retries, and no response timeout: it would not bound a command that waits for a reconnection.
        // The guard's timeout bounds every command but those that ask how Redis is, and its breaker paces what comes after.
        let config = ConnectionManagerConfig::new()
            .set_connection_timeout(Some(settings.connect_timeout))
            .set_response_timeout(None)
            .set_number_of_retries(1)
            .set_max_delay(Duration::from_millis(100));
        let by_tls = settings.tls.as_ref().map(|_| client.clone());
        let connection = ConnectionManager::new_lazy_with_config(client, config)?;
        Ok(Redis {
            connection,
            guard,
            command_timeout: settings.command_timeout,
            connect_timeout: settings.connect_timeout,
            by_tls,
        })
    }

    /// The connection.
    pub(super) fn connection(&self) -> ConnectionManager {
        self.connection.clone()
    }

    /// Runs one command or pipeline behind the guard.
    pub(super) async fn call<T>(
        &self,
        work: impl Future<Output = Result<T, redis::RedisError>> + Send,
    ) -> Result<T, StoreError> {
        let work = async { Box::pin(work).await.map_err(StoreError::from) };
        self.guard
            .call(work, StoreError::breaker_outcome)
            .await
            .map_err(|error| StoreError::of_guard("redis", error))
    }

    /// Whether Redis answers now. Not behind the breaker, which may be open.
    pub async fn ping(&self) -> Result<(), StoreError> {
        self.unguarded(redis::cmd("PING")).await
    }

    /// One command, past the breaker.
    async fn unguarded<T: FromRedisValue>(&self, command: redis::Cmd) -> Result<T, StoreError> {
        let mut connection = self.connection();
        match timeout(self.command_timeout, command.query_async(&mut connection)).await {
            Ok(answer) => Ok(answer?),
            Err(_) => Err(self.silence().await),
        }
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
