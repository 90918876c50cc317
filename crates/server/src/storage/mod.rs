//! The only place with SQL and Redis commands. A method here owns one whole transaction or one pipeline: no transaction
//! type leaves this module, so no one can call a network inside one.
//!
//! [`postgres`] and [`redis`] hold the connections, each behind a timeout and a breaker. [`orders`] and [`history`] are
//! Postgres; [`live`] is Redis; [`keys`] names every key of it. [`audit`] makes the checks of `waybill audit`,
//! [`reconcile`] those of `waybill reconcile`.

#[macro_use]
mod statement;
pub mod audit;
mod error;
pub mod history;
pub mod keys;
pub mod live;
pub mod migrations;
pub mod orders;
pub mod postgres;
pub mod reconcile;
pub mod redis;

pub use self::error::StoreError;
pub use self::statement::{Statement, all_statements};
