//! Load: as many calls as asked for, each at its own time, and how long each took to be answered.
//!
//! A [`plan`] says what is called and when. The calls of an open loop are scheduled ahead, and a latency counts from the
//! time that was meant, so a server that stalls is seen by every call that it kept waiting (Tene, "How NOT to Measure
//! Latency", 2013: coordinated omission). What was measured is a [`report`], which [`crate::report`] draws as a page.

mod alarm;
mod call;
mod drive;
mod engine;
mod error;
mod fixes;
mod guard;
mod ingest;
mod latencies;
mod live;
mod machine;
mod nearby;
mod orders;
pub mod plan;
mod presence;
pub mod rate;
pub mod recorder;
pub mod report;
mod settings;
pub mod timeline;
mod trace;

pub use engine::run;
pub use error::LoadError;
pub use live::{Live, LiveSnapshot};

#[cfg(test)]
mod tests;
