//! Stores that are away, silent, demoted, locked or not whom they should be.

mod away;
mod demoted;
mod locked;
mod pooler;
mod shared;
mod silent;
pub mod tls;
