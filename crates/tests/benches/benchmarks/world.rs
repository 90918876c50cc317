//! The stores and the payment provider of a run, set as production would have them.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client as RedisClient};
use tempfile::TempDir;
use testkit::{sql, stores, until, until_within};
use tokio_postgres::Client;
use waybill_sandbox::Postgres;
use waybill_sandbox::Redis;

use crate::again::{Again, PAYMENTS};

/// Postgres while it measures: fsync and synchronous commits are on by default; the rest is what a machine of its own
/// would be given, and checkpoints are made between the benchmarks and not within them.
const POSTGRES: &[(&str, &str)] = &[
    ("fsync", "on"),
    ("synchronous_commit", "on"),
    ("full_page_writes", "on"),
    ("wal_level", "replica"),
    ("autovacuum", "on"),
    ("max_wal_size", "16GB"),
    ("checkpoint_timeout", "30min"),
    ("wal_compression", "off"),
    ("random_page_cost", "1.1"),
];
/// Postgres while orders are stored in bulk, before anything is measured: what fails starts anew, so nothing need be
/// logged.
const POSTGRES_WHILE_STORING: &[(&str, &str)] = &[
    ("wal_level", "minimal"),
    ("max_wal_senders", "0"),
    ("autovacuum", "off"),
    ("max_wal_size", "32GB"),
    ("checkpoint_timeout", "1h"),
    ("maintenance_work_mem", "1GB"),
];
/// Redis, beside `appendonly yes` and `appendfsync always`: it rewrites its file between the benchmarks, not within
/// them.
const REDIS: &[(&str, &str)] = &[("auto-aof-rewrite-min-size", "16gb")];
/// How long a benchmark waits for the vacuum that another one called for.
const VACUUM_PATIENCE: Duration = Duration::from_secs(20);

/// The private world. The payment provider answers at once: its own time is not what is measured.
pub struct World {
    postgres: Postgres,
    redis: Redis,
    payments: Again,
    folder: TempDir,
    names: AtomicU32,
}

impl World {
    /// Starts it: empty, and with Postgres as its defaults have it.
    pub async fn start() -> World {
        let folder = stores::folder("waybill-bench-");
        let ledger = [folder.path().join("payments.jsonl").into_os_string()];
        let log = folder.path().join("payments.log");
        let ((postgres, redis), payments) = tokio::join!(
            stores::start(folder.path(), true),
            Again::start(PAYMENTS, &log, &ledger),
        );
        World {
            postgres,
            redis,
            payments,
            folder,
            names: AtomicU32::new(0),
        }
    }

    /// Restarts Postgres for a bulk of rows.
    pub async fn for_storing(&mut self) {
        self.set(POSTGRES_WHILE_STORING).await;
    }

    /// Restarts Postgres, and sets Redis, as production would have them. Returns what was set, for people.
    pub async fn as_in_production(&mut self) -> Vec<(String, String)> {
        let buffers = (machine_memory() / 4).min(4 << 30) >> 20;
        let memory = [
            ("shared_buffers", format!("{buffers}MB")),
            ("effective_cache_size", format!("{}MB", (machine_memory() / 2) >> 20)),
        ];
        let mut settings: Vec<(&str, &str)> = POSTGRES.to_vec();
        settings.extend(memory.iter().map(|(name, value)| (*name, value.as_str())));
        self.set(&settings).await;
        let mut redis = self.redis(0).await;
        for (name, value) in REDIS {
            let mut set = redis::cmd("CONFIG");
            set.arg("SET")
                .arg(name)
                .arg(value)
                .exec_async(&mut redis)
                .await
                .unwrap();
        }
        let postgres = settings
            .iter()
            .map(|(name, value)| (format!("postgres {name}"), (*value).to_owned()));
        let always = [("appendonly", "yes"), ("appendfsync", "always")];
        let redis = always
            .iter()
            .chain(REDIS)
            .map(|(name, value)| (format!("redis {name}"), (*value).to_owned()));
        postgres.chain(redis).collect()
    }

    /// These settings and no others, after a restart.
    async fn set(&mut self, settings: &[(&str, &str)]) {
        {
            let sql = self.session("postgres").await;
            sql.batch_execute("alter system reset all").await.unwrap();
            for (name, value) in settings {
                let set = format!("alter system set {name} = '{value}'");
                sql.batch_execute(&set).await.unwrap();
            }
            sql.batch_execute("checkpoint").await.unwrap();
        }
        self.postgres.restart().await.unwrap();
    }

