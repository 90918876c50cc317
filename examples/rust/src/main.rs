//! Runs the example against the server that `GRPC_ADDR` names: with the tokens of `CUSTOMER_TOKEN` and
//! `DRIVER_TOKEN`: `env $(cat .waybill/dev.env) cargo run -p waybill-example`.

#[tokio::main]
async fn main() -> Result<(), waybill_example::Error> {
    let addr = std::env::var("GRPC_ADDR").unwrap_or_else(|_| "127.0.0.1:7200".to_owned());
    let token =
        |name: &str| std::env::var(name).map_err(|_| format!("{name} is not set: `make dev` writes it into dev.env"));
    let tokens = waybill_example::Tokens {
        customer: token("CUSTOMER_TOKEN")?,
        driver: token("DRIVER_TOKEN")?,
    };
    waybill_example::run(&addr, &tokens).await.map(drop)
}
