//! The whole private world under one folder: stores and a payment provider, started together and stopped together.

use std::fs;
use std::io::Write;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use crate::Error;
use crate::file_lock::Held;
use crate::payments::Provider;
use crate::servers::{Postgres, Redis, ServerSettings};

/// The database that Waybill uses.
const DATABASE: &str = "waybill";

/// What to start, and where.
#[derive(Clone, Debug)]
pub struct WorldSettings {
    /// The folder of everything; created if it is missing. A second start on it finds the data of the first.
    pub data_dir: PathBuf,
    /// Whether the stores are durable: see [`ServerSettings::durable`].
    pub durable: bool,
    /// A Postgres that is used as it is; a private one is started if this is not given.
    pub postgres_url: Option<String>,
    /// A Redis that is used as it is; a private one is started if this is not given.
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
    // Last: it is released after everything else.
    _lock: Held,
}

impl World {
    /// Starts what no URL was given for, all at once, and creates the database.
    pub async fn start(settings: WorldSettings) -> Result<World, Error> {
        let folder = &settings.data_dir;
        fs::create_dir_all(folder).map_err(Error::at(folder))?;
        let lock = lock(folder)?;
        let ledger = folder.join("payments.jsonl");
        let ((postgres, database_url), (redis, redis_url), payments) = tokio::try_join!(
            start_postgres(&settings),
            start_redis(&settings),
            Provider::start(settings.payments_addr, &ledger)
        )?;
        Ok(World {
            database_url,
            redis_url,
            payments_url: payments.url(),
            postgres,
            redis,
            payments,
            _lock: lock,
        })
    }

    /// Stops the provider, then Redis, then Postgres, and waits for each. All are stopped, also if one fails; the first
    /// error is returned.
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

impl WorldSettings {
    fn server(&self, folder: &str) -> ServerSettings {
        ServerSettings {
            data_dir: self.data_dir.join(folder),
            durable: self.durable,
        }
    }
}

async fn start_postgres(settings: &WorldSettings) -> Result<(Option<Postgres>, String), Error> {
    if let Some(url) = &settings.postgres_url {
        return Ok((None, url.clone()));
    }
    let postgres = Postgres::start(settings.server("postgres")).await?;
    postgres.create_database(DATABASE).await?;
    let url = postgres.url(DATABASE);
    Ok((Some(postgres), url))
}

async fn start_redis(settings: &WorldSettings) -> Result<(Option<Redis>, String), Error> {
    if let Some(url) = &settings.redis_url {
        return Ok((None, url.clone()));
    }
    let redis = Redis::start(settings.server("redis")).await?;
    let url = redis.url();
    Ok((Some(redis), url))
}

/// Locks a file in the folder and writes the id of this process into it, for the message to whoever comes second.
fn lock(folder: &Path) -> Result<Held, Error> {
    let path = folder.join("lock");
    let Some(mut file) = Held::open(&path)? else {
        // Without the number the message still makes sense.
        let pid = fs::read_to_string(&path).unwrap_or_default();
        let holder = match pid.trim() {
            "" => String::new(),
            pid => format!(" (process {pid})"),
        };
        return Err(Error::InUse {
            path: folder.to_owned(),
            holder,
        });
    };
    let written = file.set_len(0).and_then(|()| writeln!(file, "{}", std::process::id()));
    written.map_err(Error::at(&path))?;
    Ok(file)
}
