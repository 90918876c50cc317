//! Callers: who was let in, and why the others were not.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::registry::Registry;
use serde::Serialize;

use super::declare::Declare as _;
use super::labelled::Labelled;

/// Counts decisions about callers.
#[derive(Debug, Clone, Serialize)]
pub struct AuthMetrics {
    calls: Labelled<Counter, 1>,
}

impl AuthMetrics {
    pub(super) fn new(registry: &mut Registry) -> AuthMetrics {
        AuthMetrics {
            calls: registry.declare(
                "auth_calls",
                "Calls of the services by whether their caller was let in: OK, or the reason in the answer",
                Labelled::new(["outcome"]),
            ),
        }
    }

    /// A caller was let in.
    pub fn admitted(&self) {
        self.calls.get(["OK"]).inc();
    }

    /// A caller was not let in, for this reason.
    pub fn refused(&self, reason: &'static str) {
        self.calls.get([reason]).inc();
    }
}
