//! The connections to Postgres: a bounded pool, every session with its timeouts, all calls behind one breaker.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use deadpool_postgres::{Pool, PoolError, TimeoutType, Timeouts};
use futures_util::future::BoxFuture;
use prometheus_client::metrics::counter::Counter;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout};
use tokio_postgres::types::ToSql;
use tokio_postgres::{Row, SimpleQueryMessage};

use super::group::Failed;
use super::lending::{End, Lending, Lent};
pub use super::postgres_pool::{PLANNER, PostgresSettings};
use super::postgres_pool::{READ_ONLY, Silence};
use super::session_settings::{OF_SESSION, SessionSettings};
use super::{Statement, StoreError, postgres_pool};
use crate::metrics::{DependencyMetrics, WaitMetrics};
use crate::resilience::{Guard, GuardError};

/// How long the answer to a ping may take, once there is a session for it.
pub(crate) const PING_MAX: Duration = Duration::from_millis(450);
/// How long what a ping found is the answer to who asks how Postgres is.
const PING_KEPT: Duration = Duration::from_secs(2);
/// When a ping was answered, and how its session is set, or what was wrong.
type LastPing = (Instant, Result<SessionSettings, String>);

/// The smallest pool: one connection for calls that do something, one for those that only read, and one for sagas and workers.
pub const POOL_MIN: usize = 3;
/// One connection in so many is kept for sagas and workers.
const WORKERS_SHARE: usize = 4;
/// One place in so many of the calls' is for those that only read; the others are for those that do something.
const READS_SHARE: usize = 3;

/// Postgres, behind its pool and its breaker. Clones share both.
#[derive(Clone)]
pub struct Postgres {
    pool: Pool,
    guard: Arc<Guard>,
    acquire_timeout: Duration,
    /// The places of the callers' partition, and of that for reads.
    callers: Arc<Semaphore>,
    reads: Arc<Semaphore>,
    partition: PoolPartition,
    /// A session for pings alone: whether Postgres answers is not known from a pool whose connections are all in use.
    pings: Pool,
    last_ping: Arc<Mutex<Option<LastPing>>>,
    /// As sessions are asked to have them: of statements, and of locks.
    timeouts: (Duration, Duration),
    silence: Arc<Silence>,
    group_commits_failed: Counter,
    caller_waits: WaitMetrics,
    read_waits: WaitMetrics,
    worker_waits: WaitMetrics,
}

