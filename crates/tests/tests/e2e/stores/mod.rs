//! Stores that are several servers, away, silent, demoted, locked or not whom they should be, and how sessions at them are set.

mod away;
mod cluster;
mod demoted;
mod locked;
mod options;
mod passwords;
mod pooler;
mod shared;
mod silent;
mod standby;
pub mod tls;
