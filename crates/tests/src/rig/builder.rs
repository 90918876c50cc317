//! What is different about the rig of a test.

use std::net::SocketAddr;

use waybill_sandbox::payments::Provider;

use super::{Proxies, Rig, SECRET_KEY, Server};
use crate::fault_line::through;
use crate::process::Flags;
use crate::redis_cluster::RedisCluster;
use crate::stores::{self, Stores};

/// Builds a [`Rig`].
pub struct Builder {
    flags: Flags,
    private_stores: bool,
    servers: usize,
    through_proxy: ThroughProxy,
    redis_cluster: Option<String>,
}

#[derive(Default)]
struct ThroughProxy {
    payments: bool,
    postgres: bool,
    redis: bool,
}

impl Default for Builder {
    fn default() -> Builder {
        Builder {
            flags: test_settings(),
            private_stores: false,
            servers: 1,
            through_proxy: ThroughProxy::default(),
            redis_cluster: None,
        }
    }
}

/// What every test server is set to. The times of the stores are longer than in production: many tests share two cores.
fn test_settings() -> Flags {
    Flags::from([
        ("grpc.addr", "127.0.0.1:0".to_owned()),
        ("http.addr", "127.0.0.1:0".to_owned()),
        ("webhooks.addr", "127.0.0.1:0".to_owned()),
        ("web.addr", "127.0.0.1:0".to_owned()),
        ("grpc.reflection", "false".to_owned()),
        ("auth.anonymous", "true".to_owned()),
        ("payments.secret_key", SECRET_KEY.to_owned()),
        ("payments.rate_per_second", "10000".to_owned()),
        ("payments.connect_timeout", "5s".to_owned()),
        ("postgres.pool_max", "6".to_owned()),
        ("postgres.acquire_timeout", "2s".to_owned()),
        ("redis.connect_timeout", "1s".to_owned()),
        ("redis.command_timeout", "2s".to_owned()),
        // A hundred orders of one user in a burst are what a test is made of; the limits have tests of their own.
        ("limits.orders_per_user.burst", "1000".to_owned()),
        ("limits.completions_per_caller.burst", "1000".to_owned()),
        ("limits.fixes_per_driver.burst", "10000".to_owned()),
        ("limits.reads_per_caller.burst", "10000".to_owned()),
        ("limits.wait_max", "1s".to_owned()),
        ("drain.unready", "0s".to_owned()),
    ])
}

impl Builder {
    /// A setting, as on the command line: `.set("orders.assignment_window", "1s")`.
    #[must_use]
    pub fn set(mut self, key: &'static str, value: &str) -> Builder {
        self.flags.insert(key, value.to_owned());
        self
    }

    /// Settings, parted by spaces: `.with("orders.lease=2s orders.assignment_window=1s")`.
    #[must_use]
    pub fn with(mut self, settings: &'static str) -> Builder {
        let settings = settings.split(' ').map(|one| one.split_once('=').expect("key=value"));
        self.flags.extend(settings.map(|(key, value)| (key, value.to_owned())));
        self
    }

    /// Short times for the payment provider: a fault costs an attempt, and the next try comes about a second later.
    #[must_use]
    pub fn impatient(self) -> Builder {
        self.with("payments.attempt_timeout=500ms payments.total_timeout=2s")
            .with("orders.sweep_interval=100ms grpc.deadline_default=30s")
    }

    /// A Postgres and a Redis of this test alone, which may be killed, paused and restarted.
    #[must_use]
    pub fn private_stores(mut self) -> Builder {
        self.private_stores = true;
        self
    }

    /// On this Redis Cluster, with eight shards.
    #[must_use]
    pub fn redis_cluster(mut self, cluster: &RedisCluster) -> Builder {
        self.redis_cluster = Some(cluster.urls());
        self.with("redis.cluster=true redis.shards=8")
    }

    /// So many servers on the same stores. One, if nothing is said.
    #[must_use]
    pub fn servers(mut self, count: usize) -> Builder {
        self.servers = count;
        self
    }

    /// Stores and a provider only: the test starts the program itself.
    #[must_use]
    pub fn no_server(self) -> Builder {
        self.servers(0)
    }

    /// A fault proxy between servers and payment provider.
    #[must_use]
    pub fn payments_through_proxy(mut self) -> Builder {
        self.through_proxy.payments = true;
        self
    }

    /// A fault proxy between servers and Postgres.
    #[must_use]
    pub fn postgres_through_proxy(mut self) -> Builder {
        self.through_proxy.postgres = true;
        self
    }

    /// A fault proxy between servers and Redis.
    #[must_use]
    pub fn redis_through_proxy(mut self) -> Builder {
        self.through_proxy.redis = true;
        self
    }

    /// Starts it; when this returns the servers answer calls.
    pub async fn start(self) -> Rig {
        let folder = stores::folder(stores::FOLDER);
        let stores = if self.private_stores {
            Stores::private(folder.path()).await
        } else {
            Stores::shared().await
        };
        let stores = match self.redis_cluster {
            Some(urls) => stores.with_redis(urls),
            None => stores,
        };
        let ledger = folder.path().join("payments.jsonl");
        let payments = Provider::start(SocketAddr::from(([127, 0, 0, 1], 0)), &ledger)
            .await
            .expect("the payment provider starts");

        let mut flags = self.flags;
        let asked = self.through_proxy;
        let mut line = |key, url: String, asked: bool| {
            let (url, proxy) = if asked {
                let (url, proxy) = through(&url);
                (url, Some(proxy))
            } else {
                (url, None)
            };
            flags.insert(key, url);
            proxy
        };
        let proxies = Proxies {
            payments: line("payments.url", payments.url(), asked.payments),
            postgres: line("postgres.url", stores.postgres_url(), asked.postgres),
            redis: line("redis.url", stores.redis_url(), asked.redis),
        };
        let mut servers = Vec::new();
        for _ in 0..self.servers {
            servers.push(Server::start(&flags).await);
        }
        Rig {
            flags,
            servers,
            proxies,
            payments,
            stores,
            folder,
        }
    }
}
