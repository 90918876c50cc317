//! gRPC: the edge that every call passes ([`edge`]), and the services. No protobuf type goes past here: a handler
//! parses its request into domain values, calls, and renders the result.
//!
//! [`principal`] names whose rate limit a call counts against, and [`classes`] which. [`fields`] parses, and names every bad field at once;
//! [`fixes`] sorts the good ones from the bad, and [`inbound`] lets them pass. [`shed`] refuses new orders before they are read, where there is no room. [`render`] writes domain values as messages. [`status`] is the one place
//! where errors get their status codes.

mod classes;
mod driver;
pub mod edge;
mod erasure;
mod fields;
pub mod fixes;
mod fleet;
#[cfg(test)]
mod fuzz;
mod health;
pub mod health_service;
mod inbound;
mod location;
mod operator;
mod order;
mod principal;
mod render;
mod replay;
mod shed;
mod status;
mod tracking;

pub use self::driver::DriverApi;
pub use self::erasure::rename_in_answer;
pub use self::fleet::FleetApi;
pub use self::health::ServerHealth;
pub use self::inbound::LocationLimits;
pub use self::location::LocationApi;
pub use self::operator::OperatorApi;
pub use self::order::OrderApi;
pub use self::render::answer;
pub use self::shed::ShedsLoad;
pub use self::tracking::TrackingApi;

use waybill_domain::access::Method;

/// The full path of every method that the metrics count under its own name. A test compares it with the contract.
pub const METHODS: &[&str] = &[
    "/waybill.order.v1.OrderService/CreateOrder",
    "/waybill.order.v1.OrderService/GetOrder",
    "/waybill.order.v1.OrderService/ListOrders",
    "/waybill.order.v1.OrderService/WatchOrder",
    "/waybill.order.v1.OrderService/CompleteOrder",
    "/waybill.order.v1.OrderService/CancelOrder",
    "/waybill.order.v1.OrderService/RefundOrder",
    "/waybill.order.v1.OrderService/ReleaseDriver",
    "/waybill.order.v1.OrderService/ShareOrder",
    "/waybill.order.v1.OrderService/RevokeShare",
    "/waybill.tracking.v1.TrackingService/WatchShared",
    "/waybill.location.v1.LocationService/StreamLocations",
    "/waybill.location.v1.LocationService/ReportLocations",
    "/waybill.fleet.v1.FleetService/GetDriver",
    "/waybill.fleet.v1.FleetService/SearchDrivers",
    "/waybill.fleet.v1.FleetService/WatchDrivers",
    "/waybill.fleet.v1.FleetService/ListLocations",
    "/waybill.fleet.v1.FleetService/ReplayLocations",
    "/waybill.driver.v1.DriverService/WatchAssignments",
    "/waybill.driver.v1.DriverService/SetDuty",
    "/waybill.admin.v1.AdminService/ListStuckOrders",
    "/waybill.admin.v1.AdminService/ShowOrder",
    "/waybill.admin.v1.AdminService/RetryOrder",
    "/waybill.admin.v1.AdminService/ResolveOrder",
    "/waybill.admin.v1.AdminService/RefundAgain",
    "/waybill.admin.v1.AdminService/ShowHealth",
    "/waybill.admin.v1.AdminService/EraseDriver",
    "/waybill.admin.v1.AdminService/EraseUser",
    "/grpc.health.v1.Health/Check",
    "/grpc.health.v1.Health/Watch",
];

