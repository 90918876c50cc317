//! Webhooks of the payment provider: what became of each.

use std::collections::BTreeMap;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::registry::Registry;
use serde::Serialize;

use super::declare::Declare as _;
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
        WebhookMetrics {
            events: registry.declare(
                "payment_events",
                "Webhooks of the payment provider, by outcome: accepted, duplicate, refused_signature, refused_body, \
                 unavailable",
                Labelled::new(["outcome"]),
            ),
        }
    }

    /// A request ended with this outcome.
    pub fn event(&self, outcome: &'static str) {
        self.events.get([outcome]).inc();
    }

    pub(super) fn snapshot(&self) -> WebhookSnapshot {
        WebhookSnapshot {
            events: self.events.counts(),
        }
    }
}
