//! A private world for development, the demo and the tests: a Postgres, a Redis and a payment provider that nobody
//! else uses and that nobody had to install a service for.
//!
//! [`World`] starts all three under one folder. Each part also stands alone: [`postgres::Postgres`] and
//! [`redis::Redis`] are real servers as child processes that can be killed, paused and restarted;
//! [`payments::Provider`] is a real HTTP server that speaks the part of Stripe's API that Waybill uses, keeps a ledger
//! of every movement of money, and fails on demand; [`proxy::FaultProxy`] stands between any two of them and spoils
//! the line. [`process::Process`] is what makes the servers die with us, however we die.
//!
//! Nothing here knows Waybill: the crate depends on none of the others, so that a fault of ours cannot hide itself.

pub mod binaries;
mod error;
mod identity;
pub mod payments;
pub mod port;
pub mod postgres;
pub mod process;
pub mod proxy;
pub mod redis;
mod server;
mod server_log;
mod world;

pub use error::Error;
pub use identity::Account;
pub use world::{Settings, World};
