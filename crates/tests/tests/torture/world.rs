//! The world of a run: three servers behind a balancer, a Postgres, a Redis and a payment provider of their own, and a
//! fault proxy on every edge between any two of them.

use std::fs::{File, Permissions};
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tempfile::TempDir;
use tokio::time::Instant;
use tonic::transport::Channel;
use waybill_sandbox::Redis;
use waybill_sandbox::payments::{Fault, FaultKind, Movement, Provider, WebhookBehaviour, WebhookEndpoint};
use waybill_sandbox::port;
use waybill_sandbox::process::{Launch, Process};
use waybill_sandbox::proxy::FaultProxy;
use waybill_sandbox::{Postgres, ServerSettings};
use waybill_server::config::Config;

use crate::balancer::Balancer;
use crate::books;
use crate::chance::pass;
use crate::findings::lock;
use crate::plan::{Flags, Plan};
use crate::seat::Seat;

/// Of the provider's signatures.
pub const WEBHOOK_SECRET: &str = "whsec_torture";

const SERVERS: usize = 3;
/// Ways for clients to come in, each with a line of its own.
const GATES: usize = 6;
const DATABASE: &str = "waybill";

/// A line that can be spoiled.
pub struct Line {
    /// What is at its end.
    pub to: To,
    /// What spoils it.
    pub proxy: FaultProxy,
}

/// What is at the end of a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum To {
    /// The balancer, from a client.
    Servers,
    /// From a server.
    Postgres,
    /// From a server.
    Redis,
    /// From a server.
    Provider,
    /// The servers, from the provider.
    Webhooks,
}

/// Everything that runs.
pub struct World {
    /// The servers.
    pub seats: Vec<Seat>,
    /// The database.
    pub postgres: Postgres,
    /// The cache and the stream.
    pub redis: Redis,
    /// The payment provider.
    pub cashier: Arc<Cashier>,
    /// All lines.
    pub lines: Arc<Vec<Line>>,
    /// How clients come in.
    pub gates: Vec<Channel>,
    /// `http://` URL by which the provider's events come in.
    pub webhooks: String,
    /// What an observer is told: past all proxies.
    pub observer: Flags,
    /// Logs, data and the ledger.
    pub folder: TempDir,
    _balancers: [Balancer; 2],
}

impl World {
    /// Starts it all but the servers.
    pub async fn start(plan: &Plan) -> World {
        let folder = tempfile::Builder::new()
            .prefix("waybill-torture-")
            .permissions(Permissions::from_mode(0o755))
            .tempdir()
            .expect("a folder");
        // Processes are killed here, not machines: Postgres need not survive the loss of power. What Redis
        // acknowledges must survive its own death.
        let (postgres, redis, cashier) = tokio::join!(
            Postgres::start(ServerSettings {
                data_dir: folder.path().join("postgres"),
                durable: false,
            }),
            Redis::start(ServerSettings {
                data_dir: folder.path().join("redis"),
                durable: true,
            }),
            Cashier::start(folder.path().join("payments.jsonl")),
        );
        let (postgres, redis) = (postgres.expect("Postgres starts"), redis.expect("Redis starts"));
        postgres.create_database(DATABASE).await.expect("a database");
        let mut observer = plan.flags.clone();
        observer.extend([
            ("postgres.url", postgres.url(DATABASE)),
            ("redis.url", redis.url()),
            ("payments.url", format!("http://{}", cashier.addr)),
            ("postgres.acquire_timeout", "5s".to_owned()),
        ]);
        run_migrations(plan, &observer, folder.path()).await;
        let sql = books::connect(&observer["postgres.url"])
            .await
            .expect("Postgres answers");
        books::watch_fences(&sql).await.expect("the watch stands");

        let mut lines = Vec::new();
        let mut seats = Vec::new();
        for number in 0..SERVERS {
            let mut flags = plan.flags.clone();
            for (to, key) in [
                (To::Postgres, "postgres.url"),
                (To::Redis, "redis.url"),
                (To::Provider, "payments.url"),
            ] {
                flags.insert(key, line_to(to, &observer[key], &mut lines));
            }
            seats.push(Seat::new(number, folder.path(), &plan.program, flags));
        }
        let balancer = Balancer::start(seats.iter().map(|seat| seat.backend.clone()).collect()).await;
        let gates = (0..GATES)
            .map(|_| line_to(To::Servers, &format!("http://{}", balancer.addr()), &mut lines))
            .map(|url| waybill_simulator::endpoint(&url).expect("an address").connect_lazy())
            .collect();
        let for_events = Balancer::start(seats.iter().map(|seat| seat.http_backend.clone()).collect()).await;
        let webhooks = line_to(To::Webhooks, &format!("http://{}", for_events.addr()), &mut lines);
        let webhooks = format!("{webhooks}/webhooks/payments");
        cashier.tell(&webhooks);
        World {
            seats,
            postgres,
            redis,
            cashier: Arc::new(cashier),
            lines: Arc::new(lines),
            gates,
            webhooks,
            observer,
            folder,
            _balancers: [balancer, for_events],
        }
    }

