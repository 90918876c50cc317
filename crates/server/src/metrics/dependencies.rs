//! What the service depends on: the stores and the payment provider, and the guards before them.

use prometheus_client::encoding::EncodeMetric;
use prometheus_client::metrics::TypedMetric;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use serde::{Serialize, Serializer};
use waybill_domain::breaker::State as BreakerState;

use super::declare::{Declare as _, count};
use super::labelled::Labelled;
use super::waits::{SecondsCounter, WaitMetrics};

/// Makes the handles with which guards count, and counts answers of the payment provider. Its fields are those of the JSON
/// snapshot. The default belongs to no registry: it is for parts whose numbers no one reads, as in `waybill audit`.
#[derive(Debug, Clone, Serialize)]
pub struct DependencyMetrics {
    #[serde(rename = "breakers", serialize_with = "state_names")]
    breaker_state: Labelled<Gauge, 1>,
    breaker_openings: Labelled<Counter, 1>,
    breaker_refusals: Labelled<Counter, 1>,
    store_timeouts: Labelled<Counter, 1>,
    store_failures: Labelled<Counter, 1>,
    #[serde(serialize_with = "count")]
    group_commits_failed: Counter,
    pool_waits: Labelled<Counter, 1>,
    #[serde(rename = "pool_wait_ms")]
    pool_wait_seconds: Labelled<SecondsCounter, 1>,
    pool_refusals: Labelled<Counter, 1>,
    egress_attempts: Labelled<Counter, 1>,
    egress_retries: Labelled<Counter, 1>,
    egress_retries_refused: Labelled<Counter, 1>,
    egress_in_flight: Labelled<Gauge, 1>,
    egress_waiting: Labelled<Gauge, 1>,
    egress_shed: Labelled<Counter, 1>,
    egress_rate_limit_waits: Labelled<Counter, 1>,
    #[serde(rename = "egress_rate_limit_wait_ms")]
    egress_rate_limit_wait_seconds: Labelled<SecondsCounter, 1>,
    egress_rate_limit_refusals: Labelled<Counter, 1>,
    egress_rate_limit_alone: Labelled<Counter, 1>,
    provider_answers: Labelled<Counter, 1>,
}

/// What one circuit breaker counts.
#[derive(Debug, Clone, Default)]
pub struct BreakerMetrics {
    /// 0: closed, 1: half-open, 2: open.
    pub state: Gauge,
    /// How often it opened, failed probes included.
    pub openings: Counter,
    /// Calls that it refused.
    pub refusals: Counter,
}

/// What the guard of one store counts.
#[derive(Debug, Clone, Default)]
pub struct GuardMetrics {
    /// Its circuit breaker.
    pub breaker: BreakerMetrics,
    /// Calls that had no answer in time.
    pub timeouts: Counter,
    /// Calls that ended in an error that is no answer, as a lost connection or a full pool.
    pub failures: Counter,
}

/// What one bulkhead counts.
#[derive(Debug, Clone, Default)]
pub struct BulkheadMetrics {
    /// Calls in flight.
    pub in_flight: Gauge,
    /// Calls that wait for a slot.
    pub waiting: Gauge,
    /// Calls that found no slot until their deadline.
    pub shed: Counter,
}

/// What the calls to one service outside count.
#[derive(Debug, Clone, Default)]
pub struct EgressMetrics {
    /// The circuit breaker.
    pub breaker: BreakerMetrics,
    /// The bulkhead.
    pub bulkhead: BulkheadMetrics,
    /// The rate limit.
    pub rate_limit: WaitMetrics,
    /// Turns that were taken under this process's own rate limit, since the shared bucket did not answer.
    pub rate_limit_alone: Counter,
    /// Requests sent, retries included.
    pub attempts: Counter,
    /// Retries.
    pub retries: Counter,
    /// Retries that the budget refused.
    pub retries_refused: Counter,
}

