//! A slot for a server: the process that runs in it now, the log that it writes, and its settings.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::Duration;

use crate::chance::pass;
use crate::process::{Flags, addresses, is_ready, launch, read};
use crate::wire::http;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use waybill_sandbox::process::{Process, Signal};
use waybill_server::crash_points::VARIABLE;

use super::balancer::Backend;
use super::findings::lock;

/// Longer than the program's own hard stop.
const STOP_GRACE: Duration = Duration::from_secs(15);
/// A server that finds no store for so long is about to give up.
const SERVES_WITHIN: Duration = Duration::from_secs(3);
const TICK: Duration = Duration::from_millis(20);

/// One of the servers.
pub struct ServerSlot {
    number: usize,
    folder: PathBuf,
    program: PathBuf,
    flags: Flags,
    starts: u32,
    process: Option<Process>,
    log: PathBuf,
    /// Where its order service listens, for the balancer.
    pub backend: Backend,
    /// Where it takes webhooks, for theirs.
    pub webhook_backend: Backend,
    http: Option<SocketAddr>,
}

impl ServerSlot {
    /// An empty one, whose servers are this program, have these settings and log into this folder.
    pub fn new(number: usize, folder: &Path, program: &Path, flags: Flags) -> ServerSlot {
        ServerSlot {
            number,
            folder: folder.to_owned(),
            program: program.to_owned(),
            flags,
            starts: 0,
            process: None,
            log: PathBuf::new(),
            backend: Backend::default(),
            webhook_backend: Backend::default(),
            http: None,
        }
    }

    /// Starts a server, which will die at this crash point at that hit, if one is given. Does not wait for it.
    pub fn start(&mut self, crash_at: Option<(&str, u64)>) {
        self.starts += 1;
        let name = format!("server-{}-{:03}.log", self.number, self.starts);
        self.log = self.folder.join(name);
        let variable = VARIABLE.trim_start_matches("WAYBILL_");
        let crash_at = crash_at.map(|(name, hit)| (variable, format!("{name}:{hit}")));
        let settings = self.flags.iter().map(|(key, value)| (*key, value.clone()));
        let process = launch(&self.program, &["serve"], settings.chain(crash_at), &self.log);
        self.process = Some(process);
    }

    /// Serves for so long, or until it dies by itself, or until `end`. The status, if it is dead. One that does not
    /// come to serve has so long anyway.
    pub async fn lives(&mut self, time: Duration, end: &CancellationToken) -> Option<ExitStatus> {
        let begins_at_latest = Instant::now() + SERVES_WITHIN;
        let mut until = None;
        while !end.is_cancelled() {
            if let Some(status) = self.ended() {
                return Some(status);
            }
            self.read_addresses();
            if until.is_none() && (self.http.is_some() || Instant::now() > begins_at_latest) {
                until = Some(Instant::now() + time);
            }
            if until.is_some_and(|until| Instant::now() > until) {
                break;
            }
            pass(TICK).await;
        }
        self.ended()
    }

    /// Waits until `/readyz` answers 200; whether it does in this time. A server that ended, because it was started
    /// before its stores were, is started again, as a supervisor would.
    pub async fn is_ready_within(&mut self, time: Duration) -> bool {
        let (client, until) = (http(), Instant::now() + time);
        while Instant::now() < until {
            if self.process.is_none() || self.ended().is_some() {
                self.start(None);
            }
            self.read_addresses();
            if let Some(http) = self.http
                && is_ready(&client, &http.to_string()).await
            {
                return true;
            }
            pass(TICK).await;
        }
        false
    }

    /// The status with which it ended, if it has.
    fn ended(&mut self) -> Option<ExitStatus> {
        let status = self.process.as_mut()?.try_wait().expect("a child")?;
        self.clear();
        Some(status)
    }

    /// SIGKILL, and waited for; the pid that it had.
    pub async fn kill(&mut self) -> Option<i32> {
        let mut process = self.process.take()?;
        // It may have died by itself a moment ago.
        let _ = process.signal(Signal::SIGKILL);
        self.clear();
        process.wait().await.expect("a child");
        Some(process.pid().as_raw())
    }

    /// SIGTERM; how it ended, by itself.
    pub async fn stop(&mut self) -> Option<ExitStatus> {
        let mut process = self.process.take()?;
        let status = process.stop(Signal::SIGTERM, STOP_GRACE).await.expect("a child");
        self.clear();
        Some(status)
    }

    /// Sends a signal, such as SIGSTOP and SIGCONT. Fine on one that has died.
    pub fn signal(&self, signal: Signal) {
        if let Some(process) = &self.process {
            let _ = process.signal(signal);
        }
    }

    /// Whether a process runs here.
    pub fn is_taken(&self) -> bool {
        self.process.is_some()
    }

    /// What its server logged so far, or the last one.
    pub fn log(&self) -> String {
        read(&self.log)
    }

    /// The last lines of that.
    pub fn log_tail(&self) -> Vec<String> {
        self.log().lines().rev().take(3).map(str::to_owned).collect()
    }

    fn clear(&mut self) {
        self.process = None;
        self.http = None;
        *lock(&self.backend) = None;
        *lock(&self.webhook_backend) = None;
    }

    /// From the line of the log that says where the server listens.
    fn read_addresses(&mut self) {
        if self.http.is_none()
            && let Some(found) = addresses(&self.log())
        {
            self.http = Some(found.http);
            *lock(&self.webhook_backend) = found.webhooks;
            *lock(&self.backend) = Some(found.grpc);
        }
    }
}