    /// `postgres://` URL past all proxies.
    pub fn database(&self) -> String {
        self.observer["postgres.url"].clone()
    }

    /// How many commits were cut off from their answer.
    pub fn commits_cut(&self) -> u64 {
        let lines = self.lines.iter().filter(|line| line.to == To::Postgres);
        lines.map(|line| line.proxy.traffic().cuts).sum()
    }
}

/// By the program that is on the rack: its schema is a part of it.
async fn run_migrations(plan: &Plan, observer: &Flags, folder: &Path) {
    let output = File::create(folder.join("migrate.txt")).expect("a file");
    let launched = Process::start(Launch {
        program: plan.program.clone(),
        args: vec![
            "migrate".into(),
            "--database-url".into(),
            observer["postgres.url"].clone().into(),
        ],
        output,
    });
    let status = launched.expect("the program starts").wait().await.expect("a child");
    assert!(status.success(), "the migrations run: {status}");
}

/// The defaults of the program, with these over them.
pub fn config(flags: &Flags) -> Config {
    Config::load(None, [], flags).expect("the settings of the run")
}

/// A proxy before the address of this URL; the URL through it.
fn line_to(to: To, url: &str, lines: &mut Vec<Line>) -> String {
    let host = url.split(['/', '@']).find(|part| part.starts_with("127.0.0.1:"));
    let target: SocketAddr = host.expect("a local URL").parse().expect("an address");
    let proxy = FaultProxy::start(target).expect("the proxy starts");
    let through = url.replace(&target.to_string(), &proxy.addr().to_string());
    lines.push(Line { to, proxy });
    through
}

/// The payment provider, which can be killed: another takes its place over the same ledger.
pub struct Cashier {
    addr: SocketAddr,
    ledger: PathBuf,
    provider: Mutex<Option<Provider>>,
    /// Where it sends its events.
    webhooks: Mutex<Option<WebhookEndpoint>>,
    /// How many want it silent, whatever its faults are to be.
    silencers: AtomicU64,
}

impl Cashier {
    async fn start(ledger: PathBuf) -> Cashier {
        let cashier = Cashier {
            addr: SocketAddr::from((Ipv4Addr::LOCALHOST, port::free())),
            ledger,
            provider: Mutex::new(None),
            webhooks: Mutex::new(None),
            silencers: AtomicU64::new(0),
        };
        cashier.open().await;
        cashier
    }

    /// Starts it where it was.
    pub async fn open(&self) {
        let until = Instant::now() + Duration::from_secs(20);
        loop {
            match Provider::start(self.addr, &self.ledger).await {
                Ok(provider) => {
                    provider.set_webhooks(lock(&self.webhooks).clone());
                    *lock(&self.provider) = Some(provider);
                    return;
                }
                // Connections of the one before, closed a moment ago.
                Err(error) if Instant::now() > until => panic!("the provider does not start again: {error}"),
                Err(_) => pass(Duration::from_millis(20)).await,
            }
        }
    }

    /// Has it send its events there from now on.
    fn tell(&self, url: &str) {
        let endpoint = WebhookEndpoint::new(url, WEBHOOK_SECRET).expect("a local URL");
        *lock(&self.webhooks) = Some(endpoint.clone());
        if let Some(provider) = &*lock(&self.provider) {
            provider.set_webhooks(Some(endpoint));
        }
    }

    /// How it sends its events from now on.
    pub fn set_webhook_behaviour(&self, behaviour: WebhookBehaviour) {
        if let Some(provider) = &*lock(&self.provider) {
            provider.set_webhook_behaviour(behaviour);
        }
    }

    /// Ends it as a kill would.
    pub async fn close(&self) {
        let provider = lock(&self.provider).take();
        if let Some(provider) = provider {
            provider.stop().await;
        }
    }

    /// These faults from now on, or as soon as nobody wants silence.
    pub fn set_faults(&self, faults: Vec<Fault>) {
        if self.silencers.load(Ordering::Relaxed) == 0
            && let Some(provider) = &*lock(&self.provider)
        {
            provider.set_faults(faults);
        }
    }

    /// From now on it answers hardly anybody.
    pub fn silence(&self) {
        self.silencers.fetch_add(1, Ordering::Relaxed);
        if let Some(provider) = &*lock(&self.provider) {
            provider.set_faults([Fault::always(FaultKind::Hang).with_probability(0.95)]);
        }
    }

    /// One who wanted silence does not any more.
    pub fn speak(&self) {
        if self.silencers.fetch_sub(1, Ordering::Relaxed) == 1 {
            self.set_faults(Vec::new());
        }
    }

    /// It makes no mistakes, and takes so long for each answer.
    pub fn set_slow(&self, answer: Duration) {
        self.set_faults(vec![Fault::always(FaultKind::Latency).delayed(answer)]);
    }

    /// Every movement of money; `None` while it is down.
    pub fn ledger(&self) -> Option<Vec<Movement>> {
        lock(&self.provider).as_ref().map(Provider::ledger)
    }
}
