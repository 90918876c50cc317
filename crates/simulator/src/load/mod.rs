//! Load: as many calls as asked for, each at its own time, and how long each took to be answered.
//!
//! A [`plan`] determines what is called and when. The calls of an open loop are scheduled ahead, and a latency counts
//! from the intended start time. What was measured is a [`report`], which [`crate::report`] draws as a page.

mod engine;
mod guard;
mod ingest;
mod live;
mod machine;
mod nearby;
mod orders;
pub mod plan;
mod presence;
mod rate;
pub mod report;
mod settings;

pub use engine::run;
pub use live::{Live, LiveSnapshot};

#[cfg(test)]
mod tests;
