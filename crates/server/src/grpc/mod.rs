//! The gRPC face: what stands before the services, and the services.

pub mod edge;
