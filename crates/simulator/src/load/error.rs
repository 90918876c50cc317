//! Why a run could not be made.

use tokio::task::JoinError;
use tokio::time::Instant;
use tonic::Status;

use super::recorder::Recorder;
use crate::fleet;
use crate::run::RunError;

/// Why a run could not be made.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// Nothing answers at the address.
    #[error("no server answers at {address}")]
    Unreachable {
        /// Where it was looked for.
        address: String,
        /// What went wrong.
        #[source]
        source: tonic::transport::Error,
    },
    /// The drivers that the load needs could not be put onto the map. The status is told in the text: its own has the
    /// code around it, for programs.
    #[error("the server does not take the drivers of the load: {}", said(.0))]
    Drivers(Status),
    /// The server has no streams for the load, and nothing was answered. Told as [`LoadError::Drivers`].
    #[error("the server does not take the streams of the load: {}", said(.0))]
    Streams(Status),
    /// The workload cannot be made at this pace.
    #[error("{0}")]
    Pace(&'static str),
    /// The recorded city cannot be played.
    #[error(transparent)]
    Trace(#[from] RunError),
    /// A part of the generator panicked.
    #[error("the load generator failed")]
    Panicked(#[from] JoinError),
}

/// What a server said, or what its code means where it said nothing.
fn said(status: &Status) -> &str {
    match status.message() {
        "" => status.code().description(),
        message => message,
    }
}

/// Why streams gave up: an error where that is all there is to tell, else for the log of whoever keeps one.
pub(super) fn streamed(failures: Vec<Status>, recorders: &[Recorder]) -> Result<(), LoadError> {
    let now = Instant::now();
    let answered: u64 = recorders
        .iter()
        .map(|recorder| recorder.live(now).totals.answered)
        .sum();
    for status in failures {
        if answered == 0 && fleet::is_refused_for_good(&status) {
            return Err(LoadError::Streams(status));
        }
        tracing::warn!(code = ?status.code(), message = status.message(), "a location stream gave up");
    }
    Ok(())
}
