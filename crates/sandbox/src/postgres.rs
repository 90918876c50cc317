//! A private Postgres: `initdb` on the first start, then `postgres` itself as our child.
//!
//! It listens on a port of 127.0.0.1 only, trusts every client there, and runs as `nobody` where we are root. In its
//! folder: `data`, the cluster, and `log`, the output of the current server.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use nix::unistd::Pid;
use tokio_postgres::NoTls;
use tokio_postgres::error::SqlState;

use crate::Error;
use crate::binaries::{self, PostgresPrograms};
use crate::identity::Account;
use crate::process::{Launch, Process, Signal};
use crate::server::{Program, Server};
use crate::server_log::{ServerLog, telling_line};

/// The superuser of the cluster, which Waybill connects as.
const USER: &str = "waybill";
/// Room for several Waybill servers with full pools (16 each), a test's own clients and the audit.
const MAX_CONNECTIONS: u16 = 200;

/// How to run it.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The server's own folder; made if it is not there. A second start on it finds the data of the first.
    pub data_dir: PathBuf,
    /// Whether a commit survives the loss of power. Without it tests are faster; a commit survives `kill -9` of the
    /// server in both cases.
    pub durable: bool,
}

/// A running Postgres. Dropped, it is killed.
#[derive(Debug)]
pub struct Postgres {
    server: Server<Cluster>,
}

impl Postgres {
    /// Starts a server on the data in the folder and waits until it accepts connections. Takes over a folder whose
    /// server was killed, and waits a moment for the last of its backends to be gone.
    pub async fn start(settings: Settings) -> Result<Postgres, Error> {
        let programs = binaries::postgres()?;
        let folder = absolute(&settings.data_dir)?;
        let data = folder.join("data");
        let account = Account::for_data(&data);
        if let Some(account) = account {
            for path in [&data, &programs.postgres, &programs.initdb] {
                account.check_reaches(path)?;
            }
        }
        let log = ServerLog::new(folder.join("log"));
        let cluster = Cluster {
            programs,
            data,
            account,
            durable: settings.durable,
        };
        cluster.initialise(&log).await?;
        Ok(Postgres {
            server: Server::start(cluster, log).await?,
        })
    }

    /// `postgres://` URL of a database, whether it exists or not.
    pub fn url(&self, database: &str) -> String {
        format!("postgres://{USER}@127.0.0.1:{}/{database}", self.server.port())
    }

    /// Creates a database; fine if it exists. The name is 1 to 63 of a-z, 0-9 and _, a letter first.
    pub async fn create_database(&self, name: &str) -> Result<(), Error> {
        let is_plain = |letter: char| letter.is_ascii_lowercase() || letter.is_ascii_digit() || letter == '_';
        let starts_well = name.starts_with(|first: char| first.is_ascii_lowercase());
        if !starts_well || !name.chars().all(is_plain) || name.len() > 63 {
            return Err(Error::DatabaseName(name.to_owned()));
        }
        let (client, connection) = tokio_postgres::connect(&self.url("postgres"), NoTls).await?;
        let create = async move { client.batch_execute(&format!("create database \"{name}\"")).await };
        // The connection ends when `create` drops its client; an error of it is the statement's error too.
        let (created, _) = tokio::join!(create, connection);
        match created {
            // The second is what the loser of a race for the same name gets.
            Err(error)
                if matches!(
                    error.code(),
                    Some(&SqlState::DUPLICATE_DATABASE | &SqlState::UNIQUE_VIOLATION)
                ) =>
            {
                Ok(())
            }
            other => Ok(other?),
        }
    }

    /// The postmaster; `None` while it is down.
    pub fn pid(&self) -> Option<Pid> {
        self.server.pid()
    }

    /// Sends a signal to the postmaster. A SIGSTOP there stops new connections; the backends go on.
    pub fn signal(&self, signal: Signal) -> Result<(), Error> {
        self.server.signal(signal)
    }

    /// Kills the postmaster with SIGKILL and reaps it. Its backends see that and end at their next wait;
    /// [`Postgres::restart`] waits for them.
    pub async fn kill(&mut self) -> Result<(), Error> {
        self.server.kill().await
    }

    /// Stops it if it runs, and starts it on the same port and data.
    pub async fn restart(&mut self) -> Result<(), Error> {
        self.server.restart().await
    }

    /// A fast shutdown: sessions are ended, their transactions rolled back, everything is written.
    pub async fn stop(&mut self) -> Result<(), Error> {
        self.server.stop().await
    }
}

/// A database cluster: what `initdb` makes and `postgres` serves.
#[derive(Debug)]
struct Cluster {
    programs: PostgresPrograms,
    data: PathBuf,
    account: Option<Account>,
    durable: bool,
}

