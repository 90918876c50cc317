//! Callers: who was let in, why the others were not, and whether what they are known by could be read.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::registry::Registry;
use serde::Serialize;

use super::declare::Declare as _;
use super::labelled::Labelled;

/// Counts decisions about callers, and makes the handles with which reads of their keys are counted.
#[derive(Debug, Clone, Serialize)]
pub struct AuthMetrics {
    calls: Labelled<Counter, 1>,
    key_reads: Labelled<Counter, 2>,
}

/// What the reads of one source of keys count. The default belongs to no registry.
#[derive(Debug, Clone, Default)]
pub struct KeyReadMetrics {
    ok: Counter,
    failed: Counter,
}

impl AuthMetrics {
    pub(super) fn new(registry: &mut Registry) -> AuthMetrics {
        AuthMetrics {
            calls: registry.declare(
                "auth_calls",
                "Calls of the services by whether their caller was let in: OK, or the reason in the answer",
                Labelled::new(["outcome"]),
            ),
            key_reads: registry.declare(
                "auth_key_reads",
                "Reads of what callers are known by, of auth.keys (the keys of tokens) and of the table api_keys: ok, or \
                 failed, where it could not be read or used and what was read before is believed",
                Labelled::new(["source", "outcome"]),
            ),
        }
    }

    /// The handle for the reads of this source. Its series are there from now on, so that the first failure is a change of one.
    pub fn key_reads(&self, source: &'static str) -> KeyReadMetrics {
        KeyReadMetrics {
            ok: self.key_reads.get([source, "ok"]),
            failed: self.key_reads.get([source, "failed"]),
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

impl KeyReadMetrics {
    /// The source was read, and what it said could be used; or not.
    pub fn read(&self, is_ok: bool) {
        if is_ok { &self.ok } else { &self.failed }.inc();
    }
}
