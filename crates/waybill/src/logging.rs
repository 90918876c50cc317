//! Where the log goes. Messages read alone, ids are fields; no token, no position, nothing personal.

use std::fs::File;
use std::path::Path;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::writer::BoxMakeWriter;
use waybill_server::config::{Log, LogFormat};

use crate::Failure;

/// Logs to standard error.
pub fn to_stderr(log: &Log) -> Result<(), Failure> {
    start(log, BoxMakeWriter::new(std::io::stderr))
}

/// Logs to a file, for commands whose terminal is taken.
pub fn to_file(log: &Log, path: &Path) -> Result<(), Failure> {
    let file = File::create(path)
        .map_err(|error| Failure::Unavailable(format!("cannot write the log {}: {error}", path.display())))?;
    start(log, BoxMakeWriter::new(file))
}

fn start(log: &Log, writer: BoxMakeWriter) -> Result<(), Failure> {
    let filter = EnvFilter::try_new(&log.filter)
        .map_err(|error| Failure::Usage(format!("log.filter {:?} is not a filter: {error}", log.filter)))?;
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(writer)
        .with_ansi(false);
    let started = match log.format {
        LogFormat::Text => subscriber.try_init(),
        LogFormat::Json => subscriber.json().try_init(),
    };
    started.map_err(|error| Failure::Unavailable(error.to_string()))
}