impl DependencyMetrics {
    pub(super) fn new(registry: &mut Registry) -> DependencyMetrics {
        DependencyMetrics {
            breaker_state: by_dependency(
                registry,
                "breaker_state",
                "State of the circuit breaker. 0: closed, calls go through; 1: half-open, one probe goes through; 2: open, \
                 calls are refused",
            ),
            breaker_openings: by_dependency(
                registry,
                "breaker_openings",
                "How often the circuit breaker opened, failed probes included",
            ),
            breaker_refusals: by_dependency(
                registry,
                "breaker_refusals",
                "Calls that the open circuit breaker refused",
            ),
            store_timeouts: by_dependency(
                registry,
                "store_timeouts",
                "Calls of a store that had no answer within the timeout of its guard",
            ),
            store_failures: by_dependency(
                registry,
                "store_failures",
                "Calls of a store that ended in an error that is no answer: no connection, a full pool, a lock or statement \
                 timeout",
            ),
            group_commits_failed: registry.declare(
                "group_commits_failed",
                "Transactions of orders that came at the same time which failed: each of their orders was tried by itself",
                Counter::default(),
            ),
            pool_waits: registry.declare(
                "pool_waits",
                "How often a call waited for a connection of the Postgres pool, by pool partition",
                Labelled::new(["partition"]),
            ),
            pool_wait_seconds: registry.declare_seconds(
                "pool_wait",
                "Time that calls waited for a connection of the Postgres pool, by pool partition",
                Labelled::new(["partition"]),
            ),
            pool_refusals: registry.declare(
                "pool_refusals",
                "Calls that waited for a connection of the Postgres pool and got none in time, by pool partition",
                Labelled::new(["partition"]),
            ),
            egress_attempts: by_dependency(
                registry,
                "egress_attempts",
                "Requests sent to the dependency, retries included",
            ),
            egress_retries: by_dependency(registry, "egress_retries", "Requests sent again within a call"),
            egress_retries_refused: by_dependency(
                registry,
                "egress_retries_refused",
                "Retries that the retry budget refused",
            ),
            egress_in_flight: by_dependency(
                registry,
                "egress_in_flight",
                "Calls to the dependency that hold a slot of the bulkhead",
            ),
            egress_waiting: by_dependency(
                registry,
                "egress_waiting",
                "Calls to the dependency that wait in the line for a slot of the bulkhead",
            ),
            egress_shed: by_dependency(
                registry,
                "egress_shed",
                "Calls that left the line at their deadline, since the bulkhead had no free slot until then",
            ),
            egress_rate_limit_waits: by_dependency(
                registry,
                "egress_rate_limit_waits",
                "How often a call waited for our own rate limit towards the dependency",
            ),
            egress_rate_limit_wait_seconds: registry.declare_seconds(
                "egress_rate_limit_wait",
                "Time that calls waited for our own rate limit towards the dependency",
                Labelled::new(["dependency"]),
            ),
            egress_rate_limit_refusals: by_dependency(
                registry,
                "egress_rate_limit_refusals",
                "Calls that our own rate limit would have held past their deadline",
            ),
            egress_rate_limit_alone: by_dependency(
                registry,
                "egress_rate_limit_alone",
                "Turns that calls took under this process's own rate limit, since the bucket that all processes share did \
                 not answer",
            ),
            provider_answers: registry.declare(
                "provider_answers",
                "Answers of the payment provider, by kind: succeeded, declined, failed, not_executed, rejected, in_progress, \
                 unknown",
                Labelled::new(["kind"]),
            ),
        }
    }

    /// The circuit breaker of this dependency.
    pub fn breaker(&self, dependency: &str) -> BreakerMetrics {
        BreakerMetrics {
            state: self.breaker_state.get([dependency.to_owned()]),
            openings: self.breaker_openings.get([dependency.to_owned()]),
            refusals: self.breaker_refusals.get([dependency.to_owned()]),
        }
    }

    /// The guard of this store.
    pub fn guard(&self, store: &'static str) -> GuardMetrics {
        GuardMetrics {
            breaker: self.breaker(store),
            timeouts: self.store_timeouts.get([store]),
            failures: self.store_failures.get([store]),
        }
    }

    /// How often a transaction of several orders failed, of this process.
    pub fn group_commits_failed(&self) -> Counter {
        self.group_commits_failed.clone()
    }

    /// This partition of the Postgres pool.
    pub fn pool(&self, partition: &'static str) -> WaitMetrics {
        WaitMetrics {
            waits: self.pool_waits.get([partition]),
            seconds: self.pool_wait_seconds.get([partition]),
            refusals: self.pool_refusals.get([partition]),
        }
    }

    /// The calls to this service outside.
    pub fn egress(&self, dependency: &str) -> EgressMetrics {
        EgressMetrics {
            breaker: self.breaker(dependency),
            bulkhead: BulkheadMetrics {
                in_flight: self.egress_in_flight.get([dependency.to_owned()]),
                waiting: self.egress_waiting.get([dependency.to_owned()]),
                shed: self.egress_shed.get([dependency.to_owned()]),
            },
            rate_limit: WaitMetrics {
                waits: self.egress_rate_limit_waits.get([dependency.to_owned()]),
                seconds: self.egress_rate_limit_wait_seconds.get([dependency.to_owned()]),
                refusals: self.egress_rate_limit_refusals.get([dependency.to_owned()]),
            },
            rate_limit_alone: self.egress_rate_limit_alone.get([dependency.to_owned()]),
            attempts: self.egress_attempts.get([dependency.to_owned()]),
            retries: self.egress_retries.get([dependency.to_owned()]),
            retries_refused: self.egress_retries_refused.get([dependency.to_owned()]),
        }
    }

    /// The state of each circuit breaker, as in the JSON snapshot, by dependency.
    pub(super) fn breakers(&self) -> Vec<(String, &'static str)> {
        let all = self.breaker_state.all().into_iter();
        all.map(|([dependency], state)| (dependency.into_owned(), state_name(&state)))
            .collect()
    }

    /// The payment provider gave an answer of this kind.
    pub fn provider_answered(&self, kind: &'static str) {
        self.provider_answers.get([kind]).inc();
    }
}

impl Default for DependencyMetrics {
    fn default() -> Self {
        DependencyMetrics::new(&mut Registry::default())
    }
}

impl BreakerMetrics {
    /// The breaker changed to this state.
    pub fn changed_to(&self, state: BreakerState) {
        self.state.set(match state {
            BreakerState::Closed => 0,
            BreakerState::HalfOpen => 1,
            BreakerState::Open => 2,
        });
        self.openings.inc_by(u64::from(state == BreakerState::Open));
    }
}

fn by_dependency<M>(registry: &mut Registry, name: &'static str, help: &'static str) -> Labelled<M, 1>
where
    M: EncodeMetric + TypedMetric + Clone + Send + Sync + 'static,
{
    registry.declare(name, help, Labelled::new(["dependency"]))
}

fn state_names<S: Serializer>(states: &Labelled<Gauge, 1>, serializer: S) -> Result<S::Ok, S::Error> {
    states.serialize_as(state_name, serializer)
}

fn state_name(state: &Gauge) -> &'static str {
    match state.get() {
        0 => "closed",
        1 => "half_open",
        _ => "open",
    }
}