impl Cluster {
    /// Makes the cluster if there is none. It is made beside its place and then moved there, so that an `initdb` that
    /// was killed half-way leaves nothing that looks like a cluster.
    async fn initialise(&self, log: &ServerLog) -> Result<(), Error> {
        // Under the lock: of two processes that start on one new folder only one may do this.
        let output = log.open().await?;
        if self.data.exists() {
            return Ok(());
        }
        let draft = self.data.with_file_name("data.new");
        self.make_draft_folder(&draft).map_err(|source| Error::Folder {
            path: draft.clone(),
            source,
        })?;
        let args = [
            "--no-sync",
            "--auth=trust",
            "--encoding=UTF8",
            "--locale=C",
            "--username",
            USER,
            "--pgdata",
        ];
        let args = args
            .iter()
            .map(OsString::from)
            .chain([draft.clone().into_os_string()])
            .collect();
        let program = self.programs.initdb.clone();
        let ended = Process::start(Launch {
            program,
            args,
            output,
            run_as: self.account,
        })?
        .wait()
        .await?;
        if !ended.success() {
            return Err(Error::Initdb {
                last_line: telling_line(&log.text()),
                log: log.path().to_owned(),
            });
        }
        fs::rename(&draft, &self.data).map_err(|source| Error::Folder {
            path: self.data.clone(),
            source,
        })
    }

    fn make_draft_folder(&self, draft: &Path) -> io::Result<()> {
        if draft.exists() {
            fs::remove_dir_all(draft)?;
        }
        fs::create_dir(draft)?;
        self.account.map_or(Ok(()), |account| account.own(draft))
    }
}

impl Program for Cluster {
    const NAME: &'static str = "Postgres";
    const STOP: Signal = Signal::SIGINT;

    /// Postgres does not start while the process that `postmaster.pid` names exists: as a zombie that a container's
    /// first process never reaps, or as a stranger that was given the number after a restart of the machine. The lock
    /// that we hold knows better. Should somebody serve the folder without us, by hand, Postgres still sees the shared
    /// memory of that server and refuses.
    fn tidy(&self) -> Result<(), Error> {
        let path = self.data.join("postmaster.pid");
        match fs::remove_file(&path) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => Err(Error::Folder { path, source }),
            _ => Ok(()),
        }
    }

    fn launch(&self, port: u16, output: File) -> Launch {
        let mut settings = vec![
            "listen_addresses=127.0.0.1".to_owned(),
            format!("port={port}"),
            // No socket file: the default folder is not ours to write, and the path of one of ours may be longer than
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
        args.extend(
            settings
                .into_iter()
                .flat_map(|setting| [OsString::from("-c"), setting.into()]),
        );
        Launch {
            program: self.programs.postgres.clone(),
            args,
            output,
            run_as: self.account,
        }
    }

    /// Reads what the postmaster says about itself, as `pg_ctl` does: line 1 of `postmaster.pid` is its pid, line 8 its
    /// state. To ask the port could be answered by another server that took it first.
    async fn is_ready(&self, pid: Pid, _port: u16) -> bool {
        let Ok(said) = fs::read_to_string(self.data.join("postmaster.pid")) else {
            return false;
        };
        let mut lines = said.lines().map(str::trim);
        lines.next() == Some(pid.to_string().as_str()) && lines.nth(6) == Some("ready")
    }
}

/// Made if it is not there; absolute, for our children run in `/`.
fn absolute(folder: &Path) -> Result<PathBuf, Error> {
    let usable = || {
        fs::create_dir_all(folder)?;
        folder.canonicalize()
    };
    usable().map_err(|source| Error::Folder {
        path: folder.to_owned(),
        source,
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    /// A disk that is full, say; the program is replaced because a real `initdb` does not fail on demand.
    #[tokio::test]
    async fn a_failed_initdb_is_told_with_its_own_reason_and_leaves_no_cluster() {
        let folder = tempfile::tempdir().unwrap();
        let initdb = folder.path().join("initdb");
        fs::write(
            &initdb,
            "#!/bin/sh\necho 'initdb: error: No space left on device' >&2\nexit 1\n",
        )
        .unwrap();
        fs::set_permissions(&initdb, fs::Permissions::from_mode(0o755)).unwrap();
        let programs = PostgresPrograms {
            postgres: folder.path().join("postgres"),
            initdb,
        };
        let data = folder.path().join("data");
        let cluster = Cluster {
            programs,
            data: data.clone(),
            account: None,
            durable: false,
        };

        let error = cluster
            .initialise(&ServerLog::new(folder.path().join("log")))
            .await
            .unwrap_err()
            .to_string();

        assert!(
            error.starts_with("initdb failed: initdb: error: No space left on device (all of it is in "),
            "{error}"
        );
        assert!(!data.exists());
    }
}
