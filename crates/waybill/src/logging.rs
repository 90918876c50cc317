//! Where the log goes. Messages read alone, ids are fields; no token, no position, nothing personal. For people an event is one line, in which what a
//! terminal would obey is written as its code: errors quote the stores and the payment provider.

use std::fs::File;
use std::io::{self, Write};
use std::path::Path;

use tracing::Metadata;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::writer::{BoxMakeWriter, MakeWriter};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Layer as _, fmt};
use waybill_domain::text::escaped;
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
    let lines = fmt::layer().with_ansi(false);
    let lines = match log.format {
        LogFormat::Text => lines.with_writer(Escaping(writer)).boxed(),
        LogFormat::Json => lines.with_writer(writer).json().boxed(),
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

/// Writes each event, which comes in one piece, as one line.
struct Escaping<W>(W);

impl<'a, M: MakeWriter<'a>> MakeWriter<'a> for Escaping<M> {
    type Writer = Escaping<M::Writer>;

    fn make_writer(&'a self) -> Self::Writer {
        Escaping(self.0.make_writer())
    }

    fn make_writer_for(&'a self, metadata: &Metadata<'_>) -> Self::Writer {
        Escaping(self.0.make_writer_for(metadata))
    }
}

impl<W: Write> Write for Escaping<W> {
    fn write(&mut self, event: &[u8]) -> io::Result<usize> {
        self.write_all(event).map(|()| event.len())
    }

    fn write_all(&mut self, event: &[u8]) -> io::Result<()> {
        let event = String::from_utf8_lossy(event);
        let text = event.strip_suffix('\n').unwrap_or(&event);
        // In one piece, too: other threads write between two.
        self.0.write_all(format!("{}\n", escaped(text)).as_bytes())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use tracing::{info_span, warn};
    use waybill_domain::text::has_refused;

    use super::*;

    /// A log in memory. Clones share it.
    #[derive(Clone, Default)]
    struct Kept(Arc<Mutex<Vec<u8>>>);

    impl Write for Kept {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn an_event_is_one_line_in_which_a_terminal_obeys_nothing() {
        let kept = Kept::default();
        let writer = {
            let kept = kept.clone();
            BoxMakeWriter::new(move || kept.clone())
        };
        let lines = fmt::layer().with_ansi(false).with_writer(Escaping(writer));
        tracing::subscriber::with_default(tracing_subscriber::registry().with(lines), || {
            let _span = info_span!("call", caller = %"sh\u{200e}op").entered();
            warn!(error = %"two\nlines \u{202e}\u{1b}[2J", name = "an\u{ad}na", "the provider says\u{2028}");
            warn!("ends");
        });
        let log = String::from_utf8(kept.0.lock().unwrap().clone()).unwrap();
        let lines: Vec<&str> = log.lines().collect();
        assert!(lines.len() == 2 && lines[1].ends_with("ends"), "{log:?}");
        assert!(!has_refused(&log.replace('\n', "")), "{log:?}");
        for shown in [
            r"sh\u{200e}op",
            r"two\u{a}lines \u{202e}",
            "[2J",
            r"an\u{ad}na",
            r"says\u{2028}",
        ] {
            assert!(lines[0].contains(shown), "{shown} is not in {log:?}");
        }
    }
}
