//! What Postgres and Redis have in common as child processes. [`Program`] is where they differ.

use std::fs::{self, File};
use std::future::Future;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::unistd::Pid;
use tokio::time::Instant;

use super::log::ServerLog;
use crate::Error;
use crate::account::Account;
use crate::port;
use crate::process::{Launch, Process, Signal};

/// A server that was killed under load has its log to replay, on a slow disk perhaps.
const READY_WITHIN: Duration = Duration::from_mins(1);
/// After this a server that was asked to stop is killed.
const STOP_GRACE: Duration = Duration::from_secs(10);
/// How often another port is tried: each clash is a race lost against another process.
const PORTS_TRIED: usize = 10;
/// How long the port of a restarted server may still be held by old connections.
const OWN_PORT_FREE_WITHIN: Duration = Duration::from_secs(10);
const POLL: Duration = Duration::from_millis(10);

/// How to run a server. Its folder gets `data`, and `log` with the output of the current process.
#[derive(Clone, Debug)]
pub struct ServerSettings {
    /// The server's own folder; created if it is missing. A second start on it finds the data of the first.
    pub data_dir: PathBuf,
    /// How safe answered writes are. Postgres: whether a commit survives the loss of power; it survives `kill -9` in both
    /// cases, and without this tests are faster. Redis: whether each command is on the disk before it is answered
    /// (`appendfsync always`), or up to a second later (`everysec`), which can lose acknowledged commands at `kill -9`.
    pub durable: bool,
}

/// A server program: how it is run, and how to see that it is ready.
pub trait Program: Sized + Send + Sync {
    /// Its usual name.
    const NAME: &'static str;
    /// Asks it to end quickly and cleanly.
    const STOP: Signal;

    /// Finds the program and prepares its data in the folder, which is absolute and exists.
    fn prepare(folder: &Path, durable: bool, log: &ServerLog) -> impl Future<Output = Result<Self, Error>> + Send;

    /// Removes what a killed predecessor left behind. The log is locked, so the predecessor has ended.
    fn clean_up(&self) -> Result<(), Error> {
        Ok(())
    }

    /// How it is run on `port` of 127.0.0.1.
    fn launch(&self, port: u16, output: File) -> Launch;

    /// The user that it runs as, if not that of this process.
    fn account(&self) -> Option<Account> {
        None
    }

    /// Whether the process `pid` accepts clients on `port`. Must not mistake another server, which was faster to bind
    /// the port, for this one.
    fn is_ready(&self, pid: Pid, port: u16) -> impl Future<Output = bool> + Send;
}

/// One server, running or not. Dropped, it is killed.
#[derive(Debug)]
pub struct Server<P> {
    program: P,
    log: ServerLog,
    port: u16,
    process: Option<Process>,
}

/// Why one attempt to start did not end with a server.
enum StartError {
    PortTaken,
    Failed(Error),
}

impl From<Error> for StartError {
    fn from(error: Error) -> StartError {
        StartError::Failed(error)
    }
}

impl<P: Program> Server<P> {
    /// Starts a server on the data in the folder and waits until it accepts clients. It takes over a folder whose server
    /// was killed, and waits for the last process of that server to end.
    pub async fn start(settings: ServerSettings) -> Result<Server<P>, Error> {
        let folder = create_absolute(&settings.data_dir)?;
        let log = ServerLog::new(folder.join("log"));
        let mut server = Server {
            program: P::prepare(&folder, settings.durable, &log).await?,
            log,
            port: 0,
            process: None,
        };
        for _ in 0..PORTS_TRIED {
            server.port = port::free();
            match server.try_start().await {
                Ok(()) => return Ok(server),
                Err(StartError::PortTaken) => {}
                Err(StartError::Failed(error)) => return Err(error),
            }
        }
        Err(server.port_in_use())
    }

    /// The server's process; `None` while it is down.
    pub fn pid(&self) -> Option<Pid> {
        self.process.as_ref().map(Process::pid)
    }

