//! Calls that leave the process for somebody else's service.

pub mod payments;
