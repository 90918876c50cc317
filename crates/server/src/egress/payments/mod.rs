//! The payment provider.