    /// Sends a signal to that process, such as SIGSTOP and SIGCONT. The backends of a stopped Postgres go on; it accepts
    /// no new connections.
    pub fn signal(&self, signal: Signal) -> Result<(), Error> {
        self.process.as_ref().ok_or(Error::NotRunning)?.signal(signal)
    }

    /// Sends a signal to that process and to all that it started: stopped, a Postgres answers on no connection, and accepts none. Linux only.
    pub fn signal_all(&self, signal: Signal) -> Result<(), Error> {
        self.process.as_ref().ok_or(Error::NotRunning)?.signal_all(signal)
    }

    /// Kills the process with SIGKILL and waits for it. Does nothing to a server that is down. Postgres' backends notice
    /// and end at their next wait; [`Server::restart`] waits for them.
    pub async fn kill(&mut self) -> Result<(), Error> {
        self.end(Signal::SIGKILL).await
    }

    /// A clean shutdown: sessions are ended, everything is written. Does nothing to a server that is down.
    pub async fn stop(&mut self) -> Result<(), Error> {
        self.end(P::STOP).await
    }

    /// Stops it if it runs, and starts it on the same port and data.
    pub async fn restart(&mut self) -> Result<(), Error> {
        self.stop().await?;
        let deadline = Instant::now() + OWN_PORT_FREE_WITHIN;
        loop {
            match self.try_start().await {
                Ok(()) => return Ok(()),
                Err(StartError::PortTaken) if Instant::now() < deadline => tokio::time::sleep(POLL).await,
                Err(StartError::PortTaken) => return Err(self.port_in_use()),
                Err(StartError::Failed(error)) => return Err(error),
            }
        }
    }

    pub(super) fn port(&self) -> u16 {
        self.port
    }

    async fn end(&mut self, signal: Signal) -> Result<(), Error> {
        if let Some(mut process) = self.process.take() {
            let pid = process.pid().as_raw();
            let status = process.stop(signal, STOP_GRACE).await?;
            tracing::debug!(server = P::NAME, pid, %status, "server ended");
        }
        Ok(())
    }

    async fn try_start(&mut self) -> Result<(), StartError> {
        let output = self.log.open().await?;
        self.program.clean_up()?;
        let launch = self.program.launch(self.port, output);
        let mut process = Process::start_as(self.program.account(), launch)?;
        let (pid, port) = (process.pid(), self.port);
        let deadline = Instant::now() + READY_WITHIN;
        while !self.program.is_ready(pid, port).await {
            if process.try_wait()?.is_some() {
                return Err(self.why_it_ended());
            }
            if Instant::now() > deadline {
                return Err(StartError::Failed(Error::NotReady {
                    server: P::NAME,
                    waited: READY_WITHIN,
                    log: self.log.path().to_owned(),
                }));
            }
            tokio::time::sleep(POLL).await;
        }
        tracing::debug!(server = P::NAME, pid = pid.as_raw(), port, "server is ready");
        self.process = Some(process);
        Ok(())
    }

    fn why_it_ended(&self) -> StartError {
        // Both servers print the text of EADDRINUSE, in English, for they run in the C locale.
        if self.log.text().contains("Address already in use") {
            return StartError::PortTaken;
        }
        StartError::Failed(Error::ServerEnded {
            server: P::NAME,
            last_line: self.log.telling_line(),
            log: self.log.path().to_owned(),
        })
    }

    fn port_in_use(&self) -> Error {
        Error::PortInUse {
            address: (Ipv4Addr::LOCALHOST, self.port).into(),
        }
    }
}

/// Creates the folder if it is missing; absolute, for child processes run in `/`.
pub(super) fn create_absolute(folder: &Path) -> Result<PathBuf, Error> {
    let created = fs::create_dir_all(folder).and_then(|()| folder.canonicalize());
    created.map_err(Error::at(folder))
}
