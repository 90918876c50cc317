//! The programs of Debian's that the rig runs.

use std::path::{Path, PathBuf};

use testkit::process::installed;
use waybill_sandbox::programs;

/// Where they are.
pub struct Programs {
    /// `etcd`.
    pub etcd: PathBuf,
    /// `patroni`.
    pub patroni: PathBuf,
    /// `haproxy`.
    pub haproxy: PathBuf,
    /// `redis-server`.
    pub redis: PathBuf,
    /// `redis-sentinel`.
    pub sentinel: PathBuf,
    /// The folder of Postgres's programs.
    pub postgres_bin: PathBuf,
}

impl Programs {
    /// `None` where one is missing, which is said.
    pub fn find() -> Option<Programs> {
        for name in ["ip", "nsenter", "unshare"] {
            installed(name)?;
        }
        let postgres = programs::postgres().ok()?.postgres.canonicalize().ok()?;
        Some(Programs {
            etcd: installed("etcd")?,
            patroni: installed("patroni")?,
            haproxy: installed("haproxy")?,
            redis: installed("redis-server")?,
            sentinel: installed("redis-sentinel")?,
            postgres_bin: postgres.parent().map(Path::to_owned)?,
        })
    }
}
