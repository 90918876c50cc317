//! Waybill as production runs it: `waybill serve`, a process of its own, on a database of its own.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use testkit::benchmark::process_cost::ProcessCost;
use testkit::benchmark::settings::SETTINGS;
use testkit::process::{is_ready, launch, program, read, until_ready};
use testkit::until;
use testkit::wire::http;
use tonic::transport::{Channel, Endpoint};
use waybill_sandbox::port;
use waybill_sandbox::process::{Process, Signal};

use crate::world::World;

/// Far more than an end takes.
const PATIENCE: Duration = Duration::from_mins(1);

/// A server. Dropped, it is killed.
pub struct Server {
    process: Process,
    log: PathBuf,
    grpc: String,
    http: String,
    /// The name of its database.
    pub database: String,
    /// The number of its database in Redis.
    pub redis: u16,
}

/// See [`Server::looks`].
pub struct Looks {
    client: reqwest::Client,
    address: String,
}

impl Looks {
    /// Whether it is ready now.
    pub async fn is_ready(&self) -> bool {
        is_ready(&self.client, &self.address).await
    }
}

impl Server {
    /// Migrates the database and serves from it; when this returns, `/readyz` answers 200.
    pub async fn start(world: &World, database: &str, redis: u16) -> Server {
        Server::start_with(world, database, redis, &[]).await
    }

    /// The same, with these settings too.
    pub async fn start_with(world: &World, database: &str, redis: u16, more: &[(&'static str, &str)]) -> Server {
        Server::start_on(world, (database, redis), more, None).await
    }

    /// The same, on this core alone.
    pub async fn start_on(
        world: &World,
        (database, redis): (&str, u16),
        more: &[(&'static str, &str)],
        core: Option<&str>,
    ) -> Server {
        let program = program();
        migrate(world, &program, database).await;
        let settings: Vec<_> = SETTINGS.iter().chain(more).copied().collect();
        let pinned = core.map(|core| vec!["/usr/bin/taskset".into(), "-c".into(), core.into()]);
        let command = pinned.into_iter().flatten().chain([program.into_os_string()]);
        Server::run(world, command.collect(), (database, redis), &settings).await
    }

    /// A server of this program, which may be another version, on a database that is there, with these settings alone.
    pub async fn start_of(
        world: &World,
        program: &Path,
        stores: (&str, u16),
        settings: &[(&'static str, &str)],
    ) -> Server {
        Server::run(world, vec![program.into()], stores, settings).await
    }

    async fn run(
        world: &World,
        command: Vec<OsString>,
        (database, redis): (&str, u16),
        settings: &[(&'static str, &str)],
    ) -> Server {
        let mut all = vec![
            ("postgres.url", world.create_database(database).await),
            ("redis.url", world.redis_url(redis)),
            ("payments.url", world.payments_url()),
            ("payments.secret_key", "sk_test_sandbox".to_owned()),
        ];
        all.extend(settings.iter().map(|(key, value)| (*key, (*value).to_owned())));
        let addr = || format!("127.0.0.1:{}", port::free());
        let (grpc, http) = (addr(), addr());
        let log = world.path("server.log");
        let serve = [
            "serve",
            "--grpc-addr",
            &grpc,
            "--http-addr",
            &http,
            "--web-addr",
            "127.0.0.1:0",
        ];
        let (program, before) = command.split_first().unwrap();
        let before = before.iter().map(|arg| arg.to_str().unwrap());
        let args: Vec<&str> = before.chain(serve).collect();
        let mut process = launch(Path::new(program), &args, all, &log);
        until_ready(&mut process, &http, &log).await;
        Server {
            process,
            log,
            grpc,
            http,
            database: database.to_owned(),
            redis,
        }
    }

    /// Who asks whether it is ready, also once it is ended.
    pub fn looks(&self) -> Looks {
        Looks {
            client: http(),
            address: self.http.clone(),
        }
    }

    /// Waits until it is ready.
    pub async fn until_ready(&self) {
        let looks = self.looks();
        until("the server is ready again", async || looks.is_ready().await).await;
    }

    /// What it counted so far.
    pub async fn metrics(&self) -> serde_json::Value {
        let answer = http().get(format!("http://{}/metrics", self.http)).send().await;
        serde_json::from_str(&answer.unwrap().text().await.unwrap()).unwrap()
    }

    /// Where it serves gRPC, as `host:port`.
    pub fn address(&self) -> &str {
        &self.grpc
    }

    /// The same, for clients without TLS.
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

    /// Ends it, whatever it had to warn of.
    pub async fn stop_after_trouble(mut self) {
        let ended = self.process.stop(Signal::SIGTERM, PATIENCE).await.unwrap();
        assert!(ended.success(), "the server ended with {ended}: {}", read(&self.log));
    }

    /// Ends it. It must have had nothing to warn of: a benchmark of a server in trouble is none.
    pub async fn stop(mut self) {
        let ended = self.process.stop(Signal::SIGTERM, PATIENCE).await.unwrap();
        let log = read(&self.log);
        assert!(ended.success(), "the server ended with {ended}: {log}");
        assert!(log.trim().is_empty(), "the server warned: {log}");
    }
}

/// Makes the database, if it is not there, and brings its schema to the version of this program.
pub async fn migrate(world: &World, program: &Path, database: &str) {
    let stores = [("postgres.url", world.create_database(database).await)];
    let log = world.path("migrate.log");
    let ended = launch(program, &["migrate"], stores, &log).wait().await.unwrap();
    assert!(ended.success(), "{}", read(&log));
}
