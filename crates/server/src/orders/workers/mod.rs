//! Loops that run beside the calls, one a process each, until the service drains.
//!
//! [`sweeper`] resumes orders; [`driver_liveness`] reassigns orders whose driver is not seen any more; [`key_retention`]
//! expires idempotency keys; [`hold_expiry`] ends holds before they expire.

pub mod driver_liveness;
pub mod hold_expiry;
pub mod key_retention;
pub mod sweeper;
