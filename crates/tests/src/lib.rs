//! What the tests and benchmarks of the whole program share: a private Waybill ([`rig`]), the real program as a process
//! ([`process`], [`ServerProcess`]), private stores ([`stores`], [`redis_cluster`]), waiting for a condition ([`until`]), chance from a
//! seed ([`chance`]), lines that can be cut ([`fault_line`]), customers and cabs who keep account of what they were promised ([`load`]), a collector of traces ([`otlp`]), requests and refusals ([`wire`]), tables as text
//! ([`table`]), answers as bytes ([`raw`]), and the arithmetic and readers of the benchmarks ([`benchmark`]).
//!
//! No product code uses it, and it knows nothing of any single test.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::missing_panics_doc,
    reason = "test code in a library: whatever is not as it should be ends the test, with a message"
)]

pub mod benchmark;
pub mod chance;
pub mod fault_line;
pub mod load;
pub mod otlp;
pub mod process;
pub mod raw;
pub mod redis_cluster;
pub mod rig;
mod server_process;
pub mod sql;
pub mod stores;
pub mod table;
mod until;
pub mod wire;

pub use self::rig::{Builder, Rig};
pub use self::server_process::ServerProcess;
pub use self::until::{until, until_eq, until_within};
