//! Runs the example against the server that `GRPC_ADDR` names: `. .waybill/dev.env && export GRPC_ADDR`.

#[tokio::main]
async fn main() -> Result<(), waybill_example::Error> {
    let addr = std::env::var("GRPC_ADDR").unwrap_or_else(|_| "127.0.0.1:7200".to_owned());
    waybill_example::run(&addr).await.map(drop)
}
