//! `waybill dev` as a process of its own, and a session of ours on its database.

use std::collections::HashMap;
use std::fs::{self, File, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use tempfile::TempDir;
use tokio_postgres::{Client, NoTls};
use tonic::transport::{Channel, Endpoint};
use waybill_sandbox::process::{Launch, Process, Signal};

/// Far more than a start takes.
const PATIENCE: Duration = Duration::from_mins(1);

/// The limits of callers are lifted, for it is not they that are measured; fixes stay fresh, for nobody drives.
const SETTINGS: &[(&str, &str)] = &[
    ("WAYBILL_LIMITS__ORDERS_IN_ALL__PER_SECOND", "1000000"),
    ("WAYBILL_LIMITS__ORDERS_IN_ALL__BURST", "1000000"),
    ("WAYBILL_LOCATIONS__TTL", "1h"),
    ("WAYBILL_PAYMENTS__IN_FLIGHT_MAX", "1024"),
    ("WAYBILL_LOG__FILTER", "warn"),
];

/// The private world.
pub struct World {
    process: Process,
    folder: TempDir,
    variables: HashMap<String, String>,
    /// A session of ours.
    pub sql: Client,
}

impl World {
    /// Starts it; when this returns it answers calls.
    pub async fn start() -> World {
        let folder = tempfile::Builder::new()
            .prefix("waybill-bench-")
            // The unprivileged user of Postgres has to get in.
            .permissions(Permissions::from_mode(0o755))
            .tempdir()
            .unwrap();
        let log = folder.path().join("dev.log");
        let mut args: Vec<_> = SETTINGS
            .iter()
            .map(|(key, value)| format!("{key}={value}").into())
            .collect();
        let program = env!("CARGO_BIN_EXE_waybill-under-test");
        args.extend(
            [
                program,
                "dev",
                "--grpc-addr",
                "127.0.0.1:0",
                "--http-addr",
                "127.0.0.1:0",
            ]
            .map(Into::into),
        );
        args.extend(["--data-dir".into(), folder.path().into()]);
        let process = Process::start(Launch {
            program: "/usr/bin/env".into(),
            args,
            output: File::create(&log).unwrap(),
            run_as: None,
        });
        let variables = written(&folder.path().join("dev.env"), &log).await;
        let (sql, connection) = tokio_postgres::connect(&variables["DATABASE_URL"], NoTls)
            .await
            .unwrap();
        tokio_util::task::TaskTracker::new().spawn(connection);
        World {
            process: process.unwrap(),
            folder,
            variables,
            sql,
        }
    }

    /// A connection to the server.
    pub fn channel(&self) -> Channel {
        let endpoint = Endpoint::from_shared(format!("http://{}", self.variables["GRPC_ADDR"])).unwrap();
        endpoint.connect_lazy()
    }

    /// `postgres://` URL of the database.
    pub fn database_url(&self) -> &str {
        &self.variables["DATABASE_URL"]
    }

    /// What Postgres has logged so far.
    pub fn postgres_log(&self) -> String {
        fs::read_to_string(self.folder.path().join("postgres/log")).unwrap()
    }

    /// Where the script of pgbench is.
    pub fn script(&self) -> PathBuf {
        self.folder.path().join("order.sql")
    }

    /// Commits in the database so far, as Postgres counts them.
    pub async fn commits(&self) -> i64 {
        let count = "select xact_commit from pg_stat_database where datname = current_database()";
        self.sql.query_one(count, &[]).await.unwrap().get(0)
    }

    /// Ends it.
    pub async fn stop(mut self) {
        let ended = self.process.stop(Signal::SIGINT, PATIENCE).await.unwrap();
        assert!(ended.success(), "{ended}");
    }
}

/// What `waybill dev` writes for other programs once it is ready.
async fn written(env: &Path, log: &Path) -> HashMap<String, String> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Ok(text) = fs::read_to_string(env) {
            let lines = text.lines().map(|line| line.split_once('=').expect("KEY=VALUE"));
            return lines.map(|(key, value)| (key.to_owned(), value.to_owned())).collect();
        }
        assert!(
            Instant::now() < deadline,
            "{}",
            fs::read_to_string(log).unwrap_or_default()
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
