//! Why a run could not be made.

use std::path::PathBuf;

use tokio::task::JoinError;
use tonic::Status;

use crate::client::{self, Target};
use crate::clock::SpeedError;
use crate::trace::TraceError;

/// Why a run could not be made.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// Nothing answers at the address.
    #[error("no server answers at {address}")]
    Unreachable {
        /// Where a server was expected.
        address: String,
        /// What went wrong.
        #[source]
        source: tonic::transport::Error,
    },
    /// The trace cannot be read.
    #[error(transparent)]
    Trace(#[from] TraceError),
    /// The trace has a header and no line that can be used.
    #[error("{} holds no fix{}", file.display(), first_broken.as_ref().map(|line| format!("; {line}")).unwrap_or_default())]
    EmptyTrace {
        /// The file of the fixes.
        file: PathBuf,
        /// What is wrong with its first line, if it has one.
        first_broken: Option<String>,
    },
    /// The speed is not one.
    #[error(transparent)]
    Speed(#[from] SpeedError),
    /// The workload cannot be made at this pace.
    #[error("{0}")]
    Pace(&'static str),
    /// The drivers that a load needs could not be put onto the map. The status is in the text: its own has the code
    /// around it, for programs.
    #[error("the server does not take the drivers of the load: {}", reason(.0))]
    Drivers(Status),
    /// The server has no streams for a load, and nothing was answered. The status is in the text, too.
    #[error("the server does not take the streams of the load: {}", reason(.0))]
    Streams(Status),
    /// A part of the simulator panicked.
    #[error("the simulator failed")]
    Panicked(#[from] JoinError),
}

/// The message of a status, or what its code means where it has none.
fn reason(status: &Status) -> &str {
    match status.message() {
        "" => status.code().description(),
        message => message,
    }
}

/// One clear error now instead of two minutes of retries.
pub(crate) async fn reach(target: &Target) -> Result<(), RunError> {
    let reached = client::reach(target).await;
    reached.map_err(|source| RunError::Unreachable {
        address: target.address(),
        source,
    })
}
