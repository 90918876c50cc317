//! Webhooks of the payment provider: what became of each.

use std::collections::BTreeMap;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::registry::Registry;
use serde::Serialize;

use super::labelled::Labelled;

/// Counts webhooks.
#[derive(Debug)]
pub struct WebhookMetrics {
    events: Labelled<Counter, 1>,
}

/// Webhooks at one moment.
#[derive(Debug, Serialize)]
pub struct WebhookSnapshot {
    /// Requests to `/webhooks/payments`, by outcome.
    pub events: BTreeMap<&'static str, u64>,
}

impl WebhookMetrics {
    pub(super) fn new(registry: &mut Registry) -> WebhookMetrics {
        let metrics = WebhookMetrics {
            events: Labelled::new(["outcome"]),
        };
        registry.register(
            "payment_events",
            "Webhooks of the payment provider, by outcome: accepted, duplicate, refused_signature, refused_body, unavailable",
            metrics.events.clone(),
        );
        metrics
    }

    /// A request ended so.
    pub fn event(&self, outcome: &'static str) {
        self.events.get([outcome]).inc();
    }

    pub(super) fn snapshot(&self) -> WebhookSnapshot {
        let events = self.events.all();
        WebhookSnapshot {
            events: events
                .into_iter()
                .map(|([outcome], count)| (outcome, count.get()))
                .collect(),
        }
    }
}
