//! Ctrl-C and SIGTERM.

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::Failure;

/// A token that is cancelled at the first Ctrl-C or SIGTERM. A second one ends the process at once: whoever sends it
/// has waited long enough.
pub fn stop_token() -> Result<CancellationToken, Failure> {
    let mut interrupt = signal(SignalKind::interrupt()).map_err(Failure::unavailable)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(Failure::unavailable)?;
    let stop = CancellationToken::new();
    let token = stop.clone();
    TaskTracker::new().spawn(async move {
        let mut next = async || {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
        };
        next().await;
        token.cancel();
        next().await;
        // 128 + SIGINT, as a shell would report it.
        std::process::exit(130);
    });
    Ok(stop)
}