/// A share of the pool. Sagas go before new calls: a saga without a connection leaves an order until its lease ends, a
/// caller without one may call again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum PoolPartition {
    /// Sagas and workers: any connection, and a wait for as long as a statement may take.
    Workers,
    /// Calls from outside that do something: a part of the connections, and a short wait.
    Callers,
    /// Calls from outside that only read: a smaller part, and a short wait. One that reads for long keeps others that read waiting, and no order.
    Reads,
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
        let silence = Arc::new(Silence::default());
        let (pool, pings) = postgres_pool::build(settings, &silence)?;
        let (callers, reads) = caller_places(settings.pool_max);
        Ok(Postgres {
            pool,
            guard,
            acquire_timeout: settings.acquire_timeout,
            callers: Arc::new(Semaphore::new(callers)),
            reads: Arc::new(Semaphore::new(reads)),
            partition: PoolPartition::Workers,
            pings,
            last_ping: Arc::default(),
            timeouts: (settings.statement_timeout, settings.lock_timeout),
            silence,
            group_commits_failed: metrics.group_commits_failed(),
            caller_waits: metrics.pool("callers"),
            read_waits: metrics.pool("reads"),
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

    /// The partition of calls that only read, of the same pool: it takes neither the connections that sagas need nor the places of calls
    /// that do something.
    #[must_use]
    pub fn for_reads(&self) -> Postgres {
        Postgres {
            partition: PoolPartition::Reads,
            ..self.clone()
        }
    }

    /// A connection of the pool.
    pub(super) async fn client(&self) -> Result<Lent, StoreError> {
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
        Ok(Lent::new(client?))
    }

    /// Runs one whole call (connection, transaction, commit) behind the guard.
    pub(super) fn call<'a, T: 'a>(
        &'a self,
        work: impl Future<Output = Result<T, StoreError>> + Send + 'a,
    ) -> impl Future<Output = Result<T, StoreError>> + Send + 'a {
        // A future of a whole transaction is large; boxed here, it does not grow every caller's future.
        let work: BoxFuture<'a, _> = Box::pin(work);
        async move {
            let place = self.place().await?;
            let done = self.guarded(work, place).await;
            done.map_err(|error| StoreError::of_guard("postgres", error))
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
        let place = self.place().await.map_err(Failed::Away)?;
        match self.guarded(work, place).await {
            Ok(done) => Ok(done),
            Err(GuardError::Failed(error)) if begun.load(Ordering::Relaxed) => {
                self.group_commits_failed.inc();
                Err(Failed::Apart(error))
            }
            Err(error) => Err(Failed::Away(StoreError::of_guard("postgres", error))),
        }
    }

    /// Runs the call behind the guard. The connections of one that had no answer are thrown away.
    async fn guarded<T>(
        &self,
        work: impl Future<Output = Result<T, StoreError>> + Send,
        place: Option<OwnedSemaphorePermit>,
    ) -> Result<T, GuardError<StoreError>> {
        let lending = Lending::new(&self.guard, &self.silence, place);
        let done = self.guard.call(lending.lend(work), StoreError::breaker_outcome).await;
        lending.end(match &done {
            Ok(_) => End::Answered,
            Err(GuardError::Failed(error)) if !error.ends_session() => End::Answered,
            Err(GuardError::Failed(_) | GuardError::Refused(_)) => End::Broken,
            Err(GuardError::TimedOut) => End::Silent,
        });
        done
    }

    /// A place in the partition, if it has a limit. Outside the breaker: our own load shows nothing about Postgres.
    async fn place(&self) -> Result<Option<OwnedSemaphorePermit>, StoreError> {
        let places = match self.partition {
            PoolPartition::Workers => return Ok(None),
            PoolPartition::Callers => &self.callers,
            PoolPartition::Reads => &self.reads,
        };
        if let Ok(place) = Arc::clone(places).try_acquire_owned() {
            return Ok(Some(place));
        }
        let _wait = self.waits().begin();
        if let Ok(Ok(place)) = timeout(self.acquire_timeout, Arc::clone(places).acquire_owned()).await {
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
            PoolPartition::Reads => &self.read_waits,
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

    /// What the last ping found. The health monitor makes one each second; where there was none lately, it is made now.
    pub async fn health(&self) -> Result<SessionSettings, StoreError> {
        match &*self.lock_last_ping() {
            Some((at, found)) if at.elapsed() < PING_KEPT => {
                return found
                    .clone()
                    .map_err(|why| StoreError::Unavailable { store: "postgres", why });
            }
            _ => {}
        }
        self.ping().await
    }

    /// Whether Postgres answers now, and takes writes, and how our sessions are set. Not behind the breaker, which may be open; but a Postgres that
    /// does not answer this counts there, for its callers may all have given up too soon to tell, and one that does is tried again.
    pub async fn ping(&self) -> Result<SessionSettings, StoreError> {
        let lending = Lending::of_ping(&self.guard, &self.silence);
        let answer = lending.lend(self.ask_for_writes()).await;
        // Without a good answer the session is thrown away, and the next ping makes another one.
        let found = match &answer {
            Ok(settings) => {
                lending.end(End::Answered);
                self.guard.report_answer();
                Ok(settings.clone())
            }
            Err(error) => {
                lending.end(End::Silent);
                self.guard.report_failure();
                Err(match error {
                    StoreError::Unavailable { why, .. } => why.clone(),
                    other => other.to_string(),
                })
            }
        };
        *self.lock_last_ping() = Some((Instant::now(), found));
        answer
    }

    fn lock_last_ping(&self) -> MutexGuard<'_, Option<LastPing>> {
        self.last_ping.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn ask_for_writes(&self) -> Result<SessionSettings, StoreError> {
        let session = Lent::new(self.pings.get().await?);
        let unavailable = |why: String| StoreError::Unavailable { store: "postgres", why };
        let asked = timeout(PING_MAX, session.simple_query(OF_SESSION)).await;
        let answer = asked.map_err(|_| unavailable(format!("no answer within {} ms", PING_MAX.as_millis())))??;
        let (statement_timeout, lock_timeout) = self.timeouts;
        let settings = answer.iter().find_map(|message| match message {
            SimpleQueryMessage::Row(row) => Some(SessionSettings::of(row, statement_timeout, lock_timeout)),
            _ => None,
        });
        match settings {
            Some(settings) if settings.is_read_only => Err(unavailable(READ_ONLY.to_owned())),
            Some(settings) => Ok(settings),
            None => Err(StoreError::unexpected("a session does not say how it is set")),
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

/// For calls that do something, and for those that only read: together all but one in [`WORKERS_SHARE`], and each at least one. Of a pool smaller than
/// [`POOL_MIN`], which no setting makes, that leaves none for sagas.
fn caller_places(pool_max: usize) -> (usize, usize) {
    let both = pool_max.saturating_sub(pool_max.div_ceil(WORKERS_SHARE));
    let reads = (both / READS_SHARE).max(1);
    (both.saturating_sub(reads).max(1), reads)
}

#[cfg(test)]
mod tests {
    use secrecy::SecretString;

    use super::*;
    use crate::resilience::BreakerPolicy;

    /// A pool of these connections to an address that accepts and never answers, and what it counts.
    fn mute_pool(pool_max: usize, port: u16) -> (Postgres, DependencyMetrics) {
        let settings = PostgresSettings {
            url: SecretString::from(format!("postgres://waybill@127.0.0.1:{port}/waybill")),
            password_file: None,
            tls: None,
            pool_max,
            acquire_timeout: Duration::from_millis(200),
            statement_timeout: Duration::from_millis(10),
            lock_timeout: Duration::from_millis(10),
            may_be_standby: false,
        };
        let metrics = DependencyMetrics::default();
        let guard = Guard::new("postgres", settings.call_timeout(), BreakerPolicy::default());
        let postgres = Postgres::with_metrics(&settings, Arc::new(guard), &metrics).unwrap();
        (postgres, metrics)
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

    #[test]
    fn the_places_of_calls_are_shared_out_and_leave_some_for_workers() {
        for (pool_max, places) in [
            (POOL_MIN, (1, 1)),
            (4, (2, 1)),
            (8, (4, 2)),
            (16, (8, 4)),
            (64, (32, 16)),
        ] {
            assert_eq!(caller_places(pool_max), places, "of {pool_max}");
            assert!(places.0 + places.1 < pool_max, "of {pool_max}");
        }
    }

    #[tokio::test]
    async fn a_read_takes_no_place_of_a_call_that_does_something() {
        let (postgres, metrics) = mute_pool(4, 1);
        let (callers, reads) = (postgres.for_callers(), postgres.for_reads());
        let read = reads.place().await.unwrap();
        assert!(read.is_some());
        assert!(matches!(reads.place().await, Err(StoreError::Busy { .. })));
        assert_eq!(
            (
                metrics.pool("reads").refusals.get(),
                metrics.pool("callers").refusals.get()
            ),
            (1, 0)
        );
        let (first, second) = tokio::join!(callers.place(), callers.place());
        assert!(matches!((&first, &second), (Ok(Some(_)), Ok(Some(_)))));
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
