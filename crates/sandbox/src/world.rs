//! The whole private world under one folder: stores and a payment provider, started together and stopped together.

use std::fs::{self, File, TryLockError};
use std::io::{Read, Seek, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use crate::Error;
use crate::payments::Provider;
use crate::postgres::{self, Postgres};
use crate::redis::{self, Redis};

/// The database that Waybill uses.
const DATABASE: &str = "waybill";

/// What to start, and where.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The folder of everything; made if it is not there. A second start on it finds the data of the first.
    pub data_dir: PathBuf,
    /// Whether the stores keep what they answered through the loss of power; see the settings of each.
    pub durable: bool,
    /// A Postgres that is there already: it is used as it is, and none is started.
    pub postgres_url: Option<String>,
    /// A Redis that is there already: it is used as it is, and none is started.
    pub redis_url: Option<String>,
    /// Where the payment provider listens; port 0 is any free one.
    pub payments_addr: SocketAddr,
}

/// A running world. Dropped, its servers are killed.
#[derive(Debug)]
pub struct World {
    /// `postgres://` URL of the database, which exists.
    pub database_url: String,
    /// `redis://` URL.
    pub redis_url: String,
    /// `http://` URL of the payment provider, without a slash at the end.
    pub payments_url: String,
    /// The private Postgres; `None` if a URL was given.
    pub postgres: Option<Postgres>,
    /// The private Redis; `None` if a URL was given.
    pub redis: Option<Redis>,
    /// The payment provider.
    pub payments: Provider,
    // Last: it is let go when all else is.
    _lock: Lock,
}

impl World {
    /// Starts what is not given by URL, all at once, and creates the database.
    pub async fn start(settings: Settings) -> Result<World, Error> {
        let folder = &settings.data_dir;
        fs::create_dir_all(folder).map_err(|source| Error::Folder {
            path: folder.clone(),
            source,
        })?;
        let lock = Lock::take(folder)?;
        let ledger = folder.join("payments.jsonl");
        let ((postgres, database_url), (redis, redis_url), payments) = tokio::try_join!(
            start_postgres(&settings),
            start_redis(&settings),
            Provider::start(settings.payments_addr, &ledger)
        )?;
        let payments_url = payments.url();
        Ok(World {
            database_url,
            redis_url,
            payments_url,
            postgres,
            redis,
            payments,
            _lock: lock,
        })
    }

    /// Stops the provider, then Redis, then Postgres, and waits for each. All are stopped, also if one fails; the
    /// first error is told.
    pub async fn stop(self) -> Result<(), Error> {
        self.payments.stop().await;
        let redis = match self.redis {
            Some(mut redis) => redis.stop().await,
            None => Ok(()),
        };
        let postgres = match self.postgres {
            Some(mut postgres) => postgres.stop().await,
            None => Ok(()),
        };
        redis.and(postgres)
    }
}

async fn start_postgres(settings: &Settings) -> Result<(Option<Postgres>, String), Error> {
    if let Some(url) = &settings.postgres_url {
        return Ok((None, url.clone()));
    }
    let data_dir = settings.data_dir.join("postgres");
    let postgres = Postgres::start(postgres::Settings {
        data_dir,
        durable: settings.durable,
    })
    .await?;
    postgres.create_database(DATABASE).await?;
    let url = postgres.url(DATABASE);
    Ok((Some(postgres), url))
}

async fn start_redis(settings: &Settings) -> Result<(Option<Redis>, String), Error> {
    if let Some(url) = &settings.redis_url {
        return Ok((None, url.clone()));
    }
    let data_dir = settings.data_dir.join("redis");
    let redis = Redis::start(redis::Settings {
        data_dir,
        durable: settings.durable,
    })
    .await?;
    let url = redis.url();
    Ok((Some(redis), url))
}

/// A locked file in the folder, with the id of the process that holds it. The lock ends with the process, however that
/// ends; the file stays.
#[derive(Debug)]
struct Lock {
    _file: File,
}

impl Lock {
    fn take(folder: &Path) -> Result<Lock, Error> {
        let path = folder.join("lock");
        let unusable = |source| Error::Folder {
            path: path.clone(),
            source,
        };
        let mut file = File::options()
            .create(true)
            .truncate(false)
            .read(true)
            .write(true)
            .open(&path)
            .map_err(unusable)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::Error(source)) => return Err(unusable(source)),
            Err(TryLockError::WouldBlock) => {
                let mut pid = String::new();
                // The number is a help for people; without it the message still stands.
                let _ = file.read_to_string(&mut pid);
                let holder = if pid.trim().is_empty() {
                    String::new()
                } else {
                    format!(" (process {})", pid.trim())
                };
                return Err(Error::InUse {
                    path: folder.to_owned(),
                    holder,
                });
            }
        }
        let write = |file: &mut File| {
            file.set_len(0)?;
            file.rewind()?;
            writeln!(file, "{}", std::process::id())
        };
        write(&mut file).map_err(unusable)?;
        Ok(Lock { _file: file })
    }
}
