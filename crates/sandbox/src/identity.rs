//! Whom Postgres runs as. It refuses to run as root, so there it runs as an unprivileged user, who must be able to get
//! to its data and to its programs.

use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt, chown};
use std::path::{Path, PathBuf};

use nix::unistd::{Gid, Uid, User};

use crate::Error;

/// An unprivileged user.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Account {
    /// The user.
    pub uid: Uid,
    /// The group.
    pub gid: Gid,
}

impl Account {
    /// Whom a server on the data in `data` runs as: `None` is as us. Where we are root it is the owner of the data, or
    /// `nobody` if there is none yet.
    pub(crate) fn for_data(data: &Path) -> Option<Account> {
        if !Uid::effective().is_root() {
            return None;
        }
        let owner = fs::metadata(data).ok().filter(|entry| entry.uid() != 0);
        let owner = owner.map(|entry| Account {
            uid: Uid::from_raw(entry.uid()),
            gid: Gid::from_raw(entry.gid()),
        });
        Some(owner.unwrap_or_else(Account::nobody))
    }

    fn nobody() -> Account {
        match User::from_name("nobody") {
            Ok(Some(user)) => Account {
                uid: user.uid,
                gid: user.gid,
            },
            // A machine without such an entry (a bare container): the number that Linux gives it.
            _ => Account {
                uid: Uid::from_raw(65534),
                gid: Gid::from_raw(65534),
            },
        }
    }

    /// Gives a folder to this user.
    pub(crate) fn own(self, folder: &Path) -> io::Result<()> {
        chown(folder, Some(self.uid.as_raw()), Some(self.gid.as_raw()))
    }

    /// [`Error::FolderClosed`] names the first folder on the way to `path` that this user cannot enter. `path` is
    /// absolute and free of links; it need not exist itself.
    pub(crate) fn check_reaches(self, path: &Path) -> Result<(), Error> {
        let folder_error = |source| Error::Folder {
            path: path.to_owned(),
            source,
        };
        let mut folders: Vec<&Path> = path.ancestors().skip(1).collect();
        folders.reverse();
        for folder in folders {
            let entry = fs::metadata(folder).map_err(folder_error)?;
            if !self.may_enter(entry.mode(), entry.uid(), entry.gid()) {
                return Err(Error::FolderClosed {
                    folder: PathBuf::from(folder),
                    user: self.name(),
                });
            }
        }
        Ok(())
    }

    fn may_enter(self, mode: u32, uid: u32, gid: u32) -> bool {
        // The first class that fits decides, as in the kernel.
        let bit = match () {
            () if uid == self.uid.as_raw() => 0o100,
            () if gid == self.gid.as_raw() => 0o010,
            () => 0o001,
        };
        mode & bit != 0
    }

    fn name(self) -> String {
        User::from_uid(self.uid)
            .ok()
            .flatten()
            .map_or_else(|| self.uid.to_string(), |user| user.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOMEBODY: Account = Account {
        uid: Uid::from_raw(1234),
        gid: Gid::from_raw(567),
    };

    #[test]
    fn the_class_that_fits_first_decides_who_may_enter() {
        assert!(SOMEBODY.may_enter(0o700, 1234, 0));
        assert!(
            !SOMEBODY.may_enter(0o077, 1234, 567),
            "the owner is not helped by what others may"
        );
        assert!(SOMEBODY.may_enter(0o710, 0, 567));
        assert!(
            !SOMEBODY.may_enter(0o701, 0, 567),
            "a member of the group is not helped by what others may"
        );
        assert!(SOMEBODY.may_enter(0o711, 0, 0));
        assert!(!SOMEBODY.may_enter(0o770, 0, 0));
    }

    #[test]
    fn a_closed_folder_is_named() {
        use std::os::unix::fs::PermissionsExt;
        let closed = tempfile::Builder::new()
            .permissions(fs::Permissions::from_mode(0o700))
            .tempdir()
            .unwrap();
        let name = closed.path().canonicalize().unwrap();

        let error = SOMEBODY.check_reaches(&name.join("data")).unwrap_err();

        assert!(
            matches!(&error, Error::FolderClosed { folder, .. } if *folder == name),
            "{error}"
        );
        assert!(error.to_string().contains("chmod o+x"), "{error}");
    }
}
