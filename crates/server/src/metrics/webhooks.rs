//! Webhooks of the payment provider: what became of each.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::registry::Registry;
use serde::Serialize;

use super::declare::Declare as _;
use super::labelled::Labelled;

/// Counts webhooks. Its fields are those of the JSON snapshot.
#[derive(Debug, Clone, Serialize)]
pub struct WebhookMetrics {
    events: Labelled<Counter, 1>,
}

impl WebhookMetrics {
    pub(super) fn new(registry: &mut Registry) -> WebhookMetrics {
        WebhookMetrics {
            events: registry.declare(
                "payment_events",
                "Webhooks of the payment provider, by outcome: accepted, duplicate, nothing_new, refused_signature, \
                 refused_body, unavailable",
                Labelled::new(["outcome"]),
            ),
        }
    }

    /// A request ended with this outcome.
    pub fn event(&self, outcome: &'static str) {
        self.events.get([outcome]).inc();
    }
}
