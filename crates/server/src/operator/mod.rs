//! What operators do, free of gRPC and of any terminal: [`service`] lists stuck orders, shows, retries and resolves them;
//! [`verify`] compares an operator's assertion with what the provider has.

mod service;
mod verify;

pub use self::service::{IN_FLIGHT_RETRY, OperatorError, OperatorService};
pub use self::verify::Contradiction;
