//! Compiles `proto/` with protox, so that no machine needs protoc, and keeps the descriptor set for reflection.

use std::error::Error;
use std::path::PathBuf;
use std::{env, fs};

use prost::Message as _;

const FILES: [&str; 6] = [
    "waybill/order/v1/order.proto",
    "waybill/location/v1/location.proto",
    "waybill/fleet/v1/fleet.proto",
    "waybill/admin/v1/admin.proto",
    "waybill/tracking/v1/tracking.proto",
    "waybill/driver/v1/driver.proto",
];

fn main() -> Result<(), Box<dyn Error>> {
    let root = PathBuf::from(env::var("CARGO_MANIFEST_DIR")?).join("../../proto");
    println!("cargo:rerun-if-changed={}", root.display());

    let descriptors = protox::compile(FILES, [&root])?;
    let out = PathBuf::from(env::var("OUT_DIR")?);
    fs::write(out.join("descriptors.bin"), descriptors.encode_to_vec())?;

    tonic_prost_build::configure()
        .build_server(false)
        .compile_fds(descriptors.clone())?;

    // The servers, of the same messages but one: what CreateOrder answers is stored, and goes out as it was stored.
    let servers = out.join("servers");
    fs::create_dir_all(&servers)?;
    tonic_prost_build::configure()
        .build_client(false)
        .out_dir(servers)
        .extern_path(".waybill", "crate")
        .extern_path(".waybill.order.v1.CreateOrderResponse", "crate::Encoded")
        .compile_fds(descriptors)?;
    Ok(())
}
