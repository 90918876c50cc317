//! A whole private Waybill for one test: stores, payment provider, servers, and clients of all of them.
//!
//! `Rig::start().await` is one server with the settings of [`builder`]; [`Rig::builder`] has the rest. Nothing sleeps:
//! a test waits with [`crate::until()`], which asks for a condition until it holds and reports the last state when it
//! does not.

pub mod account;
mod builder;
mod clients;
pub mod history;
mod judge;
mod provider;

use std::path::Path;

use tonic::transport::Channel;
use waybill_sandbox::payments::Provider;
use waybill_sandbox::proxy::FaultProxy;
use waybill_server::app::{App, Drained};
use waybill_server::config::Config;

pub use self::builder::Builder;

use crate::process::{Flags, config};
use crate::stores::Stores;
use crate::wire::channel;

/// The secret key that the simulated provider takes.
pub const SECRET_KEY: &str = "sk_test_end_to_end";

/// One test's world.
pub struct Rig {
    /// The settings of a server, through the proxies.
    flags: Flags,
    servers: Vec<Server>,
    proxies: Proxies,
    payments: Provider,
    stores: Stores,
    folder: tempfile::TempDir,
}

/// The proxies that the builder was asked for.
#[derive(Default)]
struct Proxies {
    payments: Option<FaultProxy>,
    postgres: Option<FaultProxy>,
    redis: Option<FaultProxy>,
}

/// A server in this process.
struct Server {
    app: App,
    channel: Channel,
}

impl Server {
    async fn start(flags: &Flags) -> Server {
        let app = App::start(config(flags)).await.expect("the server starts");
        let channel = channel(&app.grpc_addr().to_string());
        Server { app, channel }
    }
}

impl Rig {
    /// One server, its own stores within the shared ones.
    pub async fn start() -> Rig {
        Rig::builder().start().await
    }

    /// One server with these settings over those of all tests, parted by spaces: see [`Builder::with`].
    pub async fn with(settings: &'static str) -> Rig {
        Rig::builder().with(settings).start().await
    }

    /// A rig that is to be different.
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// The private stores, to be killed, paused and restarted. Only with [`Builder::private_stores`].
    pub fn stores(&mut self) -> &mut Stores {
        &mut self.stores
    }

    /// The line to the payment provider. Only with [`Builder::payments_through_proxy`].
    pub fn payments_line(&self) -> &FaultProxy {
        self.proxies.payments.as_ref().expect("payments_through_proxy()")
    }

    /// The line to Postgres. Only with [`Builder::postgres_through_proxy`].
    pub fn postgres_line(&self) -> &FaultProxy {
        self.proxies.postgres.as_ref().expect("postgres_through_proxy()")
    }

    /// The line to Redis. Only with [`Builder::redis_through_proxy`].
    pub fn redis_line(&self) -> &FaultProxy {
        self.proxies.redis.as_ref().expect("redis_through_proxy()")
    }

    /// The settings of the servers, by `section.key`.
    pub fn flags(&self) -> &Flags {
        &self.flags
    }

    /// The settings of a server of this rig.
    pub fn config(&self) -> Config {
        config(&self.flags)
    }

    /// The same without the proxies: what a test sees for itself does not pass through the faults.
    pub fn config_past_proxies(&self) -> Config {
        let mut flags = self.flags.clone();
        flags.insert("postgres.url", self.stores.postgres_url());
        flags.insert("redis.url", self.stores.redis_url());
        flags.insert("payments.url", self.payments.url());
        config(&flags)
    }

    /// A folder of this test alone.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Drains the first server, and starts another in its place, on another port.
    pub async fn restart_server(&mut self) {
        let server = self.servers.remove(0);
        assert_eq!(server.app.shut_down().await, Drained::Clean);
        let server = Server::start(&self.flags).await;
        self.servers.insert(0, server);
    }

    /// Drains one of several servers, counted from 0; those after it move up.
    pub async fn shut_down(&mut self, server: usize) {
        let server = self.servers.remove(server);
        assert_eq!(server.app.shut_down().await, Drained::Clean);
    }

    /// Drains all servers.
    pub async fn stop_servers(&mut self) {
        for server in self.servers.drain(..) {
            assert_eq!(server.app.shut_down().await, Drained::Clean);
        }
    }
}
