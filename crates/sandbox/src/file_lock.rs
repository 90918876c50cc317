//! Files that one owner at a time may hold. The lock (flock) belongs to the open file: it lasts as long as any process
//! that has inherited the file, and ends with the last of them, however that ends.

use std::fs::{File, TryLockError};
use std::path::Path;

use crate::Error;

/// Opens the file for reading and appending, creates it if it is missing, and locks it; `None` if another holds it.
pub(crate) fn open_locked(path: &Path) -> Result<Option<File>, Error> {
    let mut options = File::options();
    let file = options.create(true).read(true).append(true).open(path);
    let file = file.map_err(Error::at(path))?;
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(source)) => Err(Error::at(path)(source)),
    }
}