    /// Between benchmarks: what the one before left behind is gone, but for the databases that were filled.
    pub async fn clear(&self) {
        {
            let sql = self.session("postgres").await;
            let left = "select datname from pg_database
                         where not datistemplate and datname <> 'postgres' and not starts_with(datname, 'stored_')";
            for row in sql.query(left, &[]).await.unwrap() {
                let drop = format!("drop database {} with (force)", row.get::<_, String>(0));
                sql.batch_execute(&drop).await.unwrap();
            }
        }
        redis::cmd("FLUSHALL")
            .exec_async(&mut self.redis(0).await)
            .await
            .unwrap();
        self.settle([]).await;
    }

    /// Before a benchmark: what the one before left to be written is written, so that none pays another's bill; and
    /// the tables of these databases are analyzed, as autovacuum does within a minute. Until then Postgres plans for
    /// the nearly empty tables of a new installation, and it is chance in which round that ends.
    pub async fn settle(&self, databases: impl IntoIterator<Item = &str>) {
        for database in databases {
            self.session(database).await.batch_execute("analyze").await.unwrap();
        }
        self.session("postgres")
            .await
            .batch_execute("checkpoint")
            .await
            .unwrap();
        self.no_autovacuum().await;
        let mut redis = self.redis(0).await;
        // Fails if one is under way, which is as good.
        let _ = redis::cmd("BGREWRITEAOF").exec_async(&mut redis).await;
        let mut info = redis::cmd("INFO");
        info.arg("persistence");
        until("Redis rewrites no file", async || {
            let persistence: String = info.query_async(&mut redis).await.unwrap();
            persistence.contains("aof_rewrite_in_progress:0") && persistence.contains("aof_rewrite_scheduled:0")
        })
        .await;
    }

    /// Waits until no vacuum runs; not for ever, for the largest of tables it may take longer than the benchmark.
    async fn no_autovacuum(&self) {
        let sql = self.session("postgres").await;
        let at_work = "select count(*) from pg_stat_activity where backend_type = 'autovacuum worker'";
        let _ = until_within(VACUUM_PATIENCE, async || {
            sql.query_one(at_work, &[]).await.unwrap().get::<_, i64>(0) == 0
        })
        .await;
    }

    /// A new database. Its name is its address.
    pub async fn create_database(&self, name: &str) -> String {
        self.postgres.create_database(name).await.unwrap();
        self.postgres.url(name)
    }

    /// A new database that holds what another one does. No session may be connected to that one.
    pub async fn copy_database(&self, from: &str, name: &str) -> String {
        let copy = format!("create database {name} template {from}");
        self.session("postgres").await.batch_execute(&copy).await.unwrap();
        self.postgres.url(name)
    }

    /// A session of ours on a database.
    pub async fn session(&self, database: &str) -> Client {
        connect(&self.postgres.url(database)).await
    }

    /// A connection of ours to a database of Redis, on which an answer may take its time.
    pub async fn redis(&self, database: u16) -> MultiplexedConnection {
        let config = AsyncConnectionConfig::new().set_response_timeout(None);
        let client = self.redis_client(database);
        client
            .get_multiplexed_async_connection_with_config(&config)
            .await
            .unwrap()
    }

    /// A client of a database of Redis, not connected.
    pub fn redis_client(&self, database: u16) -> RedisClient {
        RedisClient::open(self.redis_url(database)).unwrap()
    }

    /// `redis://` URL of a database.
    pub fn redis_url(&self, database: u16) -> String {
        self.redis.url_for(database)
    }

    /// `http://` URL of the payment provider.
    pub fn payments_url(&self) -> String {
        format!("http://{}", self.payments.addr)
    }

    /// What Postgres has logged so far.
    pub fn postgres_log(&self) -> String {
        fs::read_to_string(self.folder.path().join("postgres/log")).unwrap()
    }

    /// A new path in the world's folder, which is on the disk that the stores write to.
    pub fn path(&self, name: &str) -> PathBuf {
        let number = self.names.fetch_add(1, Ordering::Relaxed);
        self.folder.path().join(format!("{number}-{name}"))
    }

    /// The folder of it all.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Ends it.
    pub async fn stop(mut self) {
        self.payments.stop().await;
        self.redis.stop().await.unwrap();
        self.postgres.stop().await.unwrap();
    }
}

/// A session of ours.
pub async fn connect(url: &str) -> Client {
    sql::connect(url).await.unwrap()
}

/// Bytes.
fn machine_memory() -> u64 {
    crate::machine::memory_bytes().expect("/proc/meminfo")
}
