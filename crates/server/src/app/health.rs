//! Who looks after the stores: pings them every second, and tells the gRPC health service, the metrics and whoever
//! asks `/readyz` or `waybill doctor`.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{interval, timeout};
use tokio_util::sync::CancellationToken;
use tonic_health::ServingStatus;
use tonic_health::server::HealthReporter;

use super::Stores;
use crate::admin::{Probe, ProbeOutcome};
use crate::config::{Config, Service};
use crate::egress::payments::PaymentClient;
use crate::metrics::{self, Metrics};
use crate::resilience::{BreakerState, Guard};
use crate::storage::migrations::{SchemaState, schema_state};
use crate::storage::postgres::Postgres;
use crate::storage::redis::{Durability, Redis};

const INTERVAL: Duration = Duration::from_secs(1);
const PING_MAX: Duration = Duration::from_millis(500);

/// Looks after the stores of a process.
#[derive(Clone)]
pub(super) struct Watchman {
    postgres: Postgres,
    redis: Redis,
    postgres_guard: Arc<Guard>,
    redis_guard: Arc<Guard>,
    payments: Arc<PaymentClient>,
    reporter: HealthReporter,
    services: Vec<Service>,
}

impl Watchman {
    pub fn new(
        stores: &Stores,
        payments: Arc<PaymentClient>,
        reporter: HealthReporter,
        services: &[Service],
    ) -> Watchman {
        Watchman {
            postgres: stores.postgres.clone(),
            redis: stores.redis.clone(),
            postgres_guard: Arc::clone(&stores.postgres_guard),
            redis_guard: Arc::clone(&stores.redis_guard),
            payments,
            reporter,
            services: services.to_vec(),
        }
    }

    /// Looks every second until the server stops. What it tells ends with the first sign of the end (`unready`).
    pub async fn run(self, metrics: Arc<Metrics>, unready: CancellationToken, stopping: CancellationToken) {
        let mut ticks = interval(INTERVAL);
        while stopping.run_until_cancelled(ticks.tick()).await.is_some() {
            metrics
                .dependencies
                .breaker("postgres", gauge(self.postgres_guard.breaker().state()));
            metrics
                .dependencies
                .breaker("redis", gauge(self.redis_guard.breaker().state()));
            metrics
                .dependencies
                .breaker("payments", gauge(self.payments.breaker_state()));

            let (postgres, redis) = tokio::join!(in_time(self.postgres.ping()), in_time(self.redis.ping()));
            if unready.is_cancelled() {
                continue;
            }
            for service in &self.services {
                // What a service can still do alone, it offers: ingest needs only Redis.
                let serves = match service {
                    Service::Order | Service::Fleet => postgres && redis,
                    Service::Location => redis,
                    Service::Admin => postgres,
                };
                self.report(name(*service), serves).await;
            }
            self.report("", postgres && redis).await;
            // The end may have begun, and been told, in between.
            if unready.is_cancelled() {
                self.not_serving().await;
            }
        }
    }

    /// Tells everybody that no more calls are welcome.
    pub async fn not_serving(&self) {
        for service in &self.services {
            self.report(name(*service), false).await;
        }
        self.report("", false).await;
    }

    /// The questions of `/readyz`.
    pub fn probes(&self) -> Vec<Probe> {
        let (postgres, redis) = (self.postgres.clone(), self.redis.clone());
        vec![
            Probe::new("postgres", move || {
                let postgres = postgres.clone();
                async move { postgres.ping().await.map_err(|error| error.to_string()).into() }
            }),
            Probe::new("redis", move || {
                let redis = redis.clone();
                async move {
                    match redis.durability().await {
                        Ok(Durability::Full) => ProbeOutcome::Ok,
                        Ok(Durability::Less(why)) => ProbeOutcome::Warning(why),
                        // Some providers forbid CONFIG; a ping tells whether Redis answers at all.
                        Err(_) => redis.ping().await.map_err(|error| error.to_string()).into(),
                    }
                }
            }),
        ]
    }

    async fn report(&self, service: &str, serves: bool) {
        let status = if serves {
            ServingStatus::Serving
        } else {
            ServingStatus::NotServing
        };
        self.reporter.set_service_status(service, status).await;
    }
}

/// One line of `waybill doctor`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnosis {
    /// What was looked at.
    pub part: &'static str,
    /// Whether it is as it should be.
    pub well: bool,
    /// What was found, and what to do.
    pub finding: String,
}

/// Looks at all that a server needs, and says what to change.
pub async fn doctor(config: &Config) -> Vec<Diagnosis> {
    let stores = match Stores::new(config) {
        Ok(stores) => stores,
        Err(error) => return vec![ill("configuration", error)],
    };
    let mut found = vec![well("configuration", "every value is known and in range")];
    found.push(match stores.postgres.ping().await {
        Ok(()) => well("postgres", "answers"),
        Err(error) => ill("postgres", format!("{error}; check postgres.url")),
    });
    found.push(match schema_state(&stores.postgres).await {
        Ok(SchemaState::Current) => well("schema", "is current"),
        Ok(SchemaState::Behind { pending }) => {
            ill("schema", format!("{pending} migrations are to run: `waybill migrate`"))
        }
        Ok(SchemaState::Foreign { why }) => ill("schema", why),
        Err(error) => ill("schema", error),
    });
    found.push(match clock_difference(&stores.postgres).await {
        Ok(apart) if apart.abs() <= Duration::from_secs(1).as_secs_f64() => {
            well("clock", &format!("{apart:+.3} s from the database's"))
        }
        Ok(apart) => ill(
            "clock",
            format!("{apart:+.1} s from the database's: fixes would be misjudged; set up NTP"),
        ),
        Err(error) => ill("clock", error),
    });
    found.push(match stores.redis.durability().await {
        Ok(Durability::Full) => well("redis", "answers, and keeps what it acknowledges"),
        Ok(Durability::Less(why)) => ill("redis", why),
        Err(error) => ill("redis", format!("{error}; check redis.url")),
    });
    found
}

async fn clock_difference(postgres: &Postgres) -> Result<f64, crate::storage::StoreError> {
    let theirs = postgres.now().await?;
    Ok(jiff::Timestamp::now().duration_since(theirs).as_secs_f64())
}

fn well(part: &'static str, finding: &str) -> Diagnosis {
    Diagnosis {
        part,
        well: true,
        finding: finding.to_owned(),
    }
}

fn ill(part: &'static str, finding: impl std::fmt::Display) -> Diagnosis {
    Diagnosis {
        part,
        well: false,
        finding: finding.to_string(),
    }
}

async fn in_time<E>(ping: impl Future<Output = Result<(), E>>) -> bool {
    timeout(PING_MAX, ping).await.is_ok_and(|answer| answer.is_ok())
}

fn name(service: Service) -> &'static str {
    match service {
        Service::Order => "waybill.order.v1.OrderService",
        Service::Location => "waybill.location.v1.LocationService",
        Service::Fleet => "waybill.fleet.v1.FleetService",
        Service::Admin => "waybill.admin.v1.AdminService",
    }
}

fn gauge(state: BreakerState) -> metrics::BreakerState {
    match state {
        BreakerState::Closed => metrics::BreakerState::Closed,
        BreakerState::HalfOpen => metrics::BreakerState::HalfOpen,
        BreakerState::Open => metrics::BreakerState::Open,
    }
}
