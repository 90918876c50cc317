//! Where the log goes. Messages read alone, ids are fields; no token, no position, nothing personal.

use std::fs::File;
use std::path::Path;

use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::writer::BoxMakeWriter;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Layer as _, fmt};
use waybill_server::config::{Log, LogFormat};

use crate::Failure;
use crate::telemetry::Export;

/// The driver of Postgres logs each statement with its parameters at `debug`: names, positions, whatever callers sent.
const QUIET: &str = "tokio_postgres=info";

/// Logs to standard error; traces go to the export, if there is one.
pub fn to_stderr(log: &Log, traces: Option<&Export>) -> Result<(), Failure> {
    start(log, BoxMakeWriter::new(std::io::stderr), traces)
}

/// Logs to a file, for commands whose terminal is taken.
pub fn to_file(log: &Log, path: &Path) -> Result<(), Failure> {
    let file = File::create(path)
        .map_err(|error| Failure::Unavailable(format!("cannot write the log {}: {error}", path.display())))?;
    start(log, BoxMakeWriter::new(file), None)
}

fn start(log: &Log, writer: BoxMakeWriter, traces: Option<&Export>) -> Result<(), Failure> {
    // The last of two rules for one target counts: one that is asked for by its name.
    let filter = EnvFilter::try_new(format!("{QUIET},{}", log.filter))
        .map_err(|error| Failure::Usage(format!("log.filter {:?} is not a filter: {error}", log.filter)))?;
    let lines = fmt::layer().with_writer(writer).with_ansi(false);
    let lines = match log.format {
        LogFormat::Text => lines.boxed(),
        LogFormat::Json => lines.json().boxed(),
    };
    // Of our own spans alone, whatever the log's filter: those of libraries are none of an order's trace.
    let traces = traces.map(|export| {
        let ours = Targets::new().with_target("waybill_server", LevelFilter::INFO);
        tracing_opentelemetry::layer()
            .with_tracer(export.tracer())
            .with_filter(ours)
    });
    tracing_subscriber::registry()
        .with(lines.with_filter(filter))
        .with(traces)
        .try_init()
        .map_err(|error| Failure::Unavailable(error.to_string()))
}
