//! The generated code of the contract in `proto/`: messages, clients and servers. The comments of the contract are the
//! documentation of these items. By hand are [`Encoded`], the answer of `CreateOrder` on the server's side, and [`code_name`].
#![allow(missing_docs, clippy::pedantic, reason = "generated")]

mod code;
mod encoded;

pub use self::code::code_name;
pub use self::encoded::Encoded;

/// Orders and their payments.
pub mod order {
    /// `waybill.order.v1`
    pub mod v1 {
        tonic::include_proto!("waybill.order.v1");
        tonic::include_proto!("servers/waybill.order.v1");
    }
}

/// The positions of drivers.
pub mod location {
    /// `waybill.location.v1`
    pub mod v1 {
        tonic::include_proto!("waybill.location.v1");
        tonic::include_proto!("servers/waybill.location.v1");
    }
}

/// The fleet as it is now.
pub mod fleet {
    /// `waybill.fleet.v1`
    pub mod v1 {
        tonic::include_proto!("waybill.fleet.v1");
        tonic::include_proto!("servers/waybill.fleet.v1");
    }
}

/// For the driver's app.
pub mod driver {
    /// `waybill.driver.v1`
    pub mod v1 {
        tonic::include_proto!("waybill.driver.v1");
        tonic::include_proto!("servers/waybill.driver.v1");
    }
}

/// Of operators: what the service needs a person for.
pub mod admin {
    /// `waybill.admin.v1`
    pub mod v1 {
        tonic::include_proto!("waybill.admin.v1");
        tonic::include_proto!("servers/waybill.admin.v1");
    }
}

/// An order that is followed by a link.
pub mod tracking {
    /// `waybill.tracking.v1`
    pub mod v1 {
        tonic::include_proto!("waybill.tracking.v1");
        tonic::include_proto!("servers/waybill.tracking.v1");
    }
}

/// The encoded `FileDescriptorSet` of the contract, for reflection.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));
