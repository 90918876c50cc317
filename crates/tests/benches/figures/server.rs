//! Waybill as production runs it: `waybill serve`, a process of its own, on a database of its own.

use std::ffi::OsString;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use tonic::transport::{Channel, Endpoint};
use waybill_sandbox::port;
use waybill_sandbox::process::{Launch, Process, Signal};

use crate::process_cost::ProcessCost;
use crate::world::World;

/// The program, built from the same sources by the same cargo.
pub const PROGRAM: &str = env!("CARGO_BIN_EXE_waybill-under-test");
/// Far more than a start or an end takes.
const PATIENCE: Duration = Duration::from_mins(1);
const POLL: Duration = Duration::from_millis(10);

/// What differs from `config/waybill.toml`. Limits of callers are lifted, for it is not they that are measured; and Redis
/// may take as long as a machine that all share makes it take.
pub const SETTINGS: &[(&str, &str)] = &[
    ("limits.orders_per_user.per_second", "1000000"),
    ("limits.orders_per_user.burst", "1000000"),
    ("limits.orders_in_all.per_second", "1000000"),
    ("limits.orders_in_all.burst", "1000000"),
    ("limits.reads_per_caller.per_second", "1000000"),
    ("limits.reads_per_caller.burst", "1000000"),
    ("limits.reads_in_all.per_second", "1000000"),
    ("limits.reads_in_all.burst", "1000000"),
    ("limits.fixes_per_driver.per_second", "1000000"),
    ("limits.fixes_per_driver.burst", "1000000"),
    ("limits.fixes_in_all.per_second", "10000000"),
    ("limits.fixes_in_all.burst", "10000000"),
    ("payments.in_flight_max", "1024"),
    ("payments.rate_per_second", "1000000"),
    ("redis.command_timeout", "2s"),
    ("drain.unready", "0s"),
    ("log.filter", "warn"),
];

/// A server. Dropped, it is killed.
pub struct Server {
    process: Process,
    log: PathBuf,
    grpc: String,
    /// The name of its database.
    pub database: String,
    /// The number of its database in Redis.
    pub redis: u16,
}

impl Server {
    /// Migrates the database and serves from it; when this returns, `/readyz` answers 200.
    pub async fn start(world: &World, database: &str, redis: u16) -> Server {
        Server::start_with(world, database, redis, &[]).await
    }

    /// The same, with these settings too.
    pub async fn start_with(world: &World, database: &str, redis: u16, more: &[(&'static str, &str)]) -> Server {
        migrate(world, database).await;
        let mut stores = vec![
            ("postgres.url", world.create_database(database).await),
            ("redis.url", world.redis_url(redis)),
            ("payments.url", world.payments_url()),
            ("payments.secret_key", "sk_test_sandbox".to_owned()),
        ];
        stores.extend(more.iter().map(|(key, value)| (*key, (*value).to_owned())));

        let addr = || format!("127.0.0.1:{}", port::free());
        let (grpc, http) = (addr(), addr());
        let log = world.path("server.log");
        let args = ["serve", "--grpc-addr", &grpc, "--http-addr", &http];
        let mut process = run(&log, &args, &stores);
        let deadline = Instant::now() + PATIENCE;
        loop {
            let ended = process.try_wait().unwrap();
            assert!(
                ended.is_none() && Instant::now() < deadline,
                "the server does not serve: {}",
                fs::read_to_string(&log).unwrap_or_default()
            );
            if let Ok(answer) = reqwest::get(format!("http://{http}/readyz")).await
                && answer.status().as_u16() == 200
            {
                break;
            }
            tokio::time::sleep(POLL).await;
        }
        Server {
            process,
            log,
            grpc,
            database: database.to_owned(),
            redis,
        }
    }

    /// Where it serves gRPC.
    pub fn endpoint(&self) -> Endpoint {
        Endpoint::from_shared(format!("http://{}", self.grpc)).unwrap()
    }

    /// A connection of its own.
    pub fn channel(&self) -> Channel {
        self.endpoint().connect_lazy()
    }

    /// What it used so far.
    pub fn cost(&self) -> ProcessCost {
        ProcessCost::of(self.process.pid().as_raw())
    }

    /// Ends it. It must have had nothing to warn of: a figure of a server in trouble is none.
    pub async fn stop(mut self) {
        let ended = self.process.stop(Signal::SIGTERM, PATIENCE).await.unwrap();
        let log = fs::read_to_string(&self.log).unwrap_or_default();
        assert!(ended.success(), "the server ended with {ended}: {log}");
        assert!(log.trim().is_empty(), "the server warned: {log}");
    }
}

/// Makes the database, if it is not there, and brings its schema to this version.
pub async fn migrate(world: &World, database: &str) {
    let stores = [("postgres.url", world.create_database(database).await)];
    let log = world.path("migrate.log");
    let ended = run(&log, &["migrate"], &stores).wait().await.unwrap();
    assert!(ended.success(), "{}", fs::read_to_string(&log).unwrap_or_default());
}

fn run(log: &Path, args: &[&str], stores: &[(&str, String)]) -> Process {
    let variable = |key: &str, value: &str| -> OsString {
        format!("WAYBILL_{}={value}", key.replace('.', "__").to_uppercase()).into()
    };
    // `env` becomes the program, so the pid stays.
    let mut all: Vec<OsString> = SETTINGS.iter().map(|(key, value)| variable(key, value)).collect();
    all.extend(stores.iter().map(|(key, value)| variable(key, value)));
    all.push(PROGRAM.into());
    all.extend(args.iter().map(Into::into));
    Process::start(Launch {
        program: "/usr/bin/env".into(),
        args: all,
        output: File::create(log).unwrap(),
    })
    .unwrap()
}
