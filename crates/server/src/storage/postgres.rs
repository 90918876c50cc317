//! The connections to Postgres: a bounded pool, every session with its timeouts, all calls behind one breaker.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use deadpool_postgres::{
    Client, Hook, HookError, Manager, ManagerConfig, Pool, PoolError, RecyclingMethod, Runtime, TimeoutType, Timeouts,
};
use futures_util::future::BoxFuture;
use prometheus_client::metrics::counter::Counter;
use secrecy::{ExposeSecret as _, SecretString};
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::timeout;
use tokio_postgres::config::{Host, SslMode};
use tokio_postgres::types::ToSql;
use tokio_postgres::{NoTls, Row};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::group::Failed;
use super::tls::StoreTlsFiles;
use super::{Statement, StoreError};
use crate::metrics::{DependencyMetrics, WaitMetrics};
use crate::resilience::{Guard, GuardError};
use crate::tls::is_this_machine;

/// How Postgres is used. See `[postgres]` in `config/waybill.toml`.
#[derive(Debug, Clone)]
pub struct PostgresSettings {
    /// `postgres://user:password@host:port/database`
    pub url: SecretString,
    /// The files of TLS; `None`: plaintext.
    pub tls: Option<StoreTlsFiles>,
    /// Connections at most. Calls from outside share all but a quarter of them.
    pub pool_max: usize,
    /// How long a call from outside waits for a connection, and how long it may take to make one.
    pub acquire_timeout: Duration,
    /// How long one statement may run, by the server.
    pub statement_timeout: Duration,
    /// How long one statement may wait for a lock, by the server.
    pub lock_timeout: Duration,
}

impl PostgresSettings {
    /// How long one whole call may take: a transaction of a few statements at their worst, and the wait for its
    /// connection.
    pub fn call_timeout(&self) -> Duration {
        self.acquire_timeout + 2 * self.statement_timeout
    }
}

/// How sessions plan: a statement once, which took a quarter of Postgres's time when each execution was planned for its parameters; and by
/// index, whatever statistics say. What reads whole tables says so (`audit`).
pub const PLANNER: [(&str, &str); 5] = [
    ("plan_cache_mode", "force_generic_plan"),
    ("enable_seqscan", "off"),
    ("enable_hashjoin", "off"),
    ("enable_mergejoin", "off"),
    ("jit", "off"),
];

/// A session makes its plans anew when it was used 2, 4, 8 times, and so on, and then each so many times. Postgres itself looks again at a table a
/// minute after it grew, and a plan for an empty table may read all of it, whatever its size is by then.
const USES_OF_PLANS: usize = 1024;

/// One connection in so many is kept for sagas and workers.
const WORKERS_SHARE: usize = 4;

/// The parsed URL, or what is wrong with it, in words for people. Whether there is TLS is not the URL's to say: the driver's
/// own default, `prefer`, takes plaintext from whoever offers no TLS, and `require` takes any certificate elsewhere.
pub(crate) fn parse_url(url: &SecretString, tls: bool) -> Result<tokio_postgres::Config, &'static str> {
    match (tls, ssl_mode(url.expose_secret())) {
        (_, None) | (true, Some("require")) | (false, Some("disable")) => {}
        (true, Some(_)) => {
            return Err(
                "must have no sslmode, or \"require\": postgres.tls = \"verify\" is what others call verify-full",
            );
        }
        (false, Some(_)) => return Err(ASKS_FOR_TLS),
    }
    let mut config = parse(url)?;
    let is_name = |host: &Host| matches!(host, Host::Tcp(_));
    if tls && (config.get_hosts().is_empty() || !config.get_hosts().iter().all(is_name)) {
        return Err("must name each host, as its certificate does, where postgres.tls is \"verify\"");
    }
    if !tls && config.get_ssl_mode() == SslMode::Require {
        return Err(ASKS_FOR_TLS);
    }
    config.ssl_mode(if tls { SslMode::Require } else { SslMode::Disable });
    Ok(config)
}

/// Whether it is on another machine, as far as the URL says.
pub(crate) fn is_remote(url: &SecretString) -> bool {
    let Ok(config) = parse(url) else { return false };
    let is_other = |host: &Host| matches!(host, Host::Tcp(name) if !is_this_machine(name));
    config.get_hosts().iter().any(is_other) || config.get_hostaddrs().iter().any(|address| !address.is_loopback())
}

const ASKS_FOR_TLS: &str =
    "asks for TLS (sslmode), and postgres.tls is \"off\": set postgres.tls = \"verify\", or leave sslmode out";

