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

    /// The files changed and cannot be used; what was in use is kept. Called once for each such change.
    fn refused(&self, error: &Self::Error);
}

/// Reads the files every so often, until `stop`.
pub async fn follow<R: Reload + Sync>(reloaded: R, every: Duration, stop: CancellationToken) {
    let mut ticks = interval(every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut refused = Refused::default();
    while stop.run_until_cancelled(ticks.tick()).await.is_some() {
        match reloaded.reload().await {
            Ok(()) => refused = Refused::default(),
            Err(error) if refused.is_news(error.to_string()) => reloaded.refused(&error),
            Err(_) => {}
        }
    }
}

/// What was last wrong. It is reported when it is seen a second time: files that are replaced one after the other do not
/// match for a moment.
#[derive(Debug, Default)]
struct Refused {
    last: Option<String>,
    is_reported: bool,
}

impl Refused {
    fn is_news(&mut self, text: String) -> bool {
        if self.last.as_ref() != Some(&text) {
            *self = Refused {
                last: Some(text),
                is_reported: false,
            };
            return false;
        }
        !std::mem::replace(&mut self.is_reported, true)
    }
}
