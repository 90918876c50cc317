//! The sandbox against the real servers, in one test binary.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "the exception for tests in clippy.toml covers the test functions, not the functions that they share"
)]

mod payments;
mod postgres;
mod process;
mod proxy;
mod redis;
mod rig;
mod world;
