//! The provider's file: one JSON line for each request that had an effect, in one write before the answer. It survives the
//! death of the process, not that of the machine (nothing is synced).
//!
//! A line holds everything that a request did, money and saved answer. If the death of its writer cut it off, both are
//! lost, and the request was never answered.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Write};
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::objects::{Dispute, PaymentIntent, Refund};
use super::payment_methods::PaymentMethod;
use crate::Error;
use crate::file_lock::Held;

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
    /// A payment as it is from now on: paid, held, declined, captured, cancelled.
    Intent(PaymentIntent),
    /// A refund as it is from now on.
    Refund(Refund),
    /// A dispute as it is from now on.
    Dispute(Dispute),
    /// Nothing: the request was refused, and its key keeps the answer.
    Refused {},
    /// All idempotency keys expired at this Unix second.
    KeysExpired { at: i64 },
    /// A new customer.
    Customer(String),
    /// A new payment method, or one that was attached.
    PaymentMethod(PaymentMethod),
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct SavedAnswer {
    pub api_key: String,
    pub key: String,
    pub fingerprint: String,
    pub status: u16,
    pub body: String,
}

/// The file, open at its end and locked.
#[derive(Debug)]
pub(super) struct Journal {
    file: Held,
    length: u64,
}

impl Journal {
    /// Opens the file, creates it if it is missing, and gives each record in it to `restore`, the oldest first. An
    /// incomplete last line is cut off.
    pub(super) fn open(path: &Path, restore: impl FnMut(Record)) -> Result<Journal, Error> {
        let file = Held::open(path)?.ok_or_else(|| Error::in_use(path))?;
        let length = read(&file, path, restore)?;
        file.set_len(length).map_err(Error::at(path))?;
        Ok(Journal { file, length })
    }

    /// Writes one record; after an error the file is as it was.
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
        let count = reader.read_until(b'\n', &mut line).map_err(Error::at(path))?;
        if !line.ends_with(b"\n") {
            break;
        }
        restore(serde_json::from_slice(&line).map_err(|source| Error::LedgerDamaged {
            path: path.to_owned(),
            line: number,
            source,
        })?);
        length += count as u64;
    }
    Ok(length)
}
