//! Postgres and Redis: one of each for the whole test binary, and databases within them for each test; or private ones.

use std::fs::{self, File, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::mpsc;

use tempfile::TempDir;
use waybill_sandbox::Redis;
use waybill_sandbox::{Postgres, ServerSettings};
use waybill_server::app::migrate;

use crate::process::{Flags, config};
use crate::sql::connect;

/// The migrated database that each test's is a copy of.
const TEMPLATE: &str = "waybill_template";
/// How many databases the sandbox's Redis has.
const REDIS_DATABASES: u16 = 1024;
/// The beginning of the name of the shared servers' folder.
pub(crate) const FOLDER: &str = "waybill-e2e-";

/// The stores of one test.
pub struct Stores {
    postgres_url: String,
    redis_url: String,
    private: Option<(Postgres, Redis)>,
}

impl Stores {
    /// A fresh copy of the template, and an unused Redis database.
    pub async fn shared() -> Stores {
        let shared = Shared::get();
        let number = shared.next.fetch_add(1, Ordering::Relaxed);
        assert!(number < REDIS_DATABASES, "more tests than Redis has databases");
        let database = format!("test_{number}");
        let create = format!("create database {database} template {TEMPLATE}");
        execute(&shared.admin_url, &create).await;
        Stores {
            postgres_url: shared.admin_url.replace("/postgres", &format!("/{database}")),
            redis_url: shared.redis_url.replace("/0", &format!("/{number}")),
            private: None,
        }
    }

    /// Servers of this test alone, migrated.
    pub async fn private(folder: &Path) -> Stores {
        let (postgres, redis) = migrated(folder, "waybill").await;
        Stores {
            postgres_url: postgres.url("waybill"),
            redis_url: redis.url(),
            private: Some((postgres, redis)),
        }
    }

    /// The same with another Redis.
    #[must_use]
    pub(crate) fn with_redis(self, url: String) -> Stores {
        let mut stores = self;
        stores.redis_url = url;
        stores
    }

    /// `postgres://` URL of the test's database.
    pub fn postgres_url(&self) -> String {
        self.postgres_url.clone()
    }

    /// `redis://` URL of the test's database.
    pub fn redis_url(&self) -> String {
        self.redis_url.clone()
    }

    /// The private Postgres.
    pub fn postgres(&mut self) -> &mut Postgres {
        &mut self.private.as_mut().expect("private_stores()").0
    }

    /// The private Redis.
    pub fn redis(&mut self) -> &mut Redis {
        &mut self.private.as_mut().expect("private_stores()").1
    }
}

impl Drop for Stores {
    fn drop(&mut self) {
        // A database is 8 MB; the servers of the test that are still connected end with it.
        if self.private.is_none() {
            let _ = Shared::get().leftovers.send(self.postgres_url.clone());
        }
    }
}

/// The servers of the whole test binary. They run on a thread of their own, for each test's runtime ends with it.
struct Shared {
    admin_url: String,
    redis_url: String,
    next: AtomicU16,
    leftovers: tokio::sync::mpsc::UnboundedSender<String>,
}

impl Shared {
    fn get() -> &'static Shared {
        static SHARED: OnceLock<Shared> = OnceLock::new();
        SHARED.get_or_init(|| {
            let (started, wait) = mpsc::channel();
            std::thread::spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread()
                    .enable_all()
                    .build()
                    .expect("a runtime");
                runtime.block_on(async move {
                    let (folder, _lock) = shared_folder();
                    let (postgres, redis) = migrated(folder.path(), TEMPLATE).await;
                    let (leftovers, mut queue) = tokio::sync::mpsc::unbounded_channel::<String>();
                    let admin_url = postgres.url("postgres");
                    let _ = started.send(Shared {
                        admin_url: admin_url.clone(),
                        redis_url: redis.url_for(0),
                        next: AtomicU16::new(1),
                        leftovers,
                    });
                    // Without end: the process ends under it, and the sandbox's watchdogs end the servers.
                    while let Some(url) = queue.recv().await {
                        let database = url.rsplit('/').next().unwrap_or_default();
                        execute(&admin_url, &format!("drop database {database} with (force)")).await;
                    }
                });
            });
            wait.recv().expect("the shared stores start")
        })
    }
}

/// The folder of the shared servers, and the lock that says that it is needed. A process that is done cannot
/// remove its own, since its servers live as long as it does: the next one does.
fn shared_folder() -> (TempDir, File) {
    for entry in fs::read_dir(std::env::temp_dir()).into_iter().flatten().flatten() {
        let left_over = entry.file_name().to_string_lossy().starts_with(FOLDER)
            && File::open(entry.path().join("lock")).is_ok_and(|lock| lock.try_lock().is_ok());
        if left_over {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
    let folder = folder(FOLDER);
    let lock = File::create(folder.path().join("lock")).expect("a lock file");
    lock.try_lock().expect("no one else knows the folder");
    (folder, lock)
}

/// A folder that an unprivileged Postgres can get to as well.
pub fn folder(prefix: &str) -> TempDir {
    tempfile::Builder::new()
        .prefix(prefix)
        .permissions(Permissions::from_mode(0o755))
        .tempdir()
        .expect("a folder")
}

/// Starts both servers in this folder. Redis is durable: what it acknowledges is part of what is tested. `durable`:
/// whether Postgres survives the loss of power, too.
pub async fn start(folder: &Path, durable: bool) -> (Postgres, Redis) {
    let (postgres, redis) = tokio::join!(
        Postgres::start(ServerSettings {
            data_dir: folder.join("postgres"),
            durable,
        }),
        Redis::start(ServerSettings {
            data_dir: folder.join("redis"),
            durable: true,
        }),
    );
    (postgres.expect("Postgres starts"), redis.expect("Redis starts"))
}

/// Both servers, with one migrated database.
async fn migrated(folder: &Path, database: &str) -> (Postgres, Redis) {
    let (postgres, redis) = start(folder, false).await;
    postgres.create_database(database).await.expect("a database");
    let flags = Flags::from([
        ("postgres.url", postgres.url(database)),
        ("postgres.acquire_timeout", "2s".to_owned()),
    ]);
    migrate(&config(&flags)).await.expect("the migrations run");
    (postgres, redis)
}

async fn execute(url: &str, statement: &str) {
    let client = connect(url).await.expect("Postgres answers");
    let done = client.batch_execute(statement).await;
    done.unwrap_or_else(|error| panic!("{statement}: {error:?}"));
}
