//! The real program as a process: how it is started, where it logs that it listens, and a command run to its end.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::{self, File};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use waybill_sandbox::process::{Launch, Process};
use waybill_server::config::Config;

use crate::until;
use crate::wire::http;

/// Settings by `section.key`.
pub type Flags = BTreeMap<&'static str, String>;

/// The program, which cargo builds from the same sources before each target that uses this library: two folders above
/// the target itself, in `target/<profile>`.
pub fn program() -> PathBuf {
    let own = std::env::current_exe().expect("a program");
    let folder = own.ancestors().nth(2).expect("target/<profile>/deps");
    let program = folder.join("waybill-under-test");
    assert!(program.is_file(), "{} is not built", program.display());
    program
}

/// A program of the system's that one test needs. Where it is missing the test says so and is left out, but not in CI (`TEST_WITH_ALL_PROGRAMS`).
pub fn installed(name: &str) -> Option<PathBuf> {
    let folders = ["/usr/sbin", "/usr/bin", "/usr/local/bin", "/opt/homebrew/bin"];
    let found = folders
        .iter()
        .map(|folder| Path::new(folder).join(name))
        .find(|path| path.is_file());
    if found.is_none() {
        let reported = format!(
            "{name} is not installed (packages of Debian: pgbouncer, prometheus, patroni, etcd-server, haproxy, redis-sentinel)"
        );
        assert!(std::env::var_os("TEST_WITH_ALL_PROGRAMS").is_none(), "{reported}");
        eprintln!("LEFT OUT: {reported}");
    }
    found
}

/// The defaults of the program, with these settings over them.
pub fn config(flags: &Flags) -> Config {
    Config::load(None, [], flags).expect("valid settings")
}

/// Starts `program` with these arguments, and these settings in its environment. What it prints goes to `log`.
pub fn launch<K: AsRef<str>, V: AsRef<str>>(
    program: &Path,
    args: &[&str],
    settings: impl IntoIterator<Item = (K, V)>,
    log: &Path,
) -> Process {
    let settings = settings.into_iter().map(|(key, value)| {
        let name = key.as_ref().replace('.', "__").to_uppercase();
        OsString::from(format!("WAYBILL_{name}={}", value.as_ref()))
    });
    // `env` becomes the program, so the pid stays.
    let own = [program.into()].into_iter().chain(args.iter().map(OsString::from));
    Process::start(Launch {
        program: "/usr/bin/env".into(),
        args: settings.chain(own).collect(),
        output: File::create(log).expect("a log file"),
    })
    .expect("the program starts")
}

/// Whether `/readyz` answers 200 there.
pub async fn is_ready(client: &reqwest::Client, address: &str) -> bool {
    let answer = client.get(format!("http://{address}/readyz")).send().await;
    answer.is_ok_and(|answer| answer.status().as_u16() == 200)
}

/// Waits until the server there is ready; fails with the log if it ends before.
pub async fn until_ready(process: &mut Process, address: &str, log: &Path) {
    let client = http();
    until("the server is ready", async || {
        assert_runs(process, log);
        is_ready(&client, address).await
    })
    .await;
}

/// It has not ended.
pub fn assert_runs(process: &mut Process, log: &Path) {
    let ended = process.try_wait().expect("a child");
    assert!(ended.is_none(), "the server ended: {}", read(log));
}

/// Where a server listens.
#[derive(Debug, Clone, Copy)]
pub struct Addresses {
    /// gRPC.
    pub grpc: SocketAddr,
    /// `/readyz` and `/metrics`.
    pub http: SocketAddr,
    /// The payment provider's webhooks, where they are received.
    pub webhooks: Option<SocketAddr>,
    /// The listener for browsers, where there is one.
    pub web: Option<SocketAddr>,
}

/// Where a server listens by its log: gRPC and HTTP.
pub fn addresses(log: &str) -> Option<Addresses> {
    let mut lines = log
        .lines()
        .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
    let line = lines.find(|line| line["fields"]["message"] == "waybill serves")?;
    let address = |name: &str| line["fields"][name].as_str()?.parse().ok();
    Some(Addresses {
        grpc: address("grpc")?,
        http: address("http")?,
        webhooks: address("webhooks"),
        web: address("web"),
    })
}

/// What is in a log so far.
pub fn read(log: &Path) -> String {
    fs::read_to_string(log).unwrap_or_default()
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

impl Ended {
    /// The lines of standard error, but for those that say how far it was: one every few seconds, where it took so long.
    pub fn errors(&self) -> Vec<&str> {
        self.stderr.lines().filter(|line| !line.contains(" s | ")).collect()
    }
}

/// Runs `waybill ARGS` with these variables, and none of our own that mean something to it, to its end.
pub async fn waybill(args: &[&str], variables: &[(&str, &str)]) -> Ended {
    const OURS: [&str; 6] = [
        "DATABASE_URL",
        "REDIS_URL",
        "PAYMENTS_URL",
        "PAYMENTS_SECRET_KEY",
        "GRPC_ADDR",
        "SERVICE_TOKEN",
    ];
    let mut command = tokio::process::Command::new(program());
    command.args(args).stdin(Stdio::null()).kill_on_drop(true);
    for (name, _) in std::env::vars_os() {
        let name = name.to_string_lossy().into_owned();
        if OURS.contains(&name.as_str()) || (name.starts_with("WAYBILL_") && !name.starts_with("WAYBILL_SANDBOX_")) {
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
