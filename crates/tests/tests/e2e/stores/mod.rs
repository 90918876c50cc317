//! Stores that are several servers, away, silent, demoted, locked or not whom they should be, how sessions at them are set, and servers that leave them waiting.

mod away;
mod cluster;
mod demoted;
mod frozen;
#[cfg(target_os = "linux")]
mod keepalives;
mod locked;
mod options;
mod passwords;
mod pooler;
mod replicas;
mod shared;
mod silent;
mod standby;
pub mod tls;
