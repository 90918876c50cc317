//! Stores that are several servers, away, silent, demoted, locked or not whom they should be.

mod away;
mod cluster;
mod demoted;
mod locked;
mod passwords;
mod pooler;
mod shared;
mod silent;
mod standby;
pub mod tls;