fn parse(url: &SecretString) -> Result<tokio_postgres::Config, &'static str> {
    let parsed = url.expose_secret().parse();
    // The parser's text may quote the URL, and with it the password.
    parsed.map_err(|_| "is not a Postgres URL: postgres://user:password@host:port/database")
}

/// The `sslmode` in a text of either form, `postgres://…?sslmode=require` or `host=… sslmode = 'require'`. The parser's own
/// result does not tell `prefer` from nothing, and it knows no `verify-full`.
fn ssl_mode(url: &str) -> Option<&str> {
    let (_, rest) = url.rsplit_once("sslmode")?;
    let value = rest.trim_start().strip_prefix('=')?;
    let ends = |letter: char| matches!(letter, '&' | '\'') || letter.is_whitespace();
    value.trim_start().trim_start_matches('\'').split(ends).next()
}

/// The addresses and the database of the URL, as they are tried; nothing of its password.
pub(crate) fn address(url: &SecretString) -> String {
    let Ok(config) = parse(url) else {
        return "no address".to_owned();
    };
    let ports = config.get_ports();
    let hosts = config.get_hosts().iter().enumerate().map(|(n, host)| {
        // One port for all hosts, or one for each; without any, the default.
        let port = ports.get(n).or(ports.first()).unwrap_or(&5432);
        match host {
            Host::Tcp(name) => format!("{name}:{port}"),
            #[cfg(unix)]
            Host::Unix(folder) => format!("{}:{port}", folder.display()),
        }
    });
    let hosts: Vec<String> = hosts.collect();
    let database = config.get_dbname().or(config.get_user()).unwrap_or_default();
    format!("{}/{database}", hosts.join(","))
}

/// Whether a session that was used so often makes its plans anew.
fn plans_are_due(uses: usize) -> bool {
    uses.is_power_of_two() || uses.is_multiple_of(USES_OF_PLANS)
}

/// Postgres, behind its pool and its breaker. Clones share both.
#[derive(Clone)]
pub struct Postgres {
    pool: Pool,
    guard: Arc<Guard>,
    acquire_timeout: Duration,
    /// The places of the callers' partition.
    callers: Arc<Semaphore>,
    partition: PoolPartition,
    group_commits_failed: Counter,
    caller_waits: WaitMetrics,
    worker_waits: WaitMetrics,
}

/// A share of the pool. Sagas go before new calls: a saga without a connection leaves an order until its lease ends, a
/// caller without one may call again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum PoolPartition {
    /// Sagas and workers: any connection, and a wait for as long as a statement may take.
    Workers,
    /// Calls from outside: a part of the connections, and a short wait.
    Callers,
}

impl Postgres {
    /// Prepares the pool. No connection is made yet: a service starts, unready, while its database is down.
    pub fn new(settings: &PostgresSettings, guard: Arc<Guard>) -> Result<Postgres, StoreError> {
        Postgres::with_metrics(settings, guard, &DependencyMetrics::default())
    }

    /// The same, with the waits for a connection counted in these metrics.
    pub fn with_metrics(
        settings: &PostgresSettings,
        guard: Arc<Guard>,
        metrics: &DependencyMetrics,
    ) -> Result<Postgres, StoreError> {
        let mut config = parse_url(&settings.url, settings.tls.is_some())
            .map_err(|why| StoreError::unexpected(format!("postgres.url {why}")))?;
        config.connect_timeout(settings.acquire_timeout);
        config.application_name("waybill");
        // `idle_in_transaction`: a worker that stops between two statements must not hold its locks for ever. Notices are of what was made
        // "if not exists", and no news.
        config.options(format!(
            "-c statement_timeout={} -c lock_timeout={} -c idle_in_transaction_session_timeout=5000 -c client_min_messages=warning \
             {}",
            settings.statement_timeout.as_millis(),
            settings.lock_timeout.as_millis(),
            PLANNER.map(|(name, value)| format!("-c {name}={value}")).join(" "),
        ));
        let recycling = ManagerConfig {
            recycling_method: RecyclingMethod::Fast,
        };
        let manager = match &settings.tls {
            Some(files) => {
                let tls = files.load().map_err(StoreError::unexpected)?;
                Manager::from_config(config, MakeRustlsConnect::new(tls.config), recycling)
            }
            None => Manager::from_config(config, NoTls, recycling),
        };
        let pool = Pool::builder(manager)
            .max_size(settings.pool_max)
            .runtime(Runtime::Tokio1)
            .wait_timeout(Some(settings.statement_timeout))
            .create_timeout(Some(settings.acquire_timeout))
            .recycle_timeout(Some(settings.acquire_timeout))
            .pre_recycle(Hook::async_fn(|client, metrics| {
                let is_due = plans_are_due(metrics.recycle_count);
                Box::pin(async move {
                    if is_due {
                        client
                            .batch_execute("discard plans")
                            .await
                            .map_err(HookError::Backend)?;
                    }
                    Ok(())
                })
            }))
            .build()
            .map_err(StoreError::unexpected)?;
        Ok(Postgres {
            pool,
            guard,
            acquire_timeout: settings.acquire_timeout,
            callers: Arc::new(Semaphore::new(caller_places(settings.pool_max))),
            partition: PoolPartition::Workers,
            group_commits_failed: metrics.group_commits_failed(),
            caller_waits: metrics.pool("callers"),
            worker_waits: metrics.pool("workers"),
        })
    }

