//! gRPC: what stands before the services ([`edge`]), and the services themselves. No protobuf type goes past
//! here: a handler parses its request into domain values, calls, and renders what comes back.
//!
//! [`principal`] says whose limit a call counts against. [`fields`] parses, and names every bad field at once; [`fixes`]
//! sorts the good ones from the bad. [`render`] writes domain values as messages. [`status`] is the one place where a
//! status code is chosen.

pub mod edge;
mod fields;
pub mod fixes;
mod fleet;
mod location;
mod operator;
mod order;
mod principal;
mod render;
mod status;

pub use self::fleet::FleetApi;
pub use self::location::{LocationApi, LocationLimits};
pub use self::operator::OperatorApi;
pub use self::order::OrderApi;
pub use self::render::answer;

/// The full path of every method, for the metrics.
pub const METHODS: &[&str] = &[
    "/waybill.order.v1.OrderService/CreateOrder",
    "/waybill.order.v1.OrderService/GetOrder",
    "/waybill.order.v1.OrderService/ListOrders",
    "/waybill.order.v1.OrderService/WatchOrder",
    "/waybill.order.v1.OrderService/CompleteOrder",
    "/waybill.order.v1.OrderService/CancelOrder",
    "/waybill.order.v1.OrderService/ReleaseDriver",
    "/waybill.location.v1.LocationService/StreamLocations",
    "/waybill.location.v1.LocationService/ReportLocations",
    "/waybill.fleet.v1.FleetService/GetDriver",
    "/waybill.fleet.v1.FleetService/SearchDrivers",
    "/waybill.admin.v1.AdminService/ListStuckOrders",
    "/waybill.admin.v1.AdminService/ShowOrder",
    "/waybill.admin.v1.AdminService/RetryOrder",
    "/waybill.admin.v1.AdminService/ResolveOrder",
    "/grpc.health.v1.Health/Check",
    "/grpc.health.v1.Health/Watch",
];

/// The methods that stream, which have no deadline of their own.
pub const STREAMS: &[&str] = &[
    "/waybill.order.v1.OrderService/WatchOrder",
    "/waybill.location.v1.LocationService/StreamLocations",
    "/grpc.health.v1.Health/Watch",
    "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
    "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
];
