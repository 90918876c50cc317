//! The sandbox against the real servers, in one test binary.

mod process;
mod wait;
