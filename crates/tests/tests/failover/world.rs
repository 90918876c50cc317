//! What runs beside the store that fails over: servers, the other store, a payment provider and the load.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use testkit::chance::Chance;
use testkit::load::balancer::Balancer;
use testkit::load::calls::patient_channel;
use testkit::load::customers::Load;
use testkit::load::findings::{Findings, Tally};
use testkit::load::history::History;
use testkit::load::server_slot::ServerSlot;
use testkit::load::tokens::Tokens;
use testkit::load::{ledger_view, rides};
use testkit::process::{Flags, config, program};
use testkit::sql::connect;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::transport::Channel;
use waybill_sandbox::payments::Provider;
use waybill_sandbox::tokens::TokenSigner;
use waybill_sandbox::{Postgres, Redis, ServerSettings};
use waybill_server::app::migrate;

use crate::probe::Probe;

/// How long a server has to be ready.
pub const READY_WITHIN: Duration = Duration::from_mins(1);
const ORDERS_PER_SECOND: u64 = 3;
const GATES: usize = 4;
const SECRET_KEY: &str = "sk_test_failover";

/// What each server is set to, beside its stores.
const SETTINGS: &[(&str, &str)] = &[
    ("grpc.addr", "127.0.0.1:0"),
    ("http.addr", "127.0.0.1:0"),
    ("web.addr", "127.0.0.1:0"),
    ("auth.issuer", TokenSigner::ISSUER),
    ("payments.secret_key", SECRET_KEY),
    ("payments.rate_per_second", "1000"),
    ("postgres.pool_max", "8"),
    // Unoptimised servers and all that is on their stores share a few cores.
    ("postgres.acquire_timeout", "1s"),
    ("redis.connect_timeout", "1s"),
    ("redis.command_timeout", "500ms"),
    ("orders.assignment_window", "3s"),
    ("limits.orders_per_user.burst", "1000"),
    ("limits.reads_per_caller.burst", "10000"),
    ("log.format", "json"),
];

/// All of it.
pub struct World {
    /// The settings of a server, and of an observer.
    pub flags: Flags,
    /// The servers.
    pub slots: Vec<ServerSlot>,
    /// What the clients know.
    pub history: Arc<History>,
    /// Broken promises.
    pub findings: Arc<Findings>,
    /// The provider.
    pub provider: Provider,
    /// What callers show.
    pub tokens: Arc<Tokens>,
    tally: Arc<Tally>,
    gates: Vec<Channel>,
    tasks: TaskTracker,
    closing: CancellationToken,
    home: CancellationToken,
    _balancer: Balancer,
    _stores: (Option<Postgres>, Option<Redis>),
}

impl World {
    /// Starts it with these stores of the engine's, and settings over those of here; a store that is not among them is private and does not
    /// fail.
    pub async fn start(stores: Flags, servers: usize, folder: &Path, findings: Arc<Findings>) -> World {
        let ledger = folder.join("payments.jsonl");
        let provider = Provider::start(SocketAddr::from(([127, 0, 0, 1], 0)), &ledger).await;
        let provider = provider.expect("the provider starts");
        let tokens = Tokens::new(folder);
        let mut flags: Flags = SETTINGS
            .iter()
            .map(|(key, value)| (*key, (*value).to_owned()))
            .collect();
        flags.extend([
            ("payments.url", provider.url()),
            ("auth.keys", tokens.keys.display().to_string()),
        ]);
        let (mut postgres, mut redis) = (None, None);
        let settings = |name: &str, durable| ServerSettings {
            data_dir: folder.join(name),
            durable,
        };
        if !stores.contains_key("postgres.url") {
            let own = Postgres::start(settings("postgres", false))
                .await
                .expect("Postgres starts");
            own.create_database("waybill").await.expect("a database");
            flags.insert("postgres.url", own.url("waybill"));
            postgres = Some(own);
        }
        if !stores.contains_key("redis.url") {
            let own = Redis::start(settings("redis", true)).await.expect("Redis starts");
            flags.insert("redis.url", own.url());
            redis = Some(own);
        }
        flags.extend(stores);
        migrate(&config(&flags)).await.expect("the migrations run");
        let sql = connect(&flags["postgres.url"]).await.expect("Postgres answers");
        ledger_view::watch_fences(&sql).await.expect("the watch stands");

        let own = program();
        let slots = (0..servers).map(|number| ServerSlot::new(number, folder, &own, flags.clone()));
        let mut slots: Vec<_> = slots.collect();
        for slot in &mut slots {
            assert!(slot.is_ready_within(READY_WITHIN).await, "{}", slot.log());
        }
        let balancer = Balancer::start(slots.iter().map(|slot| slot.backend.clone()).collect()).await;
        let gate = |_| patient_channel(&format!("http://{}", balancer.addr()));
        World {
            gates: (0..GATES).map(gate).collect(),
            history: Arc::new(History::new(folder, findings.clone())),
            tally: Arc::default(),
            tokens: Arc::new(tokens),
            tasks: TaskTracker::new(),
            closing: CancellationToken::new(),
            home: CancellationToken::new(),
            flags,
            slots,
            findings,
            provider,
            _balancer: balancer,
            _stores: (postgres, redis),
        }
    }

    /// The load begins.
    pub fn begin(&self, chance: &Chance) {
        let load = Load {
            gates: self.gates.clone(),
            tokens: self.tokens.clone(),
            history: self.history.clone(),
            tally: self.tally.clone(),
            closing: self.closing.clone(),
        };
        self.tasks
            .spawn(load.clone().customers(ORDERS_PER_SECOND, chance.of(1)));
        self.tasks.spawn(load.cabs(self.home.clone(), chance.of(2)));
        self.tasks.spawn(rides::end_rides(
            self.flags["postgres.url"].clone(),
            self.gates.clone(),
            self.tokens.clone(),
            self.history.clone(),
            self.home.clone(),
            chance.of(3),
        ));
    }

    /// Who asks whether Waybill serves.
    pub fn probe(&self) -> Probe {
        Probe {
            gates: self.gates.clone(),
            tokens: self.tokens.clone(),
            history: self.history.clone(),
            turn: 0,
        }
    }

    /// No more orders are asked for.
    pub fn close(&self) {
        self.closing.cancel();
    }

    /// The cabs go home; returns when no client calls any more.
    pub async fn end(&self) {
        self.home.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }

    /// How many orders there were.
    pub fn orders(&self) -> u64 {
        self.tally.orders.load(std::sync::atomic::Ordering::Relaxed)
    }
}
