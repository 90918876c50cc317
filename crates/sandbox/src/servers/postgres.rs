//! A private Postgres: `initdb` at the first start, then `postgres` itself as a child process.
//!
//! It listens on a port of 127.0.0.1 only, trusts every client there, and runs as `nobody` when root starts it.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use nix::unistd::Pid;
use tokio_postgres::NoTls;
use tokio_postgres::error::SqlState;

use super::log::ServerLog;
use super::server::{Program, Server, ServerSettings, create_absolute};
use crate::Error;
use crate::account::Account;
use crate::process::{Launch, Process, Signal};
use crate::programs::{self, PostgresPrograms};

/// The superuser of the cluster, as whom Waybill connects.
const USER: &str = "waybill";
/// Room for several Waybill servers with full pools (16 each), a test's own clients and the audit.
const MAX_CONNECTIONS: u16 = 200;

/// A private Postgres. Dropped, it is killed.
pub type Postgres = Server<Cluster>;

impl Postgres {
    /// `postgres://` URL of a database, whether it exists or not.
    pub fn url(&self, database: &str) -> String {
        format!("postgres://{USER}@127.0.0.1:{}/{database}", self.port())
    }

    /// Starts a standby of this server: a copy of it, which follows it and takes reads alone.
    pub async fn start_standby(&self, settings: ServerSettings) -> Result<Postgres, Error> {
        let folder = create_absolute(&settings.data_dir)?;
        let log = ServerLog::new(folder.join("log"));
        let cluster = Cluster::new(&folder, settings.durable)?;
        cluster.copy_from(self.port(), &log).await?;
        Server::start(settings).await
    }

    /// Creates a database unless it exists. The name is 1 to 63 of a-z, 0-9 and _, beginning with a letter.
    pub async fn create_database(&self, name: &str) -> Result<(), Error> {
        let is_plain = |letter: char| letter.is_ascii_lowercase() || letter.is_ascii_digit() || letter == '_';
        let begins_well = name.starts_with(|first: char| first.is_ascii_lowercase());
        if !begins_well || !name.chars().all(is_plain) || name.len() > 63 {
            return Err(Error::DatabaseName(name.to_owned()));
        }
        let (client, connection) = tokio_postgres::connect(&self.url("postgres"), NoTls).await?;
        let create = async move { client.batch_execute(&format!("create database \"{name}\"")).await };
        // The connection ends when `create` drops its client; an error of it is the statement's error too.
        let (created, _) = tokio::join!(create, connection);
        // The second code is what the loser of a race for the same name gets.
        let exists = [SqlState::DUPLICATE_DATABASE, SqlState::UNIQUE_VIOLATION];
        match created {
            Err(error) if error.code().is_some_and(|code| exists.contains(code)) => Ok(()),
            other => Ok(other?),
        }
    }
}

/// A database cluster: what `initdb` creates and `postgres` serves.
#[derive(Debug)]
pub struct Cluster {
    programs: PostgresPrograms,
    data: PathBuf,
    account: Option<Account>,
    durable: bool,
}

impl Cluster {
    fn new(folder: &Path, durable: bool) -> Result<Cluster, Error> {
        let data = folder.join("data");
        Ok(Cluster {
            programs: programs::postgres()?,
            account: Account::for_data(&data),
            data,
            durable,
        })
    }

    /// Copies the cluster of the server on this port, with what makes a standby of it.
    async fn copy_from(&self, port: u16, log: &ServerLog) -> Result<(), Error> {
        let output = log.open().await?;
        self.create_empty(&self.data).map_err(Error::at(&self.data))?;
        // Which the copy keeps, and without which the server does not start.
        let closed = fs::Permissions::from_mode(0o700);
        fs::set_permissions(&self.data, closed).map_err(Error::at(&self.data))?;
        let (port, data) = (port.to_string(), self.data.clone().into_os_string());
        let options = [
            "--host=127.0.0.1",
            "--username",
            USER,
            "--write-recovery-conf",
            "--checkpoint=fast",
            "--no-sync",
            "--port",
            &port,
            "--pgdata",
        ];
        let launch = Launch {
            program: self.programs.initdb.with_file_name("pg_basebackup"),
            args: options.iter().map(OsString::from).chain([data]).collect(),
            output,
        };
        let mut copy = Process::start_as(self.account, launch)?;
        if !copy.wait().await?.success() {
            return Err(Error::BaseBackup {
                last_line: log.telling_line(),
                log: log.path().to_owned(),
            });
        }
        Ok(())
    }

