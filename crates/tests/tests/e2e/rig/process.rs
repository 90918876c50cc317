//! The real program: as a server that can be killed and paused, and as a command that runs to its end.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use tonic::transport::Channel;
use waybill_proto::location::v1::location_service_client::LocationServiceClient;
use waybill_proto::order::v1::order_service_client::OrderServiceClient;
use waybill_sandbox::process::{Launch, Process, Signal};

use super::clients::get;
use super::{Flags, Rig, channel, until};

/// The program, built from the same sources by the same cargo.
const PROGRAM: &str = env!("CARGO_BIN_EXE_waybill-under-test");
/// Longer than the program's own hard stop.
const STOP_GRACE: Duration = Duration::from_secs(35);

/// `waybill serve` in a process of its own, on the stores of a rig. Dropped, it is killed.
pub struct ServerProcess {
    process: Process,
    log: PathBuf,
    grpc: String,
    http: String,
    channel: Channel,
}

impl ServerProcess {
    /// Starts it with the rig's settings and `settings` over them; when this returns, `/readyz` answers 200.
    pub async fn start(rig: &Rig, settings: &[(&'static str, &str)]) -> ServerProcess {
        let mut flags = rig.flags().clone();
        flags.extend(settings.iter().map(|(key, value)| (*key, (*value).to_owned())));
        flags.insert("log.format", "json".to_owned());
        let log = rig.folder().join(format!("server-{}.log", uuid::Uuid::now_v7()));
        let output = File::create(&log).expect("a log file");
        // `env` becomes the program, so the pid stays.
        let mut args: Vec<_> = variables(&flags)
            .map(|(name, value)| format!("{name}={value}").into())
            .collect();
        args.extend([PROGRAM.into(), "serve".into()]);
        let mut process = Process::start(Launch {
            program: "/usr/bin/env".into(),
            args,
            output,
        })
        .expect("the program starts");

        let (grpc, http) = until("the server tells where it listens", async || {
            let text = read(&log);
            let ended = process.try_wait().expect("a child").is_some();
            assert!(!ended, "the server ended at once: {text}");
            addresses(&text).ok_or(text)
        })
        .await;
        until("the server is ready", async || {
            match get(&format!("http://{http}/readyz")).await {
                (200, _) => Ok(()),
                other => Err(other),
            }
        })
        .await;
        let channel = channel(&grpc);
        ServerProcess {
            process,
            log,
            grpc,
            http,
            channel,
        }
    }

    /// Its order service.
    pub fn orders(&self) -> OrderServiceClient<Channel> {
        OrderServiceClient::new(self.channel.clone())
    }

    /// Its location service.
    pub fn locations(&self) -> LocationServiceClient<Channel> {
        LocationServiceClient::new(self.channel.clone())
    }

    /// Where its gRPC services listen, such as `127.0.0.1:4711`.
    pub fn grpc_addr(&self) -> &str {
        &self.grpc
    }

    /// `http://` URL of its `/readyz` and `/metrics`, without a slash at the end.
    pub fn http(&self) -> String {
        format!("http://{}", self.http)
    }

    /// What it logged so far, one JSON object a line.
    pub fn log(&self) -> String {
        read(&self.log)
    }

    /// Sends a signal, such as SIGSTOP and SIGCONT.
    pub fn signal(&self, signal: Signal) {
        self.process.signal(signal).expect("the server runs");
    }

    /// Waits until it ends by itself.
    pub async fn ended(mut self) -> ExitStatus {
        self.process.wait().await.expect("a child")
    }

    /// SIGKILL, and reaped.
    pub async fn kill(mut self) {
        self.signal(Signal::SIGKILL);
        self.process.wait().await.expect("a child");
    }

    /// SIGTERM; how it ended, by itself.
    pub async fn stop(mut self) -> ExitStatus {
        self.process.stop(Signal::SIGTERM, STOP_GRACE).await.expect("a child")
    }
}

/// How a command ended.
#[derive(Debug)]
pub struct Ended {
    /// Its exit status; `None` if a signal ended it.
    pub status: Option<i32>,
    /// Its standard output.
    pub stdout: String,
    /// Its standard error.
    pub stderr: String,
}

/// Runs `waybill ARGS` with these variables, and none of our own that mean something to it, to its end.
pub async fn waybill(args: &[&str], variables: &[(&str, &str)]) -> Ended {
    let mut command = tokio::process::Command::new(PROGRAM);
    command.args(args).stdin(Stdio::null()).kill_on_drop(true);
    for (name, _) in std::env::vars_os() {
        let ours = [
            "DATABASE_URL",
            "REDIS_URL",
            "PAYMENTS_URL",
            "PAYMENTS_SECRET_KEY",
            "GRPC_ADDR",
        ];
        let name = name.to_string_lossy().into_owned();
        if ours.contains(&name.as_str()) || (name.starts_with("WAYBILL_") && !name.starts_with("WAYBILL_SANDBOX_")) {
            command.env_remove(name);
        }
    }
    command.envs(variables.iter().copied());
    let output = command.output().await.expect("the program runs");
    Ended {
        status: output.status.code(),
        stdout: String::from_utf8(output.stdout).expect("UTF-8"),
        stderr: String::from_utf8(output.stderr).expect("UTF-8"),
    }
}

/// Settings as the environment variables that make them.
pub fn variables(flags: &Flags) -> impl Iterator<Item = (String, &str)> {
    flags.iter().map(|(key, value)| {
        let name = format!("WAYBILL_{}", key.replace('.', "__").to_uppercase());
        (name, value.as_str())
    })
}

/// Where a server says, in its log, that it listens.
fn addresses(log: &str) -> Option<(String, String)> {
    log.lines()
        .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok())
        .find(|line| line["fields"]["message"] == "waybill serves")
        .and_then(|line| {
            let field = |name: &str| line["fields"][name].as_str().map(str::to_owned);
            Some((field("grpc")?, field("http")?))
        })
}

fn read(log: &Path) -> String {
    std::fs::read_to_string(log).unwrap_or_default()
}
