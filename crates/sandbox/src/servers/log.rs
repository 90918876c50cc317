//! The log file of a server, which is also the lock on its data.
//!
//! The file is locked and handed to the server as its output, so the lock lasts as long as the server or any process
//! that it forked: the last backend of a killed Postgres, a Redis whose owner was killed a moment ago. The holder of the
//! lock may therefore start a new server on the same data. Two Redis servers on one append-only file would spoil it, and
//! a Postgres refuses to start beside its predecessor's backends.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::time::Instant;

use crate::Error;
use crate::file_lock::open_locked;

/// How long a killed predecessor may take to end.
const PREDECESSOR_ENDS_WITHIN: Duration = Duration::from_secs(10);
const POLL: Duration = Duration::from_millis(10);

/// One log file.
#[derive(Debug)]
pub struct ServerLog {
    path: PathBuf,
}

impl ServerLog {
    pub(super) fn new(path: PathBuf) -> Self {
        Self { path }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The file, emptied and locked. Waits for a predecessor to end; [`Error::InUse`] if it does not.
    pub(super) async fn open(&self) -> Result<File, Error> {
        let deadline = Instant::now() + PREDECESSOR_ENDS_WITHIN;
        loop {
            if let Some(file) = open_locked(&self.path)? {
                file.set_len(0).map_err(Error::at(&self.path))?;
                return Ok(file);
            }
            if Instant::now() > deadline {
                return Err(Error::in_use(&self.path));
            }
            tokio::time::sleep(POLL).await;
        }
    }

    pub(super) fn text(&self) -> String {
        let bytes = fs::read(&self.path).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// The most telling line about a failure: the last that mentions an error, else the last. Postgres follows its FATAL
    /// line with "database system is shut down", initdb its error with a hint.
    pub(super) fn telling_line(&self) -> String {
        telling_line(&self.text())
    }
}

fn telling_line(text: &str) -> String {
    let lines = || text.lines().rev().map(str::trim).filter(|line| !line.is_empty());
    let marks = ["FATAL", "PANIC", "error:", "ERROR"];
    let mentions_error = |line: &&str| marks.iter().any(|mark| line.contains(mark));
    let line = lines().find(mentions_error).or_else(|| lines().next());
    line.unwrap_or("it printed nothing").to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_that_mentions_an_error_is_preferred_to_the_last_one() {
        let text = "LOG:  starting\nFATAL:  data directory has wrong ownership\nLOG:  database system is shut down\n\n";
        assert_eq!(telling_line(text), "FATAL:  data directory has wrong ownership");
        assert_eq!(telling_line("one\ntwo\n"), "two");
        assert_eq!(telling_line(""), "it printed nothing");
    }
}
