//! The user that Postgres runs as. It refuses to run as root, so root starts it as an unprivileged user, who must be able
//! to enter the folders of its data and its programs.

use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt, chown};
use std::path::{Path, PathBuf};

use nix::unistd::{Uid, User};

use crate::Error;

/// The number of `nobody` on Linux, for machines without such an entry (a bare container).
const NOBODY: Account = Account { uid: 65534, gid: 65534 };

/// An unprivileged user and its group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Account {
    pub uid: u32,
    pub gid: u32,
}

impl Account {
    /// The user that a server on `data` runs as; `None` is the user of this process. Where that is root, it is the owner
    /// of the data, or `nobody` if there is no data yet.
    pub(crate) fn for_data(data: &Path) -> Option<Account> {
        if !Uid::effective().is_root() {
            return None;
        }
        let owner = fs::metadata(data).ok().map(|entry| Account {
            uid: entry.uid(),
            gid: entry.gid(),
        });
        Some(owner.filter(|owner| owner.uid != 0).unwrap_or_else(Account::nobody))
    }

    fn nobody() -> Account {
        let user = User::from_name("nobody").ok().flatten();
        user.map_or(NOBODY, |user| Account {
            uid: user.uid.as_raw(),
            gid: user.gid.as_raw(),
        })
    }

    /// Gives a folder to this user.
    pub(crate) fn own(self, folder: &Path) -> io::Result<()> {
        chown(folder, Some(self.uid), Some(self.gid))
    }

    /// [`Error::FolderClosed`] names the first folder on the way to `path` that this user cannot enter. `path` is
    /// absolute and free of links; it need not exist itself.
    pub(crate) fn check_reaches(self, path: &Path) -> Result<(), Error> {
        let mut folders: Vec<&Path> = path.ancestors().skip(1).collect();
        folders.reverse();
        for folder in folders {
            let entry = fs::metadata(folder).map_err(Error::at(path))?;
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
            () if uid == self.uid => 0o100,
            () if gid == self.gid => 0o010,
            () => 0o001,
        };
        mode & bit != 0
    }

    fn name(self) -> String {
        let user = User::from_uid(Uid::from_raw(self.uid)).ok().flatten();
        user.map_or_else(|| self.uid.to_string(), |user| user.name)
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    const USER: Account = Account { uid: 1234, gid: 567 };

    #[test]
    fn the_first_class_that_fits_decides_who_may_enter() {
        for (mode, owner, group, may) in [
            (0o700, 1234, 0, true),
            (0o077, 1234, 567, false), // rights of others do not help the owner
            (0o710, 0, 567, true),
            (0o701, 0, 567, false), // nor a member of the group
            (0o711, 0, 0, true),
            (0o770, 0, 0, false),
        ] {
            assert_eq!(USER.may_enter(mode, owner, group), may, "{mode:o} of {owner}:{group}");
        }
    }

    #[test]
    fn a_closed_folder_is_named() {
        let mut closed = tempfile::Builder::new();
        let closed = closed.permissions(fs::Permissions::from_mode(0o700)).tempdir().unwrap();
        let name = closed.path().canonicalize().unwrap();

        let error = USER.check_reaches(&name.join("data")).unwrap_err();

        assert!(
            matches!(&error, Error::FolderClosed { folder, .. } if *folder == name),
            "{error}"
        );
        assert!(error.to_string().contains("chmod o+x"), "{error}");
    }
}
