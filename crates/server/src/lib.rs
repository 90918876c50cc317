//! The service: orders, payments, dispatch and ingest behind gRPC.

pub mod admin;
pub mod egress;
pub mod grpc;
pub mod metrics;
pub mod resilience;
