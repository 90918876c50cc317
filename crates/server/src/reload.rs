//! Files that are read again while the server runs. Their contents are compared: an orchestrator replaces a file by a link,
//! and a link has no time of its own.

use std::fmt::Display;
use std::future::Future;
use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

/// How often files are read, to see whether they changed.
pub const READ_EVERY: Duration = Duration::from_secs(2);

/// What is read again.
pub trait Reload {
    /// Why files cannot be used.
    type Error: Display + Send;

    /// Reads the files, and takes what they say into use if it changed and is good.
    fn reload(&self) -> impl Future<Output = Result<(), Self::Error>> + Send;

    /// The files changed and cannot be used; what was in use is kept. Called now and then while that is so.
    fn refused(&self, error: &Self::Error);
}

/// How many reads in a row may fail until that is reported: files that are replaced one after the other do not match for a
/// moment.
const FAILURES: u32 = 2;
/// It is reported again after so many more: some minutes.
const REPORTED_EACH: u32 = 150;

/// Reads the files every so often, until `stop`.
pub async fn follow<R: Reload + Sync>(reloaded: R, every: Duration, stop: CancellationToken) {
    let mut ticks = interval(every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut failures = 0_u32;
    while stop.run_until_cancelled(ticks.tick()).await.is_some() {
        match reloaded.reload().await {
            Ok(()) => failures = 0,
            Err(error) => {
                failures = failures.wrapping_add(1);
                if failures % REPORTED_EACH == FAILURES {
                    reloaded.refused(&error);
                }
            }
        }
    }
}
