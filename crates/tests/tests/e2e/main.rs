//! The end-to-end tests: one binary, so that they share one Postgres and one Redis. Each test has a database of its own
//! in them, a payment provider of its own and a server of its own: see `testkit::rig`.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::indexing_slicing,
    reason = "the exception for tests in clippy.toml covers the test functions, not the functions that they share"
)]

mod access;
mod cli;
mod drivers;
mod erased;
mod locations;
mod operator;
mod orders;
mod stores;
mod trails;
mod web;
mod webhooks;

mod audit;
mod driver_races;
mod kill;
mod ops;
mod plans;
mod pool_partition;
mod schema;
mod shutdown;
mod storm;
mod traces;
mod upgraded;
