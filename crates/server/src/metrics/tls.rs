//! TLS of the listeners.

use jiff::Timestamp;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use serde::Serialize;

use super::declare::{Declare as _, level};
use super::labelled::Labelled;

/// Counts handshakes and replaced certificates.
#[derive(Debug, Clone, Serialize)]
pub struct TlsMetrics {
    handshakes: Labelled<Counter, 1>,
    certificates: Labelled<Counter, 1>,
    #[serde(serialize_with = "level")]
    certificate_not_after: Gauge,
}

impl TlsMetrics {
    pub(super) fn new(registry: &mut Registry) -> TlsMetrics {
        TlsMetrics {
            handshakes: registry.declare(
                "tls_handshakes",
                "TLS handshakes with peers of the listeners, by outcome",
                Labelled::new(["outcome"]),
            ),
            certificates: registry.declare(
                "tls_certificates",
                "How often the files of [tls] were taken into use, or could not be (refused) and what was in use was kept",
                Labelled::new(["outcome"]),
            ),
            certificate_not_after: registry.declare_seconds(
                "tls_certificate_not_after",
                "When the certificate in use expires, in Unix time; 0 without TLS",
                Gauge::default(),
            ),
        }
    }

    /// A handshake ended so.
    pub fn handshake(&self, is_done: bool) {
        let outcome = if is_done { "succeeded" } else { "failed" };
        self.handshakes.get([outcome]).inc();
    }

    /// A certificate is in use from now on, which expires then.
    pub fn certificate_taken(&self, not_after: Timestamp) {
        self.certificates.get(["taken"]).inc();
        self.certificate_not_after.set(not_after.as_second());
    }

    /// The files changed, and cannot be used.
    pub fn certificate_refused(&self) {
        self.certificates.get(["refused"]).inc();
    }
}
