//! The edge of the service on real sockets: what is counted and shown, what is refused, and what a peer that breaks
//! the rules can do to others (nothing).
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "the helpers of a test fail as the test does"
)]

mod calls;
mod certificates;
mod connections;
mod metadata;
mod ops;
mod proxies;
mod raw;
mod refusals;
mod rig;
mod spans;
mod tls;
