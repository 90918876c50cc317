//! The provider's file: one JSON line for each request that had an effect, in one write before it is answered. It
//! survives the death of the process, not that of the machine (nothing is synced).
//!
//! A line holds all that a request did, money and saved answer, so a line that was cut off by the death of its writer
//! takes both with it, and the request was never answered.

use std::fs::{File, TryLockError};
use std::io::{self, BufRead, BufReader, Write};
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::objects::{Intent, Refund};
use crate::Error;

/// What one request did.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Record {
    #[serde(flatten)]
    pub effect: Effect,
    /// The answer that the same key gets from now on, if there was a key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub answer: Option<SavedAnswer>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Effect {
    /// Paid or declined.
    Intent(Intent),
    Refund(Refund),
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct SavedAnswer {
    pub api_key: String,
    pub key: String,
    pub fingerprint: String,
    pub status: u16,
    pub body: String,
}

/// The file, open at its end, and ours alone.
#[derive(Debug)]
pub(super) struct Journal {
    file: File,
    length: u64,
}

impl Journal {
    /// Opens the file, made if it is not there, and gives each record in it to `restore`, the oldest first. A last
    /// line without its end is cut off.
    pub(super) fn open(path: &Path, restore: impl FnMut(Record)) -> Result<Journal, Error> {
        let unusable = |source| Error::Path {
            path: path.to_owned(),
            source,
        };
        let file = File::options()
            .create(true)
            .read(true)
            .append(true)
            .open(path)
            .map_err(unusable)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::Error(source)) => return Err(unusable(source)),
            Err(TryLockError::WouldBlock) => {
                return Err(Error::InUse {
                    path: path.to_owned(),
                    holder: String::new(),
                });
            }
        }
        let length = read(&file, path, restore)?;
        file.set_len(length).map_err(unusable)?;
        Ok(Journal { file, length })
    }

    /// Writes one record; on an error the file is as it was.
    pub(super) fn append(&mut self, record: &Record) -> io::Result<()> {
        let mut line = serde_json::to_vec(record)?;
        line.push(b'\n');
        if let Err(error) = self.file.write_all(&line) {
            // Half a line would spoil the next one.
            self.file.set_len(self.length)?;
            return Err(error);
        }
        self.length += line.len() as u64;
        Ok(())
    }
}

/// The length of the complete lines.
fn read(file: &File, path: &Path, mut restore: impl FnMut(Record)) -> Result<u64, Error> {
    let mut reader = BufReader::new(file);
    let (mut length, mut line) = (0, Vec::new());
    for number in 1.. {
        line.clear();
        let count = reader.read_until(b'\n', &mut line).map_err(|source| Error::Path {
            path: path.to_owned(),
            source,
        })?;
        if !line.ends_with(b"\n") {
            break;
        }
        let damaged = |source| Error::LedgerDamaged {
            path: path.to_owned(),
            line: number,
            source,
        };
        restore(serde_json::from_slice(&line).map_err(damaged)?);
        length += count as u64;
    }
    Ok(length)
}
