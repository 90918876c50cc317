//! The map that the fleet draws: the tables hold what the plain rules say of the history, whatever happened on the way.

mod arrivals;
mod city;
mod interrupted;
mod kept;
mod served;

pub use self::city::City;
