//! The end-to-end tests: one binary, so that they share one Postgres and one Redis. Each test has a database of its
//! own in them, a payment provider of its own and a server of its own; see [`rig`].

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::indexing_slicing,
    reason = "the exception for tests in clippy.toml covers the test functions, not the functions that they share"
)]

mod rig;

mod audit_sees;
mod cli;
mod cli_private;
mod desk;
mod desk_cli;
mod desk_resolve;
mod driver_races;
mod fleet;
mod kill;
mod lanes;
mod load;
mod load_fixes;
mod load_refused;
mod locations;
mod locations_history;
mod locations_limits;
mod locations_uplink;
mod ops;
mod orders_answers;
mod orders_cancelled;
mod orders_commits;
mod orders_forgotten;
mod orders_leases;
mod orders_looked_up;
mod orders_placed;
mod orders_provider_faults;
mod orders_read;
mod orders_refused;
mod orders_released;
mod orders_replayed;
mod orders_store_faults;
mod orders_survive;
mod orders_watched;
mod reconcile;
mod rig_itself;
mod schema;
mod shutdown;
mod storm;
mod tidy;
mod webhooks;
mod webhooks_refused;
