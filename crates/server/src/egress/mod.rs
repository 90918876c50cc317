//! Calls to services outside: the payment provider.

pub mod payments;
