//! A client of any running Waybill server: fleets that move, customers who order, and recorded cities played again.

pub mod clock;
mod drivers;
mod geo;
pub mod trace;

pub use drivers::Drivers;
pub use geo::Point;
