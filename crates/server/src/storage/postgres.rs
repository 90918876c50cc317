//! The connections to Postgres: a bounded pool, every session with its timeouts, all calls behind one breaker.

use std::sync::Arc;
use std::time::Duration;

use deadpool_postgres::{Client, Manager, ManagerConfig, Pool, RecyclingMethod, Runtime, Timeouts};
use futures_util::future::BoxFuture;
use secrecy::{ExposeSecret as _, SecretString};
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::timeout;
use tokio_postgres::types::ToSql;
use tokio_postgres::{NoTls, Row};

use super::{Statement, StoreError};
use crate::resilience::{Guard, GuardError};

/// How Postgres is used. See `[postgres]` in `config/waybill.toml`.
#[derive(Debug, Clone)]
pub struct PostgresSettings {
    /// `postgres://user:password@host:port/database`
    pub url: SecretString,
    /// Connections at most. Calls from outside share all but a quarter of them.
    pub pool_max: usize,
    /// How long a call from outside waits for a connection, and how long making one may take.
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

/// One connection in so many is kept for sagas and workers.
const WORKERS_SHARE: usize = 4;

/// The parsed URL; or, for people, what is wrong with it.
pub(crate) fn parse_url(url: &SecretString) -> Result<tokio_postgres::Config, &'static str> {
    let parsed = url.expose_secret().parse();
    // The parser's text may quote the URL, and with it the password.
    parsed.map_err(|_| "is not a Postgres URL: postgres://user:password@host:port/database")
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
}

/// A share of the pool. Sagas go before new calls: a saga that finds no connection leaves an order to its lease, a
/// caller that finds none may call again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum PoolPartition {
    /// Sagas and workers: any connection, and a wait for as long as a statement may take.
    Workers,
    /// Calls from outside: a share of the pool, and a short wait.
    Callers,
}

impl Postgres {
    /// Prepares the pool. No connection is made yet: a service starts, unready, while its database is down.
    pub fn new(settings: &PostgresSettings, guard: Arc<Guard>) -> Result<Postgres, StoreError> {
        let mut config =
            parse_url(&settings.url).map_err(|why| StoreError::unexpected(format!("postgres.url {why}")))?;
        config.connect_timeout(settings.acquire_timeout);
        config.application_name("waybill");
        // `idle_in_transaction`: a worker that stops between two statements must not hold its locks for ever.
        config.options(format!(
            "-c statement_timeout={} -c lock_timeout={} -c idle_in_transaction_session_timeout=5000",
            settings.statement_timeout.as_millis(),
            settings.lock_timeout.as_millis(),
        ));
        let manager = Manager::from_config(
            config,
            NoTls,
            ManagerConfig {
                recycling_method: RecyclingMethod::Fast,
            },
        );
        let pool = Pool::builder(manager)
            .max_size(settings.pool_max)
            .runtime(Runtime::Tokio1)
            .wait_timeout(Some(settings.statement_timeout))
            .create_timeout(Some(settings.acquire_timeout))
            .recycle_timeout(Some(settings.acquire_timeout))
            .build()
            .map_err(StoreError::unexpected)?;
        Ok(Postgres {
            pool,
            guard,
            acquire_timeout: settings.acquire_timeout,
            callers: Arc::new(Semaphore::new(caller_places(settings.pool_max))),
            partition: PoolPartition::Workers,
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
        Ok(self.pool.get().await?)
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
                .map_err(|error| match error {
                    GuardError::Failed(error) => error,
                    refused => StoreError::Unavailable {
                        store: "postgres",
                        why: refused.to_string(),
                    },
                })
        }
    }

    /// A place in the callers' partition. Outside the breaker: that we are busy says nothing about Postgres.
    async fn place(&self) -> Result<Option<SemaphorePermit<'_>>, StoreError> {
        if self.partition == PoolPartition::Workers {
            return Ok(None);
        }
        match timeout(self.acquire_timeout, self.callers.acquire()).await {
            Ok(Ok(place)) => Ok(Some(place)),
            _ => Err(StoreError::Busy {
                store: "postgres",
                why: "all connections are busy".to_owned(),
            }),
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
        match self
            .pool
            .timeout_get(&self.ping_timeouts())
            .await
            .map_err(StoreError::from)
        {
            Ok(client) => Ok(client.simple_query("").await.map(drop)?),
            // Every connection is in use: Postgres answers others.
            Err(StoreError::Busy { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }

    fn ping_timeouts(&self) -> Timeouts {
        Timeouts {
            wait: Some(self.acquire_timeout),
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
