//! The edge of the service on real sockets: what is counted and shown, what is refused, and what a peer that breaks
//! the rules can do to others (nothing).
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "the helpers of a test fail as the test does"
)]

#[path = "edge/admin.rs"]
mod admin;
#[path = "edge/calls.rs"]
mod calls;
#[path = "edge/connections.rs"]
mod connections;
#[path = "edge/raw.rs"]
mod raw;
#[path = "edge/rig.rs"]
mod rig;
