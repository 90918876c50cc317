//! `waybill migrate`.

use std::path::Path;

use crate::cli::{StoreArgs, load};
use crate::{Failure, print};

pub async fn run(file: Option<&Path>, args: StoreArgs) -> Result<(), Failure> {
    let config = load(file, &args.flags())?;
    let ran = waybill_server::app::migrate(&config)
        .await
        .map_err(Failure::unavailable)?;
    match ran.as_slice() {
        [] => print::line("the schema is current"),
        names => print::line(&format!("applied: {}", names.join(", "))),
    }
    Ok(())
}
