//! The payment client against providers that misbehave: real sockets, small servers, each with a script.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "the helpers of a test fail as the test does"
)]

mod guards;
mod lists;
mod outcomes;
mod provider;
mod requests;
mod rig;
