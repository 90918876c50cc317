//! Where traces go: to an OpenTelemetry collector, where `telemetry.otlp_endpoint` names one.

use std::time::Duration;

use opentelemetry::trace::TracerProvider as _;
use opentelemetry::{InstrumentationScope, KeyValue};
use opentelemetry_otlp::{SpanExporter, WithExportConfig as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{SdkTracer, SdkTracerProvider};
use tracing::warn;
use uuid::Uuid;
use waybill_server::config::Telemetry;

use crate::Failure;

/// How long a process that ends waits for its collector.
const FINISH_TIMEOUT: Duration = Duration::from_secs(2);

/// The export of traces. Spans are sent in batches, in the background.
pub struct Export {
    provider: SdkTracerProvider,
}

/// Begins the export; `None` where no collector is configured. To be called within the runtime, which the exporter's
/// connection runs on. The collector need not be there yet.
pub fn start(telemetry: &Telemetry) -> Result<Option<Export>, Failure> {
    if telemetry.otlp_endpoint.is_empty() {
        return Ok(None);
    }
    let exporter = SpanExporter::builder()
        .with_tonic()
        .with_endpoint(&telemetry.otlp_endpoint)
        .build()
        .map_err(|error| Failure::Usage(format!("telemetry.otlp_endpoint: {error}")))?;
    let resource = Resource::builder()
        .with_service_name("waybill")
        .with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")))
        .with_attribute(KeyValue::new("service.instance.id", Uuid::now_v7().to_string()))
        .build();
    let provider = SdkTracerProvider::builder()
        .with_batch_exporter(exporter)
        .with_resource(resource)
        .build();
    Ok(Some(Export { provider }))
}

impl Export {
    /// What turns the program's spans into those of traces.
    pub fn tracer(&self) -> SdkTracer {
        self.provider
            .tracer_with_scope(InstrumentationScope::builder("waybill").build())
    }

    /// Sends what is left, for at most [`FINISH_TIMEOUT`].
    pub async fn finish(self) {
        // On a thread of its own: the exporter blocks, and needs the runtime meanwhile.
        let finished = tokio::task::spawn_blocking(move || self.provider.shutdown_with_timeout(FINISH_TIMEOUT)).await;
        match finished {
            Ok(Ok(())) => {}
            Ok(Err(error)) => warn!(%error, "the last traces were not exported"),
            Err(error) => warn!(%error, "the last traces were not exported"),
        }
    }
}
