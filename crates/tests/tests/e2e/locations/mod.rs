//! Fixes, from the driver's stream to the history, and the fleet that they show.

pub mod driver_stream;
mod fixes;
mod fleet;
mod history;
mod history_behind;
mod limits;
mod listed;
mod presence;
mod replayed;
mod resumed;
pub mod watched;
