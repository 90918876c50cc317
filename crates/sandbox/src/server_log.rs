//! The log file of a server, which is also the lock on its data.
//!
//! The file is locked (flock) and handed to the server as its output. The lock belongs to the open file, so it lasts
//! as long as the server or any process that it forked: the last backend of a killed Postgres, a Redis whose owner was
//! killed a moment ago. Who holds the lock may therefore start a new server on the same data; two Redis servers on one
//! append-only file would spoil it, and a Postgres refuses to start beside its predecessor's backends.

use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::time::Instant;

use crate::Error;

/// How long a predecessor that was killed may take to be gone.
const PREDECESSOR_GONE: Duration = Duration::from_secs(10);
const POLL: Duration = Duration::from_millis(10);

#[derive(Debug)]
pub(crate) struct ServerLog {
    path: PathBuf,
}

impl ServerLog {
    pub(crate) fn new(path: PathBuf) -> Self {
        Self { path }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The file, emptied and locked. Waits for a predecessor to be gone; [`Error::InUse`] if it stays.
    pub(crate) async fn open(&self) -> Result<File, Error> {
        let folder_error = |source| Error::Folder {
            path: self.path.clone(),
            source,
        };
        let file = File::options()
            .create(true)
            .append(true)
            .open(&self.path)
            .map_err(folder_error)?;
        let deadline = Instant::now() + PREDECESSOR_GONE;
        loop {
            match file.try_lock() {
                Ok(()) => break,
                Err(TryLockError::Error(source)) => return Err(folder_error(source)),
                Err(TryLockError::WouldBlock) if Instant::now() > deadline => {
                    return Err(Error::InUse {
                        path: self.path.clone(),
                        holder: String::new(),
                    });
                }
                Err(TryLockError::WouldBlock) => tokio::time::sleep(POLL).await,
            }
        }
        file.set_len(0).map_err(folder_error)?;
        Ok(file)
    }

    pub(crate) fn text(&self) -> String {
        fs::read(&self.path)
            .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
            .unwrap_or_default()
    }
}

/// The line that tells most about a failure: the last that speaks of an error, else the last. Postgres follows its
/// FATAL line with "database system is shut down", initdb its error with a hint.
pub(crate) fn telling_line(text: &str) -> String {
    let lines = || text.lines().rev().map(str::trim).filter(|line| !line.is_empty());
    let speaks_of_error = |line: &&str| {
        ["FATAL", "PANIC", "error:", "ERROR"]
            .iter()
            .any(|word| line.contains(word))
    };
    lines()
        .find(speaks_of_error)
        .or_else(|| lines().next())
        .unwrap_or("it said nothing")
        .to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_that_speaks_of_an_error_tells_more_than_the_last() {
        let text = "LOG:  starting\nFATAL:  data directory has wrong ownership\nLOG:  database system is shut down\n\n";
        assert_eq!(telling_line(text), "FATAL:  data directory has wrong ownership");
        assert_eq!(telling_line("one\ntwo\n"), "two");
        assert_eq!(telling_line(""), "it said nothing");
    }
}