    /// The callers' partition of the same pool: it never takes the connections that sagas need.
    #[must_use]
    pub fn for_callers(&self) -> Postgres {
        Postgres {
            partition: PoolPartition::Callers,
            ..self.clone()
        }
    }

    /// A connection of the pool.
    pub(super) async fn client(&self) -> Result<Client, StoreError> {
        let is_full = |client: &Result<_, PoolError>| matches!(client, Err(PoolError::Timeout(TimeoutType::Wait)));
        // Without a wait first, so that a wait can be counted.
        let mut client = self.pool.timeout_get(&self.wait_at_most(Duration::ZERO)).await;
        if is_full(&client) {
            let _wait = self.waits().begin();
            client = self.pool.get().await;
            if is_full(&client) {
                self.waits().refusals.inc();
            }
        }
        Ok(client?)
    }

    /// Runs one whole call (connection, transaction, commit) behind the guard.
    pub(super) fn call<'a, T: 'a>(
        &'a self,
        work: impl Future<Output = Result<T, StoreError>> + Send + 'a,
    ) -> impl Future<Output = Result<T, StoreError>> + Send + 'a {
        // A future of a whole transaction is large; boxed here, it does not grow every caller's future.
        let work: BoxFuture<'a, _> = Box::pin(work);
        async move {
            let _place = self.place().await?;
            self.guard
                .call(work, StoreError::breaker_outcome)
                .await
                .map_err(|error| StoreError::of_guard("postgres", error))
        }
    }

    /// The same for a transaction of many, which notes in `begun` that it has a connection. What fails before that, or takes too long, is the
    /// answer to all of them.
    pub(super) async fn call_together<T>(
        &self,
        begun: &AtomicBool,
        work: impl Future<Output = Result<T, StoreError>> + Send,
    ) -> Result<T, Failed> {
        let work: BoxFuture<'_, _> = Box::pin(work);
        let _place = self.place().await.map_err(Failed::Away)?;
        match self.guard.call(work, StoreError::breaker_outcome).await {
            Ok(done) => Ok(done),
            Err(GuardError::Failed(error)) if begun.load(Ordering::Relaxed) => {
                self.group_commits_failed.inc();
                Err(Failed::Apart(error))
            }
            Err(error) => Err(Failed::Away(StoreError::of_guard("postgres", error))),
        }
    }

    /// A place in the callers' partition. Outside the breaker: our own load shows nothing about Postgres.
    async fn place(&self) -> Result<Option<SemaphorePermit<'_>>, StoreError> {
        if self.partition == PoolPartition::Workers {
            return Ok(None);
        }
        if let Ok(place) = self.callers.try_acquire() {
            return Ok(Some(place));
        }
        let _wait = self.waits().begin();
        if let Ok(Ok(place)) = timeout(self.acquire_timeout, self.callers.acquire()).await {
            return Ok(Some(place));
        }
        self.waits().refusals.inc();
        Err(StoreError::Busy {
            store: "postgres",
            why: "all connections are busy".to_owned(),
        })
    }

    fn waits(&self) -> &WaitMetrics {
        match self.partition {
            PoolPartition::Callers => &self.caller_waits,
            PoolPartition::Workers => &self.worker_waits,
        }
    }

    /// Runs one statement; its rows.
    pub(super) async fn query(
        &self,
        statement: Statement,
        params: &[&(dyn ToSql + Sync)],
    ) -> Result<Vec<Row>, StoreError> {
        self.call(async {
            let client = self.client().await?;
            let prepared = client.prepare_cached(statement.sql).await?;
            Ok(client.query(&prepared, params).await?)
        })
        .await
    }

    /// Runs one statement; its first row, if it gives one.
    pub(super) async fn query_opt(
        &self,
        statement: Statement,
        params: &[&(dyn ToSql + Sync)],
    ) -> Result<Option<Row>, StoreError> {
        Ok(self.query(statement, params).await?.into_iter().next())
    }

    /// Runs one statement; the number of rows that it changed.
    pub(super) async fn execute(
        &self,
        statement: Statement,
        params: &[&(dyn ToSql + Sync)],
    ) -> Result<u64, StoreError> {
        self.call(async {
            let client = self.client().await?;
            let prepared = client.prepare_cached(statement.sql).await?;
            Ok(client.execute(&prepared, params).await?)
        })
        .await
    }

    /// Whether Postgres answers now. Not behind the breaker, which may be open.
    pub async fn ping(&self) -> Result<(), StoreError> {
        match self.pool.timeout_get(&self.wait_at_most(self.acquire_timeout)).await {
            Ok(client) => Ok(client.simple_query("").await.map(drop)?),
            // Every connection is in use: Postgres answers others.
            Err(PoolError::Timeout(TimeoutType::Wait)) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    fn wait_at_most(&self, wait: Duration) -> Timeouts {
        Timeouts {
            wait: Some(wait),
            ..self.pool.timeouts()
        }
    }

    /// The database's clock.
    pub async fn now(&self) -> Result<jiff::Timestamp, StoreError> {
        let row = self.client().await?.query_one("select now()", &[]).await?;
        Ok(row.try_get(0)?)
    }

    /// Closes the pool: calls from now on fail.
    pub fn close(&self) {
        self.pool.close();
    }
}

/// All but one in [`WORKERS_SHARE`], and at least one.
fn caller_places(pool_max: usize) -> usize {
    pool_max.saturating_sub(pool_max.div_ceil(WORKERS_SHARE)).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resilience::BreakerPolicy;

    /// A pool of these connections to an address that accepts and never answers, and what it counts.
    fn mute_pool(pool_max: usize, port: u16) -> (Postgres, DependencyMetrics) {
        let settings = PostgresSettings {
            url: SecretString::from(format!("postgres://waybill@127.0.0.1:{port}/waybill")),
            tls: None,
            pool_max,
            acquire_timeout: Duration::from_millis(200),
            statement_timeout: Duration::from_millis(10),
            lock_timeout: Duration::from_millis(10),
        };
        let metrics = DependencyMetrics::default();
        let guard = Guard::new("postgres", settings.call_timeout(), BreakerPolicy::default());
        let postgres = Postgres::with_metrics(&settings, Arc::new(guard), &metrics).unwrap();
        (postgres, metrics)
    }

    #[test]
    fn an_address_has_the_hosts_and_the_database_and_no_password() {
        let address = |url: &str| address(&SecretString::from(url));
        assert_eq!(
            address("postgres://me:secret@db.example/waybill"),
            "db.example:5432/waybill"
        );
        assert_eq!(address("postgres://me:secret@a:1,b:2/waybill"), "a:1,b:2/waybill");
        assert_eq!(address("host=/run/pg user=me password=secret"), "/run/pg:5432/me");
        assert_eq!(address("secret"), "no address");
    }

    #[tokio::test]
    async fn a_caller_that_waits_for_a_place_and_gets_none_is_counted() {
        let (postgres, metrics) = mute_pool(2, 1);
        let (callers, waits) = (postgres.for_callers(), metrics.pool("callers"));
        let place = callers.place().await.unwrap();
        assert!(place.is_some());
        assert_eq!((waits.waits.get(), waits.refusals.get()), (0, 0));

        assert!(matches!(callers.place().await, Err(StoreError::Busy { .. })));
        assert_eq!((waits.waits.get(), waits.refusals.get()), (1, 1));
        assert!(waits.seconds.get() >= 0.2, "{waits:?}");
        assert!(matches!(postgres.place().await, Ok(None)), "workers need no place");
    }

    #[tokio::test]
    async fn a_worker_that_finds_all_connections_in_use_waits_and_is_counted() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (postgres, metrics) = mute_pool(1, listener.local_addr().unwrap().port());
        let (connecting, waiting) = tokio::join!(postgres.client(), postgres.client());
        assert!(matches!(connecting, Err(StoreError::Unavailable { .. })));
        assert!(matches!(waiting, Err(StoreError::Busy { .. })));
        let waits = metrics.pool("workers");
        assert_eq!((waits.waits.get(), waits.refusals.get()), (1, 1));
    }
}
