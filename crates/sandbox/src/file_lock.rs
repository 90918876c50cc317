//! Files that one owner at a time may hold. The lock (flock) belongs to the open file: it lasts as long as any process
//! that has inherited the file, and ends with the last of them, however that ends.

use std::fs::{File, TryLockError};
use std::ops::{Deref, DerefMut};
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

/// A file that this process alone holds. Dropped, it is free at once: also if a child that another thread is just starting has
/// inherited it, which it has until it executes its program.
#[derive(Debug)]
pub(crate) struct Held(File);

impl Held {
    /// [`open_locked`], for a file that no child is to hold.
    pub(crate) fn open(path: &Path) -> Result<Option<Held>, Error> {
        Ok(open_locked(path)?.map(Held))
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        // It ends with the file in any case.
        let _ = self.0.unlock();
    }
}

impl Deref for Held {
    type Target = File;

    fn deref(&self) -> &File {
        &self.0
    }
}

impl DerefMut for Held {
    fn deref_mut(&mut self) -> &mut File {
        &mut self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_held_is_free_though_a_copy_of_it_is_open() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lock");
        let held = Held::open(&path).unwrap().unwrap();
        let inherited = held.try_clone().unwrap();
        assert!(Held::open(&path).unwrap().is_none());
        drop(held);
        assert!(Held::open(&path).unwrap().is_some());
        drop(inherited);
    }
}