/// The method of the contract that has this path.
pub fn method(path: &str) -> Option<Method> {
    Some(match path {
        "/waybill.order.v1.OrderService/CreateOrder" => Method::CreateOrder,
        "/waybill.order.v1.OrderService/GetOrder" => Method::GetOrder,
        "/waybill.order.v1.OrderService/ListOrders" => Method::ListOrders,
        "/waybill.order.v1.OrderService/WatchOrder" => Method::WatchOrder,
        "/waybill.order.v1.OrderService/CompleteOrder" => Method::CompleteOrder,
        "/waybill.order.v1.OrderService/CancelOrder" => Method::CancelOrder,
        "/waybill.order.v1.OrderService/RefundOrder" => Method::RefundOrder,
        "/waybill.order.v1.OrderService/ReleaseDriver" => Method::ReleaseDriver,
        "/waybill.order.v1.OrderService/ShareOrder" => Method::ShareOrder,
        "/waybill.order.v1.OrderService/RevokeShare" => Method::RevokeShare,
        "/waybill.tracking.v1.TrackingService/WatchShared" => Method::WatchShared,
        "/waybill.location.v1.LocationService/StreamLocations" => Method::StreamLocations,
        "/waybill.location.v1.LocationService/ReportLocations" => Method::ReportLocations,
        "/waybill.fleet.v1.FleetService/GetDriver" => Method::GetDriver,
        "/waybill.fleet.v1.FleetService/SearchDrivers" => Method::SearchDrivers,
        "/waybill.fleet.v1.FleetService/WatchDrivers" => Method::WatchDrivers,
        "/waybill.fleet.v1.FleetService/ListLocations" => Method::ListLocations,
        "/waybill.fleet.v1.FleetService/ReplayLocations" => Method::ReplayLocations,
        "/waybill.driver.v1.DriverService/WatchAssignments" => Method::WatchAssignments,
        "/waybill.driver.v1.DriverService/SetDuty" => Method::SetDuty,
        "/waybill.admin.v1.AdminService/ListStuckOrders" => Method::ListStuckOrders,
        "/waybill.admin.v1.AdminService/ShowOrder" => Method::ShowOrder,
        "/waybill.admin.v1.AdminService/RetryOrder" => Method::RetryOrder,
        "/waybill.admin.v1.AdminService/ResolveOrder" => Method::ResolveOrder,
        "/waybill.admin.v1.AdminService/RefundAgain" => Method::RefundAgain,
        "/waybill.admin.v1.AdminService/ShowHealth" => Method::ShowHealth,
        "/waybill.admin.v1.AdminService/EraseDriver" => Method::EraseDriver,
        "/waybill.admin.v1.AdminService/EraseUser" => Method::EraseUser,
        _ => return None,
    })
}

/// The methods that stream, which have no deadline of their own.
pub const STREAMS: &[&str] = &[
    "/waybill.tracking.v1.TrackingService/WatchShared",
    "/waybill.order.v1.OrderService/WatchOrder",
    "/waybill.location.v1.LocationService/StreamLocations",
    "/waybill.fleet.v1.FleetService/WatchDrivers",
    "/waybill.fleet.v1.FleetService/ReplayLocations",
    "/waybill.driver.v1.DriverService/WatchAssignments",
    "/grpc.health.v1.Health/Watch",
    "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
    "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use prost::Message as _;
    use prost_types::FileDescriptorSet;

    use super::{METHODS, STREAMS, method};

    /// The paths of the contract's methods and of the health service's, each with whether the server streams.
    fn described() -> Vec<(String, bool)> {
        let sets = [
            waybill_proto::FILE_DESCRIPTOR_SET,
            tonic_health::pb::FILE_DESCRIPTOR_SET,
        ];
        let mut methods = Vec::new();
        for file in sets
            .into_iter()
            .flat_map(|set| FileDescriptorSet::decode(set).unwrap().file)
        {
            for service in &file.service {
                for method in &service.method {
                    let path = format!("/{}.{}/{}", file.package(), service.name(), method.name());
                    methods.push((path, method.server_streaming()));
                }
            }
        }
        methods
    }

    #[test]
    fn the_methods_are_those_of_the_contract_and_of_the_health_service() {
        let described = described();
        let paths: BTreeSet<&str> = described.iter().map(|(path, _)| path.as_str()).collect();
        assert_eq!(paths, METHODS.iter().copied().collect());
    }

    #[test]
    fn every_method_of_the_contract_has_its_place_in_the_matrix_of_access() {
        for path in METHODS {
            let name = method(path).map(|method| format!("{method:?}"));
            let expected = path.rsplit_once('/').map(|(_, name)| name.to_owned());
            let is_health = path.starts_with("/grpc.health.");
            assert_eq!(name, expected.filter(|_| !is_health), "{path}");
        }
        assert_eq!(METHODS.len(), waybill_domain::access::Method::ALL.len() + 2);
    }

    #[test]
    fn the_streams_are_those_of_the_contract_of_the_health_service_and_of_reflection() {
        let described = described();
        let streams = described.iter().filter(|(_, streams)| *streams);
        let mut streams: BTreeSet<&str> = streams.map(|(path, _)| path.as_str()).collect();
        // Its crate keeps its descriptors to itself.
        streams.extend([
            "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
            "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
        ]);
        assert_eq!(streams, STREAMS.iter().copied().collect());
    }
}
