//! A client of any running Waybill server: fleets that move, customers who order, and recorded cities played again.
//!
//! It knows the gRPC contract and nothing of the server's inside. A run takes positions from a recorded trace
//! ([`trace`], put onto the present by [`clock`]) or from an invented [`city`]; the [`fleet`] streams them until each
//! one is acknowledged or rejected, the [`customers`] place orders at their own times whatever the server does, and
//! [`run`] plays both together. A [`load`] makes as many calls as asked for, or plays a recorded city in the same way.
//! Whatever is called is counted by a [`recorder`], and [`report`] draws what was measured.

pub mod city;
mod client;
pub mod clock;
pub mod customers;
mod drive;
mod drivers;
mod error;
#[cfg(test)]
mod fake_server;
pub mod fleet;
mod geo;
pub mod load;
pub mod recorder;
pub mod report;
pub mod run;
pub mod stats;
pub mod trace;

pub use client::{AddressError, Target};
use drivers::Drivers;
pub use error::RunError;
pub use geo::Point;
