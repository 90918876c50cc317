//! A place for a server: the process that sits there now, the log that it writes, and what it is told.

use std::fs::File;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use waybill_sandbox::process::{Launch, Process, Signal};
use waybill_server::crash_points::VARIABLE;

use crate::balancer::Backend;
use crate::chance::pass;
use crate::findings::lock;
use crate::plan::Flags;

/// Longer than the program's own hard stop.
const STOP_GRACE: Duration = Duration::from_secs(15);
/// A server that finds no store for so long is about to give up.
const SERVES_WITHIN: Duration = Duration::from_secs(3);
const TICK: Duration = Duration::from_millis(20);

/// One of the servers.
pub struct Seat {
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
    pub http_backend: Backend,
    http: Option<SocketAddr>,
}

impl Seat {
    /// An empty one, whose servers are this program, are told these settings and log into this folder.
    pub fn new(number: usize, folder: &Path, program: &Path, flags: Flags) -> Seat {
        Seat {
            number,
            folder: folder.to_owned(),
            program: program.to_owned(),
            flags,
            starts: 0,
            process: None,
            log: PathBuf::new(),
            backend: Backend::default(),
            http_backend: Backend::default(),
            http: None,
        }
    }

    /// Starts a server, which will die at this crash point at that hit, if one is given. Does not wait for it.
    pub fn start(&mut self, crash_at: Option<(&str, u64)>) {
        self.starts += 1;
        self.log = self
            .folder
            .join(format!("server-{}-{:03}.log", self.number, self.starts));
        let output = File::create(&self.log).expect("a log file");
        let variables = self.flags.iter().map(|(key, value)| {
            let name = key.replace('.', "__").to_uppercase();
            format!("WAYBILL_{name}={value}")
        });
        let crash_at = crash_at.map(|(name, hit)| format!("{VARIABLE}={name}:{hit}"));
        // `env` becomes the program, so the pid stays.
        let mut args: Vec<_> = variables.chain(crash_at).map(Into::into).collect();
        args.extend([self.program.clone().into(), "serve".into()]);
        let launched = Process::start(Launch {
            program: "/usr/bin/env".into(),
            args,
            output,
        });
        self.process = Some(launched.expect("the program starts"));
    }

    /// Serves for so long, or until it dies by itself, or until `end`. The status, if it is dead. One that does not come
    /// to serve has so long anyway.
    pub async fn lives(&mut self, time: Duration, end: &CancellationToken) -> Option<ExitStatus> {
        let begins_at_latest = Instant::now() + SERVES_WITHIN;
        let mut until = None;
        while !end.is_cancelled() {
            if let Some(status) = self.ended() {
                return Some(status);
            }
            self.look_for_addresses();
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
        let until = Instant::now() + time;
        while Instant::now() < until {
            if self.process.is_none() || self.ended().is_some() {
                self.start(None);
            }
            self.look_for_addresses();
            if let Some(http) = self.http
                && let Ok(answer) = reqwest::get(format!("http://{http}/readyz")).await
                && answer.status().as_u16() == 200
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
        self.is_gone();
        Some(status)
    }

    /// SIGKILL, and reaped; the pid that it had.
    pub async fn kill(&mut self) -> Option<i32> {
        let mut process = self.process.take()?;
        // It may have died by itself a moment ago.
        let _ = process.signal(Signal::SIGKILL);
        self.is_gone();
        process.wait().await.expect("a child");
        Some(process.pid().as_raw())
    }

    /// SIGTERM; how it ended, by itself.
    pub async fn stop(&mut self) -> Option<ExitStatus> {
        let mut process = self.process.take()?;
        let status = process.stop(Signal::SIGTERM, STOP_GRACE).await.expect("a child");
        self.is_gone();
        Some(status)
    }

    /// Sends a signal, such as SIGSTOP and SIGCONT. Fine on one that has died.
    pub fn signal(&self, signal: Signal) {
        if let Some(process) = &self.process {
            let _ = process.signal(signal);
        }
    }

    /// Whether a process sits here.
    pub fn is_taken(&self) -> bool {
        self.process.is_some()
    }

    /// What its server said so far, or the last one.
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    fn is_gone(&mut self) {
        self.process = None;
        self.http = None;
        *lock(&self.backend) = None;
        *lock(&self.http_backend) = None;
    }

    /// From the line of the log in which the server tells where it listens.
    fn look_for_addresses(&mut self) {
        if self.http.is_some() {
            return;
        }
        let log = self.log();
        let lines = log
            .lines()
            .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
        let mut told = lines.filter(|line| line["fields"]["message"] == "waybill serves");
        if let Some(line) = told.next() {
            let address = |name: &str| line["fields"][name].as_str().and_then(|text| text.parse().ok());
            self.http = address("http");
            *lock(&self.http_backend) = address("webhooks");
            *lock(&self.backend) = address("grpc");
        }
    }
}
