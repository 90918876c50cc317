//! The service: orders, payments, dispatch and ingest behind gRPC.

pub mod egress;
pub mod resilience;
