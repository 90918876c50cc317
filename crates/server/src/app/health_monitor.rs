//! The health monitor: pings the stores every second, reports to the gRPC health service, and has the probes of `/readyz`.

use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval, timeout};
use tokio_util::sync::CancellationToken;
use tonic_health::ServingStatus;
use tonic_health::server::HealthReporter;

use super::Stores;
use crate::config::Service;
use crate::readiness::{Probe, ProbeOutcome};
use crate::storage::postgres::Postgres;
use crate::storage::redis::Redis;

const INTERVAL: Duration = Duration::from_secs(1);
const PING_MAX: Duration = Duration::from_millis(500);

/// Monitors the stores of a process.
#[derive(Clone)]
pub(super) struct HealthMonitor {
    postgres: Postgres,
    redis: Redis,
    reporter: HealthReporter,
    services: Vec<Service>,
}

impl HealthMonitor {
    pub fn new(stores: &Stores, reporter: HealthReporter, services: &[Service]) -> HealthMonitor {
        HealthMonitor {
            postgres: stores.postgres.clone(),
            redis: stores.redis.clone(),
            reporter,
            services: services.to_vec(),
        }
    }

    /// Checks every second until the server stops. It reports no more after the first sign of the end (`unready`).
    pub async fn run(self, unready: CancellationToken, stopping: CancellationToken) {
        let mut ticks = interval(INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while stopping.run_until_cancelled(ticks.tick()).await.is_some() {
            let (postgres, redis) = tokio::join!(self.postgres.ping(), in_time(self.redis.ping()));
            let postgres = postgres.is_ok();
            if unready.is_cancelled() {
                continue;
            }
            for service in &self.services {
                // A service is offered as long as it can work: ingest needs only Redis.
                let serves = match service {
                    Service::Order | Service::Fleet => postgres && redis,
                    Service::Location => redis,
                    Service::Operator => postgres,
                };
                self.report(name(*service), serves).await;
            }
            self.report("", postgres && redis).await;
            // The end may have begun, and been reported, in between.
            if unready.is_cancelled() {
                self.not_serving().await;
            }
        }
    }

    /// Reports to all that no more calls are accepted.
    pub async fn not_serving(&self) {
        for service in &self.services {
            self.report(name(*service), false).await;
        }
        self.report("", false).await;
    }

    /// The probes of `/readyz`.
    pub fn probes(&self) -> Vec<Probe> {
        let (postgres, redis) = (self.postgres.clone(), self.redis.clone());
        vec![
            Probe::new("postgres", move || {
                let postgres = postgres.clone();
                async move {
                    match postgres.health().await {
                        Err(error) => ProbeOutcome::Failed(error.to_string()),
                        Ok(settings) => warnings(settings.warnings()),
                    }
                }
            }),
            Probe::new("redis", move || {
                let redis = redis.clone();
                async move {
                    match tokio::join!(redis.ping(), redis.safety()) {
                        (Err(error), _) => ProbeOutcome::Failed(error.to_string()),
                        (Ok(()), Ok(safety)) => warnings(safety.warnings()),
                        // It did not answer this in time; the next look asks again.
                        (Ok(()), Err(_)) => ProbeOutcome::Ok,
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

/// What a store that works should be changed about.
fn warnings(all: impl Iterator<Item = String>) -> ProbeOutcome {
    let all: Vec<String> = all.collect();
    if all.is_empty() {
        ProbeOutcome::Ok
    } else {
        ProbeOutcome::Warning(all.join("; "))
    }
}

async fn in_time<T, E>(ping: impl Future<Output = Result<T, E>>) -> bool {
    timeout(PING_MAX, ping).await.is_ok_and(|answer| answer.is_ok())
}

fn name(service: Service) -> &'static str {
    match service {
        Service::Order => "waybill.order.v1.OrderService",
        Service::Location => "waybill.location.v1.LocationService",
        Service::Fleet => "waybill.fleet.v1.FleetService",
        Service::Operator => "waybill.admin.v1.AdminService",
    }
}

/// How long a store that is silent goes unseen, and how long its old address is used after a failover: what the parts may take, by the settings as they
/// are shipped. How long it takes on a machine is measured (`make failover`).
#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::app::settings;
    use crate::config::Config;
    use crate::storage::postgres;
    use crate::storage::redis::SILENT_MAX;

    fn shipped() -> Config {
        Config::load(None, [], &BTreeMap::new()).unwrap()
    }

    /// One look at both stores, at most. At Postgres: the wait for its session, a new one at each of two addresses of a name, what that says of itself,
    /// and the answer.
    fn look(config: &Config) -> Duration {
        let at_postgres = 4 * config.postgres.acquire_timeout.0 + postgres::PING_MAX;
        at_postgres.max(PING_MAX)
    }

    #[test]
    fn a_store_that_freezes_is_not_ready_within_five_seconds() {
        let look = look(&shipped());
        // It freezes when it has just answered a look, which lasts. What that found is good until the next one ends.
        let unready = look + INTERVAL + look;
        assert!(unready <= Duration::from_secs(5), "{unready:?}");
    }

    #[test]
    fn an_address_that_postgres_has_left_is_left_within_ten_seconds() {
        let config = shipped();
        let acquire = config.postgres.acquire_timeout.0;
        let connections = u32::try_from(config.postgres.pool_max).unwrap();
        // A look has no answer. Then each connection is asked before it is lent, and at worst one caller asks them all, and makes another.
        let replaced = look(&config) + INTERVAL + look(&config) + connections * acquire + 3 * acquire;
        // Who waits for an answer on an old one gives it up.
        let given_up = settings::postgres(&config).call_timeout() + 3 * acquire;
        for limit in [replaced, given_up] {
            assert!(limit <= Duration::from_secs(10), "{limit:?}");
        }
    }

    #[test]
    fn an_address_that_redis_has_left_is_left_within_ten_seconds() {
        let config = shipped();
        // Else a look is over before it has seen that there is no answer.
        assert!(config.redis.command_timeout.0 < PING_MAX);
        let noticed = SILENT_MAX * (INTERVAL + look(&config));
        let replaced = noticed + INTERVAL + config.redis.connect_timeout.0;
        assert!(replaced <= Duration::from_secs(10), "{replaced:?}");
    }
}
