//! `waybill migrate`.

use std::path::Path;

use crate::Failure;
use crate::cli::{StoreArgs, load};

#[allow(clippy::print_stdout, reason = "the command's answer")]
pub async fn run(file: Option<&Path>, args: StoreArgs) -> Result<(), Failure> {
    let config = load(file, &args.flags())?;
    let ran = waybill_server::app::migrate(&config)
        .await
        .map_err(Failure::unavailable)?;
    match ran.as_slice() {
        [] => println!("the schema is current"),
        names => println!("applied: {}", names.join(", ")),
    }
    Ok(())
}
