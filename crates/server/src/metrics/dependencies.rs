//! What the service leans on: the breaker of each dependency, and what the payment provider answers.

use std::collections::BTreeMap;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use serde::Serialize;

use super::labelled::Labelled;

/// Counts answers and shows breakers.
#[derive(Debug)]
pub struct DependencyMetrics {
    breakers: Labelled<Gauge, 1>,
    provider_answers: Labelled<Counter, 1>,
}

/// Whether calls of a dependency go through. The number is the value of the gauge.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum BreakerState {
    /// All calls go through.
    Closed = 0,
    /// One call goes through, to see whether the dependency is back.
    HalfOpen = 1,
    /// No call goes through.
    Open = 2,
}

/// Dependencies at one moment.
#[derive(Debug, Serialize)]
pub struct DependencySnapshot {
    /// The state of each breaker, by dependency.
    pub breakers: BTreeMap<&'static str, BreakerState>,
    /// Answers of the payment provider, by kind.
    pub provider_answers: BTreeMap<&'static str, u64>,
}

impl DependencyMetrics {
    pub(super) fn new(registry: &mut Registry) -> DependencyMetrics {
        let metrics = DependencyMetrics {
            breakers: Labelled::new(["dependency"]),
            provider_answers: Labelled::new(["kind"]),
        };
        registry.register(
            "breaker_state",
            "0: closed, calls go through; 1: half-open, one probe goes through; 2: open, calls are refused",
            metrics.breakers.clone(),
        );
        registry.register(
            "provider_answers",
            "Answers of the payment provider, by kind: succeeded, declined, not_executed, in_progress, unknown",
            metrics.provider_answers.clone(),
        );
        metrics
    }

    /// The breaker of `dependency` is in this state now.
    pub fn breaker(&self, dependency: &'static str, state: BreakerState) {
        self.breakers.get([dependency]).set(state as i64);
    }

    /// The payment provider gave an answer of this kind.
    pub fn provider_answered(&self, kind: &'static str) {
        self.provider_answers.get([kind]).inc();
    }

    pub(super) fn snapshot(&self) -> DependencySnapshot {
        let state = |gauge: &Gauge| match gauge.get() {
            0 => BreakerState::Closed,
            1 => BreakerState::HalfOpen,
            _ => BreakerState::Open,
        };
        let (breakers, answers) = (self.breakers.all(), self.provider_answers.all());
        DependencySnapshot {
            breakers: breakers
                .into_iter()
                .map(|([dependency], gauge)| (dependency, state(&gauge)))
                .collect(),
            provider_answers: answers.into_iter().map(|([kind], count)| (kind, count.get())).collect(),
        }
    }
}