    /// Creates the cluster if there is none. It is created beside its place and then moved there, so that an interrupted
    /// `initdb` leaves nothing that looks like a cluster.
    async fn initialise(&self, log: &ServerLog) -> Result<(), Error> {
        // Under the lock: of two processes that start on one new folder only one may do this.
        let output = log.open().await?;
        if self.data.exists() {
            return Ok(());
        }
        let draft = self.data.with_file_name("data.new");
        self.create_empty(&draft).map_err(Error::at(&draft))?;
        let options = [
            "--no-sync",
            "--auth=trust",
            "--encoding=UTF8",
            "--locale=C",
            "--username",
            USER,
            "--pgdata",
        ];
        let options = options.iter().map(OsString::from);
        let launch = Launch {
            program: self.programs.initdb.clone(),
            args: options.chain([draft.clone().into_os_string()]).collect(),
            output,
        };
        let mut initdb = Process::start_as(self.account, launch)?;
        if !initdb.wait().await?.success() {
            return Err(Error::Initdb {
                last_line: log.telling_line(),
                log: log.path().to_owned(),
            });
        }
        fs::rename(&draft, &self.data).map_err(Error::at(&self.data))
    }

    fn create_empty(&self, folder: &Path) -> io::Result<()> {
        if folder.exists() {
            fs::remove_dir_all(folder)?;
        }
        fs::create_dir(folder)?;
        self.account.map_or(Ok(()), |account| account.own(folder))
    }
}

impl Program for Cluster {
    const NAME: &'static str = "Postgres";
    const STOP: Signal = Signal::SIGINT;

    async fn prepare(folder: &Path, durable: bool, log: &ServerLog) -> Result<Self, Error> {
        let cluster = Cluster::new(folder, durable)?;
        if let Some(account) = cluster.account {
            for path in [&cluster.data, &cluster.programs.postgres, &cluster.programs.initdb] {
                account.check_reaches(path)?;
            }
        }
        cluster.initialise(log).await?;
        Ok(cluster)
    }

    /// Postgres does not start while the process that `postmaster.pid` names exists. That may be a zombie that a
    /// container's first process never waits for, or a stranger that got the number after a restart of the machine. The
    /// lock that we hold is the better evidence. Should the folder be served by hand, without the lock, Postgres still
    /// sees the shared memory of that server and refuses.
    fn clean_up(&self) -> Result<(), Error> {
        let path = self.data.join("postmaster.pid");
        match fs::remove_file(&path) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => Err(Error::at(&path)(source)),
            _ => Ok(()),
        }
    }

    fn launch(&self, port: u16, output: File) -> Launch {
        let mut settings = vec![
            "listen_addresses=127.0.0.1".to_owned(),
            format!("port={port}"),
            // No socket file: the default folder may be closed to us, and the path of one of our own may be longer than
            // the 107 bytes that a socket's may have.
            "unix_socket_directories=".to_owned(),
            format!("max_connections={MAX_CONNECTIONS}"),
        ];
        if !self.durable {
            // Not synchronous_commit: with it off, commits that were answered are lost with the server, not only with
            // the machine.
            settings.extend(["fsync=off", "full_page_writes=off"].map(str::to_owned));
        }
        let mut args = vec![OsString::from("-D"), self.data.clone().into_os_string()];
        args.extend(settings.into_iter().flat_map(|setting| ["-c".into(), setting.into()]));
        Launch {
            program: self.programs.postgres.clone(),
            args,
            output,
        }
    }

    fn account(&self) -> Option<Account> {
        self.account
    }

    /// Reads the postmaster's own report, as `pg_ctl` does: line 1 of `postmaster.pid` is its pid, line 8 its state. A
    /// connection to the port could be answered by another server that took it first.
    async fn is_ready(&self, pid: Pid, _port: u16) -> bool {
        let report = fs::read_to_string(self.data.join("postmaster.pid")).unwrap_or_default();
        let mut lines = report.lines().map(str::trim);
        lines.next() == Some(pid.to_string().as_str()) && matches!(lines.nth(6), Some("ready" | "standby"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// On a full disk, say. The program is replaced because a real `initdb` does not fail on demand.
    #[tokio::test]
    async fn a_failed_initdb_is_reported_with_its_own_reason_and_leaves_no_cluster() {
        let folder = tempfile::tempdir().unwrap();
        let (initdb, data) = (folder.path().join("initdb"), folder.path().join("data"));
        let script = "#!/bin/sh\necho 'initdb: error: No space left on device' >&2\nexit 1\n";
        fs::write(&initdb, script).unwrap();
        fs::set_permissions(&initdb, fs::Permissions::from_mode(0o755)).unwrap();
        let postgres = folder.path().join("postgres");
        let cluster = Cluster {
            programs: PostgresPrograms { postgres, initdb },
            data: data.clone(),
            account: None,
            durable: false,
        };

        let log = ServerLog::new(folder.path().join("log"));
        let error = cluster.initialise(&log).await.unwrap_err().to_string();

        let expected = "initdb failed: initdb: error: No space left on device (full output in ";
        assert!(error.starts_with(expected), "{error}");
        assert!(!data.exists());
    }
}
