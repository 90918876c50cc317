//! What Postgres and Redis have in common as children of ours: a port of their own, a wait until they are ready, an
//! end by signal, and a restart at the same address.

use std::fs::File;
use std::future::Future;
use std::time::Duration;

use nix::unistd::Pid;
use tokio::time::Instant;

use crate::Error;
use crate::port;
use crate::process::{Launch, Process, Signal};
use crate::server_log::{ServerLog, telling_line};

/// A server that was killed under load has its log to replay, on a slow disk perhaps.
const READY_WITHIN: Duration = Duration::from_mins(1);
/// After this a server that was asked to stop is killed.
const STOP_GRACE: Duration = Duration::from_secs(10);
/// How often another port is tried: each clash is a race lost against another process.
const PORTS_TRIED: usize = 10;
/// How long the port of a restarted server may be held by what was connected to it.
const OWN_PORT_FREE_WITHIN: Duration = Duration::from_secs(10);
const POLL: Duration = Duration::from_millis(10);

/// A server program: how it is run, and how one knows that it is ready.
pub(crate) trait Program: Send + Sync {
    /// As a person would call it.
    const NAME: &'static str;
    /// Asks it to end quickly and cleanly.
    const STOP: Signal;

    /// Puts away what a predecessor that was killed left behind. The log is locked: that one is gone.
    fn tidy(&self) -> Result<(), Error> {
        Ok(())
    }

    /// How it is run on `port` of 127.0.0.1.
    fn launch(&self, port: u16, output: File) -> Launch;

    /// Whether the process `pid` accepts clients on `port`. Must not take another server on that port, whose bind won
    /// over ours, for this one.
    fn is_ready(&self, pid: Pid, port: u16) -> impl Future<Output = bool> + Send;
}

/// One server, running or not. Dropped, it is killed.
#[derive(Debug)]
pub(crate) struct Server<P> {
    program: P,
    log: ServerLog,
    port: u16,
    process: Option<Process>,
}

/// Why one attempt to start did not end with a server.
enum Attempt {
    PortTaken,
    Failed(Error),
}

impl<P: Program> Server<P> {
    /// Starts it on a free port and waits until it accepts clients.
    pub(crate) async fn start(program: P, log: ServerLog) -> Result<Server<P>, Error> {
        let mut server = Server {
            program,
            log,
            port: 0,
            process: None,
        };
        for _ in 0..PORTS_TRIED {
            server.port = port::free();
            match server.attempt().await {
                Ok(()) => return Ok(server),
                Err(Attempt::PortTaken) => {}
                Err(Attempt::Failed(error)) => return Err(error),
            }
        }
        Err(server.port_in_use())
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    pub(crate) fn pid(&self) -> Option<Pid> {
        self.process.as_ref().map(Process::pid)
    }

    pub(crate) fn signal(&self, signal: Signal) -> Result<(), Error> {
        self.process.as_ref().ok_or(Error::NotRunning)?.signal(signal)
    }

    /// SIGKILL, and reaped. Fine on a server that is down.
    pub(crate) async fn kill(&mut self) -> Result<(), Error> {
        self.end(Signal::SIGKILL).await
    }

    /// Asks it to end, waits, kills it if it does not. Fine on a server that is down.
    pub(crate) async fn stop(&mut self) -> Result<(), Error> {
        self.end(P::STOP).await
    }

    /// Stops it if it runs, and starts it on the same port and data.
    pub(crate) async fn restart(&mut self) -> Result<(), Error> {
        self.stop().await?;
        let deadline = Instant::now() + OWN_PORT_FREE_WITHIN;
        loop {
            match self.attempt().await {
                Ok(()) => return Ok(()),
                Err(Attempt::PortTaken) if Instant::now() < deadline => tokio::time::sleep(POLL).await,
                Err(Attempt::PortTaken) => return Err(self.port_in_use()),
                Err(Attempt::Failed(error)) => return Err(error),
            }
        }
    }

    async fn end(&mut self, signal: Signal) -> Result<(), Error> {
        if let Some(mut process) = self.process.take() {
            let pid = process.pid().as_raw();
            let status = process.stop(signal, STOP_GRACE).await?;
            tracing::debug!(server = P::NAME, pid, %status, "server ended");
        }
        Ok(())
    }

    async fn attempt(&mut self) -> Result<(), Attempt> {
        let output = self.log.open().await.map_err(Attempt::Failed)?;
        self.program.tidy().map_err(Attempt::Failed)?;
        let mut process = Process::start(self.program.launch(self.port, output)).map_err(Attempt::Failed)?;
        let deadline = Instant::now() + READY_WITHIN;
        while !self.program.is_ready(process.pid(), self.port).await {
            if process.try_wait().map_err(Attempt::Failed)?.is_some() {
                return Err(self.why_it_ended());
            }
            if Instant::now() > deadline {
                let log = self.log.path().to_owned();
                return Err(Attempt::Failed(Error::NotReady {
                    server: P::NAME,
                    waited: READY_WITHIN,
                    log,
                }));
            }
            tokio::time::sleep(POLL).await;
        }
        tracing::debug!(
            server = P::NAME,
            pid = process.pid().as_raw(),
            port = self.port,
            "server is ready"
        );
        self.process = Some(process);
        Ok(())
    }

    fn why_it_ended(&self) -> Attempt {
        let said = self.log.text();
        // Both servers print the text of EADDRINUSE, in English, for they run in the C locale.
        if said.contains("Address already in use") {
            return Attempt::PortTaken;
        }
        let log = self.log.path().to_owned();
        Attempt::Failed(Error::ServerEnded {
            server: P::NAME,
            last_line: telling_line(&said),
            log,
        })
    }

    fn port_in_use(&self) -> Error {
        Error::PortInUse {
            address: (std::net::Ipv4Addr::LOCALHOST, self.port).into(),
        }
    }
}
