//! The world of a run: three servers behind a balancer, a Postgres, a Redis and a payment provider of their own, and a
//! fault proxy on every edge between any two of them.

use std::path::Path;
use std::sync::Arc;

use tempfile::TempDir;
use testkit::fault_line::through;
use testkit::load::balancer::Balancer;
use testkit::load::calls::patient_channel;
use testkit::load::ledger_view;
use testkit::load::server_slot::ServerSlot;
use testkit::load::tokens::Tokens;
use testkit::process::{Flags, launch};
use testkit::sql::connect;
use testkit::stores;
use tonic::transport::Channel;
use waybill_sandbox::Postgres;
use waybill_sandbox::Redis;
use waybill_sandbox::proxy::FaultProxy;

use crate::plan::Plan;
use crate::provider::PaymentProvider;

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
    pub slots: Vec<ServerSlot>,
    /// The database.
    pub postgres: Postgres,
    /// The cache and the stream.
    pub redis: Redis,
    /// The payment provider.
    pub provider: Arc<PaymentProvider>,
    /// All lines.
    pub lines: Arc<Vec<Line>>,
    /// How clients come in.
    pub gates: Vec<Channel>,
    /// What they show.
    pub tokens: Arc<Tokens>,
    /// `http://` URL by which the provider's events come in.
    pub webhooks: String,
    /// The settings of an observer: past all proxies.
    pub observer: Flags,
    /// Logs, data and the ledger.
    pub folder: TempDir,
    _balancers: [Balancer; 2],
}

impl World {
    /// Starts it all but the servers.
    pub async fn start(plan: &Plan) -> World {
        let folder = stores::folder("waybill-torture-");
        // Processes are killed here, not machines: Postgres need not survive the loss of power. What Redis
        // acknowledges must survive its own death.
        let ((postgres, redis), provider) = tokio::join!(
            stores::start(folder.path(), false),
            PaymentProvider::start(folder.path().join("payments.jsonl")),
        );
        postgres.create_database(DATABASE).await.expect("a database");
        let tokens = Tokens::new(folder.path());
        let mut observer = plan.flags.clone();
        observer.extend([
            ("postgres.url", postgres.url(DATABASE)),
            ("redis.url", redis.url()),
            ("payments.url", provider.url()),
            ("postgres.acquire_timeout", "5s".to_owned()),
        ]);
        run_migrations(plan, &observer, folder.path()).await;
        let sql = connect(&observer["postgres.url"]).await.expect("Postgres answers");
        ledger_view::watch_fences(&sql).await.expect("the watch stands");

        let mut lines = Vec::new();
        let mut slots = Vec::new();
        for number in 0..SERVERS {
            let mut flags = plan.flags.clone();
            flags.insert("auth.keys", tokens.keys.display().to_string());
            for (to, key) in [
                (To::Postgres, "postgres.url"),
                (To::Redis, "redis.url"),
                (To::Provider, "payments.url"),
            ] {
                flags.insert(key, line_to(to, &observer[key], &mut lines));
            }
            slots.push(ServerSlot::new(number, folder.path(), &plan.program, flags));
        }
        let balancer = Balancer::start(slots.iter().map(|slot| slot.backend.clone()).collect()).await;
        let gates = (0..GATES)
            .map(|_| line_to(To::Servers, &format!("http://{}", balancer.addr()), &mut lines))
            .map(|url| patient_channel(&url))
            .collect();
        let for_events = Balancer::start(slots.iter().map(|slot| slot.webhook_backend.clone()).collect()).await;
        let webhooks = line_to(To::Webhooks, &format!("http://{}", for_events.addr()), &mut lines);
        let webhooks = format!("{webhooks}/webhooks/payments");
        provider.send_events_to(&webhooks);
        World {
            slots,
            postgres,
            redis,
            provider: Arc::new(provider),
            lines: Arc::new(lines),
            gates,
            tokens: Arc::new(tokens),
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

/// By the program under test: its schema is a part of it.
async fn run_migrations(plan: &Plan, observer: &Flags, folder: &Path) {
    let args = ["migrate", "--database-url", &observer["postgres.url"]];
    let none = [("", ""); 0];
    let mut process = launch(&plan.program, &args, none, &folder.join("migrate.txt"));
    let status = process.wait().await.expect("a child");
    assert!(status.success(), "the migrations run: {status}");
}

/// A proxy before the address of this URL; the URL through it.
fn line_to(to: To, url: &str, lines: &mut Vec<Line>) -> String {
    let (through, proxy) = through(url);
    lines.push(Line { to, proxy });
    through
}
