//! A client of any running Waybill server: fleets that move, customers who order, and recorded cities played again.
//!
//! It knows the gRPC contract and nothing of the server's inside. A run takes positions from a recorded trace
//! ([`trace`], put onto the present by [`clock`]) or from an invented [`city`]; the [`fleet`] streams them until each
//! one is acknowledged or rejected, the [`customers`] place orders at their own times whatever the server does, and
//! [`run`] ties both together and tells what came of it, counted in [`stats`].

pub mod city;
pub mod clock;
mod connections;
pub mod customers;
mod drivers;
#[cfg(test)]
mod fake_server;
pub mod fleet;
mod geo;
pub mod load;
pub mod report;
mod retry;
pub mod run;
pub mod stats;
pub mod trace;

pub use connections::{AddressError, endpoint};
pub use drivers::Drivers;
pub use geo::Point;
pub use tonic::transport::Endpoint;
