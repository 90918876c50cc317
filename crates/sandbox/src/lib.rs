//! A private world for development, the demo and the tests: a Postgres, a Redis and a payment provider that no one else
//! uses and that need no installed service.
//!
//! [`World`] starts all three under one folder. Each part also stands alone. [`Postgres`] and [`Redis`] are real servers
//! as child processes, which can be killed, paused and restarted. [`payments::Provider`] is a real HTTP server: it speaks
//! the part of Stripe's API that Waybill uses, keeps a ledger of every movement of money, and fails on demand.
//! [`proxy::FaultProxy`] stands between a client and any of them and breaks connections. [`process::Process`] is a child
//! that ends with this process, however this process ends. [`tokens::TokenSigner`] signs the tokens of callers.
//!
//! The crate depends on no other crate of Waybill: a bug of the server cannot hide itself here.

mod account;
mod error;
mod file_lock;
pub mod payments;
pub mod port;
pub mod process;
pub mod programs;
pub mod proxy;
mod servers;
pub mod tokens;
mod world;

pub use error::Error;
pub use servers::{Postgres, Redis, ServerSettings};
pub use world::{World, WorldSettings};
